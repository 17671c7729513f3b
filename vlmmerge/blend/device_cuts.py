"""Where TIES and Breadcrumbs cut, found on the device for any density, exactly, with no word to the host.

A table made once for each parent and slot counts the upper 16 bits of the task vector's magnitudes: it tells in which
bin a cut lies. One kernel then counts the lower 16 bits within the bin, in regions of the slot, and so finds the cut's
magnitude; another looks at one region only, for the place from which on that very magnitude is dropped. Knows tensors
and ranks. Does not know ratios. Needs Triton.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmmerge.blend import kernels

# Elements of a program: eight for each of its threads, so that each reads 16 bytes of bfloat16 at once.
BLOCK = 2048
IS_INTERPRETED = type(kernels.blend).__name__ == "InterpretedFunction"
LAUNCH = {"num_warps": 8, "enable_fp_fusion": False}
# More regions mean less to look at again and fewer additions at one address, but 256 KiB of counts each.
SMALLEST_REGION, MOST_REGIONS = 2**18, 64
COUNTED_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class Cuts:
    """What to keep of task vectors: magnitudes above `bits`, and of those that equal it the ones before `places`.

    Args:
        bits: int32 of shape (cuts,), a float32 magnitude's.
        places: int64 of shape (cuts,).
    """

    bits: Tensor
    places: Tensor


def make_table(base: Tensor, parent: Tensor) -> Tensor:
    """Count the task vector's magnitudes up to each upper half.

    Returns:
        A new int64 tensor of shape (2**15 + 1,): how many are below number i * 2**16 as bits; 256 KiB.
    """
    counts = torch.zeros(2**15, dtype=torch.int64, device=base.device)
    base, parent = base.reshape(-1), parent.reshape(-1)
    for start in range(0, base.numel(), COUNTED_AT_ONCE):
        part = slice(start, start + COUNTED_AT_ONCE)
        bits = (parent[part].float() - base[part].float()).abs_().view(torch.int32)
        counts += torch.bincount(bits >> 16, minlength=2**15)
    return _up_to(counts)


def find_cuts(base: Tensor, parents: Sequence[Tensor], tables: Sequence[Tensor], num_kept: Tensor) -> Cuts:
    """Find the cuts that keep the largest magnitudes of task vectors; among equal ones the first are kept.

    Args:
        base: The base's slot, contiguous.
        parents: The parents', likewise.
        tables: Each parent's from `make_table`.
        num_kept: How many elements to keep, from 0 to all: int64 on the device, one for each parent, then maybe more of
            that number; cut c is of parent c modulo their number.

    Returns:
        New tensors. To keep all, the smallest magnitude's last place; to keep none, the largest bits that there are.
    """
    num_elements, num_cuts = base.numel(), num_kept.numel()
    tables_of_cuts = torch.stack(list(tables)).repeat(num_cuts // len(parents), 1)
    length, num_regions = _regions(num_elements)
    upper, below = _search(tables_of_cuts, num_elements - num_kept + 1)
    counts = torch.zeros(num_cuts, num_regions, 2**16, dtype=torch.int32, device=base.device)
    kernels.count_lower[(-(-num_elements // BLOCK),)](
        base,
        tuple(parents),
        upper,
        counts,
        num_elements,
        length,
        num_regions,
        num_cuts // len(parents),
        BLOCK,
        **LAUNCH,
    )
    up_to_lower = _up_to(counts.sum(1))
    lower, _ = _search(up_to_lower, num_elements - num_kept + 1 - below)
    num_larger = num_elements - below - up_to_lower.gather(1, lower[:, None] + 1).squeeze(1)
    bits = (upper << 16 | lower).to(torch.int32)
    of_regions = counts.gather(2, lower.view(-1, 1, 1).expand(-1, num_regions, 1)).squeeze(2)
    places = _find_places(base, tuple(parents), bits, _up_to(of_regions), num_kept - num_larger)
    return Cuts(bits, places)


def _find_places(base: Tensor, parents: tuple[Tensor, ...], bits: Tensor, up_to: Tensor, num_equal: Tensor) -> Tensor:
    """The places after the `num_equal`-th element of each cut's magnitude; `up_to` counts these before each region."""
    num_elements, num_cuts = base.numel(), len(bits)
    length, _ = _regions(num_elements)
    region, before = _search(up_to, num_equal)
    counts = torch.zeros(num_cuts, length // BLOCK, dtype=torch.int32, device=base.device)
    grid = (length // BLOCK, num_cuts)
    kernels.count_equal[grid](base, parents, bits, region, counts, num_elements, length, BLOCK, **LAUNCH)
    block, before_block = _search(_up_to(counts), num_equal - before)
    places = torch.zeros(num_cuts, dtype=torch.int64, device=base.device)
    starts, numbers = region * length + block * BLOCK, num_equal - before - before_block
    kernels.find_places[(num_cuts,)](base, parents, bits, starts, numbers, places, num_elements, BLOCK, **LAUNCH)
    return places


def _regions(num_elements: int) -> tuple[int, int]:
    """The length of a slot's regions, a multiple of BLOCK, and their number."""
    length = max(SMALLEST_REGION, -(-num_elements // MOST_REGIONS))
    length = -(-length // BLOCK) * BLOCK
    return length, -(-num_elements // length)


def _up_to(counts: Tensor) -> Tensor:
    """Of counts of shape (..., n) the sums of the first 0, 1, ... n: int64 of shape (..., n + 1)."""
    return torch.nn.functional.pad(counts.cumsum(-1), (1, 0))


def _search(up_to: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """In which bin of each row its element of a rank lies, from 1 on, and how many lie before that bin: (rows,) each.

    A rank that no element has gives a bin that there is.
    """
    wanted = rank.to(up_to.dtype)[:, None]
    bins = (torch.searchsorted(up_to, wanted) - 1).clamp_(0, up_to.shape[1] - 2)
    return bins.squeeze(1), up_to.gather(1, bins).squeeze(1).long()
