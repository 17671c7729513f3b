"""The formulas as loops that a CPU runs in one pass over memory, compiled by Numba.

The bits are those of the plain formulas (`methods.py`): the same operations in the same order, each rounded by itself,
for Numba fuses no product and sum unless asked to. A block of elements goes through short loops, which vectorise, in
buffers that stay in a core's first cache. `looped.py` decides what runs. Importing this module needs Numba.

bfloat16 comes and goes as uint16, its bits; float32 as it is.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

BLOCK = 2048  # elements; measured 2026 on one core: linear 0.26 ns an element, dare_ties of two parents 1.33
GOLDEN, MIX_1, MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
NONE, MASK, CUT, BAND = range(4)  # how task vectors are made sparse
INFINITE, QUIET = np.uint32(0x7F800000), np.uint32(0x00400000)
MAGNITUDE, HALF, SIXTEEN, ONE = np.uint32(0x7FFFFFFF), np.uint32(0x7FFF), np.uint32(16), np.uint32(1)
ZERO, UNIT = np.float32(0.0), np.float32(1.0)


def compiled(function):
    """Compile a function that lets other threads run, and keep what was compiled where there is room."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(nogil=True)(function)


@compiled
def blend(
    out, base, parents, start, factors, weights, keys, lasts, cuts, ends, sparsity,
    uses_base, elects, counts_signs, ties_are_positive, divides, divisor, factor_of_sum,
):  # fmt: skip
    """Blend a chunk of a slot.

    Args:
        out: Where the blend goes, flat, uint16 or float32.
        base: The base's elements; anything where it takes no part.
        parents: A tuple of those of the parents that take part, all of one dtype.
        start: The first element's place in the slot.
        factors: float32: of each parent.
        weights: float32: of each parent, to divide by those that agree.
        keys: uint64: for masks, where each parent's random numbers begin.
        lasts: int32: for masks, the last of its numbers that keeps an element.
        cuts: uint32: for cuts the bits of each parent's smallest magnitude that is kept; for bands then the outliers'.
        ends: int64: as `cuts`, the place from which on that very magnitude is dropped.
        sparsity: NONE, MASK, CUT or BAND.
        uses_base: Whether the base is taken away from each parent and added to the sum.
        elects: Whether a sign is elected; `counts_signs` and `ties_are_positive` say how.
        divides: Whether the sum is divided: by `divisor`, or after an election by the weights of those that agree.
        factor_of_sum: Lambda.

    Returns:
        Whether all that was blended is finite in the dtype of `out`.
    """
    count, is_finite = len(parents), True
    deltas, words = np.empty((count, BLOCK), np.float32), np.empty(BLOCK // 2 + 1, np.uint64)
    signs, spare = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for first in range(0, out.shape[0], BLOCK):
        last = min(first + BLOCK, out.shape[0])
        size, place = last - first, start + first
        total = deltas[0, :size]
        if not uses_base:
            _weigh(total, parents[0][first:last], factors[0])
            for i in range(1, count):
                _add_weighed(total, parents[i][first:last], factors[i])
            if divides:
                _divide(total, divisor)
            _store(out[first:last], total)
            is_finite &= _is_finite(out[first:last])
            continue
        root = base[first:last]
        for i in range(count):
            delta, source = deltas[i, :size], parents[i][first:last]
            if sparsity == NONE:
                _weigh_delta(delta, source, root, factors[i])
            elif sparsity == MASK:
                odd = place & 1
                pairs = words[: (size + odd + 1) // 2]
                _draw(pairs, keys[i] + np.uint64(place // 2 + 1) * GOLDEN)
                _weigh_kept(delta, source, root, pairs.view(np.int32)[odd : odd + size], lasts[i], factors[i])
            else:
                _weigh_delta(delta, source, root, UNIT)
                if sparsity == BAND:
                    outliers = spare[:size]
                    _copy(outliers, delta)
                    _cut(outliers, cuts[count + i], ends[count + i] - place)
                    _cut(delta, cuts[i], ends[i] - place)
                    _subtract(delta, outliers)
                else:
                    _cut(delta, cuts[i], ends[i] - place)
                _scale(delta, factors[i])
        if elects and (count > 1 or divides):
            sign, result = signs[:size], spare[:size]
            _vote(result, deltas, counts_signs)
            _elect(sign, result, ties_are_positive)
            _agreeing(result, deltas[0, :size], sign)
            for i in range(1, count):
                _add_agreeing(result, deltas[i, :size], sign)
            _multiply(result, sign)
            if divides:
                _divide_by_weights(result, deltas, sign, weights)
            total = result
        else:
            for i in range(1, count):
                _add(total, deltas[i, :size])
            if divides:
                _divide(total, divisor)
        if factor_of_sum != UNIT:
            _scale(total, factor_of_sum)
        _store_on(out[first:last], total, root)
        is_finite &= _is_finite(out[first:last])
    return is_finite


@compiled
def count_upper(counts, base, parent):
    """Count the magnitudes of parent - base by the upper 16 of their 31 bits; `counts`, int64 (2**15,), is added to."""
    for j in range(parent.shape[0]):
        counts[(_bits(_widen(parent[j]) - _widen(base[j])) & MAGNITUDE) >> SIXTEEN] += 1


@compiled
def count_lower(counts, base, parent, upper):
    """Count the lower 16 bits of the magnitudes whose upper ones are `upper`; `counts`, int64 (2**16,), is added to."""
    for j in range(parent.shape[0]):
        bits = _bits(_widen(parent[j]) - _widen(base[j])) & MAGNITUDE
        if bits >> SIXTEEN == upper:
            counts[bits & np.uint32(0xFFFF)] += 1


@intrinsic
def _bits(context, value):
    """A float32's bits."""
    return types.uint32(types.float32), lambda _, builder, __, values: builder.bitcast(values[0], ir.IntType(32))


@intrinsic
def _float(context, value):
    """The float32 of some bits."""
    return types.float32(types.uint32), lambda _, builder, __, values: builder.bitcast(values[0], ir.FloatType())


def _widen(value):
    """As float32, exactly."""
    raise NotImplementedError


@overload(_widen, inline="always")
def _widen_compiled(value):
    if value == types.uint16:
        return lambda value: _float(np.uint32(value) << SIXTEEN)
    return lambda value: value


def _narrow(value, like):
    """From float32 to the nearest value of the dtype of `like`, of two as near to the even one; a NaN stays one."""
    raise NotImplementedError


@overload(_narrow, inline="always")
def _narrow_compiled(value, like):
    if like.dtype == types.uint16:

        def narrow(value, like):
            bits = _bits(value)
            rounded = bits + HALF + ((bits >> SIXTEEN) & ONE)
            return np.uint16((bits | QUIET if bits & MAGNITUDE > INFINITE else rounded) >> SIXTEEN)

        return narrow
    return lambda value, like: value


@compiled
def _weigh(total, source, factor):
    for j in range(total.shape[0]):
        total[j] = _widen(source[j]) * factor


@compiled
def _add_weighed(total, source, factor):
    for j in range(total.shape[0]):
        total[j] = total[j] + _widen(source[j]) * factor


@compiled
def _weigh_delta(delta, source, root, factor):
    for j in range(delta.shape[0]):
        delta[j] = (_widen(source[j]) - _widen(root[j])) * factor


@compiled
def _weigh_kept(delta, source, root, words, last, factor):
    dropped = ZERO * factor
    for j in range(delta.shape[0]):
        delta[j] = (_widen(source[j]) - _widen(root[j])) * (factor if words[j] <= last else dropped)


@compiled
def _draw(pairs, state):
    """SplitMix64's numbers, as in `masks.py`."""
    for k in range(pairs.shape[0]):
        z = state + np.uint64(k) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * MIX_1
        z = (z ^ (z >> np.uint64(27))) * MIX_2
        pairs[k] = z ^ (z >> np.uint64(31))


@compiled
def _cut(delta, cut, end):
    """Zero magnitudes below `cut`, and from element `end` on those that equal it."""
    split = min(max(end, 0), delta.shape[0])
    _cut_below(delta[:split], cut)
    _cut_below(delta[split:], cut + ONE)


@compiled
def _cut_below(delta, cut):
    for j in range(delta.shape[0]):
        value = delta[j]
        delta[j] = value if _bits(value) & MAGNITUDE >= cut else ZERO


@compiled
def _vote(votes, deltas, counts_signs):
    size = votes.shape[0]
    if counts_signs:
        _sign(votes, deltas[0, :size])
        for i in range(1, deltas.shape[0]):
            _add_sign(votes, deltas[i, :size])
    else:
        _copy(votes, deltas[0, :size])
        for i in range(1, deltas.shape[0]):
            _add(votes, deltas[i, :size])


@compiled
def _elect(sign, votes, ties_are_positive):
    """The sign of the votes, in other memory: in place it would not vectorise."""
    _sign(sign, votes)
    if ties_are_positive:
        for j in range(sign.shape[0]):
            elected = sign[j]
            sign[j] = UNIT if elected == ZERO else elected


@compiled
def _sign(sign, values):
    """-1, 0 or 1; 0 for a NaN, as torch's."""
    for j in range(sign.shape[0]):
        value = values[j]  # read once: else each comparison becomes a branch
        sign[j] = UNIT if value > ZERO else (-UNIT if value < ZERO else ZERO)


@compiled
def _add_sign(total, values):
    for j in range(total.shape[0]):
        value = values[j]
        total[j] = total[j] + (UNIT if value > ZERO else (-UNIT if value < ZERO else ZERO))


@compiled
def _agreeing(total, delta, sign):
    for j in range(total.shape[0]):
        agreed = sign[j] * delta[j]
        total[j] = ZERO if agreed < ZERO else agreed


@compiled
def _add_agreeing(total, delta, sign):
    for j in range(total.shape[0]):
        agreed = sign[j] * delta[j]
        total[j] = total[j] + (ZERO if agreed < ZERO else agreed)


@compiled
def _divide_by_weights(total, deltas, sign, weights):
    for j in range(total.shape[0]):
        weight = weights[0] if sign[j] * deltas[0, j] > ZERO else ZERO * weights[0]
        for i in range(1, deltas.shape[0]):
            weight = weight + (weights[i] if sign[j] * deltas[i, j] > ZERO else ZERO * weights[i])
        total[j] = total[j] / (UNIT if weight == ZERO else weight)


@compiled
def _copy(total, values):
    for j in range(total.shape[0]):
        total[j] = values[j]


@compiled
def _add(total, values):
    for j in range(total.shape[0]):
        total[j] = total[j] + values[j]


@compiled
def _subtract(total, values):
    for j in range(total.shape[0]):
        total[j] = total[j] - values[j]


@compiled
def _multiply(total, values):
    for j in range(total.shape[0]):
        total[j] = total[j] * values[j]


@compiled
def _scale(total, factor):
    for j in range(total.shape[0]):
        total[j] = total[j] * factor


@compiled
def _divide(total, divisor):
    for j in range(total.shape[0]):
        total[j] = total[j] / divisor


@compiled
def _store(out, total):
    for j in range(out.shape[0]):
        out[j] = _narrow(total[j], out)


@compiled
def _store_on(out, total, root):
    for j in range(out.shape[0]):
        out[j] = _narrow(total[j] + _widen(root[j]), out)


@compiled
def _is_finite(out):
    largest = np.uint32(0)
    for j in range(out.shape[0]):
        largest = max(largest, _bits(_widen(out[j])) & MAGNITUDE)
    return largest < INFINITE
