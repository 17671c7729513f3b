"""A table of admission fees (料金表): by age and kind of day."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, yen

PLACES = ["しおかぜ水族館", "市民温水プール", "みどりの森動物園", "星見プラネタリウム"]
AGES = (("大人", 1.0), ("中高生", 0.7), ("小学生", 0.5), ("65歳以上", 0.8))
DAYS = ("平日", "土日祝")


@dataclass(frozen=True)
class Fees:
    """`fees`: age, fee on weekdays, on other days; from `reduced_from` people on, each pays `off` yen less."""

    place: str
    fees: tuple[tuple[str, int, int], ...]
    reduced_from: int
    off: int
    is_upright: bool


def make(number: int, rng: random.Random) -> Fees:
    adult = 100 * rng.randint(8, 19)
    rows = []
    for age, share in AGES:
        weekday = round(adult * share / 50) * 50
        rows.append((age, weekday, weekday + rng.choice([100, 150, 200])))
    return Fees(
        PLACES[number % len(PLACES)],
        tuple(rows),
        rng.choice([15, 20, 30]),
        rng.choice([50, 80, 100]),
        number % 4 in (0, 3),
    )


def draw(data: Fees, look: random.Random) -> Image.Image:
    heads, rows = _upright(data) if data.is_upright else _lying(data)
    width, step = (look.choice([400, 440]) if data.is_upright else 500), (50 if data.is_upright else 66)
    bottom = 138 + step * len(rows)
    page = Page(width, bottom + 50, look.choice(["#eef7fb", "#fdf8e8", "#f2f7ec"]))
    colour = look.choice(["#19618a", "#a34a12", "#3a7130"])
    page.write((width / 2, 38), data.place, Ink("maru_bold", 29, colour), "mm")
    page.write((width / 2, 74), "入場料金のご案内", Ink("maru", 19, "#444444"), "mm")
    page.box((20, 96, width - 20, 138), fill=colour)
    room = (width - 40) / len(heads)
    for column, head in enumerate(heads):
        page.write((20 + room * (column + 0.5), 117), head, Ink("maru_bold", 19, "white"), "mm")
    for row, cells in enumerate(rows):
        y = 138 + step * (row + 0.5)
        page.box((20, y - step / 2, width - 20, y + step / 2), fill="white", edge="#b6c2c8")
        for column, cell in enumerate(cells):
            page.write((20 + room * (column + 0.5), y), cell, Ink("maru" if column else "maru_bold", 20), "mm")
    for column in range(1, len(heads)):
        page.line([(20 + room * column, 138), (20 + room * column, bottom)], "#b6c2c8")
    told = f"※団体（{data.reduced_from}名以上）は一人{data.off}円引き"
    page.write((width / 2, bottom + 25), told, Ink("maru", 18, "#444444").fitted(told, width - 40), "mm")
    return page.picture()


def _upright(data: Fees) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table with an age a row."""
    return ["区分", *DAYS], [[age, yen(weekday), yen(weekend)] for age, weekday, weekend in data.fees]


def _lying(data: Fees) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table with a kind of day a row."""
    fees = [[yen(weekday) for _, weekday, _ in data.fees], [yen(weekend) for _, _, weekend in data.fees]]
    return ["", *(fee[0] for fee in data.fees)], [[day, *row] for day, row in zip(DAYS, fees, strict=True)]


def ask(data: Fees) -> list[Question]:
    (
        (adult, adult_weekday, adult_weekend),
        (_, _, student_weekend),
        (_, child_weekday, child_weekend),
        (_, old_weekday, _),
    ) = data.fees
    least = data.reduced_from
    return [
        Question("lookup", f"平日の{adult}の料金はいくらですか。", (yen(adult_weekday),)),
        Question("lookup", "日曜日に小学生が入るといくらかかりますか。", (yen(child_weekend),)),
        Question("lookup", "土曜日の中高生の料金はいくらですか。", (yen(student_weekend),)),
        Question(
            "arithmetic",
            "平日に大人2人と小学生1人で行くと、合計いくらですか。",
            (yen(2 * adult_weekday + child_weekday),),
        ),
        Question(
            "arithmetic", "大人の料金は、土日祝は平日よりいくら高いですか。", (yen(adult_weekend - adult_weekday),)
        ),
        Question("arithmetic", "団体割引で平日に入ると、大人は一人いくらですか。", (yen(adult_weekday - data.off),)),
        Question("lookup", "団体割引になるのは何名からですか。", (f"{least}名", f"{least}人", f"{least}名以上")),
        Question("yes_no", "平日、65歳以上の人は1,000円で入れますか。", YES if old_weekday <= 1000 else NO),
        Question("reading", "どこの料金表ですか。", (data.place,)),
    ]


def tell(data: Fees) -> list[str]:
    return [
        f"「{data.place}」の入場料金の表です。",
        f"「{data.place}」の料金表で、大人は平日{yen(data.fees[0][1])}、土日祝{yen(data.fees[0][2])}です。",
    ]
