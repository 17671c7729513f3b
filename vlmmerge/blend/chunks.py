"""Blending slots chunk by chunk: the bits of `blend_slot` on whole slots, in memory that does not grow with them.

A chunk fits a core's cache: a bfloat16 parent crosses main memory once, and its float32 forms never do. Methods that
are elementwise need no more. TIES and Breadcrumbs first find where they cut the slot (`cuts.py`). Any other method, and
any that keeps norms, gets the whole slot as one chunk. Knows tensors, ratios and workers. Does not know files, nor
models.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vlmmerge.blend import METHODS, Options, blend_slot
from vlmmerge.blend.cuts import Read, find_cut
from vlmmerge.blend.methods import add_agreeing, add_all, task_vector
from vlmmerge.blend.sparsify import numbers_in_band
from vlmmerge.blend.workers import Workers
from vlmmerge.errors import VlmMergeError
from vlmmerge.finite import is_finite
from vlmmerge.genome import Ratio

# Elements of a chunk: few enough for its float32 forms to stay in a core's cache, enough for the dozens of calls that
# it takes to cost little (measured 2026, 1 MiB of cache a core: linear 1.4 ns an element, 1.8 at 2**16, 2.5 at 2**15).
CHUNK = 2**17
# Elements of a worker's task: enough for handing it over to cost nothing, few enough to share a slot out evenly.
TASK = 2 * CHUNK

BlendChunk = Callable[[int, int], Tensor]
"""Blends elements start..stop-1 of a slot into a new flat float32 tensor."""

Trim = Callable[[Tensor, int], Tensor]
"""Trims a chunk of a task vector in place, given the place of its first element."""

AddUp = Callable[[Tensor, Sequence[Tensor], Sequence[Ratio], Options], Tensor]
"""Adds weighted task vectors to their float32 base."""


@dataclass(frozen=True, eq=False)
class SlotWork:
    """One slot to blend.

    Args:
        slot: Its name.
        shape: Its shape.
        dtype: The dtype in which it is stored.
        base: Reads the base. Like all reads, it may be called from several threads at once.
        parents: Reads each parent, by name.
        ratios: For each parent its ratio.
        write: Takes the place of a chunk's first element, and the chunk, flat and in the stored dtype; returns how
            many bytes it has written. It too is called from several threads.
    """

    slot: str
    shape: torch.Size
    dtype: torch.dtype
    base: Read
    parents: Mapping[str, Read]
    ratios: Mapping[str, Ratio]
    write: Callable[[int, Tensor], int]

    @property
    def taking_part(self) -> list[str]:
        """The parents whose weight is not 0; the others are never read."""
        return [name for name in self.parents if self.ratios[name].weight != 0.0]


def blend_in_chunks(
    method: str, seed: int, options: Options, works: Iterable[SlotWork], workers: Workers
) -> Iterator[int]:
    """Blend slots, and round, check and write each chunk.

    Args:
        method: A name in `METHODS`.
        seed: For the masks of methods that draw them.
        options: What holds for the whole blend.
        works: The slots.
        workers: Who does it.

    Yields:
        How many more bytes are written, as it goes on.

    Raises:
        VlmMergeError: A blended value is not finite in the stored dtype, or `blend_slot` refuses the parents.
    """

    def tasks() -> Iterator[Callable[[], int]]:
        for work in works:
            blend_chunk, length = _plan(method, seed, options, work, workers)
            num_elements, of_task = work.shape.numel(), max(length, TASK)
            for start in range(0, num_elements, of_task):
                stop = min(start + of_task, num_elements)
                yield partial(_blend_and_write, method, work, blend_chunk, length, start, stop)

    return workers.map(tasks())


def _blend_and_write(method: str, work: SlotWork, blend_chunk: BlendChunk, length: int, first: int, end: int) -> int:
    num_bytes = 0
    with torch.no_grad():  # each thread has this setting for itself
        for start in range(first, end, length):
            chunk = blend_chunk(start, min(start + length, end)).to(work.dtype)
            check_finite(chunk, method, work.slot, work.ratios)
            num_bytes += work.write(start, chunk)
    return num_bytes


def check_finite(blended: Tensor, method: str, slot: str, ratios: Mapping[str, Ratio]) -> None:
    """Check a blended slot, or a chunk of one.

    Raises:
        VlmMergeError: A value is not finite.
    """
    if not is_finite(blended):
        raise VlmMergeError(
            f"{slot}: blending by {method} gives values that are not finite in {blended.dtype}",
            details=[f"{name}: {ratio}" for name, ratio in ratios.items()],
            hint="smaller weights or a higher density may do; look for damaged parents",
        )


def _plan(method: str, seed: int, options: Options, work: SlotWork, workers: Workers) -> tuple[BlendChunk, int]:
    """How a slot is blended, and how many elements at once; what chunks must know of the whole slot is found now."""
    num_elements = work.shape.numel()
    plainly = partial(_blend_plainly, method, seed, options, work)
    if METHODS[method].is_elementwise and options.rescale != "l1":
        return partial(plainly, (-1,)), CHUNK
    if method in PLANS and not options.rescale and num_elements > CHUNK:
        if all(work.ratios[name].density == 1.0 for name in work.taking_part):  # nothing is trimmed: it is elementwise
            return partial(plainly, (-1,)), CHUNK
        find_trim, add_up = PLANS[method]
        trims = {name: find_trim(work, name, workers) for name in work.taking_part}
        return partial(_blend_trimmed, work, trims, add_up, options), CHUNK
    return partial(plainly, work.shape), max(num_elements, 1)


def _blend_plainly(
    method: str, seed: int, options: Options, work: SlotWork, shape: Sequence[int], start: int, stop: int
) -> Tensor:
    read = {name: work.parents[name](start, stop).view(shape) for name in work.taking_part}
    needs_base = METHODS[method].uses_base or not read
    base = work.base(start, stop).view(shape) if needs_base else next(iter(read.values()))
    parents = {name: read.get(name, base) for name in work.parents}  # what has weight 0 is counted, not looked at
    blended = blend_slot(method, base, parents, work.ratios, seed=seed, slot=work.slot, start=start, options=options)
    return blended.flatten()


def _blend_trimmed(
    work: SlotWork, trims: Mapping[str, Trim], add_up: AddUp, options: Options, start: int, stop: int
) -> Tensor:
    """The method's formula, but that where each task vector is trimmed is known."""
    base = work.base(start, stop).float()
    deltas = [
        trim(task_vector(work.parents[name](start, stop), base), start).mul_(work.ratios[name].weight)
        for name, trim in trims.items()
    ]
    return add_up(base, deltas, [work.ratios[name] for name in trims], options)


