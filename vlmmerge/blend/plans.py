"""How each method blends a slot chunk by chunk: what chunks must know of the whole slot is found first, in passes.

The bits are those of `blend_slot` on the whole slot, whose formula each plan follows. Knows methods, ratios and one
slot. Does not know who writes the chunks, nor where to.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from vlmmerge.blend import METHODS, Method, Options, blend_slot, check_number, is_whole
from vlmmerge.blend.deltas import add_agreeing, add_all, add_mean_of_agreeing
from vlmmerge.blend.elect import add_up
from vlmmerge.blend.looped import AT_ONCE, plan_loop
from vlmmerge.blend.passes import Job, chunk_of, over_chunks, sums_over
from vlmmerge.blend.shares import shares_of_energy, shares_of_weights, shares_on_arc, step_to_mean
from vlmmerge.blend.sparse_chunks import (
    OnDelta,
    find_crumbs,
    find_cuts,
    find_dropped,
    find_largest,
    find_pruned,
    find_trimmed,
)
from vlmmerge.blend.sparsify import variance_of
from vlmmerge.blend.sums import dot_parts, dot_rows
from vlmmerge.genome import Ratio

BlendChunk = Callable[[int, int], Tensor | None]
"""Blends elements start..stop-1 of a slot into a new flat tensor, float32 or rounded to the stored dtype already; None:
they are blended, rounded, found finite, and lie in the slot's own memory."""

Plan = tuple[BlendChunk, int]
"""How a slot is blended, and the elements of a chunk."""

AddUp = Callable[[Tensor, Sequence[Tensor], Sequence[Ratio], Options], Tensor]
"""Adds weighted task vectors to their float32 base."""


def plan(job: Job) -> Plan:
    """Plan how a slot is blended.

    Raises:
        VlmMergeError: `blend_slot` would refuse the parents.
    """
    method = METHODS[job.method]
    check_number(method, job.work.parents)
    if by_loop := plan_loop(job, partial(find_cuts, job)):
        return by_loop, chunk_of() if job.work.memory is None else chunk_of(AT_ONCE)
    if _is_elementwise(method, job.ratios, job.options):
        return partial(_blend_plainly, job, (-1,)), chunk_of()
    if job.work.num_elements <= chunk_of():
        return partial(_blend_plainly, job, job.work.shape), chunk_of()
    return PLANS[job.method](job)


def _is_elementwise(method: Method, ratios: Sequence[Ratio], options: Options) -> bool:
    """Whether `blend_slot` gives the same bits on chunks."""
    if method.is_elementwise and ("rescale" not in method.options or options.rescale != "l1"):
        return True
    is_copy = not ratios or (len(ratios) == 1 and is_whole(method, ratios[0], options))
    is_dense = "density" in method.parameters and all(ratio.density == 1.0 for ratio in ratios)
    return is_copy or is_dense


def _blend_plainly(job: Job, shape: Sequence[int], start: int, stop: int) -> Tensor:
    method, work = METHODS[job.method], job.work
    read = {name: work.parents[name](start, stop).view(shape) for name in work.taking_part}
    needs_base = method.uses_base or not read
    base = work.base(start, stop).view(shape) if needs_base else next(iter(read.values()))
    parents = {name: read.get(name, base) for name in work.parents}  # what has weight 0 is counted, not looked at
    return blend_slot(
        job.method, base, parents, work.ratios, seed=job.seed, slot=work.slot, start=start, options=job.options
    ).flatten()


def _plan_arc(job: Job) -> Plan:
    """As `slerp`."""

    def products(start: int, stop: int) -> list[Tensor]:
        one, other = job.parents(start, stop)
        return [dot_parts(one, one), dot_parts(other, other), dot_parts(one, other)]

    shares = shares_of_weights(job.method, job.ratios)
    found = job.table("products", lambda: torch.stack(sums_over(job, products)))
    shares = shares_on_arc(shares, *found)

    def blend_chunk(start: int, stop: int) -> Tensor:
        one, other = job.parents(start, stop)
        return (one * shares[0]).add_(other * shares[1])

    return blend_chunk, chunk_of()


