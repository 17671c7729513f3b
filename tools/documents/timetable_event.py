"""A day's programme (プログラム): what begins when, until when, and where."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, clock, duration_answers, pick, time_answers

# Title, colour, the months and the hours at which it may begin, what happens, and where that may be.
EVENTS: list[tuple[str, str, tuple[int, ...], tuple[int, ...], list[tuple[str, str]]]] = [
    ("みなと夏まつり", "#1c4e80", (7, 8), (15, 16), [("和太鼓演奏", "やぐら前 中央広場"),
        ("子ども縁日", "東テント 西テント"), ("のど自慢大会", "中央広場 やぐら前"),
        ("金魚すくい大会", "東テント 西テント"), ("マジックショー", "中央広場 西テント"),
        ("ビンゴ大会", "中央広場 やぐら前"), ("盆踊り", "やぐら前")]),
    ("青葉小学校 学習発表会", "#3a7d44", (10, 11), (9, 10), [("1年生の合唱", "音楽室 体育館"),
        ("2年生の劇", "体育館 多目的室"), ("3年生の合奏", "音楽室 体育館"), ("4年生の群読", "多目的室 図書室"),
        ("5年生のダンス", "体育館 校庭"), ("6年生の劇", "体育館 多目的室"), ("全校合唱", "体育館")]),
    ("図書館まつり", "#8a3b62", (5, 10, 11), (10, 13), [("絵本の読み聞かせ", "児童室"),
        ("しおり作り", "児童室 集会室"), ("人形劇", "児童室 集会室"), ("古本市", "一階ロビー"),
        ("朗読会", "会議室 集会室"), ("作家トーク", "会議室 集会室"), ("書庫の見学", "地下書庫")]),
    ("健康フェスタ", "#b5651d", (5, 6, 9, 10), (10, 13), [("ラジオ体操", "ホール 屋上庭園"),
        ("血圧測定", "ロビー 和室"), ("料理教室", "調理室"), ("ヨガ体験", "和室 屋上庭園"),
        ("歩き方講座", "ホール 屋上庭園"), ("歯の相談", "会議室 和室"), ("体力測定", "ホール")]),
]  # fmt: skip


@dataclass(frozen=True)
class Programme:
    """`parts`: begin and end in minutes since midnight, what, where; one after the other, of different lengths."""

    title: str
    month: int
    day: int
    colour: str
    parts: tuple[tuple[int, int, str, str], ...]


def make(number: int, rng: random.Random) -> Programme:
    title, colour, months, hours, happenings = EVENTS[number % len(EVENTS)]
    start, parts = 60 * rng.choice(hours) + rng.choice([0, 30]), []
    chosen = pick(rng, happenings, rng.choice([5, 6]))
    lengths = rng.sample([20, 25, 30, 35, 40, 45, 50, 60], len(chosen))
    for (name, places), length in zip(chosen, lengths, strict=True):
        parts.append((start, start + length, name, rng.choice(places.split())))
        start += length + rng.choice([5, 10, 15])
    return Programme(title, rng.choice(months), rng.randint(1, 28), colour, tuple(parts))


def draw(data: Programme, look: random.Random) -> Image.Image:
    page = Page(440, 124 + 56 * len(data.parts), look.choice(["#fffdf7", "#fbfbff", "#f9f6ee"]))
    page.box((0, 0, 440, 66), fill=data.colour)
    page.write((220, 34), data.title, Ink("maru_bold", 29, "white").fitted(data.title, 400), "mm")
    page.write((220, 88), f"{data.month}月{data.day}日のプログラム", Ink("maru", 19, data.colour), "mm")
    for row, (start, end, name, place) in enumerate(data.parts):
        y = 138 + 56 * row
        page.disc((22, y), 6, data.colour)
        if row + 1 < len(data.parts):
            page.line([(22, y), (22, y + 56)], data.colour, 2)
        page.write((40, y), f"{clock(start)}〜{clock(end)}", Ink("maru_bold", 19, "#333333"))
        page.write((170, y), name, Ink("maru", 20, "#222222").fitted(name, 160))
        page.write((426, y), place, Ink("maru", 16, data.colour), "rm")
    return page.picture()


def ask(data: Programme) -> list[Question]:
    parts = data.parts
    longest = max(parts, key=lambda part: part[1] - part[0])
    shortest = min(parts, key=lambda part: part[1] - part[0])
    afternoon = parts[2][0] >= 12 * 60
    return [
        Question("time", f"{parts[1][2]}は何時何分に始まりますか。", time_answers(parts[1][0])),
        Question("time", f"{parts[2][2]}が終わるのは何時何分ですか。", time_answers(parts[2][1])),
        Question("lookup", f"{parts[3][2]}の会場はどこですか。", (parts[3][3],)),
        Question("lookup", f"{parts[0][2]}の次に行われるのは何ですか。", (parts[1][2],)),
        Question("comparison", "一番時間が長い催しは何ですか。", (longest[2],)),
        Question("arithmetic", f"{shortest[2]}は何分間行われますか。", duration_answers(shortest[1] - shortest[0])),
        Question("count", "プログラムに載っている催しは全部でいくつですか。", (f"{len(parts)}つ", str(len(parts)))),
        Question("date", "これは何月何日のプログラムですか。", (f"{data.month}月{data.day}日",)),
        Question("yes_no", f"{parts[2][2]}は午後に始まりますか。", YES if afternoon else NO),
    ]


def tell(data: Programme) -> list[str]:
    return [
        f"「{data.title}」のプログラムです。",
        f"{data.month}月{data.day}日に行われる「{data.title}」のプログラムで、{data.parts[0][2]}から始まります。",
    ]
