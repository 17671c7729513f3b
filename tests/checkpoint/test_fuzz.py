"""Thousands of broken headers, indexes and configs: told or read as safetensors reads them, and nothing third.

Valid files are drawn at random and then changed: bytes, numbers, names, structure, lengths. What is accepted here, the
safetensors library accepts too, and both find the same tensors; what it refuses, is refused here.
"""

import json
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from vlmmerge.checkpoint import Checkpoint, open_checkpoint
from vlmmerge.checkpoint.header import BITS, LONGEST_HEADER
from vlmmerge.checkpoint.shards import read_header
from vlmmerge.checkpoint.tokenizer import open_tokenizers
from vlmmerge.errors import CheckpointError
from vlmmerge.generate.limits import try_out

SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
}
NUMBERS = [
    0, 1, -1, 2, 3, 7, 8, 255, 2**31, 2**32, 2**53 + 1, 2**60, 2**63, 2**64 - 1, 2**64, 2**70, -(2**63), 1.0, 0.5, -0.0,
    1e3, 1e400, True, False, None, "1", "", [], {}, [1], [[2]],
]  # fmt: skip
SNIPPETS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"-", b"0",
    b"1", b"e9", b".0", b"NaN", b"Infinity", b"null", b"true", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"/*x*/",
    b"'", b"\xef\xbb\xbf", b"[" * 200, b'{"":' * 200, b"9" * 5000, b"-0", b"00",
]  # fmt: skip
NAMES = [
    "w",
    "a.weight",
    "",
    "日本",
    "\U0001f600",
    "x" * 300,
    "__metadata__",
    "dtype",
    "__proto__",
    "../up",
    "\0",
    " w",
]
PLACES = [
    "../9.safetensors", "/etc/passwd", ".", "..", "", "1.safetensors/", "./1.safetensors", "config.json",
    "2.safetensors",
]  # fmt: skip


def draw_header(rng: random.Random) -> tuple[dict[str, Any], bytes]:
    """A valid header and the data behind it."""
    header: dict[str, Any] = {}
    end = 0
    for name in rng.sample([name for name in NAMES if name != "__metadata__"], rng.randint(0, 4)):
        dtype = rng.choice(list(SIZES))
        shape = [rng.choice([0, 1, 1, 2, 3, 5]) for _ in range(rng.randint(0, 4))]
        num_bytes = SIZES[dtype]
        for size in shape:
            num_bytes *= size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + num_bytes]}
        end += num_bytes
    entries = list(header.items())
    rng.shuffle(entries)
    if rng.random() < 0.5:
        entries.insert(rng.randint(0, len(entries)), ("__metadata__", {"format": "pt"}))
    return dict(entries), rng.randbytes(end).replace(b"\2", b"\1")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def change_value(rng: random.Random, value: Any) -> None:
    """Change one place of a JSON value in place: another value, another name, one less, one more, two swapped."""
    if not (found := places(value)):
        return
    container, key = rng.choice(found)
    kind = rng.choice(["number", "number", "near", "copy", "drop", "add", "swap", "dtype", "name"])
    if kind == "number":
        container[key] = rng.choice(NUMBERS)
    elif kind == "near" and type(container[key]) is int:
        container[key] += rng.choice([-8, -4, -1, 1, 4, 8])
    elif kind == "copy":
        other, there = rng.choice(found)
        container[key] = json.loads(json.dumps(other[there]))
    elif kind == "drop":
        del container[key]
    elif kind == "add" and isinstance(container, list):
        container.insert(key, rng.choice(NUMBERS))
    elif kind == "add":
        container[rng.choice(NAMES)] = json.loads(json.dumps(container[key]))
    elif kind == "swap":
        other, there = rng.choice(found)
        if other is container:
            container[key], container[there] = container[there], container[key]
    elif kind == "dtype" and key == "dtype":
        container[key] = rng.choice([*BITS, "f32", "F31", "F6_E3M2"])
    elif kind == "name" and isinstance(container, dict):
        container[rng.choice([*NAMES, "shape", "data_offsets"])] = container.pop(key)


