"""A projector of LLaVA's shape: linear, activation, linear. How it is had in closed form, and how near it comes.

Knows matrices. Does not know pictures.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmmerge.backbone.ridge import Fit, Sums, fit

Pairs = tuple[Tensor, Tensor]  # features (rows, inputs) and targets (rows, outputs), float32
ROWS_AT_ONCE = 2**14


@dataclass(frozen=True)
class Alignment:
    """How near a projector's features come to the old eyes'.

    Args:
        relative_error: Squared error as a share of the targets' variance: 0 is perfect, 1 no better than a constant.
        cosine: Mean cosine per token.
    """

    relative_error: float
    cosine: float


class Projector(torch.nn.Module):
    """Two layers as wide as the language tower, with random weights, in float32.

    Args:
        inputs, outputs: Widths.
        activation: As configs of transformers name it.
    """

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        self.activation = activation
        self.linear_1, self.linear_2 = torch.nn.Linear(inputs, outputs), torch.nn.Linear(outputs, outputs)
        self.act: Any = ACT2FN[activation]

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(features)))


@torch.no_grad()
def linear_projector(fitted: Fit) -> Projector:
    """A linear map in LLaVA's shape: no activation, and a second layer that changes nothing."""
    outputs, inputs = fitted.weight.shape
    projector = Projector(inputs, outputs, "linear")
    _put(projector.linear_1, fitted)
    torch.nn.init.eye_(projector.linear_2.weight)
    torch.nn.init.zeros_(projector.linear_2.bias)
    return projector


@torch.no_grad()
def bent_projector(hidden: Fit, activation: str, train: Pairs, held_out: Pairs) -> Projector:
    """Two ridge regressions: to what goes into the old activation, and from what comes out of it to the features.

    Args:
        hidden: The first one.
        activation: The old projector's.
        train, held_out: Features and targets.
    """
    outputs, inputs = hidden.weight.shape
    projector = Projector(inputs, outputs, activation)
    _put(projector.linear_1, hidden)

    def bent(pairs: Pairs) -> Sums:
        sums = Sums(outputs, outputs)
        for x, y in zip(*(each.split(ROWS_AT_ONCE) for each in pairs), strict=True):
            sums.add(projector.act(projector.linear_1(x)), y)
        return sums

    _put(projector.linear_2, fit(bent(train), bent(held_out)))
    return projector


@torch.no_grad()
def curved_projector(linear: Projector, activation: str, train: Pairs, held_out: Pairs) -> Projector:
    """A place to begin a fit at where only a linear projector is known: its outputs, where the activation is curved.

    They are scaled to a spread of 1 and a mean of 1, go through the activation, and a ridge regression comes back.
    """
    said = linear(train[0][:ROWS_AT_ONCE])
    spread, mean = said.std(0).clamp(min=1e-6), said.mean(0)
    weight = linear.linear_1.weight / spread[:, None]
    bias = (linear.linear_1.bias - mean) / spread + 1
    return bent_projector(Fit(weight, bias, penalty=0.0, error=0.0), activation, train, held_out)


@torch.inference_mode()
def measure(projector: torch.nn.Module, pairs: Pairs, centre: Tensor) -> Alignment:
    """Measure a projector on pairs of features and targets.

    Args:
        pairs: (rows, inputs) and (rows, outputs).
        centre: The mean of the targets that it was fitted to: (outputs,).
    """
    x, y = pairs
    found = torch.cat([projector(some) for some in x.split(ROWS_AT_ONCE)])
    error = (found - y).double().square().sum() / (y - centre.to(y)).double().square().sum().clamp(min=1e-300)
    return Alignment(float(error), float(torch.nn.functional.cosine_similarity(found, y, dim=-1).mean()))


def _put(layer: torch.nn.Linear, fitted: Fit) -> None:
    layer.weight.copy_(fitted.weight)
    layer.bias.copy_(fitted.bias)
