"""How much of each parent, from weights and from sums over a whole slot.

Knows ratios and scalar products. Does not know the tensors that these were taken of.
"""

import math
from collections.abc import Sequence
from itertools import combinations

from torch import Tensor

from vlmmerge.blend.elect import add_up
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio


def sum_of_weights(method: str, ratios: Sequence[Ratio]) -> float:
    """The sum to divide by.

    Raises:
        VlmMergeError: It is 0.
    """
    total = math.fsum(ratio.weight for ratio in ratios)
    if total == 0.0:
        raise VlmMergeError(
            f"{method} divides by the sum of the weights, and they sum to 0",
            hint="use positive weights",
        )
    return total


def shares_of_weights(method: str, ratios: Sequence[Ratio]) -> list[float]:
    """The weights over their sum.

    Raises:
        VlmMergeError: It is 0.
    """
    total = sum_of_weights(method, ratios)
    return [ratio.weight / total for ratio in ratios]


def shares_on_arc(shares: Sequence[float], one_one: Tensor, other_other: Tensor, one_other: Tensor) -> list[float]:
    """What `slerp` multiplies either parent by, from their shares of the way and their scalar products."""
    norms = math.sqrt(one_one) * math.sqrt(other_other)
    cosine = float(one_other) / norms if norms else 1.0
    if abs(cosine) <= 0.9995:  # false for NaN, which then shows where it is
        angle = math.acos(cosine)
        return [math.sin(share * angle) / math.sin(angle) for share in shares]
    return list(shares)


def step_to_mean(squares: Sequence[Tensor], products: Sequence[Tensor]) -> Tensor:
    """Model Stock's t, from the task vectors' squares and from the scalar products of all pairs of them."""
    norms, count = [square.sqrt() for square in squares], len(squares)
    scales = [one * other for one, other in combinations(norms, 2)]
    cosines = [
        (product / scale.masked_fill(scale == 0.0, 1.0)).clamp_(-1.0, 1.0)
        for product, scale in zip(products, scales, strict=True)
    ]
    cosine = add_up(cosines) / cosines[0].new_tensor(len(cosines))  # a tensor: see `methods.py`
    denominator = cosine * (count - 1) + 1.0
    return (cosine * count / denominator).masked_fill_(denominator.abs() < 1e-6, 0.0)


def shares_of_energy(ratios: Sequence[Ratio], squares: Sequence[Tensor]) -> list[float]:
    """SCE's coefficients, from the squares of what is selected of the task vectors; they sum to 1, or are all 0.

    Raises:
        VlmMergeError: A weight below 0.
    """
    if min(ratio.weight for ratio in ratios) < 0.0:
        raise VlmMergeError(
            f"sce takes no weight below 0, found {', '.join(f'{ratio.weight:g}' for ratio in ratios)}",
            hint="use weights of 0 or more, or `ties`",
        )
    energies = [ratio.weight * float(square) for square, ratio in zip(squares, ratios, strict=True)]
    total = math.fsum(energies) or 1.0  # 0: nothing is selected, and nothing added
    return [energy / total for energy in energies]
