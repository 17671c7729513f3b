"""A checkpoint on disk: its config, what tensors its safetensors files hold, and lazy reads of them.

Knows folders, hub ids, safetensors headers and byte ranges. Does not know what a tensor is for.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmmerge.errors import CheckpointError
from vlmmerge.finite import is_finite

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# What a checkpoint needs besides its weights; README.md and repository files are not part of it.
SIDE_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
# The safetensors format itself allows no longer header.
LONGEST_HEADER = 100_000_000
COUNTED_AT_ONCE = 2**22  # bytes


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: bytes [start, end) of `file`, counted from the file's beginning."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def num_bytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; only its config and headers have been read.

    Args:
        folder: The local folder.
        config: The parsed config.json.
        tensors: For each key of the files, where the tensor lies.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: info.shape for key, info in self.tensors.items()}

    @property
    def num_bytes(self) -> int:
        return sum(info.num_bytes for info in self.tensors.values())

    @property
    def says_tied(self) -> bool | None:
        """Whether its config ties the head to the embeddings; None where it does not say.

        A VLM's config may say it in either of two places, and transformers ties where one of them says so.
        """
        text = self.config.get("text_config")
        said = [part.get("tie_word_embeddings") for part in (self.config, text) if isinstance(part, dict)]
        return None if said.count(None) == len(said) else any(said)

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of the tensor in its file.

        Raises:
            CheckpointError: A dtype that cannot be blended, such as an 8-bit integer.
        """
        name = self.tensors[key].dtype
        if name not in DTYPES:
            raise CheckpointError(
                f"{self.folder}: `{key}` is stored as {name}, wanted one of {', '.join(DTYPES)}",
                hint="quantized weights cannot be blended: use the unquantized checkpoint",
            )
        return DTYPES[name]

    def read(self, key: str) -> Tensor:
        """Read one tensor into a new tensor on the CPU, in the dtype of the file.

        Raises:
            CheckpointError: A dtype that cannot be blended, a value that is not finite, or a file that cannot be read.
        """
        info = self.tensors[key]
        with info.file.open("rb") as file:
            return self.read_part(key, file.fileno(), 0, math.prod(info.shape)).view(info.shape)

    def read_part(self, key: str, descriptor: int, start: int, stop: int) -> Tensor:
        """Read elements start..stop-1 of one tensor into a new flat tensor; several threads may read at once.

        Args:
            key: The tensor's key.
            descriptor: Of its opened file.

        Raises:
            CheckpointError: As `read`.
        """
        part = self.read_unchecked(key, descriptor, start, stop)
        if not is_finite(part):
            raise self._damaged(key, descriptor)
        return part

    def read_unchecked(self, key: str, descriptor: int, start: int, stop: int) -> Tensor:
        """As `read_part`, but values that are not finite come as they are."""
        info, dtype = self.tensors[key], self.dtype(key)
        if start == stop:
            return torch.empty(0, dtype=dtype)
        first, end = (info.start + place * dtype.itemsize for place in (start, stop))
        return torch.frombuffer(read_bytes(info.file, descriptor, first, end), dtype=dtype)

    def _damaged(self, key: str, descriptor: int) -> CheckpointError:
        """What to say of a tensor that is known to hold values that are not finite."""
        info, dtype = self.tensors[key], self.dtype(key)
        num_nan = num_infinite = 0
        for start in range(info.start, info.end, COUNTED_AT_ONCE):
            raw = read_bytes(info.file, descriptor, start, min(start + COUNTED_AT_ONCE, info.end))
            part = torch.frombuffer(raw, dtype=dtype)
            num_nan += int(part.isnan().sum())
            num_infinite += int(part.isinf().sum())
        return CheckpointError(
            f"{info.file} is damaged: {num_nan + num_infinite:,} of {math.prod(info.shape):,} weights are not finite",
            details=[f"`{key}`: {num_nan:,} NaN, {num_infinite:,} infinite"],
            hint="fetch the checkpoint again; a parent of weight 0 is left out of a blend",
        )

    @property
    def weight_files(self) -> list[Path]:
        return sorted({info.file for info in self.tensors.values()})

    def files(self) -> list[Path]:
        """All files that make the checkpoint, sorted: weights, configs, tokenizer, processor."""
        return sorted({*self.weight_files, *(path for pattern in SIDE_FILES for path in self.folder.glob(pattern))})

    @cached_property
    def checksum(self) -> str:
        """sha256 over the names and contents of all files."""
        total = hashlib.sha256()
        for path in self.files():
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()


