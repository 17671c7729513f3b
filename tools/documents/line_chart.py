"""A line chart (折れ線グラフ): one line with its values, or two lines whose points lie on the grid's lines."""

import itertools
import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page, Point
from documents.words import NO, YES, Question, about_half, counted

MONTHS = ("1月", "2月", "3月", "4月", "5月", "6月", "7月", "8月", "9月", "10月", "11月", "12月")


@dataclass(frozen=True)
class Topic:
    """What a chart is of: `of` names the value, `which` is the word that asks for a point."""

    title: str
    of: str
    unit: str
    which: str
    points: tuple[str, ...]
    low: int
    high: int
    lines: tuple[str, ...] = ()


SINGLE = [
    Topic("町の月別平均気温", "平均気温", "度", "何月", MONTHS[3:11], 6, 29),
    Topic("水族館の年間来館者数", "来館者数", "万人", "何年", tuple(f"{year}年" for year in range(2018, 2025)), 24, 78),
    Topic("一日の気温の変化", "気温", "度", "何時", ("6時", "8時", "10時", "12時", "14時", "16時", "18時"), 9, 28),
    Topic("図書館の月別貸出冊数", "貸出冊数", "冊", "何月", MONTHS[:7], 310, 890),
    Topic("かき氷の週別売り上げ", "売り上げ", "杯", "第何週", tuple(f"第{week}週" for week in range(1, 8)), 45, 190),
    Topic(
        "村の人口の移り変わり", "人口", "人", "何年", tuple(f"{year}年" for year in range(1970, 2030, 10)), 1200, 2900
    ),
    Topic(
        "ひまわりの高さ", "高さ", "cm", "何日目", ("5日目", "10日目", "15日目", "20日目", "25日目", "30日目"), 8, 140
    ),
    Topic("一週間に歩いた距離", "距離", "km", "何曜日", tuple(f"{day}曜日" for day in "月火水木金土日"), 2, 18),
]
DOUBLE = [
    Topic("二つの店の月別来客数", "来客数", "人", "何月", MONTHS[3:9], 100, 800, ("本店", "駅前店")),
    Topic("東町と西町の降水量", "降水量", "mm", "何月", MONTHS[4:10], 50, 350, ("東町", "西町")),
    Topic("ケーキとパンの販売数", "販売数", "個", "何月", MONTHS[:6], 20, 160, ("ケーキ", "パン")),
    Topic(
        "温かい飲み物と冷たい飲み物の売り上げ",
        "売り上げ",
        "杯",
        "何月",
        MONTHS[5:11],
        40,
        180,
        ("温かい飲み物", "冷たい飲み物"),
    ),
    Topic(
        "男子と女子の入部者数",
        "入部者数",
        "人",
        "何年",
        tuple(f"{year}年" for year in range(2020, 2026)),
        5,
        45,
        ("男子", "女子"),
    ),
    Topic("電車とバスの利用者数", "利用者数", "人", "何月", MONTHS[6:12], 200, 900, ("電車", "バス")),
    Topic("本館と別館の宿泊者数", "宿泊者数", "人", "何月", MONTHS[4:10], 50, 450, ("本館", "別館")),
    Topic("キャベツとレタスの出荷量", "出荷量", "箱", "何月", MONTHS[6:12], 20, 180, ("キャベツ", "レタス")),
]
COLOURS = [("#c8452f", "#2f74b5"), ("#1f7a5c", "#d9822b"), ("#6a4c93", "#1a9ba1"), ("#2f74b5", "#c2417c")]


@dataclass(frozen=True)
class LineChart:
    """`values`: one row a line, one value a point; `lines` is empty where there is only one."""

    title: str
    of: str
    unit: str
    which: str
    points: tuple[str, ...]
    lines: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    tick: int


