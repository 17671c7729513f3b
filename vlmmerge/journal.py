"""The journal of a run: `journal.jsonl`, a header line and then one line a candidate, append only.

It is the only state of a run: a run killed at any moment goes on from its journal and ends with the same bytes as a run
that was never interrupted. So nothing goes in that another run would not write again: no times, no host, no process.

Knows the file and its lock, torn lines, and when a journal belongs to another run. Does not know how candidates are
made.
"""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from vlmmerge import __version__
from vlmmerge.errors import RunError

Record = dict[str, Any]


class Journal:
    """One run's journal, locked for this process from `open_new` or `open_resume` until `close`.

    `header` is the first line and `records` are the others, in order, as reading the file again would give them.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header: Record = {}
        self.records: list[Record] = []
        self._descriptor = -1

    def open_new(self, header: Record) -> Self:
        """Begin a run: create the journal, and its folder if need be, and write the header line.

        Raises:
            RunError: There is a run already, another process holds it, or it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot make {self.path.parent}: {error.strerror}"
            raise RunError(reason, hint="choose another --run") from None
        content = self._lock(os.O_CREAT)
        try:
            if content:
                hint = "go on with --resume, or choose another --run"
                raise RunError(f"there is a run already in {self.path.parent}", hint=hint)
            self._begin(header)
        except BaseException:
            self.close()
            raise
        return self

    def open_resume(self, header: Record) -> Self:
        """Go on with a run: read its journal, and cut off a torn last line.

        Raises:
            RunError: No journal, not a journal, a broken line before the last, a run with another fingerprint, or
                another process holds it.
        """
        content = self._lock()
        try:
            whole, torn = _split_torn_line(content)
            # Killed while the header was written: whatever is there begins the line that is written now.
            if not whole and _line_of(header).startswith(torn):
                self._truncate(0)
                self._begin(header)
                return self
            self.header, self.records = _parse(whole, self.path)
            _check_same_run(self.header, json.loads(_line_of(header)), self.path)
            self._truncate(len(whole))
        except BaseException:
            self.close()
            raise
        return self

    def append(self, record: Record) -> Record:
        """Write one line and wait until the disk has it; NaN and infinity are written as null.

        Returns:
            A new dict, the record as it was written; it is also the last of `records`.

        Raises:
            RunError: The line cannot be written, for example because the disk is full.
        """
        line = _line_of(record)
        self._write(line)
        self.records.append(json.loads(line))
        return self.records[-1]

    def close(self) -> None:
        """Give up the lock; nothing more can be appended. Closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self, flags: int = 0) -> bytes:
        """Open the file, take its lock (the system gives it up when the process dies) and return what is in it."""
        assert self._descriptor < 0, "this journal is open already"
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)
        except FileNotFoundError:
            raise _nothing_there(self.path) from None
        except OSError as error:
            raise RunError(f"cannot open {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            hint = "wait until it ends, or choose another --run"
            raise RunError(f"another process is running in {self.path.parent}", hint=hint) from None
        return self.path.read_bytes()

    def _begin(self, header: Record) -> None:
        line = _line_of(header)
        self._write(line)
        _sync_folder(self.path.parent)  # a new file survives a power cut only when its folder is synced too
        self.header, self.records = json.loads(line), []

    def _write(self, line: bytes) -> None:
        assert self._descriptor >= 0, "this journal is not open"
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            hint = "make room, then go on with --resume: nothing that was written before is lost"
            raise RunError(f"cannot write {self.path}: {error.strerror}", hint=hint) from error

    def _truncate(self, num_bytes: int) -> None:
        if os.fstat(self._descriptor).st_size > num_bytes:
            os.ftruncate(self._descriptor, num_bytes)
            os.fsync(self._descriptor)


def make_header(fields: Record) -> Record:
    """Build the header of a run from everything that could move one of its scores.

    Args:
        fields: Nested dict of plain values: the resolved recipe, the checksums of parents and evalset.

    Returns:
        A new dict; `fingerprint` is the sha256 over `fields` and the version, whatever the order of their keys.

    >>> make_header({"a": 1, "b": 2})["fingerprint"] == make_header({"b": 2, "a": 1})["fingerprint"]
    True
    """
    described = {"fields": fields, "version": __version__}
    return {"kind": "run", "fingerprint": hashlib.sha256(_line_of(described)).hexdigest(), **described}


def read_journal(path: str | Path) -> tuple[Record, list[Record]]:
    """Read a journal without locking or changing it; a torn last line is left out.

    Returns:
        The header and the records, in order.

    Raises:
        RunError: No journal, not a journal, or a broken line before the last.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise _nothing_there(Path(path)) from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    return _parse(_split_torn_line(content)[0], Path(path))


def best(records: Iterable[Record]) -> Record | None:
    """Choose the candidate with the highest score; among equals the earliest; None when no candidate has a score.

    >>> best([{"index": 0, "score": 1.0}, {"index": 1, "score": None}, {"index": 2, "score": 1.0}])
    {'index': 0, 'score': 1.0}
    """
    scored = [record for record in records if record.get("score") is not None]
    return max(scored, key=lambda record: record["score"], default=None)


def _line_of(record: Record) -> bytes:
    text = json.dumps(_nulled(record), ensure_ascii=False, sort_keys=True, allow_nan=False)
    # A lone surrogate has no UTF-8; its escape \udc80 is what JSON writes for it.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _nulled(value: Any) -> Any:
    """A copy with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _nulled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nulled(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse_line(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:  # covers UnicodeDecodeError and JSONDecodeError
        return None
    return record if isinstance(record, dict) else None


def _split_torn_line(content: bytes) -> tuple[bytes, bytes]:
    """Split into whole lines and a last line that has no newline or is not JSON: a write that was cut short."""
    last = content.rfind(b"\n", 0, len(content) - 1) + 1
    if content.endswith(b"\n") and _parse_line(content[last:]) is not None:
        return content, b""
    return content[:last], content[last:]


def _parse(whole: bytes, path: Path) -> tuple[Record, list[Record]]:
    lines = [_parse_line(line) for line in whole.split(b"\n")[:-1]]  # splitlines would cut at a \r too
    if not lines or lines[0] is None or "fingerprint" not in lines[0]:
        raise RunError(f"{path} is not a journal of a run", hint="choose another --run")
    broken = [f"line {number}" for number, line in enumerate(lines, start=1) if line is None]
    if broken:
        hint = "something other than vlmmerge changed the file; restore it, or start again with another --run"
        raise RunError(f"{path} is damaged: these lines are not JSON", details=broken, hint=hint)
    header, *records = (line for line in lines if line is not None)
    return header, records


def _check_same_run(written: Record, now: Record, path: Path) -> None:
    if written["fingerprint"] == now["fingerprint"]:
        return
    hint = "resume with what the run began with, or start a new run with another --run"
    details = list(_differences(written, now)) or ["fingerprint differs"]
    raise RunError(f"{path} belongs to another run", details=details, hint=hint)


def _differences(written: Record, now: Record) -> Iterable[str]:
    before, after = _flat(written), _flat(now)
    for key in sorted((before.keys() | after.keys()) - {"fingerprint"}):
        if before.get(key) != after.get(key):
            was, is_now = (json.dumps(side.get(key), ensure_ascii=False) for side in (before, after))
            yield f"{key.removeprefix('fields.')}: {was} in the journal, {is_now} now"


def _flat(nested: Record, prefix: str = "") -> Record:
    flat: Record = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _nothing_there(path: Path) -> RunError:
    return RunError(f"there is no run in {path.parent}", hint="start one without --resume, or check --run")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
