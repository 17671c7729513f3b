"""Where the rows of a compact tensor lie in the tensor that they are gathered from, or scattered to.

Knows numbers of rows. Does not know tokens, nor why some rows are left out.
"""

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor


def spans(rows: Tensor | None, width: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Cut elements start..stop-1 of a compact tensor into what lies side by side in the whole one.

    Args:
        rows: For each row of the compact tensor its row in the whole one, int64 of shape (rows,); None: they are one.
        width: Elements of a row.
        start: The first element, counted through the compact tensor.
        stop: The one after the last.

    Yields:
        (first, end, place): elements first..end-1 of the compact tensor lie in the whole one from `place` on.

    >>> import torch
    >>> list(spans(torch.tensor([5, 6, 2]), 10, 4, 30))
    [(4, 20, 54), (20, 30, 20)]
    """
    if rows is None:
        yield start, stop, start
        return
    if start == stop:
        return
    first_row = start // width
    taken = rows[first_row : -(-stop // width)]
    breaks = ((taken.diff() != 1).nonzero().flatten() + 1).tolist()
    for begin, end in pairwise([0, *breaks, len(taken)]):
        row = first_row + begin
        first = max(row * width, start)
        yield first, min((first_row + end) * width, stop), int(taken[begin]) * width + first - row * width