def _find_trim(work: SlotWork, parent: str, workers: Workers) -> Trim:
    """What `sparsify.trim` does to a parent's task vector, for chunks that know their place."""
    return _find_largest(work, parent, int(work.ratios[parent].density * work.shape.numel()), workers)


def _find_band(work: SlotWork, parent: str, workers: Workers) -> Trim:
    """What `sparsify.keep_band` does to a parent's task vector, for chunks that know their place."""
    ratio = work.ratios[parent]
    num_outliers, num_kept = numbers_in_band(work.shape.numel(), ratio.density, ratio.gamma)
    keep_outliers = _find_largest(work, parent, num_outliers, workers)
    keep_both = _find_largest(work, parent, num_outliers + num_kept, workers)

    def keep_band(delta: Tensor, start: int) -> Tensor:
        outliers = keep_outliers(delta.clone(), start)
        return keep_both(delta, start).sub_(outliers)

    return keep_band


def _find_largest(work: SlotWork, parent: str, num_kept: int, workers: Workers) -> Trim:
    """What `sparsify.keep_largest` does to a parent's task vector, for chunks that know their place."""
    num_elements = work.shape.numel()
    if num_kept == num_elements:
        return lambda delta, start: delta
    if num_kept == 0:
        return lambda delta, start: delta.mul_(0.0)

    def read_delta(start: int, stop: int) -> Tensor:
        with torch.no_grad():
            return task_vector(work.parents[parent](start, stop), work.base(start, stop).float())

    return find_cut(read_delta, num_elements, num_kept, workers).trim


PLANS: dict[str, tuple[Callable[[SlotWork, str, Workers], Trim], AddUp]] = {
    "ties": (_find_trim, add_agreeing),
    "breadcrumbs": (_find_band, add_all),
    "breadcrumbs_ties": (_find_band, add_agreeing),
}
"""How methods that are not elementwise are still blended in chunks: what finds where to trim, and what adds up."""
