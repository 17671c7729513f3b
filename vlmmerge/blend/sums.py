"""Sums over many elements in one fixed order: the same bits on any device, with any number of threads.

torch's own reductions cut the elements by thread and by device, and so round differently. Here halves are added to
halves, element by element, in float64, in which a product of two float32 is exact.
"""

import torch
from torch import Tensor

WIDTH = 2**16  # elements in a piece that is summed by itself; another width would be another order


def dot(one: Tensor, other: Tensor) -> Tensor:
    """The scalar product of two float32 tensors of one shape: a new float64 tensor of shape ()."""
    return total(dot_parts(one, other), one.numel())


def dot_parts(one: Tensor, other: Tensor) -> Tensor:
    """The scalar products of pieces of WIDTH elements, the last one maybe shorter: a new float64 tensor, (pieces,).

    Those of a tensor that was cut at multiples of WIDTH are those of the whole tensor, joined.
    """
    one, other = one.flatten(), other.flatten()
    end = one.numel() // WIDTH * WIDTH
    pieces = dot_rows(one[:end].view(-1, WIDTH), other[:end].view(-1, WIDTH))
    if end == one.numel():
        return pieces
    return torch.cat([pieces, dot_rows(one[end:].view(1, -1), other[end:].view(1, -1))])


def total(parts: Tensor, num_elements: int) -> Tensor:
    """The sum of what `dot_parts` gave for a tensor of so many elements, joined: a new float64 tensor of shape ()."""
    num_empty = 0 if num_elements % WIDTH else 1  # an empty piece has its part in the order, too
    return _halve(torch.cat([parts, parts.new_zeros(num_empty)]).view(1, -1)).squeeze(0)


def dot_rows(one: Tensor, other: Tensor) -> Tensor:
    """The scalar products of the rows of two float32 tensors of shape (rows, n): a new float64 tensor, (rows,)."""
    at_once = max(1, _block_length(one.device) // max(one.shape[1], 1))
    sums = torch.empty(len(one), dtype=torch.float64, device=one.device)
    for first in range(0, len(one), at_once):
        rows = slice(first, first + at_once)
        sums[rows] = _halve(one[rows].double() * other[rows].double())
    return sums


def l1_norm(values: Tensor) -> Tensor:
    """The sum of the magnitudes of a float32 tensor: a new float64 tensor of shape ()."""
    return total(l1_parts(values), values.numel())


def l1_parts(values: Tensor) -> Tensor:
    """The sums of the magnitudes of pieces, as `dot_parts`."""
    return dot_parts(values, values.sign())


def _halve(values: Tensor) -> Tensor:
    """Add each row's second half to its first until one column is left. Changes `values`, of shape (rows, n)."""
    if values.shape[1] == 0:
        return values.new_zeros(len(values))
    while (length := values.shape[1]) > 1:
        half = (length + 1) // 2
        values[:, : length - half] += values[:, half:]
        values = values[:, :half]
    return values[:, 0]


def _block_length(device: torch.device) -> int:
    """How many elements to take at once, which moves no bit: what a CPU's cache holds, or enough to fill a GPU."""
    return 2**17 if device.type == "cpu" else 2**24
