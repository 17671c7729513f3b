"""Electing a sign for each element among several task vectors, and summing what has it.

Knows lists of float32 tensors of one shape. Does not know parents or ratios.

Source: Yadav 2023, TIES-Merging, section 3 steps 2 and 3, https://arxiv.org/abs/2306.01708
"""

from collections.abc import Sequence

from torch import Tensor


def elected_sign(deltas: Sequence[Tensor], majority: str = "total", tie: str = "drop") -> Tensor:
    """Elect each element's sign.

    Args:
        deltas: Weighted task vectors, at least one.
        majority: `total`, the sign of the sum; or `frequency`, the sign that more of the deltas have.
        tie: Where neither sign wins, `drop` elects 0, which no delta has; `positive` elects +1.

    Returns:
        A new tensor of -1, 0 and 1.
    """
    votes = [delta.sign() for delta in deltas] if majority == "frequency" else [deltas[0].clone(), *deltas[1:]]
    elected = add_up(votes).sign_()
    return elected.masked_fill_(elected == 0.0, 1.0) if tie == "positive" else elected


def sum_of_sign(deltas: Sequence[Tensor], sign: Tensor) -> Tensor:
    """Sum the deltas that have the elected sign s, element by element: s * sum_i max(s delta_i, 0).

    Returns:
        A new tensor. Where all deltas have the sign it is their sum; where s is 0 it is 0; a NaN stays NaN.

    >>> import torch
    >>> deltas = [torch.tensor([2.0, 1.0, 3.0]), torch.tensor([-1.0, 1.0, -3.0])]
    >>> sum_of_sign(deltas, elected_sign(deltas))
    tensor([2., 2., 0.])
    """
    return add_up([(sign * delta).clamp_(min=0.0) for delta in deltas]).mul_(sign)


def weight_of_sign(deltas: Sequence[Tensor], weights: Sequence[float], sign: Tensor) -> Tensor:
    """Sum the weights of the deltas that have the elected sign, element by element.

    Returns:
        A new tensor, 1 where the sum is 0, so that one can divide by it.

    >>> import torch
    >>> deltas = [torch.tensor([2.0, 1.0, 3.0]), torch.tensor([-1.0, 1.0, -3.0])]
    >>> weight_of_sign(deltas, [0.5, 0.25], elected_sign(deltas))
    tensor([0.5000, 0.7500, 1.0000])
    """
    total = add_up([(sign * delta > 0.0) * weight for delta, weight in zip(deltas, weights, strict=True)])
    return total.masked_fill_(total == 0.0, 1.0)


def add_up(tensors: Sequence[Tensor]) -> Tensor:
    """Add up tensors from left to right, into the first of them."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total
