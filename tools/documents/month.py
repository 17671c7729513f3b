"""A month's calendar (カレンダー): holidays as the law has them, and what the owner wrote into some days."""

import calendar
import random
from dataclasses import dataclass
from datetime import date

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, WEEKDAYS, YES, Question, counted, era, weekday_answers

# Year, month, and its national holidays.
MONTHS: list[tuple[int, int, dict[int, str]]] = [
    (2025, 4, {29: "昭和の日"}), (2026, 7, {20: "海の日"}), (2025, 9, {15: "敬老の日", 23: "秋分の日"}),
    (2026, 3, {20: "春分の日"}),
    (2025, 11, {3: "文化の日", 23: "勤労感謝の日", 24: "振替休日"}), (2026, 6, {}),
    (2024, 10, {14: "スポーツの日"}), (2025, 8, {11: "山の日"}),
    (2026, 1, {1: "元日", 12: "成人の日"}), (2025, 2, {11: "建国記念の日", 23: "天皇誕生日", 24: "振替休日"}),
    (2025, 6, {}), (2024, 12, {}),
    (2025, 7, {21: "海の日"}), (2026, 10, {12: "スポーツの日"}), (2024, 4, {29: "昭和の日"}),
    (2026, 11, {3: "文化の日", 23: "勤労感謝の日"}),
]  # fmt: skip
EVENTS = [  # at home in every season
    "歯医者", "出張", "英会話", "美容院", "旅行", "面談", "発表会", "同窓会", "引っ越し", "健診", "誕生日会",
    "買い物", "ピアノ", "料理教室", "試合", "映画", "車検", "習字",
]  # fmt: skip


@dataclass(frozen=True)
class Month:
    """`holidays` and `events`: a day and its name, by day; `first` is the weekday of the first column."""

    year: int
    month: int
    holidays: tuple[tuple[int, str], ...]
    events: tuple[tuple[int, str], ...]
    first: int
    is_era: bool

    def length(self) -> int:
        """How many days the month has."""
        return calendar.monthrange(self.year, self.month)[1]


def make(number: int, rng: random.Random) -> Month:
    year, month, holidays = MONTHS[number % len(MONTHS)]
    days = [day for day in range(2, calendar.monthrange(year, month)[1]) if day not in holidays]
    events = zip(sorted(rng.sample(days, 4)), rng.sample(EVENTS, 4), strict=True)
    return Month(
        year, month, tuple(holidays.items()), tuple(events), 6 if number // 2 % 3 != 1 else 0, number // 2 % 2 == 1
    )  # fmt: skip


def draw(data: Month, look: random.Random) -> Image.Image:
    weeks = calendar.Calendar(data.first).monthdayscalendar(data.year, data.month)
    step = 64 if len(weeks) < 6 else 56
    colour = look.choice(["#2f6f8f", "#7b5ea7", "#3f7d4e", "#b5651d", "#4a4f57"])
    page = Page(492, 112 + step * len(weeks) + 10, look.choice(["white", "#fffdf6", "#f8fafc"]))
    year = f"{era(data.year)}" if data.is_era else f"{data.year}年"
    page.box((0, 0, 492, 72), fill=colour)
    page.write((24, 38), f"{data.month}月", Ink("maru_bold", 42, "white"))
    page.write((468, 42), year, Ink("maru", 24, "white"), "rm")
    for column in range(7):
        weekday = (data.first + column) % 7
        page.write((46 + 66.5 * column, 92), WEEKDAYS[weekday], Ink("maru_bold", 18, _colour(weekday)), "mm")
    marks = dict(data.events) | dict(data.holidays)
    for row, week in enumerate(weeks):
        for column, day in enumerate(week):
            x, y = 13 + 66.5 * column, 110.0 + step * row
            page.box((x, y, x + 66.5, y + step), edge="#c4cad0")
            if day:
                weekday = (data.first + column) % 7
                is_holiday = day in dict(data.holidays)
                page.write(
                    (x + 6, y + 15), str(day), Ink("maru_bold", 19, "#d02c34" if is_holiday else _colour(weekday))
                )
            if day in marks:
                _mark(page, (x + 33, y + step - 18), marks[day], is_holiday=day in dict(data.holidays))
    return page.picture()


def _mark(page: Page, at: tuple[float, float], text: str, is_holiday: bool) -> None:
    """What is on a day: a holiday's name in small print, an event in the owner's hand; long names take two lines."""
    if is_holiday:
        lines = [text] if len(text) <= 5 else [text[:-2], text[-2:]]
        for line, part in enumerate(lines):
            y = at[1] + 14 * (line - (len(lines) - 1) / 2) + 3
            page.write((at[0], y), part, Ink("sans", 12, "#d02c34"), "mm")
    else:
        page.write(at, text, Ink("pen", 17, "#1d3f94").fitted(text, 62), "mm")


def _colour(weekday: int) -> str:
    return {5: "#2464b4", 6: "#d02c34"}.get(weekday, "#2a2d31")


def ask(data: Month) -> list[Question]:
    (first_day, first), (second_day, second), (third_day, third), (last_day, last) = data.events
    sundays = [day for day in range(1, data.length() + 1) if _weekday(data, day) == 6]
    saturdays = [day for day in range(1, data.length() + 1) if _weekday(data, day) == 5]
    third_weekday, holiday = _weekday(data, third_day), data.holidays[0] if data.holidays else None
    asked = [
        Question("lookup", f"{first}は何日ですか。", _day(data, first_day)),
        Question("date", f"{second}の予定は何曜日ですか。", weekday_answers(_weekday(data, second_day))),
        Question("lookup", f"{last_day}日の予定は何ですか。", (last,)),
        Question("date", "最初の日曜日は何日ですか。", _day(data, sundays[0])),
        Question("date", "この月の最後の日は何曜日ですか。", weekday_answers(_weekday(data, data.length()))),
        Question("count", "この月に土曜日は何回ありますか。", counted(len(saturdays), "回")),
        Question("arithmetic", f"{second}は{first}の何日後ですか。", _later(second_day - first_day)),
        Question("reading", "何年何月のカレンダーですか。", _months(data)),
        Question(
            "yes_no", f"{third}の予定は週末（土曜日か日曜日）に入っていますか。", YES if third_weekday >= 5 else NO
        ),
    ]
    if holiday:
        asked.insert(3, Question("lookup", f"{holiday[1]}は何日ですか。", _day(data, holiday[0])))
    return asked


def _weekday(data: Month, day: int) -> int:
    return date(data.year, data.month, day).weekday()


def _day(data: Month, day: int) -> tuple[str, ...]:
    return f"{day}日", f"{data.month}月{day}日"


def _later(days: int) -> tuple[str, ...]:
    return ("1日後", "翌日", "次の日", "1") if days == 1 else counted(days, "日後")


def _months(data: Month) -> tuple[str, ...]:
    western, japanese = f"{data.year}年{data.month}月", f"{era(data.year)}{data.month}月"
    return (japanese, western) if data.is_era else (western, japanese)


def tell(data: Month) -> list[str]:
    month = _months(data)[0]
    (_, first), *_, (last_day, last) = data.events
    return [
        f"{month}のカレンダーです。",
        f"{month}のカレンダーに、{first}や{last_day}日の{last}などの予定が書き込まれています。",
    ]
