"""Like pictures: the same bytes, or the same picture saved otherwise, found by a perceptual hash.

Knows pictures. Does not know which of them may be seen by whom.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlmmerge.evalsets.sample import Sample

Bits = NDArray[np.bool_]

SIDE = 64  # pixels of the thumbnail
WAVES = 16  # in each direction: those kept of the 64
# Pictures that differ in at most so many of 255 bits are alike. Measured in 2026-11 on the bundled sets: the nearest
# two of different splits differ in 26 (ja-scenes), 30 (ja-documents) and 100 (ja-photos); photographs saved again as
# JPEG of quality 30 in at most 10, at a quarter of their size in 18, brighter by 15 % in 14. A cut-off border is not
# found, and of flat drawings not every smaller copy.
MOST_BITS = 20


def hash_picture(encoded: bytes) -> Bits:
    """Whether each of the slowest waves of a picture's brightness is above their median.

    Args:
        encoded: The picture's file, which can be decoded.

    Returns:
        255 bits, new: the 16 x 16 slowest waves of the discrete cosine transform, but the mean.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft("L", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded at a size near that, which is much faster
        small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    waves = (_cosines() @ small @ _cosines().T).ravel()[1:]
    return waves > np.median(waves)


def like_pictures(some: Iterable[Sample], others: Iterable[Sample]) -> list[tuple[str, str, int]]:
    """The pictures of either side that are alike.

    Returns:
        For each pair of them the first sample's id on either side, and in how many bits the hashes differ.
    """
    named, named_others = _named(some), _named(others)
    if not named or not named_others:
        return []
    distances = _distances(list(map(hash_picture, named)), list(map(hash_picture, named_others)))
    ids, other_ids = list(named.values()), list(named_others.values())
    return [(ids[i], other_ids[j], int(distances[i, j])) for i, j in np.argwhere(distances <= MOST_BITS)]


def _named(samples: Iterable[Sample]) -> Mapping[bytes, str]:
    """Each picture once, with the first sample that shows it."""
    found: dict[bytes, tuple[bytes, str]] = {}
    for sample in samples:
        for image in sample.images:
            found.setdefault(hashlib.sha256(image).digest(), (image, sample.id))
    return dict(found.values())


def _distances(some: Sequence[Bits], others: Sequence[Bits]) -> NDArray[np.float32]:
    """In how many bits each of `some` differs from each of `others`, shape (some, others)."""
    one, other = (np.where(np.stack(side), 1, -1).astype(np.float32) for side in (some, others))
    return (one.shape[1] - one @ other.T) / 2


@cache
def _cosines() -> NDArray[np.float64]:
    """The slowest waves, shape (WAVES, SIDE)."""
    wave, pixel = np.arange(WAVES)[:, None], np.arange(SIDE)[None]
    cosines: NDArray[np.float64] = np.cos(np.pi * wave * (2 * pixel + 1) / (2 * SIDE))
    return cosines
