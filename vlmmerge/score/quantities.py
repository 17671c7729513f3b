"""Numbers as values with units, in whatever writing: 三人, ¥1,280, 12時半, 午後3時, 2026/4/1, 令和八年, 2分の1, two.

Knows units and what they may mean. 3人 is no 3円, キロ may be km or kg, a number without a unit may be any, and つ
counts persons and things. 午後3時 is 15:00; 3時 may be in either half of the day; 90分 is 1時間半; era years are
western ones. No other units are converted.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from vlmmerge.score.normalise import plain
from vlmmerge.score.numerals import write_digits

# What a unit may mean; units of one row's meaning go together, and so do a number with a unit and one without.
UNITS = {
    "person": "人 名 名様 人前 people person persons men women man woman",
    "thing": "個 箇 コ ヶ ケ 匹 頭 羽 尾 台 枚 本 冊 杯 着 足 軒 棟 戸 室 部屋 部 基 機 隻 艘 両 体 脚 株 輪 箱 袋 缶 "
    "瓶 束 膳 皿 玉 粒 切れ セット 品 店 社 校 件 か所 カ所 ヵ所 ヶ所 箇所 dogs cats birds cars",
    "person thing": "つ",
    "yen": "円 yen jpy",
    "dollar": "ドル usd dollar dollars",
    "euro": "ユーロ eur euro euros",
    "percent": "% パーセント percent",
    "tenth": "割",
    "year": "年",
    "month": "月",
    "day": "日",
    "months": "か月 ヶ月 ヵ月 カ月 箇月",
    "week": "週 週間",
    "second": "秒 秒間",
    "age": "歳 才",
    "degree times": "度",
    "degree": "°c °",
    "times": "回",
    "fold": "倍",
    "floor": "階 階建て",
    "platform": "番線 番ホーム 番のりば",
    "rank": "位 番目 つ目",
    "number rank": "番",
    "number": "号 番地",
    "car": "号車",
    "block": "丁目",
    "point": "点",
    "step": "段",
    "kind": "種類 種",
    "colour": "色",
    "letter": "文字",
    "row": "列 行",
    "page": "ページ 頁",
    "lane": "車線",
    "kilometre": "km キロメートル",
    "kilogram": "kg キログラム",
    "kilometre kilogram": "キロ",
    "metre": "m メートル",
    "centimetre": "cm センチ センチメートル",
    "millimetre": "mm ミリメートル",
    "gram": "g グラム",
    "millilitre": "ml ミリリットル",
    "litre": "l リットル",
}
MEANINGS = {unit: frozenset(meaning.split()) for meaning, units in UNITS.items() for unit in units.split()}
SIGNS = {"¥": MEANINGS["円"], "$": MEANINGS["ドル"], "€": MEANINGS["ユーロ"]}
ANYTHING: frozenset[str] = frozenset()
CLOCK, MINUTES, FRACTION = frozenset(["clock"]), frozenset(["minutes"]), frozenset(["fraction"])
ERAS = {"明治": 1867, "大正": 1911, "昭和": 1925, "平成": 1988, "令和": 2018}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

_UNITS = sorted(MEANINGS, key=len, reverse=True)
_UNIT = "|".join(re.escape(unit) + ("(?![a-z])" if unit.isascii() else "") for unit in _UNITS)
_CLOCK_TIME = (
    r"(?P<half>午前|午後|am |pm )?(?<![\d.])(?P<hour>\d{1,2})"
    r"(?::(?P<minute>[0-5]\d)(?![\d:])|時(?!間)(?:(?P<minute2>\d{1,2})分|(?P<past>半))?|(?= ?[ap]\.?m\b))"
    r"(?P<half2> ?[ap]\.?m\b)?"
)
_DURATION = (
    r"(?<![\d.])(?P<hours>\d+(?:\.\d+)?)時間(?:(?P<minutes>\d+)分|(?P<and_half>半))?"
    r"|(?<![\d.])(?P<only_minutes>\d+(?:\.\d+)?)分(?!の)"
)
_FRACTION = r"(?<![\d.])(?P<lower>\d+)分の(?P<upper>\d+)|(?<![\d.])(?P<upper2>\d+)⁄(?P<lower2>\d+)"
_AMOUNT = (
    r"(?P<minus>(?<![\w)])[-−▲△]|マイナス)? ?(?P<sign>[¥$€])?(?<![\d.])(?P<value>\d+(?:\.\d+)?) ?"
    rf"(?P<unit>{_UNIT})?"
)
NUMBER = re.compile(f"{_CLOCK_TIME}|{_DURATION}|{_FRACTION}|{_AMOUNT}")
DATE = re.compile(r"(?<!\d)(\d{4})([/.-])(\d{1,2})\2(\d{1,2})(?!\d)")
ERA = re.compile(rf"({'|'.join(ERAS)})(\d{{1,2}}|元)年")
WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")
JOINT = re.compile(
    r"[ (]*(?:か|または|又は|もしくは|あるいは|それとも|から|と|ないし|・|/|~|〜|-|–|―|…|→|or|to|and)+ ?(?:約|およそ)?"
)
COMMA = re.compile("[、,] ?")  # 5、6個 are two guesses, 2人、1人は女性 is one
# 一匹もいません says none.
NOT_ONE = re.compile(rf"(?<!\d)1(?P<unit>{_UNIT})も(?=[ぁ-ゖ写映見存在当]{{0,8}}(?:ない|ません|なかった|ず))")
LIST_MARK = re.compile(r"(?m)^[ \t]*[0-9０-９]{1,2}[.．)）][ \t\u3000]+(?=\S)")
LONGEST_JOINT = 12


class Number(NamedTuple):
    """One number of a text.

    Attributes:
        value: In digits without needless zeros, so that equal numbers are equal strings; minutes of times.
        said: The number as it is said without its unit: 3 of 午後3時, whose value is 900.
        meaning: What its unit may mean; empty where there is none.
        half: "am" or "pm" where a time says so.
        is_joined: Another number stands before it, with no more than a か, と or 〜 between them.
    """

    value: str
    said: str
    meaning: frozenset[str]
    half: str = ""
    is_joined: bool = False


def find_numbers(text: str) -> tuple[Number, ...]:
    """Every number that a text says, in its order.

    >>> [(number.value, *number.meaning) for number in find_numbers("三人で千二百八十円、12時半に")]
    [('3', 'person'), ('1280', 'yen'), ('750', 'clock')]
    """
    return read_numbers(rewrite(text))


@lru_cache(maxsize=2**16)
def rewrite(text: str) -> str:
    """Numbers in digits, dates as 2026年4月1日, years as western ones.

    >>> rewrite("令和八年、2026/4/1")
    '2026年、2026年4月1日'
    """
    text = DATE.sub(r"\1年\3月\4日", write_digits(plain(LIST_MARK.sub("", text))))
    text = ERA.sub(lambda found: f"{ERAS[found[1]] + (1 if found[2] == '元' else int(found[2]))}年", text)
    text = NOT_ONE.sub(r"0\g<unit>", text)
    return WORD.sub(lambda found: str(WORDS.index(found[0])), text)


def read_numbers(text: str) -> tuple[Number, ...]:
    """Every number of a text from `rewrite`."""
    numbers: list[Number] = []
    end = 0
    for found in NUMBER.finditer(text):
        is_joined = bool(numbers) and _joins(numbers[-1], text[end : found.start()])
        numbers.append(_number(found)._replace(is_joined=is_joined))
        end = found.end()
    return tuple(numbers)


def _joins(number: Number, between: str) -> bool:
    joint = JOINT if number.meaning or not COMMA.fullmatch(between) else COMMA
    return len(between) <= LONGEST_JOINT and joint.fullmatch(between) is not None


def _number(found: re.Match[str]) -> Number:
    part = found.groupdict()
    if part["hour"]:
        return _clock(part)
    if part["hours"]:
        return _duration(part)
    if part["only_minutes"]:
        return _amount(part["only_minutes"], MINUTES)
    if part["lower"] or part["lower2"]:
        fraction = f"{part['upper'] or part['upper2']}/{part['lower'] or part['lower2']}"
        return Number(fraction, fraction, FRACTION)
    unit = MEANINGS[part["unit"]] if part["unit"] else SIGNS[part["sign"]] if part["sign"] else ANYTHING
    return _amount(("-" if part["minus"] else "") + part["value"], unit)


def _amount(digits: str, meaning: frozenset[str]) -> Number:
    value = shorten(digits)
    return Number(value, value, meaning)


def _clock(part: dict[str, str]) -> Number:
    half = "pm" if (part["half"] or part["half2"] or "").strip()[:2] in ("午後", "pm", "p.") else ""
    half = half or ("am" if part["half"] or part["half2"] else "")
    hour, minute = int(part["hour"]), 30 if part["past"] else int(part["minute"] or part["minute2"] or 0)
    said = f"{hour}:{minute}" if minute else str(hour)
    hour += 12 if half == "pm" and hour < 12 else -12 if half == "am" and hour == 12 else 0
    return Number(str(60 * hour + minute), said, CLOCK, half)


def _duration(part: dict[str, str]) -> Number:
    hours, minutes = part["hours"][:9], "30" if part["and_half"] else (part["minutes"] or "0")[:9]
    said = shorten(hours) if minutes == "0" else f"{hours}:{minutes}"
    return Number(shorten(f"{60 * float(hours) + float(minutes):.2f}"), said, MINUTES)


def shorten(value: str) -> str:
    """A number without the signs that add nothing.

    >>> [shorten(value) for value in ("007", "3.50", "3.0", "-0", "-0.5")]
    ['7', '3.5', '3', '0', '-0.5']
    """
    whole, _, rest = value.removeprefix("-").partition(".")
    rest = rest.rstrip("0")
    plain_value = (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")
    return f"-{plain_value}" if value.startswith("-") and plain_value != "0" else plain_value


def is_same(a: Number, b: Number) -> bool:
    """Tell whether two numbers are equal; one without a unit equals what is said before the other's.

    >>> three, afternoon, fifteen = find_numbers("3時、午後3時、15:00")
    >>> is_same(three, afternoon), is_same(afternoon, fifteen), is_same(three, fifteen)
    (True, True, False)
    """
    if not fits(a, b):
        return False
    if not a.meaning or not b.meaning or (a.meaning == b.meaning == CLOCK and not (a.half and b.half)):
        return a.said == b.said or (a.value == b.value and bool(a.meaning) == bool(b.meaning))
    return a.value == b.value


def fits(a: Number, b: Number) -> bool:
    """Tell whether two numbers may count the same: one has no unit, or their units may mean the same."""
    return not a.meaning or not b.meaning or bool(a.meaning & b.meaning)
