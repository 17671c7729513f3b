"""hub.py: the real clients against a hub on this machine; every way in which a set cannot be had is told apart."""

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.checkpoint.fakehub import FakeHub
from tests.evalsets.conftest import publish
from tests.evalsets.miniatures import MINIATURES, WILD, WILD_FEATURES, Table
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import checksum, find_evalsets, find_split, load

WILD_SET, VG = "ja-vlm-bench-in-the-wild", "ja-vg-vqa-500"
COMMAND = (
    "`hf download --repo-type dataset SakanaAI/JA-VG-VQA-500 "
    '--revision aa13b70cd939faa1783187a752be2c0ca0d8303b --include "data/train-*"`'
)


def fault_of(name: str, split: str) -> EvalsetError:
    with pytest.raises(EvalsetError) as caught:
        load(name, split, 1)
    return caught.value


def test_a_hub_set_of_questions_gives_a_sample_a_question(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, VG, tmp_path / "vg", MINIATURES[VG])
    samples = load(VG, "held_out_all")
    assert [sample.id for sample in samples] == ["100/0", "100/1", "101/10", "101/11", "102/20", "102/21"]
    assert (samples[3].question, samples[3].references) == ("質問11は？", ("答え11",))
    assert samples[0].images == samples[1].images != samples[2].images
    assert load(VG, "held_out_all", 3) == samples[:3]
    first = load(VG, "held_out")
    assert [sample.id for sample in first] == ["100/0", "101/10", "102/20"], "as the published protocol asks"


def test_a_hub_set_of_single_questions_is_numbered_by_row(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, WILD_SET, tmp_path / "wild", MINIATURES[WILD_SET])
    assert [(sample.id, sample.question, sample.references) for sample in load(WILD_SET, "held_out")] == [
        ("0", "何0？", ("文0です。",)),
        ("1", "何1？", ("文1です。",)),
    ]


def test_the_checksum_of_a_hub_set_is_of_its_content(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, WILD_SET, tmp_path / "one", MINIATURES[WILD_SET])
    before = checksum(WILD_SET, "held_out")
    assert before == checksum(WILD_SET, "held_out")
    changed = Table("data/test-0.parquet", "test", WILD_FEATURES, [WILD[0] | {"answer": "別の文です。"}, WILD[1]])
    publish(hub, WILD_SET, tmp_path / "two", [changed])
    assert checksum(WILD_SET, "held_out") != before
    assert checksum("ja-scenes", "search") == find_split("ja-scenes", "search")[1].sha256


def test_more_samples_than_a_hub_set_has_are_told_when_it_is_read(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, VG, tmp_path / "vg", MINIATURES[VG])
    with pytest.raises(EvalsetError) as caught:
        load(VG, "search", 7)
    assert str(caught.value).startswith("ja-vg-vqa-500:search has 6 samples, 7 were asked for\n")


def test_a_hub_set_that_has_changed_is_told(hub: FakeHub, tmp_path: Path) -> None:
    features = {key: WILD_FEATURES[key] for key in ("image", "question")}
    rows = [{key: WILD[0][key] for key in features}]
    publish(hub, WILD_SET, tmp_path / "wild", [Table("data/test-0.parquet", "test", features, rows)])
    assert str(fault_of(WILD_SET, "held_out")) == (
        f"{WILD_SET}: no column answer in SakanaAI/JA-VLM-Bench-In-the-Wild, split test\n"
        "  found image, question\nhint: it has changed since its manifest was written"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": None}, "it has no picture"),
        ({"question": " "}, "it has no question"),
        ({"answer": ""}, "it has no answer"),
    ],
)
def test_a_row_that_makes_no_sample_is_told(change: dict[str, str], reason: str, hub: FakeHub, tmp_path: Path) -> None:
    rows = [WILD[0], WILD[1] | change]
    publish(hub, WILD_SET, tmp_path / "wild", [Table("data/test-0.parquet", "test", WILD_FEATURES, rows)])
    with pytest.raises(EvalsetError) as caught:
        load(WILD_SET, "held_out")
    assert str(caught.value) == (
        f"{WILD_SET}:held_out: row 1 (from 0) makes no sample: {reason}\n"
        "hint: the set's manifest does not fit what the set holds"
    )


