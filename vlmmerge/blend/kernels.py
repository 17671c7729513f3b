"""Triton kernels that blend a slot in one pass: every parent is read once, and the live parameter written once.

The bits are those of the plain formulas on a CPU (`methods.py`): the same operations in the same order, each rounded by
itself. They must be launched with `enable_fp_fusion=False`, or products and sums would fuse. `fused.py` decides what is
launched. Importing this module needs Triton.
"""

import triton
import triton.language as tl


@triton.jit
def blend(
    live, base, parents, numbers, integers, cuts, places, rows, fault, num_elements, num_live, width,
    USES_BASE: tl.constexpr, SPARSITY: tl.constexpr, ELECTS: tl.constexpr, NORMALIZES: tl.constexpr,
    COUNTS_SIGNS: tl.constexpr, TIES_ARE_POSITIVE: tl.constexpr, SCALES: tl.constexpr, HAS_ROWS: tl.constexpr,
    STORE: tl.constexpr, LIMIT: tl.constexpr, BY_BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blend one slot into its live parameter, in place.

    Args:
        live: The live parameter, contiguous.
        base: The base; anything where it takes no part.
        parents: A tuple of the parents that take part, each contiguous and of `num_elements`.
        numbers: float32: each parent's factor, each parent's weight, the divisor, lambda.
        integers: int64: for masks, each parent's key and then its last word that keeps an element.
        cuts: int32: for cuts, each parent's smallest magnitude that is kept, as bits; for bands, then each outliers'.
        places: int64: as `cuts`, the place from which on that very magnitude is dropped.
        rows: int64: with HAS_ROWS, the live row of each row that is blended, each of `width` elements.
        fault: int32: becomes 1 where a blended value is not finite in the stored dtype.
        num_live: Elements of the live parameter; what would lie beyond is not written.
        SPARSITY: `none`, `mask`, `cut` or `band`.
        ELECTS: Whether a sign is elected; COUNTS_SIGNS and TIES_ARE_POSITIVE say how.
        STORE: The stored dtype, to which results are rounded before they become the live parameter's.
        LIMIT: The bits of the smallest float32 that is infinite in it.
        BY_BITS: Whether bfloat16 is rounded by its bits: Triton's interpreter (3.8.0), in which the tests run without a
            GPU, cuts it off instead.
    """
    num_parents: tl.constexpr = len(parents)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    place = first + tl.arange(0, BLOCK)
    inside = place < num_elements
    root = _read(base, place, inside) if USES_BASE else 0.0
    deltas = ()
    for i in tl.static_range(num_parents):
        delta = _read(parents[i], place, inside)
        if USES_BASE:
            delta = delta - root
        factor = tl.load(numbers + i)
        if SPARSITY == "mask":
            is_kept = _words(tl.load(integers + i), first, BLOCK) <= tl.load(integers + num_parents + i).to(tl.int32)
            factor = tl.where(is_kept, factor, 0.0 * factor)
        elif SPARSITY != "none":
            whole = delta
            delta = _keep_largest(whole, place, tl.load(cuts + i), tl.load(places + i))
            if SPARSITY == "band":
                outliers = num_parents + i
                delta = delta - _keep_largest(whole, place, tl.load(cuts + outliers), tl.load(places + outliers))
        deltas = deltas + (delta * factor,)  # noqa: RUF005 (Triton knows no unpacking)
    if ELECTS:
        sign = _elected_sign(deltas, COUNTS_SIGNS, TIES_ARE_POSITIVE)
        total = _sum_of_sign(deltas, sign)
        if NORMALIZES:
            total = tl.div_rn(total, _weight_of_sign(deltas, sign, numbers + num_parents))
    else:
        total = _add_up(deltas)
        if NORMALIZES:
            total = tl.div_rn(total, tl.zeros_like(total) + tl.load(numbers + 2 * num_parents))
    if SCALES:
        total = total * tl.load(numbers + 2 * num_parents + 1)
    if USES_BASE:
        total = total + root
    if HAS_ROWS:
        row = place // width
        place = tl.load(rows + row, mask=inside, other=0) * width + (place - row * width)
    magnitude = _bits(total)
    tl.store(fault, 1, mask=tl.max(magnitude) >= LIMIT)  # outside it is 0, unless it is finite nowhere
    stored = _round(total, STORE, BY_BITS)
    if live.dtype.element_ty != STORE:
        stored = _round(_widen(stored), live.dtype.element_ty, BY_BITS)
    tl.store(live + place, stored, mask=inside & (place < num_live))


@triton.jit
def count_lower(
    base, parents, uppers, counts, num_elements, region_length, num_regions, CUTS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Count, of the magnitudes with given upper 16 bits, the lower ones: a histogram for each cut and region.

    Args:
        base: The base.
        parents: A tuple of the parents.
        uppers: int64: the upper bits for each cut; CUTS cuts of all parents, one after the other.
        counts: int32, zeros of shape (cuts, num_regions, 2**16); added to.
        region_length: Elements of a region, a multiple of BLOCK.
    """
    num_parents: tl.constexpr = len(parents)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    place = first + tl.arange(0, BLOCK)
    inside = place < num_elements
    root = _read(base, place, inside)
    for i in tl.static_range(num_parents):
        bits = _bits(_read(parents[i], place, inside) - root)
        for c in tl.static_range(CUTS):
            cut = c * num_parents + i
            is_counted = inside & ((bits >> 16) == tl.load(uppers + cut))
            there = counts + (cut * num_regions + first // region_length) * 65536
            tl.atomic_add(there + (bits & 0xFFFF), 1, mask=is_counted, sem="relaxed")


@triton.jit
def count_equal(
    base, parents, cuts, regions, counts, num_elements, region_length, BLOCK: tl.constexpr
):  # fmt: skip
    """Count, in each block of the region where a cut lies, the elements whose magnitude is the cut's.

    Args:
        base: The base.
        parents: A tuple of the parents; cut c is of parent c modulo their number.
        cuts: int32: the bits of each cut's magnitude.
        regions: int64: each cut's region.
        counts: int32 of shape (cuts, blocks of a region); written.
    """
    num_parents: tl.constexpr = len(parents)
    block, cut = tl.program_id(0), tl.program_id(1)
    place = tl.load(regions + cut) * region_length + block * BLOCK + tl.arange(0, BLOCK)
    for i in tl.static_range(num_parents):
        if cut % num_parents == i:
            is_equal = _is_equal(base, parents[i], place, tl.load(cuts + cut), num_elements)
            tl.store(counts + cut * tl.num_programs(0) + block, tl.sum(is_equal.to(tl.int32)))


@triton.jit
def find_places(base, parents, cuts, starts, numbers, places, num_elements, BLOCK: tl.constexpr):
    """Find the place after the last element of a cut's magnitude that is kept.

    Args:
        base: The base.
        parents: A tuple of the parents; cut c is of parent c modulo their number.
        cuts: int32: the bits of each cut's magnitude.
        starts: int64: the first place of the block in which that element lies.
        numbers: int64: which one of the block's elements of that magnitude it is, from 1 on.
        places: int64; written.
    """
    num_parents: tl.constexpr = len(parents)
    cut = tl.program_id(0)
    place = tl.load(starts + cut) + tl.arange(0, BLOCK)
    for i in tl.static_range(num_parents):
        if cut % num_parents == i:
            is_equal = _is_equal(base, parents[i], place, tl.load(cuts + cut), num_elements).to(tl.int32)
            is_last = (is_equal != 0) & (tl.cumsum(is_equal) == tl.load(numbers + cut))
            tl.store(places + cut, tl.sum(tl.where(is_last, place + 1, 0)))


@triton.jit
def _is_equal(base, parent, place, cut, num_elements):
    inside = place < num_elements
    return inside & (_bits(_read(parent, place, inside) - _read(base, place, inside)) == cut)


@triton.jit
def _bits(delta):
    """A magnitude's bits, which sort as the magnitudes do."""
    return delta.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _read(tensor, place, inside):
    return _widen(tl.load(tensor + place, mask=inside, other=0.0))


@triton.jit
def _widen(values):
    """As float32, exactly; of bfloat16 by its bits, of which Triton's interpreter misreads the smallest numbers'."""
    if values.dtype == tl.bfloat16:
        return (values.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:  # noqa: RET505 (Triton would go on compiling)
        return values.to(tl.float32)


@triton.jit
def _round(values, dtype: tl.constexpr, BY_BITS: tl.constexpr):
    """From float32 to the nearest value of a dtype, of two as near to the even one. A NaN may become anything."""
    if dtype == tl.bfloat16 and BY_BITS:
        bits = values.to(tl.int32, bitcast=True)
        upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return upper.to(tl.int16).to(tl.bfloat16, bitcast=True)
    else:  # noqa: RET505
        return values.to(dtype)


@triton.jit
def _words(key, first, BLOCK: tl.constexpr):
    """The masks' int32 numbers of elements first..first+BLOCK-1, `first` even: those of `masks.py`.

    Its constants stand here as they are, for what is global to a kernel is compared at each launch.
    """
    pair = tl.arange(0, BLOCK // 2).to(tl.uint64) + (first // 2 + 1).to(tl.uint64)
    z = pair * 0x9E3779B97F4A7C15 + key.to(tl.uint64, bitcast=True)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    return tl.interleave(z.to(tl.int32), (z >> 32).to(tl.int32))


@triton.jit
def _keep_largest(delta, place, cut, end):
    """Zero what is smaller than the cut, and from place `end` on what equals it."""
    bits = _bits(delta)
    return tl.where((bits > cut) | ((bits == cut) & (place < end)), delta, 0.0)


@triton.jit
def _elected_sign(deltas, COUNTS_SIGNS: tl.constexpr, TIES_ARE_POSITIVE: tl.constexpr):
    votes = _sign(deltas[0]) if COUNTS_SIGNS else deltas[0]
    for i in tl.static_range(1, len(deltas)):
        votes = votes + (_sign(deltas[i]) if COUNTS_SIGNS else deltas[i])
    sign = _sign(votes)
    return tl.where(sign == 0.0, 1.0, sign) if TIES_ARE_POSITIVE else sign


@triton.jit
def _sign(values):
    """-1, 0 or 1; 0 for a NaN, as torch's."""
    return tl.where(values > 0.0, 1.0, tl.where(values < 0.0, -1.0, 0.0))


@triton.jit
def _sum_of_sign(deltas, sign):
    total = _positive(sign * deltas[0])
    for i in tl.static_range(1, len(deltas)):
        total = total + _positive(sign * deltas[i])
    return total * sign


@triton.jit
def _positive(values):
    """At least 0; a NaN stays, and so does -0.0."""
    return tl.where(values < 0.0, 0.0, values)


@triton.jit
def _weight_of_sign(deltas, sign, weights):
    total = tl.where(sign * deltas[0] > 0.0, 1.0, 0.0) * tl.load(weights)
    for i in tl.static_range(1, len(deltas)):
        total = total + tl.where(sign * deltas[i] > 0.0, 1.0, 0.0) * tl.load(weights + i)
    return tl.where(total == 0.0, 1.0, total)


@triton.jit
def _add_up(values):
    total = values[0]
    for i in tl.static_range(1, len(values)):
        total = total + values[i]
    return total
