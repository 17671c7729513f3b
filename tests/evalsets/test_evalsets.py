"""evalsets/: every bundled set is whole, search and held-out pictures are apart, and damage is told."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from vlmmerge import evalsets
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import checksum, describe, find_evalsets, find_split, load, origin

SPLITS = [
    (name, split)
    for name, evalset in find_evalsets().items()
    for split, fields in evalset.splits.items()
    if fields.file
]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_a_split_holds_as_many_whole_samples_as_its_manifest_says(name: str, split: str) -> None:
    samples = load(name, split)
    assert len(samples) == find_split(name, split)[1].num_samples
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.question and sample.references and all(sample.references)
    Image.open(io.BytesIO(samples[0].images[0])).load()


def test_search_and_held_out_share_no_picture_and_no_caption() -> None:
    search, held_out = load("ja-scenes", "search"), load("ja-scenes", "held_out")
    assert {sample.images for sample in search}.isdisjoint(sample.images for sample in held_out)
    captions = {caption for sample in search for caption in sample.references}
    assert captions.isdisjoint(caption for sample in held_out for caption in sample.references)


def test_held_out_is_large_enough_for_a_headline_number() -> None:
    assert find_split("ja-scenes", "held_out")[1].num_samples >= 500


def test_the_first_samples_are_the_beginning_of_the_whole_split() -> None:
    assert load("ja-scenes", "search", 5) == load("ja-scenes", "search")[:5]
    questions = load("ja-scenes", "search_questions", 5)
    assert questions == load("ja-scenes", "search_questions")[:5]


def test_captions_ask_the_splits_question_and_questions_their_own() -> None:
    captions, questions = load("ja-scenes", "search", 2), load("ja-scenes", "search_questions", 4)
    assert {sample.question for sample in captions} == {"画像を説明してください。"}
    assert len({sample.question for sample in questions}) == len(questions)
    assert all(len(sample.references) == 1 for sample in questions)


def test_only_japanese_captions_carry_japanese_facts_and_every_reference_says_them() -> None:
    vocabulary = find_evalsets()["ja-scenes"].fact_vocabulary
    for sample in load("ja-scenes", "search"):
        assert sample.facts and set(sample.facts) <= set(vocabulary)
        assert all(fact in reference for fact in sample.facts for reference in sample.references)
    for split in ("search_english", "search_questions"):
        assert not any(sample.facts for sample in load("ja-scenes", split, 20))


def test_describing_gives_plain_values_with_source_and_licence() -> None:
    described = describe("ja-scenes")
    assert json.loads(json.dumps(described)) == described
    assert set(described["ja-scenes"]) == {"about", "source", "licence", "splits"}
    assert describe().keys() == find_evalsets().keys()


def test_what_there_is_not_is_told_with_what_there_is() -> None:
    with pytest.raises(EvalsetError) as caught:
        describe("ja-scene")
    assert str(caught.value) == (
        f'no evalset "ja-scene"; there are {", ".join(find_evalsets())}\nhint: `vlmmerge evalsets` lists them'
    )
    with pytest.raises(EvalsetError) as caught:
        load("ja-scene", "search")
    assert str(caught.value) == (
        f'no evalset "ja-scene"; there are {", ".join(find_evalsets())}\nhint: `vlmmerge evalsets` lists them'
    )
    with pytest.raises(EvalsetError) as caught:
        load("ja-scenes", "test")
    assert str(caught.value).startswith('no split "test" in ja-scenes; there are search, search_english, ')
    assert caught.value.hint == "`vlmmerge evalsets ja-scenes`"
    with pytest.raises(EvalsetError) as caught:
        load("ja-scenes", "search", 257)
    assert str(caught.value) == (
        "ja-scenes:search has 256 samples, 257 were asked for\nhint: ask for 256 or fewer; no number asks for all"
    )


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled sets that a test may damage."""
    folder = shutil.copytree(evalsets.BUNDLED, tmp_path / "evalsets")
    monkeypatch.setattr(evalsets.find_evalsets, "__defaults__", (folder,))
    return folder


