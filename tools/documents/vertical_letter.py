"""A letter in vertical handwriting (手紙): greeting, news, an invitation, date, sender and addressee."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page, columns
from documents.words import NO, YES, Question, counted, kanji, person

# Greeting and month.
SEASONS = [
    ("桜の花が咲きはじめました。", 4),
    ("あじさいが雨に濡れています。", 6),
    ("虫の声が聞こえるころになりました。", 9),
    ("庭に雪が積もりました。", 1),
]
PETS = [("犬", "小麦"), ("猫", "ちくわ"), ("小鳥", "ぴー助"), ("猫", "すみれ")]
GIFTS = ["りんご", "そうめん", "手づくりのジャム", "せんべい", "絵はがき", "お茶"]


@dataclass(frozen=True)
class Letter:
    """`visit`: month and day on which the writer comes, for `nights`; people have family and given name."""

    greeting: str
    month: int
    day: int
    pet: str
    pet_name: str
    gift: str
    gifts: int
    visit: tuple[int, int]
    nights: int
    sender: str
    addressee: str


def make(number: int, rng: random.Random) -> Letter:
    greeting, month = SEASONS[number % len(SEASONS)]
    pet, name = PETS[number % len(PETS)]
    return Letter(
        greeting, month, rng.randint(2, 12), pet, name, GIFTS[(number * 5 + 2) % len(GIFTS)], rng.randint(3, 9),
        (month + 1, rng.randint(3, 26)), rng.randint(2, 5), person(number + 4)[0], person(3 * number + 8)[0],
    )  # fmt: skip


def draw(data: Letter, look: random.Random) -> Image.Image:
    ground, rule = look.choice([("#fffdf4", "#d9a5a5"), ("#f7fbff", "#a5b9d9"), ("#f6faf1", "#a9c4a0")])
    page = Page(460, 480, ground)
    page.box((16, 16, 444, 464), edge=rule, width=2)
    for x in range(36, 440, 34):
        page.line([(x, 24), (x, 456)], rule)
    colour = look.choice(["#1b2a5a", "#2a2a2a"])
    ink, left = Ink("pen", 22, colour), 427.0
    for text in _body(data):
        for index, column in enumerate(columns(text, 18)):
            page.write_down((left, 56 if index == 0 else 34), column, ink)
            left -= 34
    page.write_down((left, 76), f"{kanji(data.month)}月{kanji(data.day)}日", ink)
    page.write_down((left - 34, 444), data.sender.replace(" ", "　"), ink.of(24), "mb")
    page.write_down((left - 68, 44), data.addressee.replace(" ", "　") + "　様", ink.of(27))
    return page.picture()


def _body(data: Letter) -> list[str]:
    month, day = data.visit
    return [
        f"{data.greeting}お元気ですか。",
        f"うちでは{data.pet}の「{data.pet_name}」が元気に遊んでいます。",
        f"きょうは{data.gift}を{_pieces(data.gift, data.gifts)}送ります。みなさんでどうぞ。",
        f"{kanji(month)}月{kanji(day)}日に、そちらへ伺います。{kanji(data.nights)}泊するつもりです。",
    ]


# How each gift is counted, as in the letter and otherwise.
COUNTERS = {
    "りんご": ("個", "つ"), "そうめん": ("束",), "手づくりのジャム": ("びん", "瓶"), "せんべい": ("枚",),
    "絵はがき": ("枚",), "お茶": ("袋",),
}  # fmt: skip


def _pieces(gift: str, number: int) -> str:
    return kanji(number) + COUNTERS[gift][0]


def ask(data: Letter) -> list[Question]:
    month, day = data.visit
    names = COUNTERS[data.gift]
    sender, addressee = data.sender.replace(" ", ""), data.addressee.replace(" ", "")
    return [
        Question("reading", "この手紙を書いたのは誰ですか。", (sender, f"{sender}さん")),
        Question("reading", "手紙は誰にあてて書かれていますか。", (addressee, f"{addressee}さん", f"{addressee}様")),
        Question("lookup", "一緒に送られたものは何ですか。", (data.gift,)),
        Question("count", f"{data.gift}をどれだけ送りましたか。", tuple(f"{data.gifts}{name}" for name in names)),
        Question("lookup", "差出人が飼っている動物は何という名前ですか。", (data.pet_name, f"「{data.pet_name}」")),
        Question("lookup", "差出人はどんな動物を飼っていますか。", (data.pet, *(["鳥"] if data.pet == "小鳥" else []))),
        Question("date", "差出人が訪ねて来るのはいつですか。", (f"{month}月{day}日",)),
        Question("lookup", "何泊する予定ですか。", counted(data.nights, "泊")),
        Question("date", "手紙の日付は何月何日ですか。", (f"{data.month}月{data.day}日",)),
        Question("yes_no", "手紙を書いた人は猫を飼っていますか。", YES if data.pet == "猫" else NO),
    ]


def tell(data: Letter) -> list[str]:
    sender, addressee = data.sender.replace(" ", ""), data.addressee.replace(" ", "")
    return [
        f"{sender}さんから{addressee}さんへの縦書きの手紙です。",
        f"{data.gift}を送ることと、訪ねる日を知らせる手書きの手紙です。",
    ]
