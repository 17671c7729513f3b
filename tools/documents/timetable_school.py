"""A class's week at school (時間割): five days, five or six lessons, no lesson twice a day."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, WEEKDAYS, YES, Question, counted, weekday_answers

CLASSES = ["3年1組", "5年2組", "4年3組", "6年1組"]
WEEK = {"国語": 5, "算数": 5, "理科": 3, "社会": 3, "体育": 3, "音楽": 2, "図工": 2, "英語": 1, "道徳": 1, "書写": 1}
COLOURS = {
    "国語": "#ffd9d9", "算数": "#d6e6ff", "理科": "#d9f2d9", "社会": "#fff0c7", "体育": "#ffe0c2",
    "音楽": "#f3d9ff", "図工": "#d7f4f2", "英語": "#e6e6f5", "道徳": "#f0e6da", "書写": "#e3ecd6", "家庭科": "#e3ecd6",
}  # fmt: skip


@dataclass(frozen=True)
class SchoolWeek:
    """`days`: the lessons of Monday to Friday, from the first."""

    name: str
    days: tuple[tuple[str, ...], ...]


def make(number: int, rng: random.Random) -> SchoolWeek:
    name = CLASSES[number % len(CLASSES)]
    week = {"家庭科" if name >= "5" and lesson == "書写" else lesson: often for lesson, often in WEEK.items()}
    while True:
        lessons = [lesson for lesson, often in week.items() for _ in range(often)]
        rng.shuffle(lessons)
        lengths = [5, 5, 5, 5, 6]
        rng.shuffle(lengths)
        days = [tuple(lessons[sum(lengths[:day]) : sum(lengths[: day + 1])]) for day in range(5)]
        if all(len(set(day)) == len(day) for day in days):
            return SchoolWeek(name, tuple(days))


def draw(data: SchoolWeek, look: random.Random) -> Image.Image:
    height = look.choice([44.0, 52.0, 60.0])
    page = Page(480, round(106 + 6 * height), look.choice(["#fffdf6", "#f7fbff", "#fff8fa"]))
    is_coloured = look.random() < 0.6
    page.write((240, 34), f"{data.name}　時間割", Ink("maru_bold", 27, "#3a3a3a"), "mm")
    left, top, width = 60.0, 62.0, 80.0
    for day in range(5):
        x = left + width * day
        page.box((x, top, x + width, top + 30), fill="#5f7d95", edge="white")
        page.write((x + width / 2, top + 15), WEEKDAYS[day], Ink("maru_bold", 19, "white"), "mm")
        for period in range(6):
            y = top + 30 + height * period
            lesson = data.days[day][period] if period < len(data.days[day]) else ""
            page.box(
                (x, y, x + width, y + height),
                fill=COLOURS.get(lesson, "#eeeeee") if is_coloured else "white",
                edge="#8a98a3",
            )
            if lesson:
                page.write((x + width / 2, y + height / 2), lesson, Ink("maru", 22, "#26303a"), "mm")
    for period in range(6):
        page.write((34, top + 30 + height * (period + 0.5)), str(period + 1), Ink("maru_bold", 22, "#5f7d95"), "mm")
    return page.picture()


def ask(data: SchoolWeek) -> list[Question]:
    longest = next(day for day in range(5) if len(data.days[day]) == 6)
    moral = next(day for day in range(5) if "道徳" in data.days[day])
    before = next((day, period) for day in range(5) for period in range(4) if data.days[day][period] == "国語")
    return [
        Question("reading", "何年何組の時間割ですか。", (data.name,)),
        Question("lookup", "水曜日の3時間目は何の授業ですか。", (data.days[2][2],)),
        Question("lookup", "金曜日の1時間目の教科は何ですか。", (data.days[4][0],)),
        Question("count", "体育は週に何回ありますか。", counted(sum("体育" in day for day in data.days), "回")),
        Question("lookup", "道徳があるのは何曜日ですか。", weekday_answers(moral)),
        Question("comparison", "授業が6時間あるのは何曜日ですか。", weekday_answers(longest)),
        Question(
            "lookup", f"{WEEKDAYS[before[0]]}曜日の国語の次の授業は何ですか。", (data.days[before[0]][before[1] + 1],)
        ),
        Question("yes_no", "木曜日に音楽の授業はありますか。", YES if "音楽" in data.days[3] else NO),
    ]


def tell(data: SchoolWeek) -> list[str]:
    return [
        f"{data.name}の時間割表です。",
        f"月曜日から金曜日までの時間割で、月曜日の1時間目は{data.days[0][0]}です。",
    ]
