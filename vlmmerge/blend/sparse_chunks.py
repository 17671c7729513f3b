"""What makes chunks of task vectors sparse, as the formulas do with whole ones: with what these know found first.

Knows one slot, its parents' task vectors and ratios. Does not know how what is kept is added up.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vlmmerge.blend.cuts import Counter, Cut, count_magnitudes, counter_of, find_cut
from vlmmerge.blend.deltas import Draw, drop_at_random, make_draw
from vlmmerge.blend.launch import Launch
from vlmmerge.blend.looped import loop_counter
from vlmmerge.blend.passes import Job, chunk_of, sums_over
from vlmmerge.blend.sparsify import drop, factor_between, numbers_in_band, probability_by_rank, rank_in_rows
from vlmmerge.blend.sums import l1_parts
from vlmmerge.blend.work import Read

OnDelta = Callable[[Tensor, int], Tensor]
"""Changes a chunk of a task vector in place, flat, given the place of its first element."""


def find_trimmed(job: Job, parent: str) -> OnDelta:
    """As `ties` trims and weighs."""
    num_kept = int(job.work.ratios[parent].density * job.work.num_elements)
    return _weighted(job, parent, find_largest(job, parent, partial(job.delta, parent), num_kept))


def find_crumbs(job: Job, parent: str) -> OnDelta:
    """As `deltas.crumbs`."""
    ratio, read_delta = job.work.ratios[parent], partial(job.delta, parent)
    num_outliers, num_kept = numbers_in_band(job.work.num_elements, ratio.density, ratio.gamma)
    keep_outliers = find_largest(job, parent, read_delta, num_outliers)
    keep_both = find_largest(job, parent, read_delta, num_outliers + num_kept)

    def keep_band(delta: Tensor, start: int) -> Tensor:
        outliers = keep_outliers(delta.clone(), start)
        return keep_both(delta, start).sub_(outliers)

    return _weighted(job, parent, keep_band)


def find_dropped(job: Job, parent: str) -> OnDelta:
    """As `dare` drops and weighs, with the L1 norm kept: else it is elementwise."""
    density = job.work.ratios[parent].density
    return _weighted(job, parent, lambda delta, start: drop(delta, _draw(job, parent, delta, start)(density)))


def find_pruned(job: Job, parent: str) -> OnDelta:
    """As `deltas.magnitude_prune`; its chunks are whole rows."""
    ratio = job.work.ratios[parent]
    probability = _find_probability(job, parent)

    def keep(delta: Tensor, start: int) -> Tensor:
        return drop(delta, _draw(job, parent, delta, start)(probability(delta, start)))

    def prune(delta: Tensor, start: int) -> Tensor:
        draw = _draw(job, parent, delta, start)
        return drop_at_random(delta, probability(delta, start), ratio.weight, draw, job.options)

    return _weighted(job, parent, keep, job.work.row_length) if job.options.rescale == "l1" else prune


def _find_probability(job: Job, parent: str) -> Callable[[Tensor, int], float | Tensor]:
    """As `sparsify.keep_probability`."""
    ratio = job.work.ratios[parent]
    by_rank = probability_by_rank(job.work.row_length, ratio.density, ratio.epsilon)
    if isinstance(by_rank, float):
        return lambda delta, start: by_rank
    find_ranks = _find_ranks(job, parent)
    return lambda delta, start: by_rank.index_select(0, find_ranks(delta, start))


def _find_ranks(job: Job, parent: str) -> OnDelta:
    """The ranks of a chunk's elements in their rows, int32; from a table where there are tables that stay."""
    row = job.work.row_length
    if job.work.tables is None:
        return lambda delta, start: rank_in_rows(delta.view(-1, row)).view(-1)
    table = job.table(parent, partial(_rank_all, job, parent))
    return lambda delta, start: table[start : start + delta.numel()].int()


def _rank_all(job: Job, parent: str) -> Tensor:
    """The ranks of all elements, flat: 2 bytes an element where a row has no more than 2**16, else 4."""
    row, num_elements = job.work.row_length, job.work.num_elements
    ranks = torch.empty(num_elements, dtype=torch.uint16 if row <= 2**16 else torch.int32)

    def rank(start: int) -> None:
        stop = min(start + chunk_of(row), num_elements)
        ranks[start:stop] = rank_in_rows(job.delta(parent, start, stop).view(-1, row)).view(-1)

    for _ in job.workers.map(partial(rank, start) for start in range(0, num_elements, chunk_of(row))):
        pass
    return ranks


def _draw(job: Job, parent: str, delta: Tensor, start: int) -> Draw:
    return make_draw(job.seed, parent, job.work.slot, delta, start)


def _weighted(job: Job, parent: str, keep: OnDelta, row: int = 1) -> OnDelta:
    """As `deltas.sparse`."""
    ratio = job.work.ratios[parent]
    factor = _l1_factor(job, parent, keep, job.work.row_length) if job.options.rescale and ratio.density < 1.0 else 1.0
    weight = ratio.weight * factor
    return lambda delta, start: keep(delta, start).mul_(weight)


def _l1_factor(job: Job, parent: str, keep: OnDelta, row: int) -> float:
    """As `sparsify.with_l1_norm_of`, where `keep` takes whole rows of so many elements."""

    def norms(start: int, stop: int) -> list[Tensor]:
        first = start // row * row
        delta, part = job.delta(parent, first, -(-stop // row) * row), slice(start - first, stop - first)
        before = l1_parts(delta[part])
        return [before, l1_parts(keep(delta, first)[part])]

    return factor_between(*sums_over(job, norms))


def find_largest(job: Job, name: str, read: Read, num_kept: int) -> OnDelta:
    """What `sparsify.keep_largest` does to what is read, which has a name."""
    if num_kept == job.work.num_elements:
        return lambda delta, start: delta
    if num_kept == 0:
        return lambda delta, start: delta.mul_(0.0)
    return _find_cut(job, name, read, counter_of(read), num_kept).trim


def find_cuts(job: Job, launch: Launch) -> list[Cut]:
    """Where each of a launch's cuts lies, by loops."""
    names = launch.sources * (len(launch.num_kept) // len(launch.sources))
    return [
        Cut(0.0, 0.0, num_kept)
        if num_kept == job.work.num_elements
        else _find_cut(job, name, partial(job.delta, name), loop_counter(job, name), num_kept)
        for name, num_kept in zip(names, launch.num_kept, strict=True)
    ]


def _find_cut(job: Job, name: str, read: Read, counter: Counter, num_kept: int) -> Cut:
    counts = job.table(name, lambda: count_magnitudes(counter, job.work.num_elements, job.workers))
    return find_cut(read, counter, counts, num_kept, job.workers)
