"""The JSON files of a checkpoint, believed in nothing: regular files within the folder, of bounded size, read one way.

Knows files and JSON. Does not know what the values mean.
"""

import itertools
import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlmmerge.errors import CheckpointError

# The largest config and the largest index in use have a few MB.
LARGEST = 2**26  # bytes


def damaged(file: Path, what: str) -> CheckpointError:
    """A file that is not what its format wants."""
    return CheckpointError(f"{file} is damaged: {what}", hint="fetch the checkpoint again")


def check_files(folder: Path, names: Iterable[str], largest: int | None = None) -> None:
    """Check that files of a checkpoint are regular files of its own.

    A symbolic link counts for the file at its end. That must lie in the folder; or, where the folder is a snapshot in
    the hub's cache (`REPOSITORY/snapshots/COMMIT`), in `REPOSITORY/blobs`, where the hub's client keeps all contents.

    Args:
        folder: The checkpoint's folder, with all links followed.
        names: Of files that are there.
        largest: How many bytes each may have.

    Raises:
        CheckpointError: One is not; all are told.
    """
    roots = [folder, *([folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [])]
    faults = [f"{name}: {fault}" for name in names if (fault := _file_fault(folder / name, roots, largest))]
    if faults:
        hint = "put the files themselves there, or give the folder where they are; what is no part of it, move away"
        raise CheckpointError(f"{folder} holds files that cannot be its own", details=faults, hint=hint)


def _file_fault(file: Path, roots: list[Path], largest: int | None) -> str:
    try:
        end = file.resolve(strict=True)
        found = end.stat()
    except (OSError, RuntimeError) as error:  # a link to nothing, or to itself
        return f"cannot be opened: {getattr(error, 'strerror', None) or 'a link to itself'}"
    if not any(end.is_relative_to(root) for root in roots):
        return f"a link to {end}, outside the folder"
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    return f"{found.st_size} bytes, wanted at most {largest}" if largest and found.st_size > largest else ""


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file whose whole is an object; of a name that stands twice the last counts.

    Raises:
        CheckpointError: No such file, too large, not JSON, or no object.
    """
    return _told(file, lambda raw: json.loads(raw.decode("utf-8")))


def read_object_strictly(file: Path) -> dict[str, Any]:
    """As `read_object`, but with nothing that two readers could understand in two ways.

    Raises:
        CheckpointError: Also of a name that stands twice.
    """
    return _told(file, parse_strictly)


def parse_strictly(raw: bytes) -> Any:
    """Parse JSON in UTF-8 with nothing that two readers could understand in two ways.

    Raises:
        ValueError: No JSON, a name that stands twice in one object, half a character, or a number that is none.
        RecursionError: Nested too deeply.

    >>> parse_strictly(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: `a` stands in it twice
    """
    return json.loads(
        raw.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole_number, parse_constant=_no_constant
    )


def _told(file: Path, parse: Any) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file.stat().st_size} bytes, wanted at most {LARGEST}")
        found = parse(file.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no object")
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error)
    else:
        return found
    raise CheckpointError(f"{file} is not JSON: {reason}", hint="fetch the checkpoint again")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(name for name, following in itertools.pairwise(names) if name == following)
        raise ValueError(f"`{twice}` stands in it twice")
    "".join(made).encode()  # raises on half a surrogate pair
    return made


def _whole_number(text: str) -> int:
    if text == "-0":  # to others a fraction
        raise ValueError("-0 is no whole number")
    return int(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
