"""A car park's sign (駐車場): its rates by day and night, the most it costs, and how many cars it holds."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, counted, yen

NAMES = ["花見坂駐車場", "みなとパーキング", "駅前第二駐車場", "くすのきパーキング"]


@dataclass(frozen=True)
class ParkingSign:
    """`day` (8:00 to 20:00) and `night`: minutes of a unit and its price; `most`: the price of 24 hours."""

    name: str
    day: tuple[int, int]
    night: tuple[int, int]
    most: int
    spaces: int
    height: float
    colour: str


def make(number: int, rng: random.Random) -> ParkingSign:
    day = rng.choice([(30, 200), (30, 220), (20, 100), (30, 150)])
    hourly = day[1] * 60 // day[0]
    most = 100 * ((hourly * rng.randint(4, 6)) // 100)
    return ParkingSign(
        NAMES[number % len(NAMES)], day, (60, rng.choice([100, 110, 120])), most, rng.randint(12, 68),
        rng.choice([2.0, 2.1, 2.3]), ["#0b4ea2", "#d6a300", "#1d7a3a", "#b5282d"][number % 4],
    )  # fmt: skip


def draw(data: ParkingSign, look: random.Random) -> Image.Image:
    page = Page(360, 500, look.choice(["#c7d3da", "#d6d2c8"]))
    page.box((26, 18, 334, 482), fill="white", edge=data.colour, width=6, round_by=10)
    page.box((46, 38, 126, 118), fill=data.colour, round_by=10)
    page.write((86, 78), "P", Ink("sans_bold", 62, "white"), "mm")
    page.write((142, 66), data.name, Ink("sans_bold", 24, "#222222").fitted(data.name, 176))
    page.write((142, 100), "24時間営業", Ink("sans", 18, "#444444"))
    rows = [("昼", "8:00〜20:00", data.day), ("夜", "20:00〜8:00", data.night)]
    for row, (name, hours, (minutes, price)) in enumerate(rows):
        y = 140 + 92 * row
        page.box((46, y, 314, y + 82), fill="#fff3b0" if row == 0 else "#263a66", round_by=6)
        text = "#222222" if row == 0 else "white"
        page.write((60, y + 24), f"{name}　{hours}", Ink("sans", 19, text))
        page.write((60, y + 59), f"{minutes}分", Ink("sans_bold", 25, text))
        page.write((300, y + 57), yen(price), Ink("sans_bold", 31, text), "rm")
    page.box((46, 326, 314, 396), fill="#c8202c", round_by=6)
    page.write((60, 361), "24時間最大", Ink("sans_bold", 19, "white"))
    page.write((302, 361), yen(data.most), Ink("sans_bold", 32, "white"), "rm")
    page.write((50, 424), f"収容台数　{data.spaces}台", Ink("sans", 19, "#222222"))
    page.write((50, 456), f"高さ制限　{data.height:.1f}m", Ink("sans", 19, "#222222"))
    return page.photo(look)


def ask(data: ParkingSign) -> list[Question]:
    units = 2 * 60 // data.day[0]
    return [
        Question("reading", "駐車場の名前は何ですか。", (data.name,)),
        Question("lookup", f"昼間は{data.day[0]}分でいくらかかりますか。", (yen(data.day[1]),)),
        Question("arithmetic", "昼の12時から2時間止めると、料金はいくらですか。", (yen(units * data.day[1]),)),
        Question("lookup", "24時間止めても、料金は最大でいくらですか。", (yen(data.most),)),
        Question("lookup", "何台まで止められますか。", counted(data.spaces, "台")),
        Question("arithmetic", "夜10時から3時間止めるといくらになりますか。", (yen(3 * data.night[1]),)),
        Question("yes_no", "高さ2.2メートルの車は入れますか。", YES if data.height >= 2.2 else NO),
    ]


def tell(data: ParkingSign) -> list[str]:
    return [
        f"「{data.name}」の料金案内の看板です。",
        f"駐車場の看板で、昼は{data.day[0]}分{yen(data.day[1])}、24時間最大{yen(data.most)}と書かれています。",
    ]
