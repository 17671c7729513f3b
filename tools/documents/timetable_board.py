"""A departure board in a station (発車案内): time, kind of train, where to, platform."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, clock, counted, duration_answers, time_answers

LINES = ["みなと線", "北星線", "花見坂線", "山手川線"]
GOALS = ["桃川", "灯台前", "雪割", "藤里", "白樺町", "水車前", "風見台", "帆立"]
KINDS = {"普通": "#e8e8e8", "快速": "#7fd1ff", "急行": "#ff9d5c", "特急": "#ff6b6b"}


@dataclass(frozen=True)
class Board:
    """`trains`: minutes since midnight, kind, where to, platform; no two go to the same place."""

    line: str
    trains: tuple[tuple[int, str, str, int], ...]


def make(number: int, rng: random.Random) -> Board:
    minutes, trains = rng.randint(7 * 60, 20 * 60), []
    kinds = ["普通", "普通", "快速", "急行", "普通", "特急"][: rng.choice([5, 6])]
    rng.shuffle(kinds)
    for kind, goal in zip(kinds, rng.sample(GOALS, len(kinds)), strict=True):
        trains.append((minutes, kind, goal, rng.randint(1, 4)))
        minutes += rng.randint(4, 13)
    return Board(LINES[number % len(LINES)], tuple(trains))


def draw(data: Board, look: random.Random) -> Image.Image:
    page = Page(500, 106 + 50 * len(data.trains), "#3a3f45")
    page.box((8, 8, 492, page.height - 8), fill="#0e1116", edge="#5b636b", width=2, round_by=4)
    page.write((24, 36), f"{data.line}　発車ご案内", Ink("sans_bold", 22, "white"))
    for x, text in ((62, "時刻"), (160, "種別"), (290, "行き先"), (434, "番線")):
        page.write((x, 74), text, Ink("sans", 16, "#9fb4c0"), "mm")
    amber = look.choice(["#ffc247", "#ffb02e", "#8cf08c"])
    for row, (minutes, kind, goal, platform) in enumerate(data.trains):
        y = 116 + 50 * row
        page.line([(20, y - 25), (480, y - 25)], "#39424a")
        page.write((62, y), clock(minutes), Ink("sans_bold", 26, amber), "mm")
        page.box((126, y - 17, 194, y + 17), fill=KINDS[kind], round_by=4)
        page.write((160, y), kind, Ink("sans_bold", 21, "#14181c"), "mm")
        page.write((290, y), goal, Ink("sans_bold", 26, amber), "mm")
        page.write((434, y), str(platform), Ink("sans_bold", 26, "white"), "mm")
    return page.picture()


def ask(data: Board) -> list[Question]:
    first, second, third, last = data.trains[0], data.trains[1], data.trains[2], data.trains[-1]
    locals_ = sum(train[1] == "普通" for train in data.trains)
    express = next(train for train in data.trains if train[1] == "急行")
    has_kind = any(train[1] == "特急" for train in data.trains)
    asked = data.trains[3]
    return [
        Question("lookup", f"{second[2]}行きは何番線から出ますか。", counted(second[3], "番線")),
        Question("time", f"{third[2]}行きの発車時刻は何時何分ですか。", time_answers(third[0])),
        Question("lookup", "急行の行き先はどこですか。", (express[2], f"{express[2]}行き")),
        Question("count", "普通列車は何本表示されていますか。", counted(locals_, "本")),
        Question("lookup", f"{clock(asked[0])}に発車する列車の種別は何ですか。", (asked[1],)),
        Question(
            "arithmetic",
            f"{first[2]}行きが出てから{last[2]}行きが出るまで、何分ありますか。",
            duration_answers(last[0] - first[0]),
        ),
        Question("comparison", "表示の中で最後に発車する列車は、どこ行きですか。", (f"{last[2]}行き", last[2])),
        Question("yes_no", "この中に特急はありますか。", YES if has_kind else NO),
        Question("reading", "何という路線の発車案内ですか。", (data.line,)),
    ]


def tell(data: Board) -> list[str]:
    minutes, kind, goal, _ = data.trains[0]
    return [
        f"{data.line}の発車案内の表示板です。",
        f"駅の発車案内で、最初の列車は{time_answers(minutes)[0]}発の{kind}{goal}行きです。",
    ]
