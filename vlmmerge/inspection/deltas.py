"""How parents' weights differ: norms of task vectors and cosines between them, over depth and by role.

Reads every matrix of the language towers once, some stretch of all parents at a time, so the memory needed is that of a
few stretches. Norms and biases are left out: all models have theirs near the same values, related or not. Knows paired
towers. Does not know how numbers are shown.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vlmmerge.anatomy.slots import Slot
from vlmmerge.anatomy.vocabulary import Pairing, as_vocabulary
from vlmmerge.blend.cuts import Read
from vlmmerge.blend.files import Descriptors, PairedTowers, open_sources, read_slot
from vlmmerge.blend.workers import Workers
from vlmmerge.checkpoint.header import BLENDABLE
from vlmmerge.errors import ParentsError
from vlmmerge.inspection.lineup import BASE
from vlmmerge.inspection.overview import Inspection

# Elements that a worker reads at once, enough for a disk to read at full speed; and that it computes with at once, few
# enough for their float32 forms to stay in its core's cache.
STRETCH, CHUNK = 2**20, 2**17


@dataclass(frozen=True)
class Products:
    """Scalar products over some slots, of which all that is asked comes.

    Args:
        table: Of the base, and of each other parent's task vector: row i, column j >= i holds their product.
    """

    table: tuple[tuple[float, ...], ...]

    def norm(self, place: int) -> float | None:
        """The length of a parent's task vector, in lengths of the base; None if the base is 0."""
        base, own = self.table[0][0], self.table[place][place]
        return math.sqrt(own / base) if base else None

    def cosine(self, one: int, other: int) -> float | None:
        """The cosine between two parents' task vectors; None where one did not move."""
        row, column = sorted((one, other))
        return _cosine(self.table[row][column], self.table[one][one], self.table[other][other])

    def cosine_to_base(self, place: int) -> float | None:
        """The cosine between a parent and the base; None if one is 0."""
        base, both, own = self.table[0][0], self.table[0][place], self.table[place][place]
        return _cosine(base + both, base, base + 2 * both + own)


def paired_towers(inspection: Inspection) -> PairedTowers | None:
    """What of some checkpoints can be compared: where their tokens do not pair, all but embeddings and head.

    Returns:
        None where their slots do not pair, or hold no numbers that can be read.

    Raises:
        ParentsError: There is one checkpoint only.
    """
    lineup, fit = inspection.lineup, inspection.fit
    if len(lineup.opened) < 2:
        raise ParentsError("--deltas compares parents, found 1", hint="name two or more, or leave --deltas out")
    if not fit.anatomy:
        return None
    keys = {
        name: {slot: key for slot, key in own.items() if fit.pairing or not slot.has_token_rows}
        for name, own in fit.anatomy.keys.items()
    }
    dtypes = {lineup.checkpoints[name].tensors[key].dtype for name, own in keys.items() for key in own.values()}
    vocabulary = as_vocabulary(fit.pairing or Pairing())
    return PairedTowers(lineup.checkpoints, keys, vocabulary) if dtypes <= BLENDABLE.keys() else None


def num_bytes_compared(towers: PairedTowers) -> int:
    """How many bytes `compare` reads."""
    return sum(
        towers.shape(slot).numel() * towers.checkpoints[parent].dtype(towers.keys[parent][slot]).itemsize
        for slot in _matrices(towers)
        for parent in towers.checkpoints
    )