def test_an_answer_that_is_none_of_the_options_is_told(hub: FakeHub, tmp_path: Path) -> None:
    """A test set whose answers are hidden has -1 for them: no score is made of that."""
    (table,) = MINIATURES["mecha-ja"]
    hidden = Table(table.file, table.split, table.features, [row | {"answer": -1} for row in table.rows])
    publish(hub, "mecha-ja", tmp_path / "mecha", [hidden])
    assert "row 0 (from 0) makes no sample: its answer -1 is none of its 4 options" in str(
        fault_of("mecha-ja", "held_out")
    )


def test_a_file_that_is_no_parquet_is_told_with_the_way_to_a_whole_one(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, VG, tmp_path / "vg", MINIATURES[VG])
    (tmp_path / "vg" / "data" / "train-00000-of-00001.parquet").write_bytes(b"torn")
    fault = fault_of(VG, "search")
    assert fault.message.startswith(f"{VG} cannot be read from ")
    assert fault.hint == f"fetch it again: {COMMAND[:-1]} --force-download`"


def test_without_a_network_the_message_says_how_to_get_the_set_first(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    fault = fault_of(VG, "search")
    assert fault.message == f"{VG} is not here, and could not be fetched from the hub (SakanaAI/JA-VG-VQA-500)"
    assert fault.details and fault.details[0]
    assert fault.hint == f"check the network, or fetch the set first, where there is one: {COMMAND}"


def test_offline_is_told_apart_from_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fault = fault_of(VG, "search")
    assert (fault.details, fault.hint) == (
        ("HF_HUB_OFFLINE is set",),
        f"unset it, or fetch the set first: {COMMAND}",
    )


def test_a_set_that_is_known_to_be_gated_says_so_before_anybody_tries(
    hub: FakeHub, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied / VG / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gated": True}))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    page = "https://huggingface.co/datasets/SakanaAI/JA-VG-VQA-500"
    assert fault_of(VG, "search").hint.endswith(
        f"{COMMAND}; it is gated: ask for access on {page} and run `hf auth login` before"
    )


def test_what_was_fetched_once_is_read_offline(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, VG, tmp_path / "vg", MINIATURES[VG])
    fetched = load(VG, "search")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load(VG, "search") == fetched
    assert fault_of(VG, "held_out").details == ("HF_HUB_OFFLINE is set",), "the other split was never fetched"


def test_a_gated_set_says_where_to_ask(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, VG, tmp_path / "vg", MINIATURES[VG])
    hub.repos["datasets/SakanaAI/JA-VG-VQA-500"].refusal = (403, "GatedRepo")
    fault = fault_of(VG, "search")
    assert fault.details == ("it is gated, and your login has no access",)
    assert fault.hint == (
        "ask for access on https://huggingface.co/datasets/SakanaAI/JA-VG-VQA-500, then run `hf auth login`"
    )


def test_a_revision_that_is_gone_is_told(hub: FakeHub, tmp_path: Path) -> None:
    publish(hub, VG, tmp_path / "vg", MINIATURES[VG])
    repo = hub.repos["datasets/SakanaAI/JA-VG-VQA-500"]
    repo.commits = {"0" * 40: tmp_path / "vg"}
    fault = fault_of(VG, "search")
    assert fault.details == ("the hub has no revision aa13b70cd939faa1783187a752be2c0ca0d8303b of it",)
    manifest = find_evalsets()[VG].folder / "manifest.json"
    page = "https://huggingface.co/datasets/SakanaAI/JA-VG-VQA-500"
    assert fault.hint == f"see {page} for its revisions, and `revision` in {manifest}"


def test_an_id_that_nobody_has_is_told(hub: FakeHub, copied: Path) -> None:
    path = copied / WILD_SET / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hub": "SakanaAI/JA-VLM-Bench"}))
    fault = fault_of(WILD_SET, "held_out")
    assert fault.details == ("the hub has no such dataset, or a private one",)
    assert fault.hint == f"check `hub` in {path}; for a private one run `hf auth login`"