def make(number: int, rng: random.Random) -> LineChart:
    """Even turns have one line, odd turns two. Values of a line differ, and so do its steps up."""
    topic = (DOUBLE if number // 2 % 2 else SINGLE)[(number // 4 * 2 + number % 2) % 8]
    tick = next(tick for tick in (5, 10, 20, 50, 100, 200, 500) if topic.high / tick <= 9)
    step = tick // 2 if topic.lines and tick > 5 else tick if topic.lines else 1
    while True:
        values = tuple(_walk(topic, step, rng) for _ in topic.lines or ("",))
        if not topic.lines or _are_apart(values, tick):
            return LineChart(
                topic.title, topic.of, topic.unit, topic.which, topic.points, topic.lines, values, tick
            )  # fmt: skip


def _walk(topic: Topic, step: int, rng: random.Random) -> tuple[int, ...]:
    """A smooth course between `low` and `high` with one highest and one lowest point, and one largest rise."""
    span, number = topic.high - topic.low, len(topic.points)
    while True:
        course = [rng.random()]
        while len(course) < number:
            course.append(min(1.0, max(0.0, course[-1] + rng.uniform(-0.45, 0.5))))
        if topic.of in ("平均気温", "気温"):
            peak = 4
            course = [1 - (abs(point - peak) / peak) ** 1.4 * rng.uniform(0.7, 1) for point in range(number)]
        if topic.of == "高さ":
            course = sorted(course)
        values = tuple(step * round((topic.low + span * part) / step) for part in course)
        rises = sorted((later - earlier for earlier, later in itertools.pairwise(values)), reverse=True)
        if len(set(values)) == number and rises[0] > rises[1] and rises[0] > 0 and max(values) - min(values) > span / 2:
            return values


def _are_apart(values: tuple[tuple[int, ...], ...], tick: int) -> bool:
    """Whether two lines cross, and never meet in a point."""
    gaps = [one - other for one, other in zip(*values, strict=True)]
    return all(abs(gap) >= tick for gap in gaps) and min(gaps) < 0 < max(gaps) and len({abs(gap) for gap in gaps}) > 3


def draw(data: LineChart, look: random.Random) -> Image.Image:
    page = Page(496, 372, look.choice(["white", "#fcfaf4", "#f5f8fa"]))
    colours = look.choice(COLOURS)
    page.write((248, 28), data.title, Ink("sans_bold", 22, "#2b2f36").fitted(data.title, 440), "mm")
    left, right, top, bottom = 66.0, 484.0, 92.0, 326.0
    page.write((left - 10, 68), f"（{data.unit}）", Ink("sans", 15, "#444444"), "mm")
    most, least = max(map(max, data.values)), min(map(min, data.values))
    first = (least // data.tick - 1) * data.tick if least > 0.5 * most else 0
    ticks = range(first, (most // data.tick + 2) * data.tick, data.tick)
    for tick in ticks:
        y = bottom - (bottom - top) * (tick - first) / (ticks[-1] - first)
        page.line([(left, y), (right, y)], "#cfd4d9" if tick > first else "#444a50")
        page.write((left - 8, y), str(tick), Ink("sans", 14, "#444444"), "rm")
    room = (right - left) / len(data.points)
    for point, name in enumerate(data.points):
        page.write(
            (left + room * (point + 0.5), bottom + 18), name, Ink("sans", 16, "#2b2f36").fitted(name, room - 4), "mm"
        )
    for line, values in enumerate(data.values):
        spots: list[Point] = [
            (left + room * (point + 0.5), bottom - (bottom - top) * (value - first) / (ticks[-1] - first))
            for point, value in enumerate(values)
        ]
        _draw_line(page, spots, colours[line], is_square=line == 1)
        if not data.lines:
            _label(page, spots, values)
    for line, name in enumerate(data.lines):
        x = 180 + 150 * line
        page.line([(x - 36, 68), (x - 8, 68)], colours[line], 2.5)
        _mark(page, (x - 22, 68), colours[line], is_square=line == 1)
        page.write((x, 68), name, Ink("sans", 16, "#2b2f36"))
    return page.picture()


def _draw_line(page: Page, spots: list[Point], colour: str, is_square: bool) -> None:
    page.course(spots, colour, 2.5)
    for spot in spots:
        _mark(page, spot, colour, is_square)


def _mark(page: Page, spot: Point, colour: str, is_square: bool) -> None:
    if is_square:
        page.box((spot[0] - 5, spot[1] - 5, spot[0] + 5, spot[1] + 5), fill=colour)
    else:
        page.disc(spot, 5, colour)


def _label(page: Page, spots: list[Point], values: tuple[int, ...]) -> None:
    """Each value over its point, on the side where the line falls, or under it where the line rises to both sides."""
    for point, ((x, y), value) in enumerate(zip(spots, values, strict=True)):
        before = values[point - 1] - value if point else 0
        after = values[point + 1] - value if point + 1 < len(values) else 0
        is_low = before >= 0 and after >= 0
        ink = Ink("sans_bold", 15, "#2b2f36")
        half = ink.width(str(value)) / 2
        aside = 0 if is_low else half if before > 0 else -half if after > 0 else 0
        page.write((x + aside, y + 16 if is_low else y - 15), str(value), ink, "mm")


def ask(data: LineChart) -> list[Question]:
    return [
        *(_ask_two(data) if data.lines else _ask_one(data)),
        Question("reading", "グラフの題名は何ですか。", (data.title,)),
    ]


def _ask_one(data: LineChart) -> list[Question]:
    (values,), points, unit, of = data.values, data.points, data.unit, data.of
    highest, lowest = values.index(max(values)), values.index(min(values))
    rises = [later - earlier for earlier, later in itertools.pairwise(values)]
    steepest = rises.index(max(rises))
    limit, above = about_half(values, data.tick)
    size = "高" if of in ("平均気温", "気温", "高さ") else "長" if unit == "km" else "多"
    rose = {"高さ": "伸びた", "気温": "上がった", "平均気温": "上がった"}.get(of, "増えた")
    return [
        Question("lookup", f"{points[2]}の{of}は何{unit}ですか。", counted(values[2], unit)),
        Question("comparison", f"{of}が最も{size}いのは{data.which}ですか。", _named(points[highest])),
        Question("comparison", f"{of}が一番{_small(size)}のは{data.which}ですか。", _named(points[lowest])),
        Question(
            "arithmetic",
            f"{of}が最も{size}いときと最も{_small(size)}ときの差は何{unit}ですか。",
            counted(max(values) - min(values), unit),
        ),
        Question(
            "comparison",
            f"直前の値と比べて、{of}が最も大きく{rose}のは{data.which}ですか。",
            _named(points[steepest + 1]),
        ),
        Question(
            "count", f"{of}が{limit}{unit}以上の{_NOUNS[data.which]}はいくつありますか。", _number_of(above, data.which)
        ),
        Question(
            "yes_no", f"{points[-1]}の{of}は{points[-2]}より{size}いですか。", YES if values[-1] > values[-2] else NO
        ),
    ]


def _ask_two(data: LineChart) -> list[Question]:
    (ones, others), (one, other), points, unit, of = data.values, data.lines, data.points, data.unit, data.of
    gaps = [mine - theirs for mine, theirs in zip(ones, others, strict=True)]
    wins = sum(gap > 0 for gap in gaps)
    return [
        Question("lookup", f"{points[1]}の{one}の{of}は何{unit}ですか。", counted(ones[1], unit)),
        Question("lookup", f"{points[-1]}の{other}の{of}は何{unit}ですか。", counted(others[-1], unit)),
        Question(
            "comparison", f"{points[3]}に{of}が多いのは{one}と{other}のどちらですか。", (one if gaps[3] > 0 else other,)
        ),
        Question("comparison", f"{one}の{of}が最も多いのは{data.which}ですか。", _named(points[ones.index(max(ones))])),
        Question(
            "comparison",
            f"{other}の{of}が最も少ないのは{data.which}ですか。",
            _named(points[others.index(min(others))]),
        ),
        Question(
            "arithmetic", f"{points[0]}の{of}は、{one}と{other}で何{unit}違いますか。", counted(abs(gaps[0]), unit)
        ),
        Question(
            "count",
            f"{one}の{of}が{other}を上回った{_NOUNS[data.which]}はいくつありますか。",
            _number_of(wins, data.which),
        ),
        Question("yes_no", f"{points[2]}の{of}は、{other}のほうが{one}より多いですか。", YES if gaps[2] < 0 else NO),
    ]


_NOUNS = {"何月": "月", "何年": "年", "何時": "時刻", "第何週": "週", "何日目": "日", "何曜日": "曜日"}


def _number_of(number: int, which: str) -> tuple[str, ...]:
    """How many points there are, of months also in the counter of months."""
    return (f"{number}つ", *([f"{number}か月"] if which == "何月" else []), str(number))


def _small(size: str) -> str:
    return {"高": "低い", "長": "短い", "多": "少ない"}[size]


def _named(point: str) -> tuple[str, ...]:
    """A point's name, of a weekday also without its last character."""
    return (point, point.removesuffix("日")) if point.endswith("曜日") else (point,)


def tell(data: LineChart) -> list[str]:
    shown = "と".join(data.lines)
    second = (
        f"{shown}の{data.of}を比べた折れ線グラフです。"
        if data.lines
        else f"{data.points[0]}から{data.points[-1]}までの{data.of}を示す折れ線グラフです。"
    )
    return [f"「{data.title}」という題の折れ線グラフです。", second]