def change_text(rng: random.Random, text: bytes) -> bytes:
    """Change a few bytes: another one, one less, a snippet more, a piece twice (so that names stand twice)."""
    content = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        kind = rng.choice(["flip", "drop", "snippet", "again", "cut"])
        if kind == "flip" and at < len(content):
            content[at] = rng.randrange(256)
        elif kind == "drop":
            del content[at : at + rng.randint(1, 4)]
        elif kind == "snippet":
            content[at:at] = rng.choice(SNIPPETS)
        elif kind == "again":
            content[at:at] = content[at : at + rng.randint(1, 60)]
        elif kind == "cut" and rng.random() < 0.2:
            del content[at:]
    return bytes(content)


def draw_file(rng: random.Random) -> bytes:
    """A file that was a valid one before it was changed in one to three ways, or none."""
    header, data = draw_header(rng)
    ways = rng.choices(
        ["value", "text", "twice", "length", "data", "pad", "none"], [6, 5, 1, 2, 2, 1, 1], k=rng.randint(1, 3)
    )
    for _ in range(ways.count("value")):
        change_value(rng, header)
    text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    if "twice" in ways and header:
        name = rng.choice(list(header))
        text = text[:-1] + b", " + json.dumps({name: header[name]}).encode()[1:]
    if "pad" in ways:
        text += b" " * rng.randint(0, 9)
    if "text" in ways:
        text = change_text(rng, text)
    length = len(text) + (rng.choice([-8, -1, 1, 8, 2**32, 2**62]) if "length" in ways else 0)
    if "data" in ways:
        data = rng.choice([data[:-1], data + b"\0", data[: len(data) // 2], data * 2, b""])
    return struct.pack("<Q", length % 2**64) + text + data


def read_by_the_library(file: Path) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """What safetensors finds: for each tensor its shape and bytes."""
    found = {}
    with safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118
            tensor = opened.get_tensor(key)
            found[key] = (tuple(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found


def read_here(file: Path) -> dict[str, tuple[tuple[int, ...], bytes]]:
    content = file.read_bytes()
    return {key: (info.shape, content[info.start : info.end]) for key, info in read_header(file).items()}


# Where this is stricter than the library, on purpose.
STRICTER = (
    "stands in it twice", "has not just a dtype, a shape and data_offsets", "`__metadata__` is no mapping",
    "no list of at most 16 sizes", "is larger than any file", "-0 is no whole", "Exceeds the limit", "wanted at most",
    "its header cannot be read: no object",  # white space before it, which the format forbids
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_broken_header_is_told_or_read_as_safetensors_reads_it(tmp_path: Path, seed: int) -> None:
    rng, seen = random.Random(seed), Counter[str]()
    file = tmp_path / "model.safetensors"
    for _ in range(1500):
        file.write_bytes(draw_file(rng))
        try:
            theirs, refusal = read_by_the_library(file), ""
        except Exception as error:  # its own, and torch's for what it has let pass
            theirs, refusal = {}, str(error) or type(error).__name__
        try:
            ours = read_here(file)
        except CheckpointError as error:
            assert str(error).startswith(f"{file} is damaged: ") and len(str(error)) < 10_000
            assert refusal or any(reason in str(error) for reason in STRICTER), str(error)
            seen["both" if refusal else "stricter"] += 1
        else:
            assert not refusal, f"{refusal}: {file.read_bytes()!r}"
            assert ours == theirs
            seen["accepted"] += 1
    assert seen["both"] > 500 and seen["accepted"] > 100, seen


def write_shards(folder: Path, rng: random.Random) -> dict[str, Any]:
    """A valid sharded checkpoint of tiny tensors; returns its index."""
    weight_map: dict[str, str] = {}
    for number in range(1, 4):
        keys = [f"layers.{number}.{part}" for part in "abc"[: rng.randint(1, 3)]]
        header = {key: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, key in enumerate(keys)}
        text = json.dumps(header).encode()
        (folder / f"{number}.safetensors").write_bytes(
            struct.pack("<Q", len(text)) + text + rng.randbytes(4 * len(keys))
        )
        weight_map |= dict.fromkeys(keys, f"{number}.safetensors")
    return {"metadata": {"total_size": 4 * len(weight_map)}, "weight_map": weight_map}


def open_or_tell(folder: Path, seen: Counter[str]) -> Checkpoint | None:
    try:
        checkpoint = open_checkpoint(folder)
    except CheckpointError as error:
        assert str(folder) in str(error) and error.hint
        seen["told"] += 1
        return None
    seen["accepted"] += 1
    return checkpoint


def test_a_broken_index_is_told_or_tells_just_what_the_shards_hold(tmp_path: Path) -> None:
    rng, seen = random.Random(0), Counter[str]()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path.parent / "9.safetensors").write_bytes(b"")
    for number in range(1000):
        if number % 50 == 0:
            index = write_shards(tmp_path, rng)
            names = [f"{shard}.safetensors" for shard in (1, 2, 3)]
            held = {key: name for name in names for key in read_header(tmp_path / name)}
        changed = json.loads(json.dumps(index))
        for _ in range(rng.randint(0, 2)):
            change_value(rng, changed)
            if rng.random() < 0.3 and isinstance(found := changed.get("weight_map"), dict) and found:
                found[rng.choice(list(found))] = rng.choice(PLACES)
        text = json.dumps(changed).encode()
        text = change_text(rng, text) if rng.random() < 0.5 else text
        (tmp_path / "model.safetensors.index.json").write_bytes(text)
        if (checkpoint := open_or_tell(tmp_path, seen)) is not None:
            found = json.loads(text)["weight_map"]
            # A shard that the index does not name at all is not looked at.
            assert found == {key: name for key, name in held.items() if name in found.values()}
            assert {key: info.file for key, info in checkpoint.tensors.items()} == {
                key: tmp_path / name for key, name in found.items()
            }
    assert seen["told"] > 300 and seen["accepted"] > 100, seen


def test_a_broken_config_is_told_or_read(tmp_path: Path) -> None:
    rng, seen = random.Random(0), Counter[str]()
    config = {
        "model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "tie_word_embeddings": False,
        "text_config": {"vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 2, "quantization_config": None},
        "vision_config": {"hidden_size": 8}, "auto_map": {"AutoConfig": "a.B"},
    }  # fmt: skip
    text = b"{}"
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    for _ in range(1000):
        changed = json.loads(json.dumps(config))
        for _ in range(rng.randint(0, 2)):
            change_value(rng, changed)
        text = json.dumps(changed).encode()
        (tmp_path / "config.json").write_bytes(change_text(rng, text) if rng.random() < 0.3 else text)
        if (checkpoint := open_or_tell(tmp_path, seen)) is not None:
            assert checkpoint.says_tied in (True, False, None) and checkpoint.code_files() == []
    assert seen["told"] > 200 and seen["accepted"] > 200, seen


def test_a_broken_tokenizer_is_told_or_opened(parents: Path, tmp_path: Path) -> None:
    rng, seen = random.Random(0), Counter[str]()
    whole = json.loads((parents / "base" / "tokenizer.json").read_text())
    for _ in range(1000):
        changed = json.loads(json.dumps(whole))
        for _ in range(rng.randint(1, 3)):
            change_value(rng, changed)
        text = json.dumps(changed).encode()
        (tmp_path / "tokenizer.json").write_bytes(change_text(rng, text) if rng.random() < 0.2 else text)
        try:
            opened = open_tokenizers({"base": tmp_path})["base"]
        except CheckpointError as error:
            assert str(error).startswith(f"{tmp_path}: its tokenizer cannot be opened\n")
            seen["told"] += 1
        else:
            assert opened and opened.cut("何色ですか？") is not None
            seen["opened"] += 1
    assert seen["told"] > 300 and seen["opened"] > 100, seen


@pytest.mark.parametrize(
    "fill",
    [
        lambda size: b'{"w":[' + b"[]," * (size // 3 - 4) + b"0]}",
        lambda size: b'{"w":[' + b"{}," * (size // 3 - 4) + b"0]}",
        lambda size: b'{"w":{"dtype":"F32","data_offsets":[0,4],"shape":[' + b"1," * (size // 2 - 40) + b"1]}}",
        lambda size: b"{" + b",".join(b'"%07d":0' % number for number in range(size // 12)) + b"}",
        lambda size: b'{"' + b"x" * (size - 10) + b'":1}',
        lambda size: b'{"w":' * (size // 5),
        lambda size: b'{"w":' + b"9" * (size - 10) + b"}",
    ],
)
def test_the_worst_headers_are_told_within_bounded_memory(tmp_path: Path, fill: Callable[[int], bytes]) -> None:
    text = fill(LONGEST_HEADER)
    assert LONGEST_HEADER * 0.9 < len(text) <= LONGEST_HEADER
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    assert try_out(lambda: read_header(file)).startswith(f"CheckpointError: {file} is damaged: ")
