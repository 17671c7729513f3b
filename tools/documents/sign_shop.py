"""A shop's sign (看板): name, trade, opening hours, the weekday it is closed, telephone."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import (
    NO,
    WEEKDAYS,
    YES,
    Question,
    clock,
    duration_answers,
    kanji,
    phone,
    time_answers,
    weekday_answers,
)

SHOPS = [
    ("珈琲 こもれび", "自家焙煎と手づくりケーキ", "#5b3a21"),
    ("たんぽぽ堂", "焼きたてパンの店", "#c8782a"),
    ("月見屋", "和菓子・赤飯", "#7a2433"),
    ("みどり自転車店", "販売・修理・レンタル", "#1f6b43"),
    ("うみねこ書房", "古本・買い取り", "#23466e"),
    ("麺処 いちばん星", "手打ちうどん", "#a02c1c"),
]


@dataclass(frozen=True)
class ShopSign:
    """`opens` and `closes` are minutes since midnight, `closed` is a weekday (0 is Monday)."""

    name: str
    trade: str
    opens: int
    closes: int
    closed: int
    phone: str
    colour: str
    is_upright: bool


def make(number: int, rng: random.Random) -> ShopSign:
    name, trade, colour = SHOPS[number % len(SHOPS)]
    opens, closes = 30 * rng.randint(14, 22), 30 * rng.randint(33, 42)
    return ShopSign(name, trade, opens, closes, rng.randrange(7), phone(rng), colour, number // 2 % 2 == 1)


def draw(data: ShopSign, look: random.Random) -> Image.Image:
    return _draw_upright(data, look) if data.is_upright else _draw_front(data, look)


def _draw_front(data: ShopSign, look: random.Random) -> Image.Image:
    """A shop front: awning, board above the window, and a plate with the hours."""
    page = Page(480, 360, look.choice(["#d9cbb5", "#c9b8a6", "#dcdad2"]))
    for y in range(0, 360, 24):
        page.line([(0, y), (480, y)], "#bfae98", 0.7)
    page.box((30, 26, 450, 132), fill=data.colour, edge="#2b2018", width=2, round_by=6)
    page.write((240, 70), data.name, Ink("maru_bold", 46, "#fff8ea").fitted(data.name, 380), "mm")
    page.write((240, 112), data.trade, Ink("maru", 18, "#ffe9c4"), "mm")
    for stripe in range(14):
        left = 30 + stripe * 30
        fill = data.colour if stripe % 2 == 0 else "#fbf6ea"
        page.shape([(left, 138), (left + 30, 138), (left + 30, 166), (left, 166)], fill)
        page.disc((left + 15, 166), 15, fill)
    page.box((60, 190, 420, 340), fill="#fdfbf4", edge="#5a4a3a", width=2)
    ink = Ink("sans", 21, "#333333")
    page.write((90, 222), f"営業時間　{clock(data.opens)} 〜 {clock(data.closes)}", ink)
    page.write((90, 264), f"定休日　　{WEEKDAYS[data.closed]}曜日", ink)
    page.write((90, 306), f"電話　　　{data.phone}", ink)
    return page.photo(look)


def _draw_upright(data: ShopSign, look: random.Random) -> Image.Image:
    """A wooden board with the name in a column and the hours in kanji."""
    page = Page(340, 500, look.choice(["#8fa3ad", "#a9b7a2", "#b7b0a4"]))
    page.box((24, 16, 316, 484), fill="#e9cf9f", edge="#6d4a22", width=5, round_by=3)
    for x in range(44, 310, 18):
        page.line([(x, 22), (x + look.randint(-4, 4), 478)], "#dfc290", 1)
    length = len(data.name)
    page.write_down((248, 40), data.name, Ink("brush", min(66, 400 / length), "#2a1608"))
    page.write_down((176, 60), data.trade, Ink("serif_bold", min(26, 340 / len(data.trade)), data.colour))
    hours = f"{_time(data.opens)}より{_time(data.closes)}まで"
    page.write_down((116, 60), hours, Ink("serif", 20, "#2a1608"))
    page.write_down((72, 60), f"定休日　{WEEKDAYS[data.closed]}曜", Ink("serif", 20, "#2a1608"))
    page.write((170, 462), f"電話 {data.phone}", Ink("sans", 17, "#2a1608"), "mm")
    return page.photo(look)


def _time(minutes: int) -> str:
    return f"{kanji(minutes // 60)}時" + ("半" if minutes % 60 else "")


def ask(data: ShopSign) -> list[Question]:
    other = (data.closed + 3) % 7 if data.opens % 60 else data.closed
    is_open = YES if other != data.closed else NO
    return [
        Question("reading", "お店の名前は何ですか。", (data.name.replace(" ", ""), data.name.split(" ")[-1])),
        Question("time", "このお店は何時に開きますか。", time_answers(data.opens)),
        Question("time", "閉店は何時ですか。", time_answers(data.closes)),
        Question("date", "定休日は何曜日ですか。", weekday_answers(data.closed)),
        Question("arithmetic", "一日に何時間営業していますか。", duration_answers(data.closes - data.opens)),
        Question("yes_no", f"{WEEKDAYS[other]}曜日にこのお店は開いていますか。", is_open),
        Question("reading", "電話番号を教えてください。", (data.phone,)),
    ]


def tell(data: ShopSign) -> list[str]:
    weekday = WEEKDAYS[data.closed]
    return [
        f"「{data.name}」というお店の看板です。",
        f"「{data.name}」の看板で、営業時間は{time_answers(data.opens)[0]}から{time_answers(data.closes)[0]}まで、"
        f"定休日は{weekday}曜日と書かれています。",
    ]
