"""DARE's and DELLA's random masks, drawn from a counter: the same numbers in any order, in any chunks, on any device.

Element `i` of a slot depends only on (seed, parent, slot, i): a SplitMix64 sequence is started at a hash of the names,
and each of its 64-bit numbers serves two elements. Knows integers. Does not know models; no generator holds a state.

Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators, figure 17 (SplitMix64),
https://doi.org/10.1145/2660193.2660195; constants as in https://prng.di.unimi.it/splitmix64.c
"""

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def _signed(number: int) -> int:
    """Read the low 64 bits of `number` as a signed integer, since torch has no unsigned arithmetic."""
    return (number + 2**63) % 2**64 - 2**63


GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


def keep_mask(
    seed: int,
    parent: str,
    slot: str,
    shape: torch.Size,
    density: float | Tensor,
    *,
    start: int = 0,
    dtype: torch.dtype = torch.bool,
    device: torch.device | None = None,
) -> Tensor:
    """Draw which elements of a parent's slot are kept: each by itself, with probability `density`.

    Args:
        seed: The blend's seed, any integer.
        parent: The parent's name.
        slot: The slot's name.
        shape: The slot's shape, or that of a chunk of it.
        density: Probability of being kept, in (0, 1], one for all or a tensor of `shape` on `device`; rounded up to a
            multiple of 2**-32. At 1 everything is kept.
        start: The chunk's first element, counted through the slot.
        dtype: The mask's. On a CPU multiplying by float32 takes an eighth of the time that bool takes (measured 2026).
        device: Where the mask is made; its bits do not depend on it.

    Returns:
        A new tensor of `shape`, True or 1 where kept. A mask of lower density is a subset of one of higher density.
    """
    if isinstance(density, float) and math.ceil(density * 2**32) >= 2**32:
        return torch.ones(shape, dtype=dtype, device=device)
    keep = torch.empty(math.prod(shape), dtype=dtype, device=device)
    for first, words in _words(stream_key(seed, parent, slot), start, start + keep.numel(), keep.device):
        there = slice(first - start, first - start + words.numel())
        bound = _bound(density, there)
        keep[there] = words.lt(bound) if isinstance(bound, Tensor) else words.lt_(bound)
    return keep.view(shape)


def _bound(density: float | Tensor, there: slice) -> int | Tensor:
    """The number below which an element's word keeps it; of a tensor those of a part, exact in float64."""
    if isinstance(density, Tensor):
        return density.flatten()[there].double().mul_(2**32).ceil_().sub_(2**31)
    return math.ceil(density * 2**32) - 2**31


def uniform(
    seed: int, parent: str, slot: str, num_elements: int, start: int = 0, *, device: torch.device | None = None
) -> Tensor:
    """The numbers behind `keep_mask`, which keeps element `i` where number `i` is below the density.

    Returns:
        A new float64 tensor of shape (num_elements,): multiples of 2**-32 in [0, 1), for the elements from `start` on.
    """
    numbers = torch.empty(num_elements, dtype=torch.float64, device=device)
    for first, words in _words(stream_key(seed, parent, slot), start, start + num_elements, numbers.device):
        offset = first - start
        numbers[offset : offset + words.numel()] = words
    return numbers.add_(2**31).mul_(2**-32)


def stream_key(seed: int, parent: str, slot: str) -> int:
    """Where in SplitMix64's cycle the numbers of this seed, parent and slot begin: 64 bits of a hash of the three."""
    name = f"{seed}/{parent}/{slot}".encode()  # no "/" in a parent's name, so no two triples read the same
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _words(key: int, start: int, stop: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield (first element, its numbers and the next ones' as int32) in chunks that cover elements start..stop-1."""
    end = (stop + 1) // 2
    chunk = _chunk_length(device)
    steps = _steps(min(chunk, max(end - start // 2, 0)), device)
    for first_pair in range(start // 2, end, chunk):
        counter = steps[: end - first_pair] + _signed(key + (first_pair + 1) * GOLDEN)
        words = _mix(counter).view(torch.int32)  # two a 64-bit number, the low half first
        first = max(2 * first_pair, start)
        yield first, words[first - 2 * first_pair : stop - 2 * first_pair]


@lru_cache(maxsize=2)  # chunk after chunk has the same
def _steps(length: int, device: torch.device) -> Tensor:
    return torch.arange(length, device=device).mul_(_signed(GOLDEN))


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's output function, in place on int64. Returns `z`."""
    return _mix_unsigned(z) if z.device.type == "cpu" else _mix_signed(z)


def _mix_signed(z: Tensor) -> Tensor:
    """By torch, on any device: its products wrap around as unsigned ones would."""
    _xor_shifted(z, 30).mul_(MIX_1)
    _xor_shifted(z, 27).mul_(MIX_2)
    return _xor_shifted(z, 31)


def _mix_unsigned(z: Tensor) -> Tensor:
    """By numpy, on the CPU: its shifts are unsigned, and its products take half of the time (measured 2026 on one core,
    a mask and all: 1.1 ns an element, by torch 1.7)."""
    numbers = z.numpy().view(np.uint64)
    shifted = np.empty_like(numbers)
    for num_bits, factor in ((30, MIX_1), (27, MIX_2), (31, None)):
        np.right_shift(numbers, np.uint64(num_bits), out=shifted)
        np.bitwise_xor(numbers, shifted, out=numbers)
        if factor is not None:
            np.multiply(numbers, np.uint64(factor % 2**64), out=numbers)
    return z


def _xor_shifted(z: Tensor, num_bits: int) -> Tensor:
    """z ^= z >> num_bits, in place. torch shifts the sign in; the mask makes it the unsigned shift."""
    return z.bitwise_xor_((z >> num_bits).bitwise_and_(2 ** (64 - num_bits) - 1))


def _chunk_length(device: torch.device) -> int:
    """How many 64-bit numbers to make at once: what stays in each CPU core's cache (measured 2026: 2**15 is fastest,
    2.7 ns an element on one core), or enough to fill a GPU with 128 MiB."""
    return 2**15 * torch.get_num_threads() if device.type == "cpu" else 2**24
