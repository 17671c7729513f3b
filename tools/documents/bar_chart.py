"""A bar chart (棒グラフ): upright or lying bars with their values, or with values that lie on the grid's lines."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, about_half, counted


@dataclass(frozen=True)
class Topic:
    """What a chart is of; `value_of` asks for one bar's value."""

    title: str
    unit: str
    value_of: str
    names: tuple[str, ...]
    low: int
    high: int


TOPICS = [
    Topic(
        "八百屋で一日に売れた果物", "個", "{}は何個売れましたか。", ("りんご", "みかん", "柿", "ぶどう", "梨"), 12, 68
    ),
    Topic(
        "好きなスポーツ調べ", "人", "{}が好きな人は何人ですか。", ("サッカー", "野球", "水泳", "テニス", "卓球"), 4, 38
    ),
    Topic(
        "学年別の貸し出し冊数",
        "冊",
        "{}の貸し出しは何冊ですか。",
        ("1年生", "2年生", "3年生", "4年生", "5年生", "6年生"),
        60,
        240,
    ),
    Topic(
        "曜日別の来館者数",
        "人",
        "{}の来館者は何人ですか。",
        ("火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日"),
        80,
        420,
    ),
    Topic(
        "朝ごはんに食べるもの", "人", "朝ごはんが{}の人は何人ですか。", ("ごはん", "パン", "シリアル", "果物"), 5, 50
    ),
    Topic(
        "ノートの月別販売数",
        "個",
        "{}には何個売れましたか。",
        ("4月", "5月", "6月", "7月", "8月", "9月"),
        40,
        350,
    ),
    Topic(
        "通勤に使う乗り物",
        "人",
        "{}で通勤する人は何人ですか。",
        ("電車", "バス", "自動車", "自転車", "オートバイ"),
        6,
        85,
    ),
    Topic("飼っている動物", "世帯", "{}を飼っているのは何世帯ですか。", ("犬", "猫", "金魚", "小鳥", "うさぎ"), 5, 60),
    Topic(
        "店舗別の売上高",
        "万円",
        "{}の売上高は何万円ですか。",
        ("桜台店", "港町店", "松原店", "青葉店", "北浜店"),
        120,
        480,
    ),
    Topic(
        "クラブの部員数", "人", "{}の部員は何人ですか。", ("吹奏楽部", "美術部", "科学部", "陸上部", "将棋部"), 7, 42
    ),
    Topic(
        "花だんに咲いた花",
        "本",
        "{}は何本咲きましたか。",
        ("パンジー", "すみれ", "チューリップ", "水仙", "ばら"),
        8,
        55,
    ),
    Topic(
        "年代別の参加者数", "人", "{}の参加者は何人ですか。", ("10代", "20代", "30代", "40代", "50代", "60代"), 5, 75
    ),
    Topic(
        "パンの種類別の販売数",
        "個",
        "{}は何個売れましたか。",
        ("あんパン", "食パン", "メロンパン", "カレーパン", "クロワッサン"),
        20,
        130,
    ),
    Topic(
        "地区別のごみの量",
        "トン",
        "{}のごみの量は何トンですか。",
        ("東地区", "西地区", "南地区", "北地区", "中央地区"),
        15,
        90,
    ),
    Topic(
        "行ってみたい国",
        "人",
        "{}に行ってみたい人は何人ですか。",
        ("イタリア", "カナダ", "タイ", "エジプト", "ブラジル"),
        5,
        45,
    ),
    Topic(
        "公園で見つけた虫",
        "匹",
        "{}は何匹見つかりましたか。",
        ("アリ", "チョウ", "バッタ", "テントウムシ", "トンボ"),
        3,
        36,
    ),
]
COLOURS = ["#3d7fc1", "#e07b39", "#4a9d6b", "#b9507b", "#7a66b5", "#c9a227", "#2a9d9d"]


@dataclass(frozen=True)
class BarChart:
    """`bars`: names and values, all different; `tick` is the distance of the grid's lines."""

    title: str
    unit: str
    value_of: str
    bars: tuple[tuple[str, int], ...]
    tick: int
    is_lying: bool
    is_labelled: bool


