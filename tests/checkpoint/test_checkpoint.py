"""checkpoint.py: what transformers writes is read as it is, and nothing malformed or outside the folder is."""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.checkpoint.shards import read_header
from vlmmerge.errors import CheckpointError


def write_raw(file: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file with any header, also a wrong one; bytes are taken as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


def checkpoint_with(folder: Path, **names_of_keys: str) -> Path:
    """A folder with a config and an index that says which file holds each key."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names_of_keys}))
    return folder


def fault_of(where: Path | str) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(where)
    assert caught.value.hint, "every message says what to do"
    return caught.value


@pytest.mark.parametrize("name", ["base", "ja-llm", "vlm"])
def test_every_tensor_reads_as_safetensors_itself_reads_it(parents: Path, name: str) -> None:
    checkpoint = open_checkpoint(parents / name)
    tensors = load_file(parents / name / "model.safetensors")
    assert set(checkpoint.tensors) == set(tensors)
    for key, tensor in tensors.items():
        assert checkpoint.shapes[key] == tuple(tensor.shape) and checkpoint.dtype(key) == tensor.dtype
        assert torch.equal(checkpoint.read(key), tensor)
        info = checkpoint.tensors[key]
        raw = info.file.read_bytes()[info.start : info.end]
        assert raw == tensor.contiguous().view(torch.uint8).numpy().tobytes()
    assert checkpoint.num_bytes == sum(tensor.nbytes for tensor in tensors.values())


def test_the_files_of_a_vlm_are_all_that_transformers_needs_of_it(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents / "vlm", tmp_path / "vlm")
    for extra in ("README.md", "pytorch_model.bin", "modeling_own.py", "other.safetensors"):
        (folder / extra).touch()
    names = {path.name for path in open_checkpoint(folder).files()}
    assert names == {path.name for path in (parents / "vlm").iterdir()}
    assert {"config.json", "processor_config.json", "chat_template.jinja", "model.safetensors"} < names


def test_a_sharded_checkpoint_reads_as_the_single_file(parents: Path, tmp_path: Path) -> None:
    tensors = load_file(parents / "base" / "model.safetensors")
    names = {key: f"model-{number % 2}.safetensors" for number, key in enumerate(tensors)}
    for name in set(names.values()):
        save_file({key: tensor for key, tensor in tensors.items() if names[key] == name}, tmp_path / name)
    sharded = open_checkpoint(checkpoint_with(tmp_path, **names))
    assert sharded.shapes == open_checkpoint(parents / "base").shapes
    assert all(torch.equal(sharded.read(key), tensor) for key, tensor in tensors.items())


def test_the_checksum_moves_with_weights_configs_and_names_and_with_nothing_else(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents / "base", tmp_path / "a")
    checksum = open_checkpoint(folder).checksum
    assert checksum == open_checkpoint(parents / "base").checksum == open_checkpoint(folder).checksum
    (folder / "README.md").write_text("new words")
    assert open_checkpoint(folder).checksum == checksum
    (folder / "generation_config.json").rename(folder / "generation_config_2.json")
    renamed = open_checkpoint(folder).checksum
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    changed = open_checkpoint(folder).checksum
    assert len({checksum, renamed, changed}) == 3


def test_a_config_of_another_kind_is_told(tmp_path: Path) -> None:
    assert str(fault_of(tmp_path)) == (
        f"{tmp_path}: no config.json\nhint: give the folder of a Hugging Face checkpoint"
    )
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{oops")
    assert str(fault_of(tmp_path)).startswith(f"{tmp_path / 'config.json'} is not JSON: ")
    (tmp_path / "config.json").write_text("[1]")
    assert str(fault_of(tmp_path)).startswith(f"{tmp_path / 'config.json'} is not JSON: no object\n")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    assert str(fault_of(tmp_path)).startswith(f"{tmp_path / 'config.json'} is not JSON: ")
    (tmp_path / "config.json").write_text('{"a": ' * 100_000)
    assert str(fault_of(tmp_path)).startswith(f"{tmp_path / 'config.json'} is not JSON: nested too deeply\n")
    (tmp_path / "config.json").write_bytes(b"")
    os.truncate(tmp_path / "config.json", 2**26 + 1)
    assert fault_of(tmp_path).details == (f"config.json: {2**26 + 1} bytes, wanted at most {2**26}",)


@pytest.mark.parametrize("where", ["./nowhere", "/no/such/folder", "no/such/folder", "nowhere"])
def test_a_folder_that_is_not_there_is_told(where: str) -> None:
    assert str(fault_of(where)) == (f"no such checkpoint: {where}\nhint: give a folder with a config.json, or a hub id")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    """Unpickling runs whatever code the file holds; here it would leave a file behind."""

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "config.json").write_text("{}")
    torch.save({"weight": Payload()}, tmp_path / "pytorch_model.bin")
    message = str(fault_of(tmp_path))
    assert message == (
        f"{tmp_path} holds pickled weights only, which may run any code when they are read: pytorch_model.bin\n"
        "hint: look for safetensors among its pull requests on the hub (`org/name@refs/pr/1`); or, if you trust it, "
        "load it with transformers and `save_pretrained` to a new folder"
    )
    shutil.copy(tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors")
    assert f"{tmp_path / 'model.safetensors'} is damaged: its header" in str(fault_of(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    assert "pytorch_model.bin is damaged" in str(fault_of(checkpoint_with(tmp_path, weight="pytorch_model.bin")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/hostname", "sub/model.safetensors", "..", "."])
def test_an_index_that_points_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """`..` passed for a file name, and reading the folder above ended in a traceback."""
    save_file({"weight": torch.zeros(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "model" / "sub").mkdir(parents=True)
    save_file({"weight": torch.zeros(1)}, tmp_path / "model" / "sub" / "model.safetensors")
    folder = checkpoint_with(tmp_path / "model", weight=name)
    assert str(fault_of(folder)) == (
        f"{folder / 'model.safetensors.index.json'} names files that are not there\n"
        f"  {name}: not a file name\n"
        "hint: fetch them again"
    )


def test_an_index_that_names_missing_files_tells_all_of_them(tmp_path: Path) -> None:
    folder = checkpoint_with(tmp_path, a="1.safetensors", b="2.safetensors")
    assert fault_of(folder).details == ("1.safetensors: no such file", "2.safetensors: no such file")


@pytest.mark.parametrize(
    ("index", "what"),
    [
        ("{", "is not JSON: "),
        ("[]", "is not JSON: no object"),
        ("[" * 100_000, "is not JSON: nested too deeply"),
        ('{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}', "is not JSON: `a` stands in it twice"),
        ('{"weight_map": {}, "weight_map": {}}', "is not JSON: `weight_map` stands in it twice"),
        ("{}", "is damaged: no weight map"),
        ('{"weight_map": {}}', "is damaged: no weight map"),
        ('{"weight_map": ["1.safetensors"]}', "is damaged: no weight map"),
    ],
)
def test_an_index_without_a_weight_map_is_told(tmp_path: Path, index: str, what: str) -> None:
    checkpoint_with(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    fault = fault_of(tmp_path)
    assert str(fault).startswith(f"{tmp_path / 'model.safetensors.index.json'} {what}")
    assert fault.hint == "fetch the checkpoint again"


def test_an_index_that_does_not_tell_what_the_shards_hold_is_refused(tmp_path: Path) -> None:
    """What the index did not name was read all the same, and of a tensor in two shards the last one."""
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, one)
    save_file({"b": torch.ones(1), "c": torch.zeros(1)}, two)
    folder = checkpoint_with(tmp_path, a=one.name, b=one.name, d=two.name)
    assert str(fault_of(folder)) == (
        f"{folder / 'model.safetensors.index.json'} does not tell what the files hold\n"
        "  `d` is not in 2.safetensors\n"
        "  `b` is in 2.safetensors, and said to be in 1.safetensors\n"
        "  `c` is in 2.safetensors, and not in the index\n"
        "hint: fetch the checkpoint again; or save it anew with transformers' `save_pretrained`"
    )


def test_a_truncated_shard_is_told(parents: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parents / "base", tmp_path / "base")
    file = folder / "model.safetensors"
    size = file.stat().st_size
    os.truncate(file, size - 1)
    assert str(fault_of(folder)) == (
        f"{file} is damaged: its header promises {size} bytes, the file has {size - 1}\n"
        "hint: fetch the checkpoint again"
    )


def test_an_index_with_a_number_for_a_name_is_told(tmp_path: Path) -> None:
    """It ended in a traceback."""
    checkpoint_with(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": 3}}')
    assert fault_of(tmp_path).details == ("3: not a file name",)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TWO = {"a": F32, "b": F32 | {"data_offsets": [8, 16]}}


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"{oops", "its header cannot be read: "),
        (b"\xff\xff", "its header cannot be read: no object"),
        (b"", "its header cannot be read: no object"),
        (b" {}", "its header cannot be read: no object"),
        (b"{}\xff", "its header cannot be read: 'utf-8' codec can't decode"),
        (b"\xef\xbb\xbf{}", "its header cannot be read: no object"),
        (b'{"w": ' + b"[" * 100_000, "its header cannot be read: nested too deeply"),
        (b'{"w": {}, "w": {}}', "its header cannot be read: `w` stands in it twice"),
        (b'{"w": {"dtype": "F32", "dtype": "F16"}}', "its header cannot be read: `dtype` stands in it twice"),
        (b'{"w": [-0, 8]}', "its header cannot be read: -0 is no whole number"),
        (b'{"w": NaN}', "its header cannot be read: NaN is no number"),
        (b'{"\\ud800": 1}', "its header cannot be read: 'utf-8' codec can't encode character"),
        ([], "its header cannot be read: no object"),
        ({"__metadata__": {"format": 3}}, "its header cannot be read: `__metadata__` is no mapping of texts"),
        ({"__metadata__": ["pt"]}, "its header cannot be read: `__metadata__` is no mapping of texts"),
        ({"w": 3}, "`w` has not just a dtype, a shape and data_offsets"),
        ({"w": {}}, "`w` has not just a dtype, a shape and data_offsets"),
        ({"w": F32 | {"more": 1}}, "`w` has not just a dtype, a shape and data_offsets"),
        ({"w": F32 | {"dtype": "F31"}}, "`w` is of no known dtype"),
        ({"w": F32 | {"dtype": ["F32"]}}, "`w` is of no known dtype"),
        ({"w": F32 | {"data_offsets": [0]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": [0, 8, 8]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": ["a", "b"]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": [0, 8.0]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": [False, 8]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": [-8, 0]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": [8, 0]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"data_offsets": [0, 2**64]}}, "the data_offsets of `w` are no start and end"),
        ({"w": F32 | {"shape": "x"}}, "the shape of `w` is no list of at most 16 sizes"),
        ({"w": F32 | {"shape": {"2": 2}}}, "the shape of `w` is no list of at most 16 sizes"),
        ({"w": F32 | {"shape": [-1, -2]}}, "the shape of `w` is no list of at most 16 sizes"),
        ({"w": F32 | {"shape": [2.0]}}, "the shape of `w` is no list of at most 16 sizes"),
        ({"w": F32 | {"shape": [2, True]}}, "the shape of `w` is no list of at most 16 sizes"),
        ({"w": F32 | {"shape": [2, *[1] * 16]}}, "the shape of `w` is no list of at most 16 sizes"),
        ({"w": F32 | {"data_offsets": [0, 4]}}, "`w` of shape (2,) in F32 cannot have 4 bytes"),
        ({"w": F32 | {"shape": [2**60]}}, f"`w` of shape ({2**60},) in F32 is larger than any file"),
        ({"w": F32 | {"shape": [2**40, 2**40, 0]}}, f"`w` of shape ({2**40}, {2**40}, 0) in F32 is larger than any"),
        ({"w": F32 | {"shape": [0, 2**63], "data_offsets": [0, 0]}}, "the shape of `w` is no list of at most 16 sizes"),
        (
            {"w": F32 | {"shape": [0, 2**60], "data_offsets": [0, 0]}},
            f"`w` of shape (0, {2**60}) in F32 is larger than",
        ),
        ({"w": F32 | {"shape": [2**50], "data_offsets": [0, 2**52]}}, "its header promises {more} bytes, the file has"),
        ({"w": F32}, "its header promises {less} bytes, the file has {size}"),
        ({"a": F32, "b": F32}, "`b` claims bytes 0 to 8 of the data, which overlap those of another tensor"),
        ({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, "`b` claims bytes 4 to 12 of the data, which overlap those"),
        (
            {"b": F32 | {"data_offsets": [8, 16]}},
            "`b` claims bytes 8 to 16 of the data, which leave a gap after byte 0",
        ),
        ({}, "its header promises 10 bytes, the file has 26"),
    ],
)
def test_a_malformed_header_is_told(tmp_path: Path, header: Any, what: str) -> None:
    file = write_raw(tmp_path / "model.safetensors", header, b"\0" * 16)
    size = file.stat().st_size
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    what = what.format(size=size, less=size - 8, more=size - 16 + 2**52)
    assert str(caught.value).startswith(f"{file} is damaged: {what}")
    assert caught.value.hint == "fetch the checkpoint again"


@pytest.mark.parametrize("length", [2**23 + 1, 100_000_001])
def test_a_header_of_absurd_length_is_not_read(tmp_path: Path, length: int) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length))
    os.truncate(file, length + 100)
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    assert caught.value.message == f"{file} is damaged: its header claims {length} bytes, wanted at most {2**23}"


@pytest.mark.parametrize("content", [b"", b"\0\0", struct.pack("<Q", 1000) + b"{}", struct.pack("<Q", 2**63) + b"{}"])
def test_a_header_longer_than_its_file_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    length = int.from_bytes(content[:8], "little")
    assert caught.value.message == (f"{file} is damaged: its header claims {length} bytes, the file has {len(content)}")


def test_a_file_cut_or_changed_anywhere_in_its_header_raises_nothing_but_a_checkpoint_error(
    parents: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    whole = (parents / "base" / "model.safetensors").read_bytes()
    header_length = 8 + int.from_bytes(whole[:8], "little")
    file, refused = tmp_path / "model.safetensors", 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(header_length)] = rng.randrange(256)
        file.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            read_header(file)
        except CheckpointError:
            refused += 1
    assert refused > 150


def test_weights_that_cannot_be_blended_are_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file({"w": torch.zeros(2, dtype=torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path).read("w")
    assert str(caught.value) == (
        f"{tmp_path}: `w` is stored as I8, wanted one of F64, F32, F16, BF16\n"
        "hint: quantized weights cannot be blended: use the unquantized checkpoint"
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_counted_as_they_are_read(tmp_path: Path, bad: float) -> None:
    """A run went through all its candidates, and each of them failed."""
    weights = torch.zeros(70, 3, dtype=torch.bfloat16)
    (tmp_path / "config.json").write_text("{}")
    tensors = {"good": weights.clone(), "w": weights.index_fill(0, torch.tensor([7, 69]), bad)}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert torch.equal(checkpoint.read("good"), weights)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read("w")
    counts = "6 NaN, 0 infinite" if bad != bad else "0 NaN, 6 infinite"
    assert str(caught.value) == (
        f"{tmp_path / 'model.safetensors'} is damaged: 6 of 210 weights are not finite\n"
        f"  `w`: {counts}\n"
        "hint: fetch the checkpoint again; a parent of weight 0 is left out of a blend"
    )


def test_a_file_that_is_cut_short_while_it_is_used_is_told(parents: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(shutil.copytree(parents / "base", tmp_path / "base"))
    info = checkpoint.tensors["model.norm.weight"]
    os.truncate(info.file, info.end - 1)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read("model.norm.weight")
    assert str(caught.value) == (
        f"{info.file} is damaged: it ends before byte {info.end}, which its header promises\n"
        "hint: fetch the checkpoint again"
    )


def test_headers_and_tokenizers_are_read_without_torch() -> None:
    """To import it takes a second and 200 MiB, and `inspect` shall answer at once."""
    opened = "vlmmerge.checkpoint, vlmmerge.anatomy.vocabulary"
    code = f"import sys, {opened}; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout == "set()\n"
