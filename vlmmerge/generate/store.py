"""Pictures' features on disk, made once for any number of runs and read by memory map.

A file for a sample's pictures, named by the sha256 of everything that made it: features are found only where computing
them again would give the same. A file that is torn or changed counts as none. Knows files. Does not know models.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from vlmmerge.cache import cache_folder, keep
from vlmmerge.generate.eyes import tensor_bytes
from vlmmerge.generate.features import Pooled, Seen

POOLED, DEEP = "pooler_output", "deepstack_features"
LEFT_FREE = 2**33  # bytes of the disk that are left to others
CHECKSUM = "sha256"


def entry(digest: str, images: Sequence[bytes]) -> Path:
    """The file for some pictures.

    Args:
        digest: Of what looks at them (`eyes.digest`).
        images: Their files' bytes, in order.
    """
    total = hashlib.sha256(digest.encode())
    for image in images:
        total.update(hashlib.sha256(image).digest())
    return cache_folder("features") / digest[:16] / f"{total.hexdigest()}.safetensors"


def read_seen(file: Path) -> Seen | None:
    """Read features by memory map; None if they are not there, or not as they were written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in list(content.keys())}
            is_whole = (content.metadata() or {}).get(CHECKSUM) == _checksum(tensors)
        return _unflattened(tensors) if is_whole else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def write_seen(file: Path, seen: Seen) -> None:
    """Write features, for all who look later; where there is no room on the disk nothing is written."""
    from safetensors.torch import save_file

    tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in _flattened(seen)}

    def write(part: Path) -> None:
        if shutil.disk_usage(part.parent).free > LEFT_FREE:
            save_file(tensors, part, metadata={CHECKSUM: _checksum(tensors)})

    keep(file, write)


def _checksum(tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor_bytes(tensor))
    return total.hexdigest()


def _flattened(seen: Seen) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with a name that tells its place."""
    yield from _flattened_pooled(POOLED, seen.pooler_output)
    for number, layer in enumerate(seen.deepstack_features or []):
        yield from _flattened_pooled(f"{DEEP}.{number}", layer)


def _flattened_pooled(name: str, pooled: Pooled) -> Iterator[tuple[str, Tensor]]:
    if isinstance(pooled, Tensor):
        yield name, pooled
    else:
        yield from ((f"{name}/{number}", features) for number, features in enumerate(pooled))


def _unflattened(tensors: dict[str, Tensor]) -> Seen:
    layers = {name.split("/")[0] for name in tensors} - {POOLED}
    deep = [_unflattened_pooled(f"{DEEP}.{number}", tensors) for number in range(len(layers))]
    return Seen(_unflattened_pooled(POOLED, tensors), deep or None)


def _unflattened_pooled(name: str, tensors: dict[str, Tensor]) -> Pooled:
    if name in tensors:
        return tensors[name]
    number = sum(key.startswith(f"{name}/") for key in tensors)
    return [tensors[f"{name}/{each}"] for each in range(number)]
