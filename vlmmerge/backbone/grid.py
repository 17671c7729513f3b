"""Feature maps between token grids: the features of one picture stand in rows from the top left.

Knows maps and their sides. Does not know what made them.
"""

import torch
from torch import Tensor

Grid = tuple[int, int]  # rows, columns


def resample(features: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Resample a map of features bilinearly; each token stands for the middle of its cell.

    Args:
        features: Shape (rows * columns, width) of the grid.
        grid: The map's rows and columns.
        wanted: The rows and columns of the result.

    Returns:
        Shape (rows * columns, width) of the wanted grid; `features` itself where the two are the same. When the wanted
        grid is coarser, cells are averaged (antialiased), so that nothing between the new tokens is lost.

    >>> resample(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), (1, 4), (1, 2)).T
    tensor([[0.7143, 2.2857]])
    """
    if grid == wanted:
        return features
    picture = features.reshape(*grid, -1).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        picture.float(), size=wanted, mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0].permute(1, 2, 0).reshape(wanted[0] * wanted[1], -1).to(features.dtype)
