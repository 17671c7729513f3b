"""A checkpoint on disk: its config, what tensors its safetensors files hold, and lazy reads of them.

Knows folders, hub ids, safetensors headers and byte ranges. Does not know what a tensor is for.
"""

import hashlib
import math
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmmerge.checkpoint.header import TensorInfo
from vlmmerge.checkpoint.hub import Snapshot, fetch, open_snapshot, parse_hub_id
from vlmmerge.checkpoint.index import gather, read_index
from vlmmerge.checkpoint.jsonfile import check_files, read_object
from vlmmerge.checkpoint.kinds import (
    ADAPTER,
    CONFIG,
    INDEX,
    SINGLE,
    refuse_by_config,
    refuse_by_names,
    refuse_by_tensors,
    refuse_file,
)
from vlmmerge.checkpoint.shards import read_bytes, read_header, read_remote_header
from vlmmerge.errors import CheckpointError

if TYPE_CHECKING:  # who reads no weights does not wait for torch
    import torch
    from torch import Tensor

# What a checkpoint needs besides its weights.
SIDE_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
# Fetched as well, but no part of it: other words do not make it another checkpoint. The card states the licence; code
# is there to be read, and runs only by `--trust-remote-code`.
MODEL_CARD, CODE = "README.md", "*.py"
BESIDE = (MODEL_CARD, CODE)
# The largest tokenizer.json in use has 35 MB.
LARGEST_SIDE_FILE = 2**26
ASKED_AT_ONCE = 8  # shards
COUNTED_AT_ONCE = 2**22  # bytes


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; only its config and headers have been read.

    Args:
        folder: The local folder.
        config: The parsed config.json.
        tensors: For each key of the files, where the tensor lies.
        snapshot: The hub's commit that it is; None for a local folder.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    snapshot: Snapshot | None = None

    @property
    def commit(self) -> str | None:
        """The hub's commit that was opened; None for a local folder."""
        return self.snapshot.commit if self.snapshot else None

    @property
    def name(self) -> str:
        """What a person calls it: the folder's name, or the hub id with the revision that was asked for."""
        return str(self.snapshot.id) if self.snapshot else self.folder.name

    @property
    def is_remote(self) -> bool:
        """Whether some of its weights are on the hub only."""
        return any(info.is_remote for info in self.tensors.values())

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

    def dtype(self, key: str) -> "torch.dtype":
        """The dtype of the tensor in its file.

        Raises:
            CheckpointError: A dtype that cannot be blended, such as an 8-bit integer.
        """
        from vlmmerge.checkpoint.dtypes import DTYPES

        name = self.tensors[key].dtype
        if name not in DTYPES:
            raise CheckpointError(
                f"{self.folder}: `{key}` is stored as {name}, wanted one of {', '.join(DTYPES)}",
                hint="quantized weights cannot be blended: use the unquantized checkpoint",
            )
        return DTYPES[name]

    def read(self, key: str) -> "Tensor":
        """Read one tensor into a new tensor on the CPU, in the dtype of the file.

        Raises:
            CheckpointError: A dtype that cannot be blended, a value that is not finite, or a file that cannot be read
                or was not fetched.
        """
        info = self.tensors[key]
        if info.is_remote:
            hint = "open it whole, which fetches its weights"
            raise CheckpointError(f"{self.name}: the weights of `{key}` are still on the hub", hint=hint)
        with info.file.open("rb") as file:
            return self.read_part(key, file.fileno(), 0, math.prod(info.shape)).view(info.shape)

    def read_part(self, key: str, descriptor: int, start: int, stop: int) -> "Tensor":
        """Read elements start..stop-1 of one tensor into a new flat tensor; several threads may read at once.

        Args:
            key: The tensor's key.
            descriptor: Of its opened file.

        Raises:
            CheckpointError: As `read`.
        """
        from vlmmerge.finite import is_finite

        part = self.read_unchecked(key, descriptor, start, stop)
        if not is_finite(part):
            raise self._damaged(key, descriptor)
        return part

    def read_unchecked(self, key: str, descriptor: int, start: int, stop: int) -> "Tensor":
        """As `read_part`, but values that are not finite come as they are."""
        import torch

        info, dtype = self.tensors[key], self.dtype(key)
        if start == stop:
            return torch.empty(0, dtype=dtype)
        first, end = (info.start + place * dtype.itemsize for place in (start, stop))
        return torch.frombuffer(read_bytes(info.file, descriptor, first, end), dtype=dtype)

    def _damaged(self, key: str, descriptor: int) -> CheckpointError:
        """What to say of a tensor that is known to hold values that are not finite."""
        import torch

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

    def code_files(self) -> list[Path]:
        """The code that comes with it, if its config wants some; it is copied where it goes, and not run."""
        return sorted(self.folder.glob(CODE)) if self.config.get("auto_map") else []

    @cached_property
    def checksum(self) -> str:
        """sha256 over the names and contents of all files; of files that only the hub has, by what the hub says."""
        total = hashlib.sha256()
        for path in self.files():
            total.update(f"{path.name} {self._sha256(path)}\n".encode())
        return total.hexdigest()

    def _sha256(self, file: Path) -> str:
        if self.snapshot and not file.exists():
            if known := self.snapshot.listing[file.name].sha256:
                return known
            raise CheckpointError(f"{self.name}: the hub tells no sha256 of {file.name}", hint="open it whole")
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def open_checkpoint(where: str | Path) -> Checkpoint:
    """Open a local folder or a hub id, `org/name` or `org/name@revision`; what the hub has is fetched whole.

    Returns:
        Config and headers; no weights are read.

    Raises:
        CheckpointError: No such checkpoint, no safetensors in it, or a malformed file.
    """
    return _open(str(where), (*SIDE_FILES, *BESIDE), is_fetched=True)


