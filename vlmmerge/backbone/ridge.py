"""Ridge regression in closed form from streamed sums: memory does not grow with the number of pictures.

Knows sums of products, in float64. Does not know what the numbers are features of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Sums:
    """What ridge regression must know of pairs (x, y): sums over pairs, of x, y, their products and the squares of y.

    Args:
        num_inputs, num_outputs: Widths of x and y.
    """

    num_inputs: int
    num_outputs: int
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=self.device)

        self.count = 0
        self.x, self.y = zeros(self.num_inputs), zeros(self.num_outputs)
        self.xx = zeros(self.num_inputs, self.num_inputs)
        self.xy = zeros(self.num_inputs, self.num_outputs)
        self.yy = zeros(self.num_outputs)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add pairs, in place.

        Args:
            x: Shape (pairs, inputs), any float dtype.
            y: Shape (pairs, outputs).
        """
        x, y = x.to(self.xx), y.to(self.xx)  # float64 on the sums' device
        self.count += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += y.square().sum(0)

    def part(self, inputs: Tensor, outputs: slice) -> "Sums":
        """The sums of the same pairs with some of the inputs and outputs only, new.

        Args:
            inputs: Which: int64.
            outputs: Which.
        """
        some = Sums(len(inputs), len(range(self.num_outputs)[outputs]), self.device)
        some.count, some.y, some.yy = self.count, self.y[outputs], self.yy[outputs]
        some.x, some.xx, some.xy = self.x[inputs], self.xx[inputs][:, inputs], self.xy[inputs][:, outputs]
        return some


@dataclass(frozen=True, eq=False)
class Fit:
    """A linear map y = x weight^T + bias.

    Args:
        weight: Shape (outputs, inputs), float64.
        bias: Shape (outputs,).
        penalty: The penalty that was taken, a share of the inputs' mean variance.
        error: Squared error on held-out pairs, as a share of their variance around the training mean of y: 0 is
            perfect, 1 no better than a constant.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    error: float


PENALTIES = tuple(10.0**exponent for exponent in range(-8, 3))


def fit(train: Sums, held_out: Sums, penalties: Sequence[float] = PENALTIES) -> Fit:
    """The ridge regression whose penalty is best on held-out pairs; the bias is not penalised.

    Args:
        train: At least one pair.
        held_out: At least one pair, of other pictures.
        penalties: Shares of the mean variance of the inputs, tried in turn.

    Source: Hoerl 1970, Ridge Regression: Biased Estimation for Nonorthogonal Problems, eq. 2.1; one eigendecomposition
    of the covariance serves all penalties.
    """
    x_mean, y_mean = train.x / train.count, train.y / train.count
    covariance = train.xx / train.count - torch.outer(x_mean, x_mean)
    cross = train.xy / train.count - torch.outer(x_mean, y_mean)
    values, vectors = torch.linalg.eigh(covariance)
    # Directions in which the inputs never move hold rounding errors alone: nothing is to be learnt from them.
    noise = 10 * torch.finfo(torch.float64).eps * (x_mean @ x_mean + covariance.trace())
    rotated = torch.where(values > noise, 1.0, 0.0)[:, None] * (vectors.T @ cross)
    values = values.clamp(min=0)
    scale = values.mean().clamp(min=torch.finfo(torch.float64).tiny)

    def solve(penalty: float) -> Fit:
        weight = (vectors @ (rotated / (values + penalty * scale)[:, None])).T
        bias = y_mean - weight @ x_mean
        return Fit(weight, bias, penalty, relative_error(weight, bias, held_out, y_mean))

    return min(map(solve, penalties), key=lambda found: found.error)


def relative_error(weight: Tensor, bias: Tensor, pairs: Sums, centre: Tensor) -> float:
    """Squared error of a map on pairs of which only the sums are known, as a share of the variance around it."""
    squared = (
        pairs.yy.sum()
        - 2 * (weight * pairs.xy.T).sum()
        - 2 * bias @ pairs.y
        + ((weight @ pairs.xx) * weight).sum()
        + 2 * bias @ (weight @ pairs.x)
        + pairs.count * bias @ bias
    )
    spread = pairs.yy.sum() - 2 * centre @ pairs.y + pairs.count * centre @ centre
    return float(squared / spread.clamp(min=torch.finfo(torch.float64).tiny))
