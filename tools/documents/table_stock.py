"""A list of goods in stock (在庫表): name, shelf, price of one, how many."""

import itertools
import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, yen

STORES: list[tuple[str, list[tuple[str, int]]]] = [
    ("文具売り場 在庫表", [("消しゴム", 80), ("スティックのり", 150), ("はさみ", 450), ("定規", 120),
        ("ホチキス", 600), ("クリップ", 200)]),
    ("和菓子 在庫表", [("どら焼き", 180), ("大福", 160), ("草もち", 170), ("みたらし団子", 140),
        ("水ようかん", 250), ("最中", 190)]),
    ("園芸用品 在庫表", [("植木鉢", 380), ("じょうろ", 980), ("移植ごて", 540), ("スコップ", 420),
        ("肥料", 760), ("支柱", 110)]),
    ("みやげ物 在庫表", [("絵はがき", 130), ("木彫りのくま", 2400), ("手ぬぐい", 850), ("こけし", 1600),
        ("根付", 480), ("湯のみ", 1100)]),
]  # fmt: skip


@dataclass(frozen=True)
class Stock:
    """`goods`: name, shelf, price of one, how many; no two shelves, prices or numbers are equal."""

    title: str
    goods: tuple[tuple[str, str, int, int], ...]


def make(number: int, rng: random.Random) -> Stock:
    title, pool = STORES[number % len(STORES)]
    chosen = rng.sample(pool, 5)
    shelves = rng.sample([f"{letter}-{place}" for letter in "ABC" for place in range(1, 5)], 5)
    numbers = rng.sample(range(3, 60), 5)
    goods = [
        (name, shelf, price, how_many)
        for (name, price), shelf, how_many in zip(chosen, shelves, numbers, strict=True)
    ]  # fmt: skip
    return Stock(title, tuple(goods))


def draw(data: Stock, look: random.Random) -> Image.Image:
    page = Page(470, 350, look.choice(["#fdfdfb", "#fbf7ee", "#f5f7fb"]))
    face = look.choice(["sans", "serif"])
    colour = look.choice(["#44546a", "#5b4636", "#2f5d50"])
    page.write((18, 34), data.title, Ink(f"{face}_bold", 24, colour))
    edges = (12, 172, 252, 360, 458)
    page.box((12, 62, 458, 102), fill=colour)
    for (left, right), name in zip(itertools.pairwise(edges), ("品名", "棚", "単価", "在庫数"), strict=True):
        page.write(((left + right) / 2, 82), name, Ink(f"{face}_bold", 18, "white"), "mm")
    for row, (name, shelf, price, how_many) in enumerate(data.goods):
        y = 125 + 46 * row
        page.write((24, y), name, Ink(face, 19, "#26282b").fitted(name, 142))
        page.write((212, y), shelf, Ink(face, 19, "#26282b"), "mm")
        page.write((348, y), f"¥{price:,}", Ink(face, 19, "#26282b"), "rm")
        page.write((446, y), str(how_many), Ink(face, 19, "#26282b"), "rm")
        page.line([(12, y + 23), (458, y + 23)], "#b9bfc6")
    for x in edges:
        page.line([(x, 62), (x, 332)], "#b9bfc6")
    return page.picture()


def ask(data: Stock) -> list[Question]:
    most, fewest = max(data.goods, key=lambda item: item[3]), min(data.goods, key=lambda item: item[3])
    dearest, total = max(data.goods, key=lambda item: item[2]), sum(item[3] for item in data.goods)
    first, second, third = data.goods[0], data.goods[1], data.goods[2]
    return [
        Question("lookup", f"{second[0]}の単価はいくらですか。", (yen(second[2]),)),
        Question("lookup", f"{third[0]}の在庫数はいくつですか。", (str(third[3]), f"{third[3]}個")),
        Question("lookup", f"{first[0]}はどの棚にありますか。", (first[1], f"{first[1]}の棚")),
        Question("comparison", "在庫が一番多い品は何ですか。", (most[0],)),
        Question("comparison", "在庫が最も少ないのは何ですか。", (fewest[0],)),
        Question("comparison", "単価が一番高い品は何ですか。", (dearest[0],)),
        Question("arithmetic", f"{third[0]}を3つ買うといくらになりますか。", (yen(3 * third[2]),)),
        Question("arithmetic", "在庫数をすべて足すといくつになりますか。", (str(total), f"{total}個")),
        Question("lookup", f"{data.goods[3][1]}の棚に置かれているのは何ですか。", (data.goods[3][0],)),
        Question("yes_no", f"{first[0]}の在庫数は20以上ですか。", YES if first[3] >= 20 else NO),
    ]


def tell(data: Stock) -> list[str]:
    return [
        f"「{data.title}」という表です。",
        f"{len(data.goods)}種類の品物について、棚の位置、単価、在庫数をまとめた表です。",
    ]
