"""ja-documents: counts, pictures, wording, that the splits are apart, and that it can be made again."""

import doctest
import hashlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import PIL
import pytest
from PIL import Image

from vlmmerge.evalsets import find_evalsets, load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "evalsets" / "ja-documents"
SPLITS = ("search", "held_out")
KINDS = {
    "sign", "menu", "receipt", "timetable", "bar_chart", "line_chart", "calendar", "table", "vertical_text", "form",
}  # fmt: skip
ASKED = {"reading", "lookup", "comparison", "arithmetic", "count", "time", "date", "yes_no"}
NEAREST = 40  # bits of 1024


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    files = {split: str(FOLDER / f"{split}.parquet") for split in SPLITS}
    return {
        split: list(
            datasets.Dataset.from_parquet(file, keep_in_memory=True).cast_column("image", datasets.Image(decode=False))
        )
        for split, file in files.items()
    }


@pytest.fixture(scope="module")
def tools() -> Iterator[SimpleNamespace]:
    """The modules that make the set, which are no part of the package."""
    sys.path.insert(0, str(ROOT / "tools"))
    import make_ja_documents
    from documents import fonts, page, words

    yield SimpleNamespace(make=make_ja_documents, fonts=fonts, page=page, words=words)
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def drawing(tools: SimpleNamespace) -> SimpleNamespace:
    """The modules that make the set, where there is all that drawing needs."""
    if not tools.fonts.are_here():
        pytest.skip("the fonts are not here: tools/make_ja_documents.py fetches them from npm")
    return tools


def test_each_split_has_eight_pictures_of_every_kind(rows: dict[str, list[dict[str, Any]]]) -> None:
    for split in SPLITS:
        assert Counter(row["id"].split("-")[1] for row in rows[split]) == dict.fromkeys(KINDS, 8)
        assert sum(len(row["qas"]) for row in rows[split]) >= 600


def test_every_picture_is_asked_at_least_six_questions_of_several_kinds(
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    for row in rows["search"] + rows["held_out"]:
        kinds = [qa["kind"] for qa in row["qas"]]
        assert len(kinds) >= 6 and len(set(kinds)) == len(kinds)
        asked = {re.sub(r"_\d$", "", kind) for kind in kinds}
        assert len(asked) >= 3 and asked <= ASKED, row["id"]
        assert len({qa["question"] for qa in row["qas"]}) == len(kinds)


def test_no_question_holds_its_answer_but_where_it_offers_a_choice(rows: dict[str, list[dict[str, Any]]]) -> None:
    for row in rows["search"] + rows["held_out"]:
        for qa in row["qas"]:
            answers = qa["answers"]
            assert answers and all(answers) and len(set(answers)) == len(answers)
            for answer in answers if "どちら" not in qa["question"] else []:
                assert not re.search(rf"(?<!\d){re.escape(answer)}(?!\d)", qa["question"]), f"{row['id']}: {qa}"


def test_yes_is_about_as_often_right_as_no(rows: dict[str, list[dict[str, Any]]]) -> None:
    for split in SPLITS:
        right = Counter(qa["answers"][0] for row in rows[split] for qa in row["qas"] if qa["kind"].startswith("yes_no"))
        assert set(right) == {"はい", "いいえ"} and min(right.values()) >= 0.35 * right.total()


def test_pictures_are_small_and_the_set_too(rows: dict[str, list[dict[str, Any]]]) -> None:
    for row in rows["search"] + rows["held_out"]:
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        image.load()
        assert 300 <= max(image.size) <= 512 and not image.getexif()
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4_000_000


def test_no_picture_and_no_name_are_in_both_splits(
    tools: SimpleNamespace, rows: dict[str, list[dict[str, Any]]]
) -> None:
    search, held_out = ([row["image"]["bytes"] for row in rows[split]] for split in SPLITS)
    assert tools.make.nearest(search, held_out) > NEAREST
    assert tools.make.nearest(search, search[:1]) == 0
    names = [{name_of(json.loads(row["data"])) for row in rows[split]} - {None} for split in SPLITS]
    assert len(names[0]) > 30 and names[0].isdisjoint(names[1])


def name_of(data: dict[str, Any]) -> str | None:
    """The name of the shop, station, person... that a document shows, if it has one of its own."""
    own = {
        "FloorGuide": "store",
        "BusTimes": "stop",
        "Letter": "sender",
        "Poem": "poet",
        "Forecast": "place",
        "Fees": "place",
    }
    key = own.get(data["form"], next((key for key in ("name", "shop", "title") if key in data), None))
    return data[key] if key else None


def test_the_manifest_serves_captions_and_questions_of_both_splits(rows: dict[str, list[dict[str, Any]]]) -> None:
    evalset = find_evalsets()["ja-documents"]
    assert set(evalset.splits) == {name for split in SPLITS for name in (split, f"{split}_questions")}
    for split in SPLITS:
        captions, questions = load("ja-documents", split), load("ja-documents", f"{split}_questions")
        assert [sample.references for sample in captions] == [tuple(row["captions"]) for row in rows[split]]
        asked = [(qa["question"], tuple(qa["answers"])) for row in rows[split] for qa in row["qas"]]
        assert [(sample.question, sample.references) for sample in questions] == asked
    assert evalset.document_frequency is not None


def test_the_card_tells_the_checksums_and_numbers(rows: dict[str, list[dict[str, Any]]]) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, split in find_evalsets()["ja-documents"].splits.items():
        assert f"| {name} | ja | {split.num_samples} |" in card
        assert split.sha256 == hashlib.sha256((FOLDER / str(split.file)).read_bytes()).hexdigest()
        assert f"- `{split.file}`: `{split.sha256}`" in card


def test_a_document_of_each_kind_comes_out_the_same_again(
    drawing: SimpleNamespace, rows: dict[str, list[dict[str, Any]]]
) -> None:
    pinned = re.search(r"^pillow==(.+)$", (ROOT / "tools" / "constraints.txt").read_text(), re.MULTILINE)
    if pinned is None or pinned[1] != PIL.__version__:
        pytest.skip("pictures are the same byte for byte with the pinned version of Pillow only")
    for row in rows["search"][:10]:
        split, kind, turn = row["id"].split("-")
        assert drawing.make.make_row(split, kind, int(turn)) == row, row["id"]


def test_text_that_cannot_be_read_is_not_drawn(drawing: SimpleNamespace) -> None:
    ink = drawing.page.Ink("brush", 20)
    page = drawing.page.Page(200, 200)
    page.write((10, 100), "お知らせ", ink)
    with pytest.raises(AssertionError, match="brush cannot show 〜 of 1〜2"):
        page.write((10, 40), "1〜2", ink)
    with pytest.raises(AssertionError, match="小さい: 9 px is too small to read"):
        page.write((10, 40), "小さい", ink.of(9))
    with pytest.raises(AssertionError, match="とても長いお知らせ leaves the page"):
        page.write((100, 40), "とても長いお知らせ", ink)
    with pytest.raises(AssertionError, match="別の文 lies on お知らせ"):
        page.write_down((30, 80), "別の文", ink)


def test_the_examples_in_the_tools_hold(tools: SimpleNamespace) -> None:
    for module in (tools.words, tools.page):
        results = doctest.testmod(module)
        assert results.attempted and not results.failed
