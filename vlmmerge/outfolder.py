"""A folder that appears whole or not at all: written beside its place under another name, then put there in one step.

Knows folders, disk space and locks. Does not know what is written.
"""

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlmmerge.errors import RunError

GIB = 2**30


@contextmanager
def written_whole(out: Path, marker: str, num_bytes: int) -> Iterator[Path]:
    """Give an empty folder beside `out` to write into; once that has ended without an error, put it in `out`'s place.

    Killed at any moment, `out` is what it was or what it was to become, and what is left beside it is cleared away by
    the next use. (Where the system cannot swap two folders in one step, `out` may be missing until then.)

    Args:
        out: A folder that does not exist yet, an empty one, or one that holds `marker`, which is replaced.
        marker: The name of the file by which an earlier output is known.
        num_bytes: About how much will be written.

    Raises:
        RunError: `out` holds something else, has too little room, is being written by another process, or cannot be
            written.
    """
    out = out.resolve()
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    check_replaceable(out, marker)
    try:
        with _locked(part, out):
            try:
                _clear_away(part, old, out)
                _check_room(out, num_bytes)
                yield part
                _sync_all(part)
                _put_in_place(part, out, old)
                _sync(out.parent)
            finally:
                _clear_away(part, old, out)
                with suppress(OSError):
                    part.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot write {out}: {reason}", hint="make room, or choose another --out") from None


def check_replaceable(out: Path, marker: str) -> None:
    """Check that a folder may be written, or written over: worth knowing before long work.

    Args:
        out: The folder that is to appear.
        marker: A file that only such folders have.

    Raises:
        RunError: There is a file, or a folder with something else in it.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, wanted a folder", hint="choose another --out")
    if out.exists() and not (out / marker).exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty and no export of vlmmerge", hint="choose another --out")


def _check_room(out: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < num_bytes:
        found = f"{num_bytes / GIB:,.2f} GiB will be written, {free / GIB:,.2f} GiB are free"
        raise RunError(f"too little room for {out}: {found}", hint="make room, or choose another --out")


@contextmanager
def _locked(part: Path, out: Path) -> Iterator[None]:
    """Make the folder `part` and keep other processes from it, where the filesystem knows locks."""
    part.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(part, os.O_RDONLY)
    try:
        _lock(descriptor, out)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        hint = "wait until it ends, or choose another --out"
        raise RunError(f"another process is writing {out}", hint=hint) from None
    except OSError:
        pass  # network filesystems may know no locks on folders


def _clear_away(part: Path, old: Path, out: Path) -> None:
    """Remove what a killed process left, but for the only copy of what was in `out`: that is put back."""
    if old.exists() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    for path in part.iterdir() if part.exists() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync_all(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(part: Path, out: Path, old: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        part.rename(out)
    elif _swap(part, out):
        part.rename(old)  # another process may use `part` from now on
    else:
        out.rename(old)
        part.rename(out)


def _swap(one: Path, other: Path) -> bool:
    """Swap two folders in one step, if the system can.

    Source: renameat2 with RENAME_EXCHANGE, https://man7.org/linux/man-pages/man2/rename.2.html
    """
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0