def compare(towers: PairedTowers, advance: Callable[[int], None]) -> dict[Slot, Products]:
    """Read all matrices of the parents, and multiply them.

    Args:
        towers: The parents, `base` and at least one more.
        advance: Called with how many more bytes are read, as it goes on.

    Returns:
        For each matrix the products of the base and of the others' task vectors, in the order of `others`.

    Raises:
        CheckpointError: A weight is NaN or infinite, or a file cannot be read.
    """
    names = [BASE, *others(towers)]
    parts: dict[Slot, list[Products]] = {}
    with ExitStack() as stack:
        workers = stack.enter_context(closing(Workers()))
        sources = open_sources(towers, stack)

        def tasks() -> Iterator[Callable[[], tuple[Slot, Products, int]]]:
            for slot in _matrices(towers):
                reads = [read_slot(towers, name, slot, sources, is_checked=False) for name in names]
                checked = [read_slot(towers, name, slot, sources, is_checked=True) for name in names]
                num_elements = towers.shape(slot).numel()
                for start in range(0, num_elements, STRETCH):
                    stop = min(start + STRETCH, num_elements)
                    _ask_ahead(towers, slot, sources, start / num_elements, stop / num_elements)
                    yield partial(_multiply, slot, reads, checked, start, stop)

        for slot, part, num_bytes in workers.map(tasks()):
            parts.setdefault(slot, []).append(part)
            advance(num_bytes)
    return {slot: add_up(parts[slot]) for slot in sorted(parts)}


def add_up(parts: Iterable[Products]) -> Products:
    """The products over all slots of the parts, at least one.

    >>> add_up([Products(((4.0, 1.0), (0.0, 1.0))), Products(((5.0, -1.0), (0.0, 0.0)))]).norm(1)
    0.3333333333333333
    """
    rows = zip(*(part.table for part in parts), strict=True)
    return Products(tuple(tuple(map(math.fsum, zip(*row, strict=True))) for row in rows))


def others(towers: PairedTowers) -> list[str]:
    """The parents but the base."""
    return [name for name in towers.checkpoints if name != BASE]


def _matrices(towers: PairedTowers) -> list[Slot]:
    """The slots that are compared, in the order in which the base's files hold them."""
    slots = [slot for slot in towers.keys[BASE] if len(towers.shape(slot)) > 1 and towers.shape(slot).numel()]
    return sorted(slots, key=lambda slot: (towers.info(BASE, slot).file, towers.info(BASE, slot).start))


def _ask_ahead(towers: PairedTowers, slot: Slot, sources: Descriptors, first: float, last: float) -> None:
    """Have the system read a part of each parent's slot, from one share of it to another, while others are computed."""
    if not hasattr(os, "posix_fadvise"):
        return
    for name in towers.checkpoints:
        info = towers.info(name, slot)
        start, end = (info.start + int(share * info.num_bytes) for share in (first, last))
        os.posix_fadvise(sources[info.file], start, end - start, os.POSIX_FADV_WILLNEED)


def _multiply(
    slot: Slot, reads: Sequence[Read], checked: Sequence[Read], start: int, stop: int
) -> tuple[Slot, Products, int]:
    """Multiply a stretch of a slot; `checked` reads it once more where a product is not finite, to say why."""
    parts = [read(start, stop) for read in reads]
    products = _multiply_parts(parts, torch.float32)
    if not all(math.isfinite(product) for row in products.table for product in row):
        products = _multiply_parts([read(start, stop) for read in checked], torch.float64)
    return slot, products, sum(part.nbytes for part in parts)


def _multiply_parts(parts: Sequence[Tensor], dtype: torch.dtype) -> Products:
    return add_up(_multiply_chunk(pieces, dtype) for pieces in zip(*(part.split(CHUNK) for part in parts), strict=True))


def _multiply_chunk(pieces: Sequence[Tensor], dtype: torch.dtype) -> Products:
    base = pieces[0].to(dtype)
    vectors = [base, *(torch.sub(piece, base).to(dtype) for piece in pieces[1:])]
    return Products(
        tuple(
            tuple(float(torch.dot(one, other)) if row <= column else 0.0 for column, other in enumerate(vectors))
            for row, one in enumerate(vectors)
        )
    )


def _cosine(product: float, one: float, other: float) -> float | None:
    lengths = math.sqrt(max(one, 0.0) * max(other, 0.0))
    return max(-1.0, min(1.0, product / lengths)) if lengths else None
