"""What the documents' texts have in common: amounts, times, dates, kanji numerals, people, and what a question is."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

WEEKDAYS = "月火水木金土日"
FAMILY_NAMES = [
    ("高橋", "たかはし"), ("中村", "なかむら"), ("小林", "こばやし"), ("加藤", "かとう"), ("吉田", "よしだ"),
    ("山口", "やまぐち"), ("松本", "まつもと"), ("井上", "いのうえ"), ("木村", "きむら"), ("清水", "しみず"),
    ("森", "もり"), ("池田", "いけだ"), ("橋本", "はしもと"), ("石川", "いしかわ"), ("岡田", "おかだ"),
    ("藤井", "ふじい"),
]  # fmt: skip
GIVEN_NAMES = [
    ("美咲", "みさき"), ("健太", "けんた"), ("陽子", "ようこ"), ("翔太", "しょうた"), ("由美", "ゆみ"),
    ("直樹", "なおき"), ("千尋", "ちひろ"), ("大輔", "だいすけ"), ("和子", "かずこ"), ("拓也", "たくや"),
    ("恵", "めぐみ"), ("誠", "まこと"), ("亜希子", "あきこ"), ("修", "おさむ"), ("文香", "ふみか"), ("涼", "りょう"),
]  # fmt: skip
YES, NO = ("はい",), ("いいえ",)
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What is asked of a picture.

    Args:
        kind: What it takes: reading, lookup, comparison, arithmetic, count, time, date or yes_no.
        text: The question.
        answers: All that is right, the best first.
    """

    kind: str
    text: str
    answers: tuple[str, ...]


def numbered(questions: Iterable[Question]) -> list[tuple[str, Question]]:
    """Each question with a name that no other of its picture has: its kind, from the second on with a number."""
    seen: dict[str, int] = {}
    named = []
    for question in questions:
        seen[question.kind] = seen.get(question.kind, 0) + 1
        number = seen[question.kind]
        named.append((question.kind if number == 1 else f"{question.kind}_{number}", question))
    return named


def accepted(question: Question) -> list[str]:
    """The answers to a question, each once, without a bare number that the question itself names.

    Who only says such a question again would else have said its answer.

    >>> accepted(Question("count", "3位のチームは何勝ですか。", ("3勝", "3")))
    ['3勝']
    """
    named = re.findall(r"\d+", question.text)
    return [answer for answer in dict.fromkeys(question.answers) if answer not in named]


def person(number: int) -> tuple[str, str]:
    """An invented person's name in kanji and in hiragana; sixteen of them differ in both parts."""
    family, given = FAMILY_NAMES[number % 16], GIVEN_NAMES[(5 * number + 3) % 16]
    return f"{family[0]} {given[0]}", f"{family[1]} {given[1]}"


def yen(amount: int) -> str:
    """
    >>> yen(1280)
    '1,280円'
    """
    return f"{amount:,}円"


def kanji(number: int) -> str:
    """A number below 10,000 in kanji, as prices and dates are written in vertical text.

    >>> kanji(1850), kanji(10), kanji(100), kanji(23)
    ('千八百五十', '十', '百', '二十三')
    """
    assert 0 < number < 10_000, f"{number} is not from 1 to 9999"
    told = ""
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // unit % 10
        if digit:
            told += ("" if digit == 1 and name else "一二三四五六七八九"[digit - 1]) + name
    return told


def clock(minutes: int) -> str:
    """A time of day as a clock shows it, from the minutes since midnight.

    >>> clock(545)
    '9:05'
    """
    return f"{minutes // 60}:{minutes % 60:02d}"


def time_answers(minutes: int) -> tuple[str, ...]:
    """A time of day as people say it.

    >>> time_answers(570), time_answers(600), time_answers(545)
    (('9時30分', '9時半', '9:30'), ('10時', '10:00'), ('9時5分', '9時05分', '9:05'))
    """
    hour, minute = divmod(minutes, 60)
    if minute == 0:
        return f"{hour}時", clock(minutes)
    told = {30: (f"{hour}時半",)}.get(minute, (f"{hour}時{minute:02d}分",) if minute < 10 else ())
    return f"{hour}時{minute}分", *told, clock(minutes)


def duration_answers(minutes: int) -> tuple[str, ...]:
    """A length of time as people say it.

    >>> duration_answers(510), duration_answers(45), duration_answers(75)
    (('8時間30分', '8時間半'), ('45分', '45分間'), ('1時間15分', '75分'))
    """
    hours, rest = divmod(minutes, 60)
    if hours == 0:
        return f"{rest}分", f"{rest}分間"
    short = (f"{minutes}分",) if minutes < 180 else ()
    if rest == 0:
        return f"{hours}時間", *short
    half = (f"{hours}時間半",) if rest == 30 else ()
    return f"{hours}時間{rest}分", *half, *short


def weekday_answers(weekday: int) -> tuple[str, ...]:
    """A weekday (0 is Monday) in words. Its first character alone is no answer: a date says 月 and 日 too."""
    return f"{WEEKDAYS[weekday]}曜日", f"{WEEKDAYS[weekday]}曜"


def counted(number: int, counter: str) -> tuple[str, ...]:
    """A count with its counter and without."""
    return f"{number}{counter}", str(number)


def about_half(values: Sequence[int], tick: int) -> tuple[int, int]:
    """A round limit near the mean, and how many values reach it: another number than the limit itself.

    >>> about_half([2, 3, 4, 5, 6, 7, 9], 5), about_half([5, 6, 7, 8, 9], 5)
    ((5, 4), (10, 0))
    """
    mean = tick * round(sum(values) / len(values) / tick)
    reached = {limit: sum(value >= limit for value in values) for limit in (mean, mean + tick)}
    return next((limit, above) for limit, above in reached.items() if limit != above)


def era(year: int) -> str:
    """A year of the era 令和 (from 2019), 平成 (from 1989) or 昭和, by the year alone.

    >>> era(2025), era(1990), era(1975)
    ('令和7年', '平成2年', '昭和50年')
    """
    name, start = ("令和", 2018) if year > 2018 else ("平成", 1988) if year > 1988 else ("昭和", 1925)
    return f"{name}{year - start}年"


def phone(rng: random.Random) -> str:
    """A telephone number in an area code that nobody has."""
    return f"01234-{rng.randint(2, 9)}-{rng.randint(1000, 9999)}"


def pick(rng: random.Random, pool: list[T], number: int) -> list[T]:
    """Some of a pool, in the pool's order."""
    return [pool[index] for index in sorted(rng.sample(range(len(pool)), number))]
