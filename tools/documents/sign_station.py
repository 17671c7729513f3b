"""A station's name board (駅名標): this station in kanji, kana and number, and its neighbours on the line."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question

LINES = [
    ("みなと線", "M", "#e8731c", [("小波", "さざなみ"), ("灯台前", "とうだいまえ"), ("貝塚浜", "かいづかはま"),
        ("汐見橋通", "しおみばしどおり"), ("帆立", "ほたて")]),
    ("花見坂線", "H", "#c93a78", [("花見坂", "はなみざか"), ("桃川", "ももかわ"), ("鈴ノ木", "すずのき"),
        ("椿野", "つばきの"), ("藤里", "ふじさと")]),
    ("北星線", "HS", "#1e7fb8", [("北星ヶ丘", "ほくせいがおか"), ("雪割", "ゆきわり"),
        ("白樺町", "しらかばちょう"), ("氷見坂", "ひみざか"), ("狐森", "きつねもり")]),
    ("山手川線", "Y", "#3c8f3a", [("緑沢", "みどりさわ"), ("石畳", "いしだたみ"), ("水車前", "すいしゃまえ"),
        ("竹森", "たけもり"), ("風見台", "かざみだい")]),
]  # fmt: skip


@dataclass(frozen=True)
class StationSign:
    """`stations` are the left neighbour, this one and the right neighbour: kanji and kana; trains leave rightwards."""

    line: str
    letter: str
    number: int
    colour: str
    stations: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]
    is_dark: bool


def make(number: int, rng: random.Random) -> StationSign:
    line, letter, colour, stations = LINES[number % len(LINES)]
    first = rng.randint(0, len(stations) - 3)
    before, here, after = stations[first : first + 3]
    return StationSign(line, letter, rng.randint(4, 19), colour, (before, here, after), number // 2 % 2 == 1)


def draw(data: StationSign, look: random.Random) -> Image.Image:
    page = Page(512, 300, look.choice(["#aab4b9", "#c2beb4", "#9fb0a8"]))
    text = "white" if data.is_dark else "#1d1d1d"
    page.box((16, 28, 496, 272), fill="#20262c" if data.is_dark else "white", edge="#5d6468", width=3, round_by=6)
    (before, _), (here, kana), (after, _) = data.stations
    page.box((18, 172, 494, 206), fill=data.colour)
    ground = "#20262c" if data.is_dark else "white"
    page.shape([(472, 172), (494, 172), (494, 189)], ground)
    page.shape([(472, 206), (494, 206), (494, 189)], ground)
    page.box((232, 167, 280, 211), fill="white", edge=data.colour, width=4, round_by=8)
    page.write((256, 180), data.letter, Ink("sans_bold", 16, "#1d1d1d"), "mm")
    page.write((256, 198), f"{data.number:02d}", Ink("sans_bold", 17, "#1d1d1d"), "mm")
    page.write((256, 88), here, Ink("sans_bold", 56, text).fitted(here, 330), "mm")
    page.write((256, 140), kana, Ink("sans", 22, text), "mm")
    page.write((30, 52), data.line, Ink("sans", 16, text))
    page.write((34, 238), before, Ink("sans_bold", 24, text).fitted(before, 180))
    page.write((478, 238), after, Ink("sans_bold", 24, text).fitted(after, 180), "rm")
    return page.photo(look)


def ask(data: StationSign) -> list[Question]:
    (before, _), (here, kana), (after, _) = data.stations
    asked = after if data.number % 2 else before
    return [
        Question("reading", "ここは何という駅ですか。", (f"{here}駅", here)),
        Question("reading", "駅名をひらがなで書くとどうなりますか。", (kana,)),
        Question("lookup", "右側に書かれている隣の駅はどこですか。", (after, f"{after}駅")),
        Question("lookup", "左側に書かれている隣の駅はどこですか。", (before, f"{before}駅")),
        Question("lookup", "この駅の駅番号は何ですか。", (f"{data.letter}{data.number:02d}",)),
        Question("reading", "路線の名前は何ですか。", (data.line,)),
        Question("yes_no", f"{asked}は、この駅の右隣の駅ですか。", YES if asked == after else NO),
    ]


def tell(data: StationSign) -> list[str]:
    (before, _), (here, _), (after, _) = data.stations
    return [
        f"{data.line}の{here}駅の駅名標です。",
        f"{here}駅の駅名標で、両隣の駅は{before}と{after}です。",
    ]