def test_a_file_that_is_missing_or_changed_is_told(copied: Path) -> None:
    file = copied / "ja-scenes" / "search.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    hint = "hint: restore the folder from the repository"
    with pytest.raises(EvalsetError) as caught:
        load("ja-scenes", "search", 1)
    assert str(caught.value) == f"ja-scenes:search: {file} is not the file that its manifest names\n{hint}"
    file.unlink()
    with pytest.raises(EvalsetError) as caught:
        load("ja-scenes", "search", 1)
    assert str(caught.value) == f"ja-scenes:search: {file} is missing\n{hint}"


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"splits": {"search": {"fil": "x"}}}'])
def test_a_manifest_that_is_none_is_told(copied: Path, manifest: str) -> None:
    path = copied / "ja-scenes" / "manifest.json"
    path.write_text(manifest)
    with pytest.raises(EvalsetError) as caught:
        find_evalsets()
    assert str(caught.value).startswith(f"{path}: not a manifest: ")
    assert caught.value.hint == "restore the folder from the repository"


def test_the_frozen_document_frequencies_are_those_of_the_sets_own_file() -> None:
    evalset = find_evalsets()["ja-scenes"]
    assert evalset.document_frequency is not None
    written = (evalset.folder / "document_frequency.json").read_bytes()
    assert hashlib.sha256(evalset.document_frequency.encode()).digest() == hashlib.sha256(written).digest()