def make(number: int, rng: random.Random) -> BarChart:
    topic, turn = TOPICS[number % len(TOPICS)], number // 2
    tick = next(tick for tick in (5, 10, 20, 50, 100) if topic.high / tick <= 9)
    is_labelled = turn % 4 != 2
    step = 1 if is_labelled else tick // 2 if tick > 5 else tick
    values = rng.sample(range(-(-topic.low // step), topic.high // step + 1), len(topic.names))
    bars = tuple((name, step * value) for name, value in zip(topic.names, values, strict=True))
    return BarChart(topic.title, topic.unit, topic.value_of, bars, tick, turn % 2 == 1, is_labelled)


def draw(data: BarChart, look: random.Random) -> Image.Image:
    page = Page(480, 370, look.choice(["white", "#fbfaf5", "#f4f7fa"]))
    title = Ink("sans_bold", 22, "#2b2f36").fitted(data.title, 380)
    page.write((240, 28), data.title, title, "mm")
    start = look.randrange(len(COLOURS))
    is_plain = look.random() < 0.5
    colours = [COLOURS[(start + (0 if is_plain else bar)) % len(COLOURS)] for bar in range(len(data.bars))]
    (_draw_lying if data.is_lying else _draw_standing)(page, data, colours)
    return page.picture()


def _ticks(data: BarChart) -> range:
    most = max(value for _, value in data.bars)
    return range(0, (-(-most // data.tick) + (0 if most % data.tick else 1)) * data.tick + 1, data.tick)


def _draw_standing(page: Page, data: BarChart, colours: list[str]) -> None:
    left, right, top, bottom = 66.0, 464.0, 76.0, 326.0
    ticks = _ticks(data)
    page.write((left - 8, 58), f"（{data.unit}）", Ink("sans", 15, "#444444"), "mm")
    for tick in ticks:
        y = bottom - (bottom - top) * tick / ticks[-1]
        page.line([(left, y), (right, y)], "#c9ced4" if tick else "#444a50")
        page.write((left - 8, y), str(tick), Ink("sans", 14, "#444444"), "rm")
    page.line([(left, top), (left, bottom)], "#444a50")
    room = (right - left) / len(data.bars)
    for bar, ((name, value), colour) in enumerate(zip(data.bars, colours, strict=True)):
        x, y = left + room * (bar + 0.5), bottom - (bottom - top) * value / ticks[-1]
        page.box((x - 0.3 * room, y, x + 0.3 * room, bottom), fill=colour)
        page.write((x, bottom + 18), name, Ink("sans", 17, "#2b2f36").fitted(name, room - 4), "mm")
        if data.is_labelled:
            page.write((x, y - 11), str(value), Ink("sans_bold", 16, "#2b2f36"), "mm")


def _draw_lying(page: Page, data: BarChart, colours: list[str]) -> None:
    names = [Ink("sans", 17, "#2b2f36").fitted(name, 110) for name, _ in data.bars]
    left = 20 + max(ink.width(name) for ink, (name, _) in zip(names, data.bars, strict=True))
    right, top, bottom = 436.0, 56.0, 326.0
    ticks = _ticks(data)
    for tick in ticks:
        x = left + (right - left) * tick / ticks[-1]
        page.line([(x, top), (x, bottom)], "#c9ced4" if tick else "#444a50")
        page.write((x, bottom + 15), str(tick), Ink("sans", 14, "#444444"), "mm")
    page.write((right, bottom + 34), f"（{data.unit}）", Ink("sans", 15, "#444444"), "mm")
    room = (bottom - top) / len(data.bars)
    for bar, ((name, value), colour, ink) in enumerate(zip(data.bars, colours, names, strict=True)):
        x, y = left + (right - left) * value / ticks[-1], top + room * (bar + 0.5)
        page.box((left, y - 0.3 * room, x, y + 0.3 * room), fill=colour)
        page.write((left - 8, y), name, ink, "rm")
        if data.is_labelled:
            page.write((x + 6, y), str(value), Ink("sans_bold", 16, "#2b2f36"))


def ask(data: BarChart) -> list[Question]:
    ranked = sorted(data.bars, key=lambda bar: -bar[1])
    (most, most_value), (second, _), (least, least_value) = ranked[0], ranked[1], ranked[-1]
    (first, first_value), (last, last_value) = data.bars[0], data.bars[-1]
    middle, middle_value = data.bars[len(data.bars) // 2]
    limit, above = about_half([value for _, value in data.bars], data.tick)
    unit = data.unit
    return [
        Question("lookup", data.value_of.format(middle), counted(middle_value, unit)),
        Question("comparison", "最も多いのはどれですか。", (most,)),
        Question("comparison", "一番少ないのは何ですか。", (least,)),
        Question("comparison", "2番目に多いのはどれですか。", (second,)),
        Question("arithmetic", f"{most}と{least}の差は何{unit}ですか。", counted(most_value - least_value, unit)),
        Question(
            "arithmetic", f"{first}と{last}を合わせると何{unit}になりますか。", counted(first_value + last_value, unit)
        ),
        Question("count", f"{limit}{unit}以上のものはいくつありますか。", (f"{above}つ", str(above))),
        Question("yes_no", f"{first}は{last}より多いですか。", YES if first_value > last_value else NO),
        Question("reading", "グラフの題名は何ですか。", (data.title,)),
    ]


def tell(data: BarChart) -> list[str]:
    most, value = max(data.bars, key=lambda bar: bar[1])
    return [
        f"「{data.title}」を表した棒グラフです。",
        f"「{data.title}」という棒グラフで、{most}が{value}{data.unit}で最も多くなっています。",
    ]
