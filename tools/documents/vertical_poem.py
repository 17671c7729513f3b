"""A poem in vertical text (縦書きの詩): title, poet, lines. The poems were written for this set."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, counted, person


@dataclass(frozen=True)
class Poem:
    """`blank` is the line after which the poem breathes; `wonders` are questions on the text with their answers."""

    title: str
    poet: str
    lines: tuple[str, ...]
    wonders: tuple[tuple[str, tuple[str, ...]], ...]


# Title, lines, questions on the words. Each answer stands in the lines.
POEMS: list[tuple[str, tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]] = [
    (
        "朝の台所",
        ("やかんが小さく歌い出す", "窓のすずめが返事する", "パンの焼ける匂いの中で", "きょうがそっと席につく"),
        (("窓にいる鳥は何ですか。", ("すずめ",)), ("小さく歌い出すのは何ですか。", ("やかん",))),
    ),
    (
        "消しゴム",
        ("まちがえるたび短くなる", "おまえは白い船のよう", "ノートの海を往き来して", "港に着くのは九月ごろ"),
        (
            ("消しゴムは何にたとえられていますか。", ("白い船", "船")),
            ("港に着くのはいつごろですか。", ("九月ごろ", "9月ごろ", "九月")),
        ),
    ),
    (
        "終点のバス",
        (
            "客は三人と犬一匹",
            "海のにおいのする坂を",
            "ゆっくりゆっくりのぼりきる",
            "運転手さんがあくびする",
            "終点は空の手前です",
        ),
        (("バスには客が何人いますか。", ("3人", "三人")), ("あくびをしたのは誰ですか。", ("運転手さん", "運転手"))),
    ),
    (
        "雪の手紙",
        ("ゆうべ届いた白い紙", "屋根にも道にも一枚ずつ", "猫が最初に読みました", "足あとで返事を書きました"),
        (("最初に手紙を読んだのは誰ですか。", ("猫",)), ("猫は何で返事を書きましたか。", ("足あと", "足跡"))),
    ),
    (
        "夏の井戸",
        (
            "すいかが一つ沈んでいる",
            "のぞけば空も沈んでいる",
            "蝉は真昼の戸をたたき",
            "祖母は木かげで豆をむく",
            "夕立はまだ来ない",
        ),
        (("井戸に沈んでいる果物は何ですか。", ("すいか", "スイカ")), ("祖母は何をむいていますか。", ("豆",))),
    ),
    (
        "図書館の午後",
        ("頁をめくる音だけが", "波のように寄せてくる", "窓ぎわの席で眠る子の", "指のあいだに銀のしおり"),
        (("しおりは何色ですか。", ("銀色", "銀")), ("眠る子はどこの席にいますか。", ("窓ぎわ", "窓ぎわの席", "窓際"))),
    ),
]


def make(number: int, rng: random.Random) -> Poem:
    title, lines, wonders = POEMS[number % len(POEMS)]
    return Poem(title, person(5 * number + 2)[0], lines, wonders)


def draw(data: Poem, look: random.Random) -> Image.Image:
    page = Page(110 + 50 * (len(data.lines) + 2), 470, look.choice(["#f6efdc", "#eef3f1", "#f7eef0", "#f2f0ea"]))
    colour = look.choice(["#2b211b", "#1f2b3a", "#33251f"])
    face = look.choice(["brush", "serif"])
    right = page.width
    page.write_down((right - 54, 46), data.title, Ink("brush" if face == "brush" else "serif_bold", 34, colour))
    page.write_down((right - 104, 430), data.poet.replace(" ", "　"), Ink(face, 22, colour), "mb")
    for line, text in enumerate(data.lines):
        page.write_down((right - 158 - 50 * line, 60), text, Ink(face, 26, colour))
    accent = look.choice(["#b5485d", "#5a7f5a", "#c58b3c"])
    page.box((12, 12, page.width - 12, 458), edge=accent, width=1)
    for x, y in ((26, 440), (44, 428), (36, 414)):
        page.disc((x, y), 6, accent)
    return page.picture()


def ask(data: Poem) -> list[Question]:
    poet = data.poet.replace(" ", "")
    return [
        Question("reading", "詩の題名は何ですか。", (data.title, f"「{data.title}」")),
        Question("reading", "作者は誰ですか。", (poet, f"{poet}さん")),
        *(Question("lookup", question, answers) for question, answers in data.wonders),
        Question("reading", "詩の最後の行を書き写してください。", (data.lines[-1],)),
        Question("count", "題名と作者名を除くと、詩は何行ありますか。", counted(len(data.lines), "行")),
        Question(
            "yes_no", "詩の中に「空」という字は出てきますか。", YES if any("空" in line for line in data.lines) else NO
        ),
    ]


def tell(data: Poem) -> list[str]:
    return [
        f"「{data.title}」という題の縦書きの詩です。",
        f"{data.poet.replace(' ', '')}作の「{data.title}」という{len(data.lines)}行の詩が縦書きで書かれています。",
    ]
