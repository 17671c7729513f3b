"""The bundled photographs: what the set promises of its pictures, its texts and where they come from."""

import hashlib
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from PIL import Image

from vlmmerge.evalsets import find_evalsets, load
from vlmmerge.score import DocumentFrequency, Targets, prepare

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "evalsets" / "ja-photos"
SPLITS = ("search", "held_out")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
# Answers to these kinds are what is written in the picture.
READ = {"reading", "word"}
FREE = ("public domain", "No known copyright restrictions", "CC0-", "CC-BY-", "GFDL")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    files = [datasets.Dataset.from_parquet(str(FOLDER / f"{split}.parquet"), keep_in_memory=True) for split in SPLITS]
    return [
        {**row, "split": split}
        for split, table in zip(SPLITS, files, strict=True)
        for row in table.cast_column("image", datasets.Image(decode=False))
    ]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "tools" / "ja_photos.yaml").read_text(encoding="utf-8"))


def open_image(row: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"]))


def difference_hash(image: Image.Image) -> int:
    """256 bits: whether each pixel of a 17 by 16 thumbnail is brighter than its right neighbour."""
    pixels = list(image.convert("L").resize((17, 16), Image.Resampling.BOX).tobytes())
    bits = (pixels[17 * y + x] > pixels[17 * y + x + 1] for y in range(16) for x in range(16))
    return sum(bit << place for place, bit in enumerate(bits))


def test_there_are_at_least_30_pictures_and_no_id_twice(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 30
    assert len({row["id"] for row in rows}) == len(rows)


def test_no_side_of_a_picture_is_over_512_pixels_and_none_has_metadata(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        image = open_image(row)
        assert (image.format, image.mode) == ("JPEG", "RGB"), row["id"]
        assert max(image.size) <= 512, row["id"]
        assert not image.getexif() and "icc_profile" not in image.info, row["id"]


def test_no_two_pictures_look_alike(rows: list[dict[str, Any]]) -> None:
    hashes = {row["id"]: difference_hash(open_image(row)) for row in rows}
    alike = [pair for pair in itertools.combinations(hashes, 2) if (hashes[pair[0]] ^ hashes[pair[1]]).bit_count() < 50]
    assert alike == []


def test_the_hash_finds_a_picture_that_was_scaled_and_cropped(rows: list[dict[str, Any]]) -> None:
    image = open_image(rows[0])
    width, height = image.size
    other = image.crop((5, 5, width - 5, height - 5)).resize((200, 220))
    assert (difference_hash(image) ^ difference_hash(other)).bit_count() < 50


def test_every_picture_has_five_different_japanese_captions_and_two_english_ones(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert len(set(row["captions"])) == 5, row["id"]
        assert all(JAPANESE.search(text) for text in row["captions"]), row["id"]
        assert len(set(row["english_captions"])) >= 2, row["id"]
        assert not any(JAPANESE.search(text) for text in row["english_captions"]), row["id"]


def test_no_caption_is_used_for_two_pictures(rows: list[dict[str, Any]]) -> None:
    captions = [text for row in rows for text in row["captions"] + row["english_captions"]]
    assert len(set(captions)) == len(captions)


def test_every_picture_has_four_questions_of_different_kinds_in_both_languages(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        kinds = [qa["kind"] for qa in row["qas"]]
        assert len(set(kinds)) == len(kinds) >= 4, row["id"]
        assert kinds == [qa["kind"] for qa in row["english_qas"]], row["id"]


def test_answers_are_japanese_or_digits_or_what_is_written_in_the_picture(rows: list[dict[str, Any]]) -> None:
    for row, qa in ((picture, qa) for picture in rows for qa in picture["qas"]):
        assert JAPANESE.search(qa["question"]), (row["id"], qa["kind"])
        assert qa["answers"] and len(set(qa["answers"])) == len(qa["answers"]), (row["id"], qa["kind"])
        for answer in qa["answers"]:
            fits = JAPANESE.search(answer) or answer.isdecimal() or qa["kind"] in READ
            assert answer == answer.strip() != "" and fits, (row["id"], qa["kind"], answer)


def test_yes_and_no_are_both_right_often_enough(rows: list[dict[str, Any]]) -> None:
    answers = [qa["answers"][0] for row in rows for qa in row["qas"] if qa["answers"][0] in ("はい", "いいえ")]
    assert 0.35 <= answers.count("はい") / len(answers) <= 0.65


def test_the_files_hold_what_the_texts_tell(rows: list[dict[str, Any]], told: dict[str, Any]) -> None:
    found = {row["id"]: row for row in rows}
    assert set(found) == {picture["id"] for picture in told["pictures"]}
    for picture in told["pictures"]:
        row = found[picture["id"]]
        for key in ("split", "theme", "captions", "english_captions"):
            assert row[key] == picture[key], (picture["id"], key)
        for key in ("qas", "english_qas"):
            assert {qa["kind"]: [qa["question"], *qa["answers"]] for qa in row[key]} == picture[key]


def test_either_split_has_about_half_of_the_pictures_of_a_theme(rows: list[dict[str, Any]]) -> None:
    for theme in {row["theme"] for row in rows}:
        counts = [sum(row["theme"] == theme and row["split"] == split for row in rows) for split in SPLITS]
        assert abs(counts[0] - counts[1]) <= 1, theme


def test_every_picture_names_author_source_and_a_free_licence(told: dict[str, Any]) -> None:
    for picture in told["pictures"]:
        assert picture["author"] and picture["source"].startswith("http"), picture["id"]
        assert picture["licence"].startswith(FREE) and "NC" not in picture["licence"], picture["id"]
        assert picture["stated_in"] and picture["package"] in told["packages"], picture["id"]
        assert re.fullmatch(r"[0-9a-f]{64}", picture["sha256"]), picture["id"]


def test_the_card_names_every_picture_with_its_author_and_licence(told: dict[str, Any]) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for picture in told["pictures"]:
        line = next(line for line in card.splitlines() if line.startswith(f"| {picture['id']} |"))
        assert all(picture[key] in line for key in ("split", "author", "source", "licence", "package", "stated_in"))


def test_the_manifests_checksums_hold_and_the_card_tells_them() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split in manifest["splits"].values():
        found = hashlib.sha256((FOLDER / split["file"]).read_bytes()).hexdigest()
        assert found == split["sha256"]
        assert found in card


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("suffix", ["", "_english", "_questions", "_english_questions"])
def test_every_split_loads_with_the_number_of_samples_its_manifest_tells(split: str, suffix: str) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    samples = load("ja-photos", split + suffix)
    assert len(samples) == manifest["splits"][split + suffix]["num_samples"]
    assert all(sample.references for sample in samples)


@pytest.mark.parametrize("split", SPLITS)
def test_a_caption_of_the_picture_scores_far_above_a_caption_of_another(split: str) -> None:
    """Captions that each tell of another detail agree on nothing, and then no answer scores: this set's once did."""
    samples = load("ja-photos", split)
    documents = DocumentFrequency.from_json(str(find_evalsets()["ja-photos"].document_frequency))
    scorer = prepare(["cider"], Targets(tuple(sample.references[1:] for sample in samples), documents=documents))
    captions = [sample.references[0] for sample in samples]
    right = scorer.score(captions, intervals=False)["cider"].value
    wrong = scorer.score(captions[1:] + captions[:1], intervals=False)["cider"].value
    assert right > 0.5 and wrong < 0.1
