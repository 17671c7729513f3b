"""A league's standings (順位表): games won, drawn and lost, and the points that follow."""

import itertools
import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, counted

LEAGUES = [
    ("市民サッカーリーグ", ["青葉イーグルス", "港町マリナーズ", "松原FC", "北浜ドルフィン", "竹森クラブ", "白鳥SC"]),
    (
        "少年サッカー大会",
        ["桜台キッズ", "川上ファイターズ", "梅里スターズ", "藤里ジュニア", "石畳ホークス", "緑沢ウルフ"],
    ),
    ("フットサル秋季リーグ", ["雪割パンサー", "帆立シャーク", "灯台クラブ", "風見ウィング", "水車ユナイト", "桃川SC"]),
    ("町内サッカー交流戦", ["東町さくら", "西町みどり", "南町ひまわり", "北町すみれ", "中央けやき", "浜町かもめ"]),
]
COLUMNS = ("順位", "チーム", "勝", "分", "負", "勝点")


@dataclass(frozen=True)
class Standings:
    """`teams` from the first: name, games won, drawn, lost. A win is 3 points, a draw 1; no two have equal points."""

    title: str
    teams: tuple[tuple[str, int, int, int], ...]


def points(team: tuple[str, int, int, int]) -> int:
    """A team's points."""
    return 3 * team[1] + team[2]


def make(number: int, rng: random.Random) -> Standings:
    title, names = LEAGUES[number % len(LEAGUES)]
    names = rng.sample(names, rng.choice([5, 6]))
    rounds = 2 if len(names) == 6 else rng.choice([2, 3])
    while True:
        teams = sorted(_season(names, rounds, rng), key=points, reverse=True)
        lost = sorted(team[3] for team in teams)
        if len({points(team) for team in teams}) == len(teams) and lost[0] < lost[1] and lost[-2] < lost[-1]:
            return Standings(title, tuple(teams))


def _season(names: list[str], rounds: int, rng: random.Random) -> list[tuple[str, int, int, int]]:
    """Each team's games won, drawn and lost, after each has met each other one `rounds` times."""
    results: dict[str, list[int]] = {name: [0, 0, 0] for name in names}
    for one, other in list(itertools.combinations(names, 2)) * rounds:
        result = rng.choices([0, 1, 2], [5, 2, 3])[0]  # the first named is the stronger
        results[one][result] += 1
        results[other][2 - result] += 1
    return [(name, won, drawn, lost) for name, (won, drawn, lost) in results.items()]


def draw(data: Standings, look: random.Random) -> Image.Image:
    page = Page(492, 104 + 48 * len(data.teams) + 12, look.choice(["white", "#f6f8f4", "#f4f6fb"]))
    colour = look.choice(["#1b4d3e", "#22304f", "#6b1d2a"])
    page.write((246, 32), data.title, Ink("sans_bold", 25, colour), "mm")
    page.box((10, 60, 482, 100), fill=colour)
    spots = (40, 164, 298, 346, 394, 448)
    for x, name in zip(spots, COLUMNS, strict=True):
        page.write((x, 80), name, Ink("sans_bold", 17, "white"), "mm")
    for row, team in enumerate(data.teams):
        y = 124 + 48 * row
        page.box((10, y - 24, 482, y + 24), fill="#eef1ee" if row % 2 else "white", edge="#c8cfd4")
        page.write((40, y), str(row + 1), Ink("sans_bold", 21, colour), "mm")
        page.write((70, y), team[0], Ink("sans", 20, "#24282c").fitted(team[0], 200))
        for x, value in zip(spots[2:], (*team[1:], points(team)), strict=True):
            page.write((x, y), str(value), Ink("sans_bold" if x == 448 else "sans", 20, "#24282c"), "mm")
    return page.picture()


def ask(data: Standings) -> list[Question]:
    first, second, third, last = data.teams[0], data.teams[1], data.teams[2], data.teams[-1]
    fewest_lost, most_lost = min(data.teams, key=lambda team: team[3]), max(data.teams, key=lambda team: team[3])
    games = sum(third[1:])
    half = sum(points(team) >= 15 for team in data.teams)
    return [
        Question("lookup", "1位のチームはどこですか。", (first[0],)),
        Question("lookup", f"{second[0]}は何勝していますか。", counted(second[1], "勝")),
        Question("lookup", "3位のチームの勝点はいくつですか。", (str(points(third)), f"{points(third)}点")),
        Question("comparison", "負けた数が最も多いのはどのチームですか。", (most_lost[0],)),
        Question("comparison", "一番負けが少ないチームはどこですか。", (fewest_lost[0],)),
        Question(
            "arithmetic",
            "首位のチームは、すぐ下のチームより勝点がいくつ多いですか。",
            (str(points(first) - points(second)), f"{points(first) - points(second)}点"),
        ),
        Question("arithmetic", f"{third[0]}は全部で何試合しましたか。", counted(games, "試合")),
        Question("count", "勝点が15以上のチームはいくつありますか。", (f"{half}チーム", f"{half}つ", str(half))),
        Question("yes_no", f"{last[0]}は引き分けた試合がありますか。", YES if last[2] else NO),
        Question("reading", "何という大会の順位表ですか。", (data.title,)),
    ]


def tell(data: Standings) -> list[str]:
    return [
        f"「{data.title}」の順位表です。",
        f"{len(data.teams)}チームの勝敗と勝点をまとめた表で、1位は{data.teams[0][0]}です。",
    ]
