"""A menu (お品書き): sections of dishes with prices, printed, chalked on a board, or in vertical kanji."""

import random
from dataclasses import dataclass

from PIL import Image

from documents.page import Ink, Page
from documents.words import NO, YES, Question, counted, kanji, yen

Dishes = list[tuple[str, int]]

TRADES: dict[str, dict[str, Dishes]] = {
    "喫茶": {
        "お飲み物": [("ブレンド珈琲", 450), ("カフェオレ", 520), ("紅茶", 480), ("クリームソーダ", 650),
            ("りんごジュース", 430)],
        "軽食": [("玉子サンド", 680), ("ナポリタン", 890), ("厚切りトースト", 380), ("ホットケーキ", 720),
            ("カレーライス", 850)],
    },
    "そば": {
        "そば": [("もりそば", 700), ("かけそば", 650), ("天ざるそば", 1350), ("鴨南蛮", 1200), ("とろろそば", 950)],
        "一品": [("だし巻き玉子", 550), ("板わさ", 480), ("野菜天ぷら", 800), ("そばがき", 620), ("おしんこ", 300)],
    },
    "居酒屋": {
        "焼き物": [("焼き鳥盛り合わせ", 880), ("さば塩焼き", 720), ("ほっけ", 960), ("つくね", 350), ("焼きなす", 420)],
        "おつまみ": [("枝豆", 330), ("冷やっこ", 280), ("ポテトサラダ", 450), ("たこわさ", 400), ("唐揚げ", 590)],
    },
    "ラーメン": {
        "麺": [("しょうゆラーメン", 780), ("みそラーメン", 850), ("塩ラーメン", 760), ("担々麺", 930),
            ("チャーシュー麺", 1080)],
        "ご飯もの": [("チャーハン", 690), ("半ライス", 120), ("チャーシュー丼", 430), ("餃子定食", 880),
            ("天津飯", 820)],
    },
    "甘味処": {
        "甘味": [("クリームあんみつ", 780), ("白玉ぜんざい", 700), ("みたらし団子", 360), ("わらび餅", 550),
            ("抹茶パフェ", 1100)],
        "お飲み物": [("抹茶", 600), ("ほうじ茶", 320), ("甘酒", 410), ("梅ジュース", 480), ("煎茶", 380)],
    },
    "食堂": {
        "定食": [("焼き魚定食", 950), ("とんかつ定食", 1180), ("生姜焼き定食", 980), ("コロッケ定食", 820),
            ("刺身定食", 1400)],
        "小鉢": [("ひじき煮", 160), ("納豆", 100), ("きんぴら", 180), ("生卵", 80), ("おひたし", 140)],
    },
    "洋食": {
        "お食事": [("オムライス", 980), ("ハンバーグ", 1250), ("エビフライ", 1480), ("ハヤシライス", 1020),
            ("グラタン", 1100)],
        "デザート": [("プリン", 420), ("バニラアイス", 350), ("チーズケーキ", 490), ("ガトーショコラ", 530),
            ("りんごパイ", 560)],
    },
    "カレー": {
        "カレー": [("ビーフカレー", 1050), ("チキンカレー", 920), ("野菜カレー", 880), ("カツカレー", 1230),
            ("キーマカレー", 970)],
        "トッピング": [("ゆで卵", 110), ("チーズ", 170), ("ソーセージ", 240), ("なす", 150), ("納豆", 130)],
    },
}  # fmt: skip
SHOPS = [
    ("喫茶", "喫茶 ひだまり"), ("居酒屋", "酒場 とんぼ"), ("そば", "そば処 やまびこ"), ("甘味処", "甘味処 はなごよみ"),
    ("ラーメン", "ラーメン 龍の子"), ("洋食", "洋食 ペンギン亭"), ("食堂", "あおぞら食堂"),
    ("カレー", "カレーの店 ぞうさん"),
    ("洋食", "キッチン すずらん"), ("喫茶", "珈琲 三日月"), ("甘味処", "茶房 うぐいす"), ("そば", "手打ちそば 水車"),
    ("カレー", "スパイス食堂 とまと"), ("ラーメン", "中華そば 大吉"), ("居酒屋", "炉ばた 北の灯"),
    ("食堂", "港の食堂 かもめ"),
]  # fmt: skip
LAYOUTS = ["printed", "chalked", "upright"]


@dataclass(frozen=True)
class Menu:
    """`sections`: a heading, and dishes with their prices; no two prices are equal."""

    shop: str
    sections: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    layout: str

    def dishes(self) -> list[tuple[str, int]]:
        """All dishes in their order."""
        return [dish for _, dishes in self.sections for dish in dishes]


