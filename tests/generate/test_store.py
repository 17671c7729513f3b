"""Features are made once: for whoever looks at the same bytes with the same eyes, and for nobody else."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmmerge.cache import cache_folder
from vlmmerge.evalsets import Sample, load
from vlmmerge.generate import LiveVlm, live
from vlmmerge.generate.eyes import digest
from vlmmerge.generate.features import Seen, move
from vlmmerge.generate.store import entry, read_seen, write_seen
from vlmmerge.recipe import Generate

SETTINGS = Generate(max_new_tokens=4)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """A cache of the test's own, and each look at a picture in it."""
    monkeypatch.setenv("VLMMERGE_CACHE", str(tmp_path))
    looks: list[Any] = []
    look = live.look
    monkeypatch.setattr(live, "look", lambda *given: looks.append(given) or look(*given))
    return looks


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return load("ja-scenes", "search_questions", 6)


def answers(parents: Path, samples: list[Sample], settings: Generate = SETTINGS) -> list[str]:
    vlm = LiveVlm(parents / "vlm", settings)
    return vlm.answer(vlm.prepare(samples))


def test_what_was_seen_once_is_not_looked_at_again(parents: Path, samples: list[Sample], looked: list[Any]) -> None:
    first = answers(parents, samples)
    assert len(looked) == len({sample.images for sample in samples}) < len(samples)
    looked.clear()
    assert answers(parents, samples) == first and not looked
    assert answers(parents, samples, SETTINGS.model_copy(update={"question": "何色ですか？"})) and not looked


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_on_a_cpu_features_stay_in_their_files_which_are_mapped(
    parents: Path, samples: list[Sample], looked: list[Any]
) -> None:
    """Those of one tensor were copied once more, so that each picture took memory for all of a search."""
    vlm = LiveVlm(parents / "vlm", SETTINGS)
    vlm.prepare(samples)
    for sample, prompt in zip(samples, vlm.prepare(samples), strict=True):
        for features in prompt.seen.pooler_output:
            assert mapped_file(features.data_ptr()) == str(entry(vlm._digest, sample.images))
    file = entry("f" * 64, [b"picture"])
    write_seen(file, Seen(torch.ones(7, 16)))
    seen = read_seen(file)
    assert seen
    for there in (seen, move(seen, "cpu")):
        assert isinstance(there.pooler_output, torch.Tensor)
        assert mapped_file(there.pooler_output.data_ptr()) == str(file)


def mapped_file(address: int) -> str:
    """What file of this process lies at an address; empty for memory that is its own."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return "".join(name)
    return ""


def test_features_are_told_by_the_bytes_of_eyes_and_pictures_and_by_every_setting(parents: Path) -> None:
    def digest_after(change: Callable[[LiveVlm], object], settings: Generate = SETTINGS) -> str:
        vlm = LiveVlm(parents / "vlm", settings)
        with torch.no_grad():
            change(vlm)
        return digest(vlm.model, vlm.processor, "cpu")

    same = digest_after(lambda vlm: None)
    assert digest_after(lambda vlm: vlm.model.model.language_model.embed_tokens.weight.mul_(2)) == same
    others = [
        digest_after(lambda vlm: vlm.model.model.vision_tower.encoder.layers[1].mlp.fc2.bias[3].add_(1e-3)),
        digest_after(lambda vlm: vlm.model.model.multi_modal_projector.linear_2.weight[0, 0].mul_(-1)),
        digest_after(lambda vlm: setattr(vlm.processor.image_processor, "crop_size", {"height": 20, "width": 30})),
        digest_after(lambda vlm: setattr(vlm.model.config, "vision_feature_layer", -2)),
        digest_after(lambda vlm: None, SETTINGS.model_copy(update={"dtype": "bfloat16"})),
    ]
    assert len({same, *others}) == 6
    pictures = [(b"one",), (b"two",), (b"one", b"two"), (b"two", b"one"), (b"onetwo",)]
    assert len({entry(key, images) for key in (same, others[0]) for images in pictures}) == 10


@pytest.mark.parametrize("damage", ["truncated", "empty", "a bit", "another's", "a folder"])
def test_an_entry_that_is_not_as_it_was_written_is_made_again(
    parents: Path, samples: list[Sample], looked: list[Any], damage: str
) -> None:
    first = answers(parents, samples)
    files = sorted(cache_folder("features").rglob("*.safetensors"))
    content = [file.read_bytes() for file in files]
    whole, other = content[0], content[1]
    if damage == "a folder":
        files[0].unlink()
        files[0].mkdir()
    else:
        files[0].write_bytes(
            {
                "truncated": whole[:-5],
                "empty": b"",
                "a bit": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
                "another's": other[:-100] + whole[-100:],
            }[damage]
        )
    looked.clear()
    assert answers(parents, samples) == first
    assert len(looked) == 1
    assert damage == "a folder" or files[0].read_bytes() == whole


def test_where_nothing_can_be_written_features_are_made_each_time(
    parents: Path, samples: list[Sample], looked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answers(parents, samples)
    monkeypatch.setenv("VLMMERGE_CACHE", "/dev/null/nowhere")
    looked.clear()
    assert answers(parents, samples) == first and looked


def test_features_are_read_by_memory_map_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    parts = list(torch.randn(3, 5, 8).bfloat16())  # one storage
    for seen in (Seen(parts), Seen(torch.randn(2, 4)), Seen(parts[:1], [parts, torch.randn(2, 2), parts * 5])):
        write_seen(tmp_path / "seen", seen)
        found = read_seen(tmp_path / "seen")
        assert found and flat(found) == flat(seen)
        assert str(tmp_path / "seen") in Path("/proc/self/maps").read_text()
    assert read_seen(tmp_path / "none") is None


def flat(value: Any) -> Any:
    """Features as plain values, lists told from tensors."""
    if isinstance(value, Seen):
        return flat(value.pooler_output), flat(value.deepstack_features)
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.shape, value.tolist()
    return value if value is None else [flat(each) for each in value]


def test_many_that_write_and_read_at_once_see_all_of_an_entry_or_nothing(tmp_path: Path) -> None:
    file, seen = tmp_path / "deep" / "seen", Seen(torch.randn(300, 200))
    wanted, wrong = flat(seen), []

    def work() -> None:
        for _ in range(5):
            found = read_seen(file)
            if found is not None and not torch.equal(found.pooler_output, seen.pooler_output):
                wrong.append(found)
            write_seen(file, seen)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and flat(read_seen(file)) == wanted
    assert [path.name for path in file.parent.iterdir()] == ["seen"]
