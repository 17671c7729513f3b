"""ja-documents: each answer is worked out once more from the question's words and the data beside the picture.

Nothing of tools/documents is used: a question is matched by its wording, and solved by what stands in the data.
"""

import json
import re

import datasets
import pytest

from tests.evalsets.document_figures import BAR, FEES, FORECAST, MONTH, ONE_LINE, STANDINGS, STOCK, TWO_LINES
from tests.evalsets.document_papers import FORM, LETTER, MENU, NOTICE, POEM, RECEIPT
from tests.evalsets.document_places import BOARD, BUS, FLOORS, PARKING, PROGRAMME, ROAD, SCHOOL, SHOP, STATION
from tests.evalsets.document_values import READERS, Data, Rule, Value, plain
from vlmmerge.evalsets import find_evalsets


def rows() -> list[Data]:
    """Every picture's row, without its picture."""
    folder = find_evalsets()["ja-documents"].folder
    files = [str(folder / f"{split}.parquet") for split in ("search", "held_out")]
    return list(datasets.Dataset.from_parquet(files, keep_in_memory=True, columns=["id", "captions", "qas", "data"]))


ROWS = rows()


RULES: dict[str, list[Rule]] = {
    "ShopSign": SHOP, "RoadSign": ROAD, "StationSign": STATION, "ParkingSign": PARKING, "FloorGuide": FLOORS,
    "Menu": MENU, "Receipt": RECEIPT, "BusTimes": BUS, "Board": BOARD, "SchoolWeek": SCHOOL, "Programme": PROGRAMME,
    "BarChart": BAR, "LineChart": ONE_LINE, "LineChart of two": TWO_LINES, "Month": MONTH, "Forecast": FORECAST,
    "Standings": STANDINGS, "Stock": STOCK, "Fees": FEES, "Poem": POEM, "Notice": NOTICE, "Letter": LETTER,
    "Form": FORM,
}  # fmt: skip


def solve(data: Data, question: str) -> Value:
    """What the data says to a question: by the first wording that fits."""
    form = data["form"] + (" of two" if data.get("lines") and data["form"] == "LineChart" else "")
    for wording, rule in RULES[form]:
        if match := re.fullmatch(wording, question):
            return rule(data, *match.groups())
    raise AssertionError(f"no wording of {form} fits: {question}")


def says(answer: str, value: Value, first: str) -> bool:
    """Whether an answer says the value; `first` is the question's best answer."""
    kind, wanted = value
    text = plain(answer)
    if kind == "text":
        one, other = sorted((text, plain(first)), key=len)
        return one in other or text.replace("・", "と") == plain(wanted).replace("・", "と")
    if kind == "month_day":
        return int(re.sub(r"\d+月", "", text).removesuffix("日")) == wanted
    if kind == "year_month":
        year, month = wanted
        return text in (f"{year}年{month}月", f"令和{year - 2018}年{month}月")
    return READERS[kind](text) == wanted


@pytest.mark.parametrize("kind", sorted({row["id"].split("-")[1] for row in ROWS}))
def test_every_answer_follows_from_what_was_drawn(kind: str) -> None:
    for row in ROWS:
        if row["id"].split("-")[1] == kind:
            for qa in row["qas"]:
                value, answers = solve(json.loads(row["data"]), qa["question"]), qa["answers"]
                told = f"{row['id']}: {qa['question']} {answers}, but the data says {value}"
                if value[0] == "in_the_lines":
                    assert any(answer in line for answer in answers for line in value[1]), told
                    continue
                if value[0] == "text":
                    assert plain(answers[0]).startswith(plain(value[1])), told
                assert all(says(answer, value, answers[0]) for answer in answers), told


def test_a_wrong_answer_does_not_follow() -> None:
    """The check itself can fail: every number, name, day or yes of a picture changed is noticed."""
    menu = next(row for row in ROWS if row["id"] == "search-menu-0")
    data = json.loads(menu["data"])
    for qa in menu["qas"]:
        value = solve(data, qa["question"])
        wrong = {
            "yen": "1円",
            "count": "99",
            "text": "ない品",
            "yes": "はい" if qa["answers"][0] != "はい" else "いいえ",
        }
        assert not says(wrong[value[0]], value, qa["answers"][0])