def make(number: int, rng: random.Random) -> Menu:
    trade, shop = SHOPS[number % len(SHOPS)]
    taken: set[int] = set()
    sections = []
    for heading, pool in TRADES[trade].items():
        dishes = []
        for index in sorted(rng.sample(range(len(pool)), rng.choice([3, 4]))):
            name, usual = pool[index]
            price = usual + 10 * rng.randint(-2, 6)
            while price in taken:
                price += 10
            taken.add(price)
            dishes.append((name, price))
        sections.append((heading, tuple(dishes)))
    return Menu(shop, tuple(sections), LAYOUTS[number // 2 % len(LAYOUTS)])


def draw(data: Menu, look: random.Random) -> Image.Image:
    return {"printed": _draw_printed, "chalked": _draw_chalked, "upright": _draw_upright}[data.layout](data, look)


def _draw_printed(data: Menu, look: random.Random) -> Image.Image:
    """On cream paper, a dotted leader between dish and price."""
    colour = look.choice(["#7a3b1d", "#2f5d4a", "#7d2438", "#2f4a73"])
    face = look.choice(["serif", "maru"])
    page = Page(380, 500, look.choice(["#fbf5e6", "#fdfdfa", "#f3e7cf"]))
    page.box((12, 12, 368, 488), edge=colour, width=2)
    page.box((18, 18, 362, 482), edge=colour, width=0.7)
    page.write((190, 54), data.shop, Ink(f"{face}_bold", 30, colour).fitted(data.shop, 310), "mm")
    page.write((190, 92), look.choice(["お品書き", "メニュー"]), Ink(face, 18, "#444444"), "mm")
    step = min(38, 350 / (len(data.dishes()) + 2 * 1.25))
    y = 122.0
    for heading, dishes in data.sections:
        page.write((40, y + 0.6 * step), heading, Ink(f"{face}_bold", 19, colour))
        page.line([(40, y + 1.05 * step), (340, y + 1.05 * step)], colour)
        y += 1.25 * step
        for name, price in dishes:
            ink, told = Ink(face, 19, "#2b2420"), yen(price)
            page.write((46, y + step / 2), name, ink)
            page.write((338, y + step / 2), told, ink, "rm")
            page.dots((56 + ink.width(name), y + step / 2 + 4), 330 - ink.width(told), "#9c8f80")
            y += step
    return page.picture()


def _draw_chalked(data: Menu, look: random.Random) -> Image.Image:
    """On a blackboard with a wooden frame, the sections side by side."""
    page = Page(512, 360, "#8b5e34")
    page.box((12, 12, 500, 348), fill=look.choice(["#24402f", "#2b2f33"]), round_by=3)
    chalk = ["#f6f3e6", "#ffe08a", "#ffb3ba", "#a8dcf0"]
    page.write((256, 46), data.shop, Ink("maru_bold", 31, chalk[0]).fitted(data.shop, 420), "mm")
    page.line([(60, 72), (452, 72)], chalk[1], 1.5)
    for side, (heading, dishes) in enumerate(data.sections):
        left, right = (34, 246) if side == 0 else (274, 480)
        page.write(((left + right) / 2, 98), f"〈{heading}〉", Ink("maru_bold", 20, chalk[1 + look.randrange(3)]), "mm")
        for row, (name, price) in enumerate(dishes):
            y, told = 142 + 50 * row, f"¥{price:,}"
            room = right - left - Ink("maru", 19).width(told) - 8
            page.write((left, y), name, Ink("maru", 19, chalk[0]).fitted(name, room))
            page.write((right, y), told, Ink("maru", 19, chalk[0]), "rm")
    return page.photo(look)


def _draw_upright(data: Menu, look: random.Random) -> Image.Image:
    """Columns from the right: the shop, then dish over price in kanji."""
    page = Page(500, 400, look.choice(["#f3ead6", "#f7f0e0", "#efe6d2"]))
    page.box((10, 10, 490, 390), edge="#8c2f2f", width=1.5)
    num_columns = len(data.dishes()) + len(data.sections)
    step = min(50, 400 / num_columns)
    page.write_down((456, 30), data.shop.replace(" ", "　"), Ink("brush", min(34, 340 / len(data.shop)), "#5c1414"))
    x = 410.0
    for heading, dishes in data.sections:
        page.write_down((x, 30), heading, Ink("serif_bold", 19, "#8c2f2f"))
        x -= step
        for name, price in dishes:
            page.write_down((x, 48), name, Ink("serif", 20, "#241a14"))
            page.write_down((x, 376), f"{kanji(price)}円", Ink("serif", 20, "#241a14"), "mb")
            x -= step
    return page.picture()


def ask(data: Menu) -> list[Question]:
    dishes = data.dishes()
    ranked = sorted(dishes, key=lambda dish: dish[1])
    (cheapest, _), (dearest, most) = ranked[0], ranked[-1]
    (first, first_price), (last, last_price) = dishes[1], dishes[-1]
    middle, middle_price = ranked[len(ranked) // 2]
    heading, listed = data.sections[0]
    return [
        Question("reading", "お店の名前は何ですか。", (data.shop.replace(" ", ""), data.shop.split(" ")[-1])),
        Question("lookup", f"{first}はいくらですか。", (yen(first_price),)),
        Question("comparison", "一番値段が高いものは何ですか。", (dearest,)),
        Question("comparison", "一番安い品は何ですか。", (cheapest,)),
        Question(
            "arithmetic", f"{first}と{last}を一つずつ頼むと、合わせていくらですか。", (yen(first_price + last_price),)
        ),
        Question("lookup", f"{yen(middle_price)}のものは何ですか。", (middle,)),
        Question("count", f"「{heading}」には何種類ありますか。", counted(len(listed), "種類")),
        Question("yes_no", f"1,000円で{dearest}を注文できますか。", YES if most <= 1000 else NO),
    ]


def tell(data: Menu) -> list[str]:
    shop = data.shop.replace(" ", "")
    (heading, dishes), (other, _) = data.sections
    dish, price = dishes[0]
    return [
        f"「{shop}」のお品書きです。",
        f"「{shop}」のメニューに、{heading}と{other}の値段が並んでいます。{dish}は{yen(price)}です。",
    ]