def open_checkpoint(where: str | Path) -> Checkpoint:
    """Open a local folder or a hub id: reads config and headers, no weights.

    Raises:
        CheckpointError: No such checkpoint, no safetensors in it, or a malformed file.
    """
    folder = _local_folder(str(where))
    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no config.json", hint="give the folder of a Hugging Face checkpoint"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{config_file} is not JSON: {error}", hint="fetch the checkpoint again") from None
    tensors = {key: info for file in _weight_files(folder) for key, info in read_header(file)}
    return Checkpoint(folder, config, tensors)


def read_header(file: Path) -> Iterator[tuple[str, TensorInfo]]:
    """Read which tensors a safetensors file holds, and check that each lies within the file.

    Raises:
        CheckpointError: The header is malformed or points outside the file.

    Source: the format, https://github.com/huggingface/safetensors#format
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise _damaged(file, f"its header claims {length} bytes, the file has {size}")
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            found = [(key, _tensor_info(file, entry, 8 + length)) for key, entry in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(file, f"its header cannot be read: {error}") from None
    for key, info in found:
        if not 8 + length <= info.start <= info.end <= size:
            raise _damaged(file, f"`{key}` claims bytes {info.start} to {info.end}, the file has {size}")
        if info.dtype in DTYPES and info.num_bytes != math.prod(info.shape) * DTYPES[info.dtype].itemsize:
            raise _damaged(file, f"`{key}` of shape {info.shape} in {info.dtype} cannot have {info.num_bytes} bytes")
    yield from found


def read_bytes(file: Path, descriptor: int, start: int, end: int) -> bytearray:
    """Read bytes start..end-1 of an opened file.

    A plain read rather than a memory map: mapped pages count as the process's own memory, and where the disk fails or
    the file is cut short while it is used, a map kills the process without a word.

    Raises:
        CheckpointError: The file cannot be read, or ends too soon.
    """
    raw = bytearray(end - start)
    left = memoryview(raw)
    while left:
        try:
            num_read = os.preadv(descriptor, [left], end - len(left))
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror}", hint="check the disk") from None
        if num_read == 0:
            raise _damaged(file, f"it ends before byte {end}, which its header promises")
        left = left[num_read:]
    return raw


def _tensor_info(file: Path, entry: dict[str, Any], data_start: int) -> TensorInfo:
    start, end = entry["data_offsets"]
    return TensorInfo(file, str(entry["dtype"]), tuple(map(int, entry["shape"])), data_start + start, data_start + end)


def _damaged(file: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{file} is damaged: {what}", hint="fetch the checkpoint again")


def _local_folder(where: str) -> Path:
    path = Path(where).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or where.startswith(".") or where.count("/") != 1:
        raise CheckpointError(f"no such checkpoint: {where}", hint="give a folder with a config.json, or a hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=[*SIDE_FILES, "*.safetensors"]))
    except Exception as error:  # the hub client raises its own, requests' and the system's errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"no such checkpoint: {where} is no folder here, and the hub did not give it",
            details=[reason],
            hint="check the name; for a gated model run `hf auth login`",
        ) from None


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those that its index names, or the only one.

    Raises:
        CheckpointError: None, or an index that names a file which is missing or outside the folder.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        single = folder / "model.safetensors"
        if single.exists():
            return [single]
        raise CheckpointError(
            f"{folder}: no model.safetensors and no model.safetensors.index.json",
            hint="only safetensors are read, never pickles: convert a .bin with transformers' `save_pretrained`",
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index} is damaged: no weight map", hint="fetch the checkpoint again") from None
    is_name = {name: isinstance(name, str) and Path(name).name == name != ".." for name in names}
    faults = [f"{name}: not a file name" for name in names if not is_name[name]]
    faults += [f"{name}: no such file" for name in names if is_name[name] and not (folder / name).is_file()]
    if faults:
        raise CheckpointError(f"{index} names files that are not there", details=faults, hint="fetch them again")
    return [folder / name for name in names]
