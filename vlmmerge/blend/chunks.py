"""Blending slots chunk by chunk: the bits of `blend_slot` on whole slots, in memory that does not grow with them.

A chunk fits a core's cache: a bfloat16 parent crosses main memory once, and its float32 forms never do. Knows tensors,
ratios and workers. Does not know files, nor models, nor what a method must know of a whole slot (`plans.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from vlmmerge.blend import Options
from vlmmerge.blend.passes import Job
from vlmmerge.blend.plans import BlendChunk, plan
from vlmmerge.blend.work import SlotWork, not_finite
from vlmmerge.blend.workers import Workers
from vlmmerge.finite import is_finite
from vlmmerge.genome import Ratio

# Elements of a worker's task: enough for handing it over to cost nothing, few enough to share a slot out evenly.
TASK = 2**18


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
            blend_chunk, length = plan(Job(method, seed, options, work, workers))
            of_task = max(TASK // length, 1) * length
            for start in range(0, work.num_elements, of_task):
                stop = min(start + of_task, work.num_elements)
                yield partial(_blend_and_write, method, work, blend_chunk, length, start, stop)

    return workers.map(tasks())


def _blend_and_write(method: str, work: SlotWork, blend_chunk: BlendChunk, length: int, first: int, end: int) -> int:
    num_bytes = 0
    with torch.no_grad():  # each thread has this setting for itself
        for start in range(first, end, length):
            stop = min(start + length, end)
            blended = blend_chunk(start, stop)
            if blended is None:  # it lies where it belongs, and is finite
                num_bytes += (stop - start) * work.dtype.itemsize
                continue
            chunk = blended.to(work.dtype)
            check_finite(chunk, method, work.slot, work.ratios)
            num_bytes += work.write(start, chunk)
    return num_bytes


def check_finite(blended: Tensor, method: str, slot: str, ratios: Mapping[str, Ratio]) -> None:
    """Check a blended slot, or a chunk of one.

    Raises:
        VlmMergeError: A value is not finite.
    """
    if not is_finite(blended):
        raise not_finite(blended.dtype, method, slot, ratios)
