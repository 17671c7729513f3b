"""Replies that were paid for, one small file a request, named by the checksum of all of the request.

Knows files. Does not know what was asked. Any number of processes may use one folder: a file appears whole or not at
all, and one that is damaged counts as none.
"""

import json
import os
import tempfile
from pathlib import Path

from vlmmerge.errors import ScoreError


class Cache:
    """Replies by their requests' checksum, in a folder that is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> str | None:
        """The reply to a request; None where it is not known.

        Args:
            key: The request's sha256 in hexadecimal.
        """
        try:
            kept = json.loads(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        is_whole = isinstance(kept, dict) and kept.get("request_sha256") == key and isinstance(kept.get("reply"), str)
        return kept["reply"] if is_whole else None

    def write(self, key: str, reply: str) -> None:
        """Keep a reply.

        Raises:
            ScoreError: The folder cannot be written.
        """
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")
            with open(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"request_sha256": key, "reply": reply}, stream)
            os.replace(part, file)
        except OSError as error:
            hint = "make room, or let XDG_CACHE_HOME name another folder"
            raise ScoreError(f"cannot keep a judgement in {self._folder}: {error.strerror}", hint=hint) from None

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
