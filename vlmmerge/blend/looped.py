"""Blending chunks by compiled loops (`loops.py`): what runs where, with the bits of the plain formulas.

Without Numba the plain formulas serve. Knows one slot's reads, ratios and options. Does not know who writes the chunks.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmmerge.blend.cuts import Counter, Cut
from vlmmerge.blend.launch import Launch, has_launch, plan_launch
from vlmmerge.blend.passes import Job
from vlmmerge.blend.work import not_finite

Array = np.ndarray[Any, Any]

# Elements of a chunk that is blended into its own memory: loops need no chunk to fit a cache, but each call costs some
# tens of microseconds in which Python runs one thread alone.
AT_ONCE = 2**20


@cache
def has_loops() -> bool:
    """Whether loops can be compiled here."""
    try:
        import vlmmerge.blend.loops  # noqa: F401
    except ImportError:
        return False
    return True


def plan_loop(job: Job, find_cuts: Callable[[Launch], Sequence[Cut]]) -> Callable[[int, int], Tensor | None] | None:
    """Plan how a slot is blended by loops.

    Args:
        job: The slot and its blend.
        find_cuts: Finds where a launch of cuts or bands cuts each parent's task vector, then each one's outliers.

    Returns:
        A `plans.BlendChunk`; None where the plain formula must do it.
    """
    work = job.work
    if not has_loops() or not has_launch(job.method, job.options):
        return None
    launch = plan_launch(job.method, job.seed, job.options, work.slot, work.num_elements, work.ratios)
    if launch is None or 0 in launch.num_kept:
        return None
    cuts = find_cuts(launch) if launch.num_kept else ()
    return partial(_blend, job, launch, _settings(job, launch, cuts))


def _settings(job: Job, launch: Launch, cuts: Sequence[Cut]) -> tuple[Any, ...]:
    """What `loops.blend` takes after the place."""
    from vlmmerge.blend.loops import BAND, CUT, MASK, NONE

    options = job.options
    divides = launch.divisor is not None or (launch.elects and bool(options.normalize))
    factor_of_sum = options.lambda_ if launch.uses_base else 1.0
    return (
        _floats(launch.factors), _floats(launch.weights or launch.factors),
        np.array(launch.keys, np.int64).view(np.uint64), np.array(launch.lasts, np.int32),
        np.array([cut.bits for cut in cuts], np.uint32), np.array([cut.last_part for cut in cuts], np.int64),
        {"none": NONE, "mask": MASK, "cut": CUT, "band": BAND}[launch.sparsity], launch.uses_base, launch.elects,
        options.majority_sign_method == "frequency", options.majority_sign_tie == "positive", divides,
        *_floats([launch.divisor or 1.0, factor_of_sum]),
    )  # fmt: skip


def _floats(numbers: Sequence[float]) -> Array:
    """As float32; what is too large for it becomes infinite, and shows in the blend."""
    with np.errstate(over="ignore"):
        return np.array(numbers, np.float32)


def _blend(job: Job, launch: Launch, settings: tuple[Any, ...], start: int, stop: int) -> Tensor | None:
    from vlmmerge.blend import loops

    work = job.work
    read = [work.base if name == "base" else work.parents[name] for name in launch.sources]
    parents = _arrays([read_source(start, stop) for read_source in read])
    base = _array(work.base(start, stop)) if launch.uses_base else parents[0]
    is_stored = work.dtype in (torch.bfloat16, torch.float32)
    if work.memory is not None and is_stored:
        if not loops.blend(_array(work.memory[start:stop]), base, parents, start, *settings):
            raise not_finite(work.dtype, job.method, work.slot, work.ratios)
        return None
    blended = torch.empty(stop - start, dtype=work.dtype if is_stored else torch.float32)
    loops.blend(_array(blended), base, parents, start, *settings)
    return blended


def loop_counter(job: Job, parent: str) -> Counter:
    """Counts the magnitudes of a parent's task vector by loops."""
    from vlmmerge.blend import loops

    work = job.work

    def upper(start: int, stop: int) -> Tensor:
        counts = np.zeros(2**15, np.int64)
        loops.count_upper(counts, _array(work.base(start, stop)), _array(work.parents[parent](start, stop)))
        return torch.from_numpy(counts)

    def lower(of_upper: int, start: int, stop: int) -> Tensor:
        counts = np.zeros(2**16, np.int64)
        base, own = _array(work.base(start, stop)), _array(work.parents[parent](start, stop))
        loops.count_lower(counts, base, own, np.uint32(of_upper))
        return torch.from_numpy(counts)

    return Counter(upper, lower)


def _arrays(tensors: Sequence[Tensor]) -> tuple[Array, ...]:
    """Flat tensors as arrays of one dtype."""
    is_mixed = len({tensor.dtype for tensor in tensors}) > 1
    return tuple(_array(tensor.float() if is_mixed else tensor) for tensor in tensors)


def _array(tensor: Tensor) -> Array:
    """A flat tensor as an array: of bfloat16 its bits, of any other dtype float32."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.float().numpy()
