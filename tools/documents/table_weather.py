"""A week's weather forecast (週間天気予報): weather with its sign, highest and lowest temperature, chance of rain."""

import math
import random
from dataclasses import dataclass
from datetime import date, timedelta

from PIL import Image

from documents.page import Ink, Page, Point
from documents.words import NO, WEEKDAYS, YES, Question, counted, weekday_answers

PLACES = ["みなと市", "緑沢町", "白樺高原", "花見坂市"]
SEASONS = {4: (14, 6), 5: (19, 11), 9: (24, 17), 10: (18, 10)}  # a month's lowest maximum and minimum
WEATHER = {"晴れ": (0, 20), "くもり": (20, 50), "雨": (60, 100)}


@dataclass(frozen=True)
class Forecast:
    """`days`: month, day, weekday, weather, highest and lowest temperature, chance of rain in percent."""

    place: str
    days: tuple[tuple[int, int, int, str, int, int, int], ...]


def make(number: int, rng: random.Random) -> Forecast:
    start = date(2025, rng.choice(list(SEASONS)), rng.randint(1, 22))
    coolest, coldest = SEASONS[start.month]
    highs, lows = rng.sample(range(coolest, coolest + 9), 6), rng.sample(range(coldest, coldest + 7), 6)
    kinds = ["晴れ", "晴れ", "くもり", "雨", rng.choice(list(WEATHER)), rng.choice(["くもり", "雨"])]
    rng.shuffle(kinds)
    days = []
    for step, (kind, high, low) in enumerate(zip(kinds, highs, lows, strict=True)):
        day, (least, most) = start + timedelta(step), WEATHER[kind]
        days.append((day.month, day.day, day.weekday(), kind, high, low, 10 * rng.randint(least // 10, most // 10)))
    return Forecast(PLACES[number % len(PLACES)], tuple(days))


def draw(data: Forecast, look: random.Random) -> Image.Image:
    page = Page(500, 350, look.choice(["#eaf4fb", "#f3f6f8", "#fdfaf0"]))
    page.box((0, 0, 500, 52), fill=look.choice(["#2374ab", "#35607c", "#3b7a57"]))
    page.write((20, 27), f"{data.place}の週間天気", Ink("maru_bold", 24, "white"))
    left, width, top = 74.0, 69.5, 64.0
    for y, name in ((90, "日付"), (158, "天気"), (222, "最高"), (264, "最低"), (303, "降水"), (323, "確率")):
        page.write((38, y), name, Ink("maru", 16, "#3a4652"), "mm")
    page.box((6, top, left + 6 * width, 340), edge="#93a4b2")
    for column, (month, day, weekday, kind, high, low, rain) in enumerate(data.days):
        x = left + width * column
        page.box((x, top, x + width, 340), fill="white", edge="#93a4b2")
        colour = {5: "#2464b4", 6: "#d02c34"}.get(weekday, "#2a2d31")
        page.write((x + width / 2, 80), f"{month}/{day}", Ink("maru", 17, colour), "mm")
        page.write((x + width / 2, 101), f"（{WEEKDAYS[weekday]}）", Ink("maru", 16, colour), "mm")
        _draw_weather(page, (x + width / 2, 144), kind)
        page.write((x + width / 2, 184), kind, Ink("maru", 16, "#2a2d31"), "mm")
        page.write((x + width / 2, 222), f"{high}℃", Ink("maru_bold", 20, "#d0352c"), "mm")
        page.write((x + width / 2, 264), f"{low}℃", Ink("maru_bold", 20, "#2464b4"), "mm")
        page.write((x + width / 2, 316), f"{rain}%", Ink("maru", 18, "#2a2d31"), "mm")
    for y in (116, 200, 243, 286):
        page.line([(6, y), (left + 6 * width, y)], "#93a4b2")
    return page.picture()


def _draw_weather(page: Page, at: Point, kind: str) -> None:
    x, y = at
    if kind == "晴れ":
        for ray in range(8):
            dx, dy = math.cos(ray * math.pi / 4), math.sin(ray * math.pi / 4)
            page.line([(x + 14 * dx, y + 14 * dy), (x + 20 * dx, y + 20 * dy)], "#f08a24", 2.5)
        page.disc(at, 11, "#f08a24")
        return
    if kind == "雨":
        page.shape([(x - 20, y + 2), (x - 14, y - 12), (x, y - 19), (x + 14, y - 12), (x + 20, y + 2)], "#3a78c2")
        page.line([(x, y), (x, y + 16), (x - 7, y + 16)], "#3a78c2", 2.5)
        return
    for dx, dy, radius in ((-11, 4, 9), (0, -4, 12), (12, 4, 9)):
        page.disc((x + dx, y + dy), radius, "#9aa5ae")
    page.box((x - 12, y + 2, x + 13, y + 13), fill="#9aa5ae")


def ask(data: Forecast) -> list[Question]:
    days = data.days
    hottest, coldest = max(days, key=lambda day: day[4]), min(days, key=lambda day: day[5])
    sunny = sum(day[3] == "晴れ" for day in days)
    second, fourth, last = days[1], days[3], days[-1]
    return [
        Question("lookup", f"{WEEKDAYS[second[2]]}曜日の天気は何ですか。", (second[3],)),
        Question("lookup", f"{fourth[0]}月{fourth[1]}日の最高気温は何度ですか。", counted(fourth[4], "度")),
        Question("comparison", "最高気温が一番高いのは何曜日ですか。", weekday_answers(hottest[2])),
        Question(
            "comparison",
            "最低気温が一番低いのは何月何日ですか。",
            (f"{coldest[0]}月{coldest[1]}日", f"{coldest[0]}/{coldest[1]}"),
        ),
        Question(
            "arithmetic",
            f"{WEEKDAYS[last[2]]}曜日の最高気温と最低気温の差は何度ですか。",
            counted(last[4] - last[5], "度"),
        ),
        Question("count", "晴れの日は何日ありますか。", counted(sunny, "日")),
        Question(
            "lookup",
            f"{WEEKDAYS[days[2][2]]}曜日の降水確率は何パーセントですか。",
            (f"{days[2][6]}%", f"{days[2][6]}パーセント", str(days[2][6])),
        ),
        Question("yes_no", f"{WEEKDAYS[days[4][2]]}曜日は雨の予報ですか。", YES if days[4][3] == "雨" else NO),
        Question("reading", "どこの天気予報ですか。", (data.place,)),
    ]


def tell(data: Forecast) -> list[str]:
    first = data.days[0]
    return [
        f"{data.place}の週間天気予報です。",
        f"{first[0]}月{first[1]}日からの{data.place}の天気予報の表で、気温と降水確率が載っています。",
    ]