def _plan_mean(job: Job) -> Plan:
    """As `model_stock`."""
    by_row = len(job.work.shape) > 1 and job.options.filter_wise
    row = job.work.row_length

    def products(start: int, stop: int) -> list[Tensor]:
        deltas = job.deltas(job.base(start, stop), start, stop)
        pairs = [*zip(deltas, deltas, strict=True), *combinations(deltas, 2)]
        if by_row:
            return [dot_rows(one.view(-1, row), other.view(-1, row)) for one, other in pairs]
        return [dot_parts(one, other) for one, other in pairs]

    found = over_chunks(job, products, chunk_of(row)) if by_row else sums_over(job, products)
    count = len(job.ratios)
    step = step_to_mean(found[:count], found[count:]).float()

    def blend_chunk(start: int, stop: int) -> Tensor:
        base = job.base(start, stop)
        mean = add_up(job.deltas(base, start, stop)).div_(base.new_tensor(count))
        if by_row:
            mean.view(-1, row).mul_(step[start // row : stop // row].view(-1, 1))
        else:
            mean.mul_(step)
        return mean.add_(base)

    return blend_chunk, chunk_of(row if by_row else 1)


def _plan_selection(job: Job) -> Plan:
    """As `sce`."""
    select = _find_most_varied(job)

    def selected(base: Tensor, start: int, stop: int) -> list[Tensor]:
        deltas = job.deltas(base, start, stop)
        select(deltas, start)
        return deltas

    def squares(start: int, stop: int) -> list[Tensor]:
        return [dot_parts(delta, delta) for delta in selected(job.base(start, stop), start, stop)]

    coefficients = shares_of_energy(job.ratios, sums_over(job, squares))

    def blend_chunk(start: int, stop: int) -> Tensor:
        base = job.base(start, stop)
        return add_mean_of_agreeing(base, selected(base, start, stop), coefficients, job.options)

    return blend_chunk, chunk_of()


def _find_most_varied(job: Job) -> Callable[[Sequence[Tensor], int], None]:
    """What `sparsify.keep_most_varied` does to the task vectors."""
    if job.options.select_topk == 1.0:
        return lambda deltas, start: None

    def variance(start: int, stop: int) -> Tensor:
        return variance_of(job.deltas(job.base(start, stop), start, stop))

    def num_varied(start: int, stop: int) -> list[Tensor]:
        return [variance(start, stop).count_nonzero()]

    (found,) = over_chunks(job, num_varied, chunk_of())
    num_selected = int(job.options.select_topk * int(found.sum()))
    keep = find_largest(job, f"variance of {job.work.taking_part}", variance, num_selected)

    def select(deltas: Sequence[Tensor], start: int) -> None:
        is_selected = keep(variance_of(deltas), start) != 0.0
        for delta in deltas:
            delta.mul_(is_selected)

    return select


def _plan_sparse(find: Callable[[Job, str], OnDelta], add: AddUp, job: Job) -> Plan:
    """As a method that makes each task vector sparse by what `find` finds, and then adds them up."""
    steps = [find(job, name) for name in job.work.taking_part]

    def blend_chunk(start: int, stop: int) -> Tensor:
        base = job.base(start, stop)
        deltas = [step(delta, start) for step, delta in zip(steps, job.deltas(base, start, stop), strict=True)]
        return add(base, deltas, job.ratios, job.options)

    return blend_chunk, chunk_of(job.work.row_length if find is find_pruned else 1)


PLANS: dict[str, Callable[[Job], Plan]] = {
    "slerp": _plan_arc,
    "ties": partial(_plan_sparse, find_trimmed, add_agreeing),
    "dare": partial(_plan_sparse, find_dropped, add_all),
    "dare_ties": partial(_plan_sparse, find_dropped, add_agreeing),
    "breadcrumbs": partial(_plan_sparse, find_crumbs, add_all),
    "breadcrumbs_ties": partial(_plan_sparse, find_crumbs, add_agreeing),
    "della": partial(_plan_sparse, find_pruned, add_all),
    "della_ties": partial(_plan_sparse, find_pruned, add_agreeing),
    "model_stock": _plan_mean,
    "sce": _plan_selection,
}
"""How what is not elementwise is blended in chunks."""
