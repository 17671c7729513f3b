"""A receipt (レシート): shop, date and time, what was bought, tax, total, cash and change."""

import random
from dataclasses import dataclass
from datetime import date

from PIL import Image

from documents.page import Ink, Page
from documents.words import (
    NO,
    WEEKDAYS,
    YES,
    Question,
    clock,
    counted,
    era,
    person,
    phone,
    time_answers,
    weekday_answers,
    yen,
)

GOODS: dict[str, list[tuple[str, int]]] = {
    "スーパー": [("牛乳", 218), ("食パン", 158), ("卵10個入り", 268), ("バナナ", 178), ("豆腐", 88),
        ("鶏もも肉", 486), ("トマト", 298), ("みそ", 398)],
    "ベーカリー": [("あんパン", 170), ("メロンパン", 190), ("カレーパン", 210), ("クロワッサン", 230),
        ("食パン1斤", 380), ("くるみパン", 260), ("サンドイッチ", 420)],
    "文具店": [("ノート", 165), ("ボールペン", 132), ("消しゴム", 88), ("封筒", 220), ("はさみ", 495),
        ("のり", 143), ("色鉛筆12色", 990)],
    "花屋": [("ばら", 330), ("カーネーション", 220), ("かすみ草", 275), ("ひまわり", 385), ("チューリップ", 198),
        ("花びん", 1650)],
    "書店": [("文庫本", 770), ("料理雑誌", 880), ("絵本", 1430), ("手帳", 1210), ("地図", 990), ("しおり", 165)],
    "薬局": [("ばんそうこう", 398), ("綿棒", 217), ("マスク30枚", 548), ("歯ブラシ", 198), ("目薬", 880),
        ("湿布", 1080)],
    "喫茶": [("ブレンド", 460), ("カフェラテ", 540), ("ココア", 580), ("レモンティー", 500),
        ("チーズケーキ", 520), ("サンドイッチ", 750)],
    "金物店": [("電球", 440), ("乾電池4本", 398), ("軍手", 165), ("ガムテープ", 286), ("ねじ回し", 715),
        ("じょうろ", 1078)],
}  # fmt: skip
SHOPS = [
    ("スーパー", "スーパーまるふく", "桜台店"), ("ベーカリー", "ベーカリーこむぎ", "駅前店"),
    ("文具店", "文具のえんぴつ館", "本店"),
    ("花屋", "フラワーショップ花音", "中央店"), ("書店", "つばき書房", "港町店"), ("薬局", "すこやか薬局", "松原店"),
    ("喫茶", "カフェ木もれ日", "公園前店"), ("金物店", "金物のよろずや", "西口店"),
    ("ベーカリー", "パン工房ふくろう", "青葉店"),
    ("スーパー", "フレッシュ朝市", "梅里店"), ("花屋", "花のみずき", "駅ビル店"),
    ("文具店", "紙と筆の三光堂", "北浜店"),
    ("薬局", "くすりの白鳥", "川上店"), ("書店", "ブックス灯台", "東口店"), ("金物店", "道具屋はちすけ", "竹森店"),
    ("喫茶", "珈琲館すみれ", "二丁目店"),
]  # fmt: skip
FOOD = ("スーパー", "ベーカリー")  # taken home: the reduced rate


@dataclass(frozen=True)
class Receipt:
    """`items`: name, price of one without tax, how many; `minutes` since midnight."""

    shop: str
    branch: str
    phone: str
    year: int
    month: int
    day: int
    minutes: int
    clerk: str
    items: tuple[tuple[str, int, int], ...]
    tax_percent: int
    paid: int
    is_era: bool

    def subtotal(self) -> int:
        """What the goods cost without tax."""
        return sum(price * number for _, price, number in self.items)

    def tax(self) -> int:
        """The tax, rounded down to whole yen."""
        return self.subtotal() * self.tax_percent // 100

    def total(self) -> int:
        """What is to pay."""
        return self.subtotal() + self.tax()


