"""A blue road sign (案内標識): three places, the way to each, and how far they are."""

import math
import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page, Point
from documents.words import NO, YES, Question

PLACES = ["桜台", "松原", "港町", "青葉", "川上", "白鳥町", "竹森", "梅里", "雲井", "北浜", "石畳", "藤里"]
BLUE = "#0b4ea2"


@dataclass(frozen=True)
class RoadSign:
    """`places` are left, straight on and right: name and kilometres."""

    places: tuple[tuple[str, int], tuple[str, int], tuple[str, int]]
    road: int
    is_cross: bool


def make(number: int, rng: random.Random) -> RoadSign:
    names = [PLACES[(3 * number + step) % len(PLACES)] for step in range(3)]
    left, ahead, right = zip(names, rng.sample(range(2, 38), 3), strict=True)
    return RoadSign((left, ahead, right), rng.randint(217, 398), number // 2 % 2 == 0)


def draw(data: RoadSign, look: random.Random) -> Image.Image:
    page = Page(480, 360, look.choice(["#bcd9ee", "#cfe3ee", "#d7dde2"]))
    page.shape([(0, 300), (90, 262), (180, 292), (300, 250), (400, 284), (480, 262), (480, 360), (0, 360)], "#7f9f72")
    page.box((112, 300, 124, 360), fill="#8a8d90")
    page.box((356, 300, 368, 360), fill="#8a8d90")
    page.box((34, 18, 446, 314), fill=BLUE, round_by=10)
    page.box((40, 24, 440, 308), edge="white", width=3, round_by=8)
    (_draw_cross if data.is_cross else _draw_rows)(page, data)
    return page.photo(look)


def _draw_cross(page: Page, data: RoadSign) -> None:
    """Arrows that part at a crossing, a name at each tip."""
    page.box((230, 118, 250, 296), fill="white")
    page.box((150, 196, 330, 214), fill="white")
    page.shape([(240, 96), (260, 124), (220, 124)], "white")
    page.shape([(128, 205), (154, 185), (154, 225)], "white")
    page.shape([(352, 205), (326, 185), (326, 225)], "white")
    for (name, distance), x, y in zip(data.places, (104, 240, 376), (158, 46, 158), strict=True):
        ink = Ink("sans_bold", 27, "white").fitted(name, 96)
        page.write((x, y), name, ink, "mm")
        page.write((x, y + 29), f"{distance} km", Ink("sans", 17, "white"), "mm")
    _draw_number(page, (292, 258), data.road)


def _draw_number(page: Page, at: Point, road: int) -> None:
    """A national road's number in its triangle, which stands on a tip and has round corners."""
    corners = [math.radians(corner) for corner in (-30, 90, 210)]
    arc = [math.radians(turn) for turn in range(-60, 61, 10)]
    edge = [
        (at[0] + 15 * math.cos(corner) + 12 * math.cos(corner + turn),
         at[1] + 15 * math.sin(corner) + 12 * math.sin(corner + turn))
        for corner in corners for turn in arc
    ]  # fmt: skip
    page.shape(edge, "white")
    page.write((at[0], at[1] - 3), str(road), Ink("sans_bold", 16, BLUE), "mm")


def _draw_rows(page: Page, data: RoadSign) -> None:
    """A row a place: an arrow, its name, its distance."""
    arrows: tuple[list[Point], ...] = (
        [(66, 0), (90, -20), (90, -7), (118, -7), (118, 7), (90, 7), (90, 20)],
        [(92, -26), (112, -2), (99, -2), (99, 24), (85, 24), (85, -2), (72, -2)],
        [(118, 0), (94, -20), (94, -7), (66, -7), (66, 7), (94, 7), (94, 20)],
    )
    for row, ((name, distance), arrow) in enumerate(zip(data.places, arrows, strict=True)):
        y = 72 + 92 * row
        page.shape([(x, y + dy) for x, dy in arrow], "white")
        page.write((146, y), name, Ink("sans_bold", 34, "white"))
        page.write((420, y), f"{distance} km", Ink("sans_bold", 28, "white"), "rm")
        if row:
            page.line([(42, y - 46), (438, y - 46)], "white", 2)


def ask(data: RoadSign) -> list[Question]:
    (left, _), (ahead, near_ahead), (right, near_right) = data.places
    nearest = min(data.places, key=lambda place: place[1])
    farthest = max(data.places, key=lambda place: place[1])
    apart = farthest[1] - nearest[1]
    return [
        Question("lookup", "右に曲がるとどこへ行けますか。", (right,)),
        Question("lookup", f"{ahead}まで何キロありますか。", _kilometres(near_ahead)),
        Question("lookup", f"{left}へ行くには、どちらへ進めばよいですか。", ("左", "左折", "左方向")),
        Question("comparison", "標識にある地名のうち、ここから一番遠いのはどこですか。", (farthest[0],)),
        Question("comparison", "一番近い行き先はどこですか。", (nearest[0],)),
        Question(
            "arithmetic", f"{farthest[0]}までの距離は、{nearest[0]}までより何キロ長いですか。", _kilometres(apart)
        ),
        Question("yes_no", f"{right}までの距離は10キロ以上ですか。", YES if near_right >= 10 else NO),
    ]


def _kilometres(distance: int) -> tuple[str, ...]:
    return f"{distance}キロ", f"{distance}km", f"{distance}キロメートル"


def tell(data: RoadSign) -> list[str]:
    (left, _), (ahead, _), (right, _) = data.places
    return [
        f"{left}、{ahead}、{right}の方向と距離を示す道路の案内標識です。",
        f"道路の案内標識で、左は{left}、直進は{ahead}、右は{right}です。",
    ]
