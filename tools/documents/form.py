"""A filled-in form (申込書): printed labels, answers in handwriting, ticked boxes."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, era, person, phone, yen

# Title, what is chosen, the choices and what each costs a person.
FORMS: list[tuple[str, str, tuple[tuple[str, int], ...]]] = [
    ("陶芸教室 申込書", "コース", (("湯のみ", 1800), ("小皿", 1500), ("花びん", 2600))),
    ("親子料理教室 申込書", "メニュー", (("ピザ", 1200), ("ぎょうざ", 900), ("ケーキ", 1500))),
    ("貸し自転車 申込書", "車種", (("普通車", 600), ("電動車", 1400), ("子ども用", 400))),
    ("バス旅行 参加申込書", "コース", (("湖めぐり", 4800), ("ぶどう狩り", 5600), ("海の幸", 7200))),
    ("テニス教室 入会申込書", "クラス", (("入門", 3000), ("初級", 3500), ("中級", 4200))),
    ("書道教室 申込書", "時間帯", (("午前", 2000), ("午後", 2300), ("夜間", 2600))),
    ("星空音楽会 申込書", "席", (("芝生席", 700), ("いす席", 1300), ("二階席", 1000))),
    ("写真講座 受講申込書", "講座", (("風景", 2200), ("人物", 2800), ("料理", 2400))),
]
TOWNS = [
    "みなと市桜台",
    "緑沢町石畳",
    "花見坂市青葉",
    "白樺町雪割",
    "みなと市松原",
    "藤里町川上",
    "花見坂市北浜",
    "緑沢町竹森",
]
BIRTH_ERAS = ("昭和", "平成")
BLUE, BLACK = "#1c3d9c", "#24262a"


@dataclass(frozen=True)
class Form:
    """`choices` with their price a person; `chosen` is the ticked one's place; `mails` tells whether post is wanted."""

    title: str
    name: str
    kana: str
    birth: tuple[int, int, int]
    town: str
    house: str
    phone: str
    choice_name: str
    choices: tuple[tuple[str, int], ...]
    chosen: int
    people: int
    day: tuple[int, int, int]
    mails: bool


def make(number: int, rng: random.Random) -> Form:
    title, choice_name, choices = FORMS[number % len(FORMS)]
    name, kana = person(number)
    house = f"{rng.randint(1, 5)}-{rng.randint(1, 20)}-{rng.randint(1, 18)}"
    birth = (rng.choice([*range(1960, 1989), *range(1990, 2006)]), rng.randint(1, 12), rng.randint(1, 28))
    return Form(
        title, name, kana, birth, TOWNS[number % len(TOWNS)], house, phone(rng), choice_name, choices, rng.randrange(3),
        rng.randint(2, 5), (rng.choice([2025, 2026]), rng.randint(1, 12), rng.randint(1, 28)), rng.random() < 0.5,
    )  # fmt: skip


def draw(data: Form, look: random.Random) -> Image.Image:
    page = Page(440, 506, look.choice(["white", "#fdfcf6", "#f8fbff"]))
    rule = look.choice(["#5c6670", "#4a6fa5", "#5f7d5f"])
    hand = Ink("pen", 21, look.choice([BLUE, BLACK]))
    page.write((220, 34), data.title, Ink("sans_bold", 25, BLACK), "mm")
    page.write((140, 70), "申込日", Ink("sans", 15, BLACK))
    page.write((424, 70), _date(data.day), hand.of(19), "rm")
    page.box((14, 90, 426, 492), edge=rule, width=2)
    rows = [
        ("ふりがな", data.kana, 30), ("氏　名", data.name, 52), ("生年月日", _date(data.birth), 44),
        ("住　所", f"{data.town} {data.house}", 48), ("電　話", data.phone, 44),
    ]  # fmt: skip
    y = 90.0
    for label, filled, height in rows:
        _label(page, (y, height), label, rule)
        ink = hand.of(15) if label == "ふりがな" else hand.of(27) if height == 52 else hand
        page.write((122, y + height / 2), filled, ink.fitted(filled, 295))
        y += height
    _choices(page, data, y, rule, hand)
    y += 96
    _label(page, (y, 44), "人　数", rule)
    page.write((180, y + 22), str(data.people), hand.of(26), "mm")
    page.write((204, y + 22), "名", Ink("sans", 17, BLACK))
    y += 44
    _label(page, (y, 44), "お知らせ", rule)
    for x, (text, is_ticked) in zip(
        (124, 270), (("希望する", data.mails), ("希望しない", not data.mails)), strict=True
    ):
        _tick(page, (x, y + 22), is_ticked, hand.colour)
        page.write((x + 24, y + 22), text, Ink("sans", 17, BLACK))
    return page.picture(tilt=look.uniform(-0.5, 0.5))