def make(number: int, rng: random.Random) -> Receipt:
    trade, shop, branch = SHOPS[number % len(SHOPS)]
    pool = GOODS[trade]
    chosen = [pool[index] for index in sorted(rng.sample(range(len(pool)), rng.choice([3, 4, 5])))]
    counts = [1, 1, 2, 1, 3][: len(chosen)]
    rng.shuffle(counts)
    items = tuple((name, price, count) for (name, price), count in zip(chosen, counts, strict=True))
    rate = 8 if trade in FOOD else 10
    cost = sum(price * count for _, price, count in items) * (100 + rate) // 100
    step = rng.choice([100, 1000, 5000])
    return Receipt(
        shop, branch, phone(rng), rng.choice([2024, 2025, 2026]), rng.randint(1, 12), rng.randint(1, 28),
        rng.randint(9 * 60 + 5, 19 * 60 + 50), person(number)[0].split(" ")[0], items, rate,
        step * (cost // step + 1), number // 2 % 2 == 1,
    )  # fmt: skip


def draw(data: Receipt, look: random.Random) -> Image.Image:
    """A strip of paper on a table."""
    height = 366 + 26 * len(data.items)
    page = Page(330, min(height, 512), look.choice(["#a9835b", "#6f7d86", "#b8a48c", "#7b6a5c"]))
    left, right = 32, 298
    teeth: list[tuple[float, float]] = [(left - 14 + 7 * step, page.height - 10 - 4 * (step % 2)) for step in range(43)]
    page.shape([(left - 14, 8), (right + 14, 8), *reversed(teeth)], "#fdfcf8")
    ink, name_ink = (
        Ink("sans", 16, "#26262a"),
        Ink(look.choice(["sans_bold", "serif_bold", "maru_bold"]), 23, "#1d1d20"),
    )
    page.write((165, 36), data.shop, name_ink.fitted(data.shop, 250), "mm")
    page.write((165, 62), f"{data.branch}　TEL {data.phone}", ink.of(14), "mm")
    page.write((left, 90), f"{_date(data)}　{clock(data.minutes)}", ink.of(14.5))
    page.write((left, 112), f"担当：{data.clerk}", ink.of(14.5))
    _rule(page, 128)
    y = 146.0
    for name, price, count in data.items:
        told = name if count == 1 else f"{name}　{count}点×{price:,}"
        page.write((left, y), told, ink.fitted(told, 185))
        page.write((right, y), f"¥{price * count:,}", ink, "rm")
        y += 26
    _rule(page, y - 6)
    _sums(page, data, y + 14)
    return page.photo(look)


def _sums(page: Page, data: Receipt, y: float) -> None:
    ink, bold = Ink("sans", 16, "#26262a"), Ink("sans_bold", 22, "#1d1d20")
    rows = [
        ("小計", data.subtotal(), ink), (f"消費税（{data.tax_percent}%）", data.tax(), ink),
        ("合計", data.total(), bold), ("お預り", data.paid, ink), ("お釣り", data.paid - data.total(), ink),
    ]  # fmt: skip
    for name, amount, look in rows:
        y += 4 if look is bold else 0
        page.write((32, y), name, look)
        page.write((298, y), f"¥{amount:,}", look, "rm")
        y += 30 if look is bold else 25
    _rule(page, y - 4)
    page.write((165, y + 16), "ありがとうございました", ink.of(14.5), "mm")


def _rule(page: Page, y: float) -> None:
    for x in range(32, 298, 8):
        page.line([(x, y), (x + 4, y)], "#77777c")


def _date(data: Receipt) -> str:
    weekday = WEEKDAYS[date(data.year, data.month, data.day).weekday()]
    year = era(data.year) if data.is_era else f"{data.year}年"
    return f"{year}{data.month}月{data.day}日（{weekday}）"


def ask(data: Receipt) -> list[Question]:
    name, _, _ = max(data.items, key=lambda item: item[1])
    several, one_price, _ = max(data.items, key=lambda item: item[2])
    day = f"{data.month}月{data.day}日"
    years = (era(data.year), f"{data.year}年") if data.is_era else (f"{data.year}年", era(data.year))
    return [
        Question("reading", "どこのお店のレシートですか。", (data.shop, f"{data.shop}{data.branch}")),
        Question("lookup", "税込みの合計金額はいくらですか。", (yen(data.total()),)),
        Question("lookup", "お釣りはいくらでしたか。", (yen(data.paid - data.total()),)),
        Question("date", "買い物をしたのは何月何日ですか。", (day, *(f"{year}{day}" for year in years))),
        Question("time", "会計をしたのは何時何分ですか。", time_answers(data.minutes)),
        Question("count", "品物は全部で何点買いましたか。", counted(sum(item[2] for item in data.items), "点")),
        Question("lookup", f"{several}は一点いくらですか。税抜きで答えてください。", (yen(one_price),)),
        Question("comparison", "一点あたりの値段が最も高い品物は何ですか。", (name,)),
        Question(
            "date", "買い物をしたのは何曜日ですか。", weekday_answers(date(data.year, data.month, data.day).weekday())
        ),
        Question("yes_no", "代金は3,000円で足りますか。", YES if data.total() <= 3000 else NO),
    ]


def tell(data: Receipt) -> list[str]:
    return [
        f"「{data.shop}」{data.branch}のレシートです。",
        f"「{data.shop}」で{data.items[0][0]}などを買ったレシートで、合計は{yen(data.total())}です。",
    ]
