"""Passes over a slot by chunks, for sums over the whole of it: each equals, bit for bit, the sum of the whole at once.

Knows one slot's base, task vectors and workers. Does not know what a method needs the sums for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from vlmmerge.blend.deltas import task_vector
from vlmmerge.blend.options import Options
from vlmmerge.blend.sums import WIDTH, total
from vlmmerge.blend.work import SlotWork
from vlmmerge.blend.workers import Workers
from vlmmerge.genome import Ratio

# Elements of a chunk: few enough for its float32 forms to stay in a core's caches, enough for the dozens of calls that
# it takes to cost little (measured 2026, 1 MiB of L2 a core, 32 MiB of L3: linear 1.2 ns of CPU an element, 1.4 at
# 2**17, 1.8 at 2**16; dare_ties 6.9, 7.2, 8.1).
CHUNK = 2**18

OfChunk = Callable[[int, int], Sequence[Tensor]]
"""Some tensors of numbers that elements start..stop-1 of a slot give."""


@dataclass(frozen=True, eq=False)
class Job:
    """A slot to blend, and all that its blend depends on."""

    method: str
    seed: int
    options: Options
    work: SlotWork
    workers: Workers
    _tables: dict[str, Tensor] = field(default_factory=dict)

    @property
    def ratios(self) -> list[Ratio]:
        """Those of the parents that take part."""
        return [self.work.ratios[name] for name in self.work.taking_part]

    def base(self, start: int, stop: int) -> Tensor:
        """Elements start..stop-1 of the base, flat, float32; not to be changed."""
        return self.work.base(start, stop).float()

    def parents(self, start: int, stop: int) -> list[Tensor]:
        """Elements start..stop-1 of the parents that take part, flat, float32; not to be changed."""
        return [self.work.parents[name](start, stop).float() for name in self.work.taking_part]

    def delta(self, parent: str, start: int, stop: int) -> Tensor:
        """Elements start..stop-1 of a parent's task vector, flat: a new float32 tensor."""
        return task_vector(self.work.parents[parent](start, stop), self.base(start, stop))

    def deltas(self, base: Tensor, start: int, stop: int) -> list[Tensor]:
        """As `delta`, for all that take part, from their float32 base."""
        return [task_vector(self.work.parents[name](start, stop), base) for name in self.work.taking_part]

    def table(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What no ratio changes, by name: found once, in all if the work has tables that stay, else for this job."""
        tables = self._tables if self.work.tables is None else self.work.tables
        if name not in tables:
            tables[name] = make()
        return tables[name]


def chunk_of(unit: int = 1) -> int:
    """The elements of a chunk that is made of whole units of so many: at least one of these."""
    return max(CHUNK // unit, 1) * unit


def sums_over(job: Job, parts: OfChunk) -> list[Tensor]:
    """Add up over a slot what `parts` gives for a chunk: several times `sums.dot_parts`. Float64 tensors, ()."""
    return [total(of_all, job.work.num_elements) for of_all in over_chunks(job, parts, chunk_of(WIDTH))]


def over_chunks(job: Job, of_chunk: OfChunk, length: int) -> list[Tensor]:
    """Join what `of_chunk` gives for each chunk of a slot, in order: for each of its tensors a flat float64 one.

    Meanwhile they are lists: a small tensor that stays lies where the next chunk's memory was, which then must come
    from elsewhere (measured 2026: 1 GiB for SLERP's 500 chunks).
    """

    def lists(start: int) -> list[list[float]]:
        return [found.flatten().tolist() for found in of_chunk(start, min(start + length, job.work.num_elements))]

    starts = range(0, job.work.num_elements, length)
    of_chunks = job.workers.map(partial(lists, start) for start in starts)
    return [torch.tensor([*chain(*of_all)], dtype=torch.float64) for of_all in zip(*of_chunks, strict=True)]
