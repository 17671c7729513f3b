"""A bus stop's timetable (バス時刻表): an hour a row, its minutes on weekdays and on other days."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, counted, time_answers

STOPS = [
    ("花見坂公園", "桃川駅", "12", "#1f6fb2"), ("市立図書館前", "緑沢駅", "7", "#2e8b57"),
    ("白鳥町三丁目", "港町ターミナル", "31", "#b5452c"), ("松原小学校前", "中央病院", "4", "#7a4b9c"),
]  # fmt: skip


@dataclass(frozen=True)
class BusTimes:
    """`weekday` and `weekend`: an hour and its minutes, in the same hours; an hour may be without a bus."""

    stop: str
    goal: str
    route: str
    colour: str
    weekday: tuple[tuple[int, tuple[int, ...]], ...]
    weekend: tuple[tuple[int, tuple[int, ...]], ...]


def make(number: int, rng: random.Random) -> BusTimes:
    hours, busiest = range(7, 7 + rng.choice([10, 11])), rng.choice([7, 8, 9])
    weekday, weekend = [], []
    for hour in hours:
        often = 5 if hour == busiest else rng.choice([2, 3, 3, 4])
        weekday.append((hour, tuple(sorted(rng.sample(range(2, 59, 3), often)))))
        rare = 0 if hour == hours[0] and number % 4 < 2 else rng.choice([1, 2, 2])
        weekend.append((hour, tuple(sorted(rng.sample(range(4, 58, 6), rare)))))
    return BusTimes(*STOPS[number % len(STOPS)], tuple(weekday), tuple(weekend))


def draw(data: BusTimes, look: random.Random) -> Image.Image:
    step, top = 34, 128
    page = Page(440, top + step * len(data.weekday) + 8, look.choice(["#fafafa", "#f5f7f2", "#fbf8ef"]))
    page.box((0, 0, 440, 84), fill=data.colour)
    page.disc((44, 42), 28, "white")
    page.write((44, 42), data.route, Ink("sans_bold", 27, data.colour), "mm")
    page.write((88, 29), data.stop, Ink("sans_bold", 26, "white"))
    page.write((88, 61), f"{data.goal} 行き", Ink("sans", 19, "white"))
    page.box((8, 90, 432, top), fill="#e4e7ea")
    for x, text in ((36, "時"), (168, "平日"), (354, "土・日・祝日")):
        page.write((x, 109), text, Ink("sans_bold", 17, "#333333"), "mm")
    for row, ((hour, minutes), (_, others)) in enumerate(zip(data.weekday, data.weekend, strict=True)):
        y = top + step * (row + 0.5)
        if row % 2:
            page.box((8, y - step / 2, 432, y + step / 2), fill="#eef2f6")
        page.write((36, y), str(hour), Ink("sans_bold", 19, data.colour), "mm")
        for column, minute in enumerate(minutes):
            page.write((84 + 40 * column, y), f"{minute:02d}", Ink("sans", 18, "#222222"), "mm")
        for column, minute in enumerate(others):
            page.write((314 + 40 * column, y), f"{minute:02d}", Ink("sans", 18, "#b0262c"), "mm")
    page.line([(64, 90), (64, page.height - 8)], "#9aa3aa")
    page.line([(276, 90), (276, page.height - 8)], "#9aa3aa")
    page.box((8, 90, 432, page.height - 8), edge="#9aa3aa")
    return page.picture()


def ask(data: BusTimes) -> list[Question]:
    hour, minutes = data.weekday[2]
    busiest = max(data.weekday, key=lambda row: len(row[1]))[0]
    next_hour, next_minutes = data.weekday[4]
    first_hour, first_minutes = data.weekday[0]
    last_hour, last_minutes = data.weekday[-1]
    later = next_hour * 60 + next_minutes[0]
    has_early = bool(data.weekend[0][1])
    return [
        Question("reading", "これは何というバス停の時刻表ですか。", (data.stop,)),
        Question("reading", "このバスの行き先はどこですか。", (data.goal, f"{data.goal}行き")),
        Question("count", f"平日の{hour}時台には、バスが何本ありますか。", counted(len(minutes), "本")),
        Question("time", "平日の始発は何時何分ですか。", time_answers(first_hour * 60 + first_minutes[0])),
        Question("time", "平日の最終バスは何時何分に出ますか。", time_answers(last_hour * 60 + last_minutes[-1])),
        Question(
            "lookup", f"平日の{next_hour}時ちょうどにバス停に着いたら、次のバスは何時何分ですか。", time_answers(later)
        ),
        Question("comparison", "平日でバスの本数が一番多いのは何時台ですか。", (f"{busiest}時台", f"{busiest}時")),
        Question("yes_no", f"日曜日の{first_hour}時台にバスはありますか。", YES if has_early else NO),
    ]


def tell(data: BusTimes) -> list[str]:
    return [
        f"{data.stop}のバス停の時刻表です。",
        f"{data.goal}行きのバスの時刻表で、平日と土日祝日に分かれています。",
    ]
