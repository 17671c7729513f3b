"""A department store's floor guide (フロアガイド): what is sold on which floor."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, pick

STORES = ["丸星百貨店", "ひかりデパート", "駅ビル ルミエ", "つばめプラザ"]
GOODS = [
    "レストラン街", "本・文具", "おもちゃ・子ども服", "家具・カーテン", "家電・カメラ", "スポーツ用品",
    "紳士服", "婦人服", "靴・かばん", "化粧品・時計",
]  # fmt: skip
COLOURS = ["#c0392b", "#d9822b", "#c9a50c", "#4f9a3d", "#2b83ba", "#5b4ea8", "#a0427e"]


@dataclass(frozen=True)
class FloorGuide:
    """`floors` from the top: its name (5F, B1F) and what is sold there."""

    store: str
    floors: tuple[tuple[str, str], ...]


def make(number: int, rng: random.Random) -> FloorGuide:
    goods = [*pick(rng, GOODS, rng.choice([5, 6])), "食料品"]
    names = [f"{floor}F" for floor in range(len(goods) - 1, 0, -1)] + ["B1F"]
    return FloorGuide(STORES[number % len(STORES)], tuple(zip(names, goods, strict=True)))


def draw(data: FloorGuide, look: random.Random) -> Image.Image:
    page = Page(400, 90 + 58 * len(data.floors), "#f4f1ea")
    page.box((0, 0, 400, 66), fill=look.choice(["#2e2e38", "#5a1f2b", "#1f3b4d"]))
    page.write((20, 34), data.store, Ink("serif_bold", 28, "white"))
    page.write((380, 36), "フロアガイド", Ink("sans", 18, "#e8e0d0"), "rm")
    for row, (name, goods) in enumerate(data.floors):
        y = 78 + 58 * row
        page.box((20, y, 96, y + 50), fill=COLOURS[row % len(COLOURS)], round_by=4)
        page.write((58, y + 25), name, Ink("sans_bold", 26, "white"), "mm")
        page.box((96, y, 380, y + 50), fill="white", edge="#d8d2c4")
        page.write((114, y + 25), goods, Ink("sans", 22, "#2b2b2b"))
    return page.picture()


def ask(data: FloorGuide) -> list[Question]:
    above_ground = len(data.floors) - 1
    (top, _), (second, second_goods), (_, third_goods) = data.floors[:3]
    first_goods = data.floors[-2][1]
    absent = next(goods for goods in GOODS if goods not in dict(data.floors).values())
    asked, is_there = (absent, NO) if above_ground % 2 else (third_goods, YES)
    climb = above_ground - 3
    return [
        Question(
            "reading", "何というお店のフロアガイドですか。", (data.store.replace(" ", ""), data.store.split(" ")[-1])
        ),
        Question("lookup", f"「{second_goods}」は何階ですか。", (_floor(second), second)),
        Question("lookup", "1階では何を売っていますか。", _goods(first_goods)),
        Question(
            "comparison", f"「{third_goods}」と「{first_goods}」では、どちらが上の階にありますか。", _goods(third_goods)
        ),
        Question(
            "arithmetic",
            f"1階から「{third_goods}」の階まで、何階分上がりますか。",
            (f"{climb}階分", f"{climb}階", str(climb)),
        ),
        Question("count", "地上は何階までありますか。", (_floor(top), f"{above_ground}階建て", top)),
        Question("yes_no", f"このお店に「{asked}」の階はありますか。", is_there),
    ]


def _floor(name: str) -> str:
    return name.replace("F", "階")


def _goods(goods: str) -> tuple[str, ...]:
    return goods, goods.replace("・", "と")


def tell(data: FloorGuide) -> list[str]:
    top, bottom = data.floors[0], data.floors[-2]
    return [
        f"「{data.store}」のフロアガイドです。",
        f"デパートの案内板で、{_floor(top[0])}は「{top[1]}」、{_floor(bottom[0])}は「{bottom[1]}」です。",
    ]