def _date(day: tuple[int, int, int]) -> str:
    return f"{era(day[0])}{day[1]}月{day[2]}日"


def _label(page: Page, row: tuple[float, float], text: str, rule: str) -> None:
    """A row's label at its top and height, with the lines around it."""
    y, height = row
    page.box((15, y + 1, 112, y + height), fill="#eef1f3")
    page.line([(14, y + height), (426, y + height)], rule)
    page.line([(112, y), (112, y + height)], rule)
    page.write((63, y + height / 2), text, Ink("sans", 14 if height <= 30 else 17, BLACK), "mm")


def _choices(page: Page, data: Form, y: float, rule: str, hand: Ink) -> None:
    _label(page, (y, 96), data.choice_name, rule)
    for row, (name, price) in enumerate(data.choices):
        at = y + 18 + 30 * row
        _tick(page, (124, at), row == data.chosen, hand.colour)
        page.write((150, at), name, Ink("sans", 18, BLACK))
        page.write((412, at), f"お一人 {yen(price)}", Ink("sans", 17, BLACK), "rm")


def _tick(page: Page, at: tuple[float, float], is_ticked: bool, colour: str) -> None:
    x, y = at
    page.box((x, y - 8, x + 16, y + 8), fill="white", edge=BLACK)
    if is_ticked:
        page.line([(x + 2, y - 2), (x + 7, y + 5), (x + 19, y - 12)], colour, 2.5)


def ask(data: Form) -> list[Question]:
    choice, price = data.choices[data.chosen]
    year, month, day = data.birth
    applied, born = f"{data.day[1]}月{data.day[2]}日", f"{month}月{day}日"
    name = data.name.replace(" ", "")
    dearest, _ = max(data.choices, key=lambda option: option[1])
    return [
        Question("reading", "申込者の名前を教えてください。", (name, data.name, f"{name}さん")),
        Question("reading", "何の申込書ですか。", (data.title.split(" ")[0], data.title.replace(" ", ""))),
        Question("lookup", f"選ばれている{data.choice_name}はどれですか。", (choice,)),
        Question("count", "何人で申し込んでいますか。", (f"{data.people}人", f"{data.people}名", str(data.people))),
        Question("arithmetic", "申し込んだ人数分の料金は、合計でいくらですか。", (yen(price * data.people),)),
        Question("date", "申込者の誕生日はいつですか。年は不要です。", (born,)),
        Question("date", "この申込書が書かれたのは何月何日ですか。", (applied, f"{era(data.day[0])}{applied}")),
        Question("reading", "電話番号は何番ですか。", (data.phone,)),
        Question("comparison", f"料金が最も高い{data.choice_name}はどれですか。", (dearest,)),
        Question("arithmetic", "生まれた年を西暦で答えてください。", (f"{year}年", str(year))),
        Question("yes_no", "お知らせを受け取ることを希望していますか。", YES if data.mails else NO),
    ]


def tell(data: Form) -> list[str]:
    name = data.name.replace(" ", "")
    return [
        f"{name}さんが記入した「{data.title}」です。",
        f"手書きで記入された申込書で、{data.choice_name}は「{data.choices[data.chosen][0]}」が選ばれています。",
    ]
