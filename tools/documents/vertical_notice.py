"""A notice in vertical text (縦書きのお知らせ): what, when, where, what to bring, who calls."""

import random
from dataclasses import dataclass
from datetime import date

from PIL import Image

from documents.page import Ink, Page, columns
from documents.words import NO, WEEKDAYS, YES, Question, counted, kanji, time_answers, weekday_answers

# What is held, what it is called in a question, where, what to bring, who calls; the months it may be in.
OCCASIONS: list[tuple[tuple[str, str, str, str, str], tuple[int, ...]]] = [
    (("町内清掃のお知らせ", "町内清掃", "みどり公園", "軍手", "桜台町内会"), (5, 6, 9)),
    (("もちつき大会のご案内", "もちつき大会", "集会所前広場", "エプロン", "港町自治会"), (1, 12)),
    (("防災訓練のお知らせ", "防災訓練", "松原小学校", "懐中電灯", "松原防災会"), (9, 11)),
    (("写生会のご案内", "写生会", "緑沢植物園", "絵の具", "青葉美術教室"), (5, 10)),
    (("花見の会のお誘い", "花見の会", "川上神社", "座布団", "梅里老人会"), (4,)),
    (("いも掘り会のご案内", "いも掘り会", "竹森農園", "長ぐつ", "竹森子ども会"), (10,)),
]
FREE = ("町内清掃", "防災訓練")  # what neighbours owe each other
PAPERS = [("#fbf6e8", "#2a211b"), ("#f6f3ea", "#232b3a"), ("#f1f5ee", "#1f2f25"), ("#fdf0ec", "#3b1f22")]


@dataclass(frozen=True)
class Notice:
    """`minutes` since midnight; `fee` is 0 where it is free."""

    title: str
    what: str
    place: str
    bring: str
    caller: str
    year: int
    month: int
    day: int
    minutes: int
    fee: int
    seats: int

    def weekday(self) -> int:
        """0 is Monday."""
        return date(self.year, self.month, self.day).weekday()


def make(number: int, rng: random.Random) -> Notice:
    occasion, months = OCCASIONS[number % len(OCCASIONS)]
    year, month = rng.choice([2025, 2026]), rng.choice(months)
    weekend = [day for day in range(2, 29) if date(year, month, day).weekday() >= 5]
    fee = 0 if occasion[1] in FREE else rng.choice([0, 200, 300, 500])
    return Notice(
        *occasion, year, month, rng.choice(weekend), 30 * rng.choice([17, 18, 19, 20, 21, 26, 27, 28]),
        fee, rng.choice([20, 30, 40, 50]),
    )  # fmt: skip


def draw(data: Notice, look: random.Random) -> Image.Image:
    paper, colour = look.choice(PAPERS)
    page = Page(420, 500, paper)
    if look.random() < 0.5:
        page.box((14, 14, 406, 486), edge=colour, width=1.5)
    face = look.choice(["serif", "sans"])
    page.write_down((368, 36), data.title, Ink(f"{face}_bold", 33, colour))
    ink, x = Ink(face, 22, colour), 308.0
    for text in _body(data):
        for index, column in enumerate(columns(text, 19)):
            page.write_down((x, 40 if index == 0 else 62), column, ink)
            x -= 33
    page.write_down((42, 468), data.caller, Ink(f"{face}_bold", 23, colour), "mb")
    return page.photo(look) if look.random() < 0.5 else page.picture()


def _body(data: Notice) -> list[str]:
    fee = f"{kanji(data.fee)}円" if data.fee else "無料"
    half = "半" if data.minutes % 60 else ""
    when = f"令和{kanji(data.year - 2018)}年{kanji(data.month)}月{kanji(data.day)}日（{WEEKDAYS[data.weekday()]}）"
    return [
        f"一、日　時　{when}",
        f"　　　　　　{'午前' if data.minutes < 720 else '午後'}{kanji(_hour(data.minutes))}時{half}より",
        f"一、場　所　{data.place}",
        f"一、持ち物　{data.bring}",
        f"一、参加費　{fee}",
        f"一、定　員　{kanji(data.seats)}名",
        "皆さまのご協力をお願いいたします。" if data.what in FREE else "どうぞお気軽にご参加ください。",
    ]


def _hour(minutes: int) -> int:
    return minutes // 60 if minutes < 13 * 60 else minutes // 60 - 12


def ask(data: Notice) -> list[Question]:
    half = "半" if data.minutes % 60 else ""
    noon = "午前" if data.minutes < 720 else "午後"
    day = f"{data.month}月{data.day}日"
    return [
        Question("reading", "何についてのお知らせですか。", (data.what, data.title)),
        Question("date", f"{data.what}は何月何日に行われますか。", (day, f"令和{data.year - 2018}年{day}")),
        Question("date", "行われるのは何曜日ですか。", weekday_answers(data.weekday())),
        Question(
            "time", "何時から始まりますか。", (f"{noon}{_hour(data.minutes)}時{half}", *time_answers(data.minutes))
        ),
        Question("lookup", "会場はどこですか。", (data.place,)),
        Question("lookup", "参加する人は何を持って行きますか。", (data.bring,)),
        Question("lookup", "定員は何人ですか。", (*counted(data.seats, "人"), f"{data.seats}名")),
        Question("yes_no", "参加するのにお金がかかりますか。", YES if data.fee else NO),
        Question("reading", "このお知らせを出したのはどこですか。", (data.caller,)),
    ]


def tell(data: Notice) -> list[str]:
    return [
        f"{data.caller}が出した、縦書きの「{data.title}」です。",
        f"{data.what}の日時や場所、持ち物を知らせる縦書きの文書です。",
    ]
