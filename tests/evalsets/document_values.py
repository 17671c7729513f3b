"""What answers about ja-documents say, as values, and how the data beside a picture is searched."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

Data = dict[str, Any]
Value = tuple[str, Any]  # what an answer is (yen, count, time...) and its value
Rule = tuple[str, Callable[..., Value]]

WEEKDAYS = "月火水木金土日"


def plain(text: str) -> str:
    return re.sub(r"[\s「」]", "", unicodedata.normalize("NFKC", text))


def read_time(text: str) -> int:
    """Minutes since midnight; an hour below 8 of a notice's time is in the afternoon only if it says so."""
    if match := re.fullmatch(r"(\d+):(\d\d)", text):
        return 60 * int(match[1]) + int(match[2])
    match = re.fullmatch(r"(午前|午後)?(\d+)時(?:(\d+)分|(半))?", text)
    assert match, text
    return 60 * (int(match[2]) + 12 * (match[1] == "午後")) + (30 if match[4] else int(match[3] or 0))


def read_minutes(text: str) -> int:
    match = re.fullmatch(r"(?:(\d+)時間)?(?:(\d+)分間?|(半))?", text)
    assert match, text
    return 60 * int(match[1] or 0) + (30 if match[3] else int(match[2] or 0))


def read_day(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(?:.+年)?(\d+)(?:月|/)(\d+)日?", text)
    assert match, text
    return int(match[1]), int(match[2])


def read_number(text: str) -> int:
    text = {"翌日": "1", "次の日": "1"}.get(text, text).replace("地下", "-").replace("B", "-")
    match = re.match(r"-?\d+", text.replace(",", ""))
    assert match, text
    return int(match[0])


def read_yen(text: str) -> int:
    assert text.endswith("円"), text
    return read_number(text)


READERS: dict[str, Callable[[str], Any]] = {
    "yen": read_yen,
    "count": read_number,
    "time": read_time,
    "minutes": read_minutes,
    "day": read_day,
    "weekday": lambda text: WEEKDAYS.index(text[0]),
    "yes": lambda text: {"はい": True, "いいえ": False}[text],
}


# How each wording is solved -----------------------------------------------------------------------------------------


def most(pairs: list[tuple[Any, str]]) -> Value:
    """The name with the largest value, which no other has."""
    ranked = sorted(pairs)
    assert ranked[-1][0] > ranked[-2][0], f"a tie: {ranked}"
    return "text", ranked[-1][1]


def least(pairs: list[tuple[Any, str]]) -> Value:
    return most([(-value, name) for value, name in pairs])


def only(found: list[Any]) -> Any:
    """What is found exactly once."""
    assert len(found) == 1, found
    return found[0]


def of(name: str, pairs: list[list[Any]], place: int = 1) -> Any:
    """The value of the one entry of that name."""
    return only([entry[place] for entry in pairs if entry[0] == name])
