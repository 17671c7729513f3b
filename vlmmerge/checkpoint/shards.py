"""The files that hold weights: their headers, here or on the hub, and their bytes.

Knows how to read a part of a file. Does not know which files make a checkpoint.
"""

import os
from pathlib import Path

from vlmmerge.checkpoint.header import PREFIX, TensorInfo, header_length, parse_header
from vlmmerge.checkpoint.hub import Snapshot, check_listed, read_start
from vlmmerge.checkpoint.jsonfile import damaged
from vlmmerge.errors import CheckpointError

# Nearly every header is shorter: one request is enough.
USUAL_HEADER = 100_000  # bytes


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Read which tensors a safetensors file holds.

    Raises:
        CheckpointError: The header is malformed, or does not describe the file.
    """
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = header_length(file, stream.read(PREFIX), size)
        return parse_header(file, stream.read(length), size)


def read_remote_header(snapshot: Snapshot, name: str) -> dict[str, TensorInfo]:
    """As `read_header`, of a file that only the hub has.

    Raises:
        CheckpointError: As `read_header`; or the hub does not give it.
    """
    file = snapshot.folder / name
    check_listed(snapshot, [name])
    size = snapshot.listing[name].num_bytes
    raw = read_start(snapshot, name, min(size, USUAL_HEADER))
    length = header_length(file, raw, size)
    if len(raw) < PREFIX + length:
        raw = read_start(snapshot, name, PREFIX + length)
    return parse_header(file, raw[PREFIX : PREFIX + length], size, is_remote=True)


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
            raise damaged(file, f"it ends before byte {end}, which its header promises")
        left = left[num_read:]
    return raw
