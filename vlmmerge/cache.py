"""What this machine has found out once, kept for other runs: a folder that may be deleted at any time.

    $VLMMERGE_CACHE, else $XDG_CACHE_HOME/vlmmerge, else ~/.cache/vlmmerge

Knows files that appear whole or not at all. Does not know what is in them. Where nothing can be written, nothing is
kept.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Where things of one kind are kept; it need not be there yet."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmmerge"
    return Path(os.environ.get("VLMMERGE_CACHE") or usual) / name


def keep(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that others see all of it or nothing, whoever else writes it at the same time.

    Args:
        file: Where; its folder is made if needed. What is there is replaced.
        write: Writes to the path that it is given.
    """
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
