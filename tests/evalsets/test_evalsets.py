"""evalsets/: every bundled set is whole, search and held-out pictures are apart, and damage is told."""

import hashlib
import io
import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from tests.evalsets.conftest import picture
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import describe, find_evalsets, find_split, load, origin
from vlmmerge.evalsets.split import USUAL_METRICS
from vlmmerge.score.defaults import DEFAULT_OBJECTIVES

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
    described = describe()
    assert json.loads(json.dumps(described)) == described and described.keys() == find_evalsets().keys()
    scenes, jmmmu = described["ja-scenes"], described["jmmmu"]
    assert (scenes["where"], scenes["kind"], scenes["licence"]) == ("bundled", "captions", "CC0-1.0")
    files = {file.stat().st_size for file in find_evalsets()["ja-scenes"].folder.glob("*.parquet")}
    assert scenes["num_bytes"] == sum(files)
    assert scenes["splits"]["search_questions"]["metrics"] == ["contains", "exact", "rouge_l", "chrf"]
    assert (jmmmu["where"], jmmmu["kind"], jmmmu["num_bytes"]) == ("on the hub", "choices", None)
    assert "card_text" not in scenes
    fetch = {name: evalset["splits"]["held_out"]["fetch"] for name, evalset in described.items()}
    assert fetch["ja-scenes"] is None and fetch["mecha-ja"] == "hf download --repo-type dataset llm-jp/MECHA-ja"


def test_answers_are_headed_by_what_a_search_makes_higher_by_default() -> None:
    """Questions were headed by ROUGE-L, in which です alone beats an honest sentence on ja-scenes."""
    assert {kind: [metrics[0]] for kind, metrics in USUAL_METRICS.items()} == {
        kind: list(objective) for kind, objective in DEFAULT_OBJECTIVES.items()
    }


def test_describing_one_set_gives_its_card() -> None:
    described = describe("ja-scenes")["ja-scenes"]
    assert described["card_text"] == Path(described["card"]).read_text(encoding="utf-8")
    for word in ("CC0", "tools/make_ja_scenes.py", find_split("ja-scenes", "held_out")[1].sha256):
        assert word in described["card_text"]
    assert describe("jmmmu")["jmmmu"]["card_text"] is None


def test_what_there_is_not_is_told_with_what_there_is() -> None:
    with pytest.raises(EvalsetError) as caught:
        describe("ja-scene")
    there_are = ", ".join(find_evalsets())
    message = f'no evalset "ja-scene"; there are {there_are}\nhint: `vlmmerge evalsets` lists them'
    assert str(caught.value) == message
    with pytest.raises(EvalsetError) as caught:
        load("ja-scene", "search")
    assert str(caught.value) == message
    with pytest.raises(EvalsetError) as caught:
        load("ja-scenes", "test")
    assert str(caught.value).startswith('no split "test" in ja-scenes; there are search, search_english, ')
    assert caught.value.hint == "`vlmmerge evalsets ja-scenes`"
    with pytest.raises(EvalsetError) as caught:
        load("ja-scenes", "search", 257)
    assert str(caught.value) == (
        "ja-scenes:search has 256 samples, 257 were asked for\nhint: ask for 256 or fewer; no number asks for all"
    )


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


def test_splits_of_the_same_pictures_have_one_origin() -> None:
    assert origin("ja-vg-vqa-500", "held_out") == origin("ja-vg-vqa-500", "held_out_all")
    assert origin("ja-vg-vqa-500", "held_out") != origin("ja-vg-vqa-500", "search")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"references": "qas", "language": "ja"}, "a split has either file and sha256, or hub_split"),
        ({"references": "qas", "language": "ja", "hub_split": "test"}, "`hub` is missing"),
        (
            {"references": "qas", "language": "ja", "hub_split": "test", "kind": "caption"},
            "kind is one of captions, questions, choices, found 'caption'",
        ),
        (
            {"references": "a", "language": "ja", "hub_split": "test", "answer_form": "letter"},
            "`options` is missing",
        ),
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