def open_headers(where: str | Path, *, has_tokenizer: bool = True) -> Checkpoint:
    """As `open_checkpoint`, but no weights are fetched: of files that only the hub has, the headers alone are read.

    Args:
        where: A local folder or a hub id.
        has_tokenizer: Whether tokenizer and processor are fetched too, or config and index only.
    """
    return _open(str(where), (*SIDE_FILES, *BESIDE) if has_tokenizer else (CONFIG, INDEX, ADAPTER), is_fetched=False)


def _open(where: str, patterns: Collection[str], *, is_fetched: bool) -> Checkpoint:
    refuse_file(where)
    folder, snapshot = Path(where).expanduser(), None
    if not folder.is_dir():
        hub_id = parse_hub_id(where)
        if hub_id is None:
            raise CheckpointError(f"no such checkpoint: {where}", hint="give a folder with a config.json, or a hub id")
        snapshot = open_snapshot(hub_id, patterns, LARGEST_SIDE_FILE)
        folder = snapshot.folder
    folder = folder.resolve()
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    check_files(folder, sorted(name for name in there if _fits(name, (*SIDE_FILES, *BESIDE))), LARGEST_SIDE_FILE)
    if snapshot:  # where the hub was not reached, nobody knows what else there is
        there |= set(snapshot.listing or ([] if INDEX in there else [SINGLE]))
    config, weight_map = _refuse_or_read(folder, there, where)
    names = sorted(set(weight_map.values())) if weight_map else [SINGLE]
    if snapshot and is_fetched:
        fetch(snapshot, names)
    headers = _read_headers(folder, names, snapshot)
    tensors = gather(folder / INDEX, weight_map, headers) if weight_map else headers[SINGLE]
    refuse_by_tensors(tensors, where)
    return Checkpoint(folder, config, tensors, snapshot)


def _refuse_or_read(folder: Path, there: Collection[str], where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The config and the index (empty where there is none), unless it is a checkpoint of another kind."""
    refuse_by_names(folder, there, where)
    if CONFIG not in there:
        raise CheckpointError(f"{folder}: no config.json", hint="give the folder of a Hugging Face checkpoint")
    config = read_object(folder / CONFIG)
    refuse_by_config(config, folder / CONFIG)
    return config, read_index(folder / INDEX, there) if INDEX in there else {}


def _read_headers(folder: Path, names: Sequence[str], snapshot: Snapshot | None) -> dict[str, dict[str, TensorInfo]]:
    """The header of each file, from the hub where it is not here."""
    here = [name for name in names if snapshot is None or os.path.lexists(folder / name)]
    check_files(folder, here)

    def read(name: str) -> dict[str, TensorInfo]:
        return read_header(folder / name) if snapshot is None or name in here else read_remote_header(snapshot, name)

    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        return dict(zip(names, threads.map(read, names), strict=True))


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
