"""The header of a safetensors file, believed in nothing: which tensors the file holds, and where.

Knows the format. Accepts no file that the safetensors library refuses, and refuses some that it accepts: a name that
stands twice, a header or a rank of absurd size. Does not know where the bytes come from, nor what a tensor is for.

Source: the format, https://github.com/huggingface/safetensors#format
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmmerge.checkpoint.jsonfile import damaged, parse_strictly

# What can be blended, by torch's names.
BLENDABLE = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# All that the format knows and torch can hold.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F4": 4,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
METADATA = "__metadata__"
PREFIX = 8  # bytes that tell the header's length
# The format allows 100 MB, of which json makes gigabytes of objects. 8 MiB hold the names of 60,000 tensors.
LONGEST_HEADER = 2**23
HIGHEST_RANK = 16
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: bytes [start, end) of `file`, counted from the file's beginning.

    Args:
        file: Where the file is, or would be once it is fetched.
        dtype: As the format spells it.
        shape: Any rank.
        start: Its first byte.
        end: Behind its last byte.
        is_remote: Whether only the hub has the bytes.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    is_remote: bool = False

    @property
    def num_bytes(self) -> int:
        return self.end - self.start


def header_length(file: Path, prefix: bytes, size: int) -> int:
    """The number of bytes of the header, by the first 8 bytes of a file of `size` bytes.

    Raises:
        CheckpointError: There is no room for it, or it is absurd.
    """
    length = int.from_bytes(prefix[:PREFIX], "little")
    if size < PREFIX or len(prefix) < PREFIX or length > size - PREFIX:
        raise damaged(file, f"its header claims {length} bytes, the file has {size}")
    if length > LONGEST_HEADER:
        raise damaged(file, f"its header claims {length} bytes, wanted at most {LONGEST_HEADER}")
    return length


def parse_header(file: Path, raw: bytes, size: int, *, is_remote: bool = False) -> dict[str, TensorInfo]:
    """What a header says, if its tensors fill the file without a gap or an overlap.

    Args:
        file: Named in messages and in what is returned.
        raw: The header without the 8 bytes before it.
        size: Of the whole file, in bytes.
        is_remote: Whether only the hub has the file.

    Raises:
        CheckpointError: The header is malformed, or does not describe a file of this size.
    """
    try:
        header = _load(raw)
        found = {key: _tensor_info(file, key, entry, is_remote) for key, entry in header.items() if key != METADATA}
    except RecursionError:
        raise damaged(file, "its header cannot be read: nested too deeply") from None
    except ValueError as error:
        raise damaged(file, f"its header cannot be read: {error}") from None
    data_start = PREFIX + len(raw)
    end = 0
    for key, info in sorted(found.items(), key=lambda each: (each[1].start, each[1].end)):
        if info.start != end:
            what = "overlap those of another tensor" if info.start < end else f"leave a gap after byte {end}"
            raise damaged(file, f"`{key}` claims bytes {info.start} to {info.end} of the data, which {what}")
        end = info.end
    if data_start + end != size:
        raise damaged(file, f"its header promises {data_start + end} bytes, the file has {size}")
    return {key: _moved(info, data_start) for key, info in found.items()}


def _load(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise ValueError("no object")
    header = parse_strictly(raw)
    metadata = header.get(METADATA)
    if metadata is not None:
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError(f"`{METADATA}` is no mapping of texts")
        "".join(metadata.values()).encode()
    assert isinstance(header, dict)
    return header


def _tensor_info(file: Path, key: str, entry: Any, is_remote: bool) -> TensorInfo:
    """One entry, its offsets as the header counts them: from the end of the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise damaged(file, f"`{key}` has not just a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise damaged(file, f"`{key}` is of no known dtype")
    if not _are_sizes(shape) or len(shape) > HIGHEST_RANK:
        raise damaged(file, f"the shape of `{key}` is no list of at most {HIGHEST_RANK} sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise damaged(file, f"the data_offsets of `{key}` are no start and end")
    # An empty tensor too: torch takes no strides beyond this.
    if math.prod(max(size, 1) for size in shape) * BITS[dtype] > LARGEST_NUMBER:
        raise damaged(file, f"`{key}` of shape {tuple(shape)} in {dtype} is larger than any file")
    num_bits = math.prod(shape) * BITS[dtype]
    if num_bits != 8 * (offsets[1] - offsets[0]):
        raise damaged(file, f"`{key}` of shape {tuple(shape)} in {dtype} cannot have {offsets[1] - offsets[0]} bytes")
    return TensorInfo(file, dtype, tuple(shape), offsets[0], offsets[1], is_remote)


def _are_sizes(values: Any) -> bool:
    # A bool is an int to Python.
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= LARGEST_NUMBER for value in values)


def _moved(info: TensorInfo, by: int) -> TensorInfo:
    return TensorInfo(info.file, info.dtype, info.shape, info.start + by, info.end + by, info.is_remote)