def write_hub_set(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    """A set as it lies on the hub: parquet files under data/, with pictures as `datasets` writes them."""
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def picture(colour: str) -> dict[str, Any]:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(encoded, "jpeg")
    return {"bytes": encoded.getvalue(), "path": None}


def question(number: int) -> dict[str, Any]:
    return {"qa_id": number, "question": f"質問{number}は？", "answer": f"答え{number}"}


def wild(colour: str) -> list[dict[str, Any]]:
    row = {"image": picture(colour), "page_url": "x"}
    return [row | {"question": f"何{number}？", "answer": f"文{number}です。"} for number in range(2)]


@pytest.fixture
def hub_sets(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifests of the hub's sets, which find local folders of the same columns in the place of the hub."""
    rows = [
        {"image": picture(colour), "image_id": 100 + n, "qas": [question(10 * n), question(10 * n + 1)]}
        for n, colour in enumerate(("red", "green", "blue"))
    ]
    for split in ("train", "test"):
        write_hub_set(tmp_path / "hub" / "ja-vg-vqa-500", split, rows)
    wild = [
        {"image": picture("red"), "question": f"何{n}？", "answer": f"文{n}です。", "page_url": "x"} for n in range(2)
    ]
    write_hub_set(tmp_path / "hub" / "ja-vlm-bench-in-the-wild", "test", wild)
    for name in ("ja-vg-vqa-500", "ja-vlm-bench-in-the-wild"):
        path = copied / name / "manifest.json"
        manifest = json.loads(path.read_text())
        for split in manifest["splits"].values():
            split.pop("num_samples", None)
        path.write_text(json.dumps(manifest | {"hub": str(tmp_path / "hub" / name)}))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "hub"


def test_a_hub_set_of_questions_gives_a_sample_a_question(hub_sets: Path) -> None:
    samples = load("ja-vg-vqa-500", "held_out_all")
    assert [sample.id for sample in samples] == ["100/0", "100/1", "101/10", "101/11", "102/20", "102/21"]
    assert (samples[3].question, samples[3].references) == ("質問11は？", ("答え11",))
    assert Image.open(io.BytesIO(samples[0].images[0])).size == (8, 6)
    assert samples[0].images == samples[1].images != samples[2].images
    assert load("ja-vg-vqa-500", "held_out_all", 3) == samples[:3]


def test_the_published_protocol_asks_the_first_question_of_each_picture(hub_sets: Path) -> None:
    assert [sample.id for sample in load("ja-vg-vqa-500", "held_out")] == ["100/0", "101/10", "102/20"]


def test_a_hub_set_of_single_questions_is_numbered_by_row(hub_sets: Path) -> None:
    samples = load("ja-vlm-bench-in-the-wild", "held_out")
    assert [(sample.id, sample.question, sample.references) for sample in samples] == [
        ("0", "何0？", ("文0です。",)),
        ("1", "何1？", ("文1です。",)),
    ]


def test_the_checksum_of_a_hub_set_is_of_its_content(hub_sets: Path) -> None:
    before = checksum("ja-vlm-bench-in-the-wild", "held_out")
    assert before == checksum("ja-vlm-bench-in-the-wild", "held_out")
    write_hub_set(
        hub_sets / "ja-vlm-bench-in-the-wild",
        "test",
        [
            {"image": picture("blue"), "question": f"何{n}？", "answer": f"文{n}です。", "page_url": "x"}
            for n in range(2)
        ],
    )
    assert checksum("ja-vlm-bench-in-the-wild", "held_out") != before
    assert checksum("ja-scenes", "search") == find_split("ja-scenes", "search")[1].sha256


def test_splits_of_the_same_pictures_have_one_origin() -> None:
    assert origin("ja-vg-vqa-500", "held_out") == origin("ja-vg-vqa-500", "held_out_all")
    assert origin("ja-vg-vqa-500", "held_out") != origin("ja-vg-vqa-500", "search")


def test_more_samples_than_a_hub_set_has_are_told_when_it_is_read(hub_sets: Path) -> None:
    with pytest.raises(EvalsetError) as caught:
        load("ja-vg-vqa-500", "search", 7)
    assert str(caught.value).startswith("ja-vg-vqa-500:search has 6 samples, 7 were asked for\n")


def test_a_hub_set_that_has_changed_is_told(hub_sets: Path) -> None:
    write_hub_set(hub_sets / "ja-vlm-bench-in-the-wild", "test", [{"image": picture("red"), "question": "何？"}])
    with pytest.raises(EvalsetError) as caught:
        load("ja-vlm-bench-in-the-wild", "held_out")
    assert str(caught.value) == (
        f"ja-vlm-bench-in-the-wild: no column answer in {hub_sets / 'ja-vlm-bench-in-the-wild'}, split test\n"
        "  found image, question\nhint: it has changed since its manifest was written"
    )


def test_a_hub_set_that_cannot_be_fetched_is_told_with_the_way_to_it(
    hub_sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(hub_sets)
    with pytest.raises(EvalsetError) as caught:
        load("ja-vg-vqa-500", "search", 2)
    where = f"({hub_sets / 'ja-vg-vqa-500'}, split train)"
    assert str(caught.value).startswith(f"ja-vg-vqa-500 cannot be read from the hub {where}\n")
    assert caught.value.hint.startswith("its first use needs the network, and a login (`hf auth login`) if it is gated")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"references": "qas", "language": "ja"}, "a split has either file and sha256, or hub_split"),
        ({"references": "qas", "language": "ja", "hub_split": "test"}, "`hub` is missing"),
    ],
)
def test_a_split_that_lies_nowhere_is_no_split(copied: Path, fields: dict[str, str], reason: str) -> None:
    path = copied / "ja-scenes" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": {"search": fields}}))
    with pytest.raises(EvalsetError, match=f"not a manifest: {reason}"):
        find_evalsets()


def test_a_question_may_have_several_answers_and_stand_in_a_column_of_any_name(copied: Path) -> None:
    qas = [{"kind": f"q{n}", "question": f"質問{n}？", "answers": ["三つ", "３個"][: n + 1]} for n in range(2)]
    english = [{"kind": "count", "question": "How many?", "answers": ["three", "3"]}]
    rows = [{"id": "a", "image": picture("red"), "qas": qas, "english_qas": english}]
    file = copied / "ja-scenes" / "few.parquet"
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(file)
    place = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "question": None}
    splits = {
        "japanese": place | {"references": "qas", "language": "ja"},
        "english": place | {"references": "english_qas", "language": "en"},
    }
    path = copied / "ja-scenes" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": splits}))
    assert [(sample.id, sample.question, sample.references) for sample in load("ja-scenes", "japanese")] == [
        ("a/q0", "質問0？", ("三つ",)),
        ("a/q1", "質問1？", ("三つ", "３個")),
    ]
    assert [(sample.question, sample.references) for sample in load("ja-scenes", "english")] == [
        ("How many?", ("three", "3"))
    ]
