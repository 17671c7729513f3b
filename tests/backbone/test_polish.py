"""A projector fitted further by gradient."""

from dataclasses import replace

import pytest
import torch

from vlmmerge.backbone.polish import DEFAULT, Whitening, polish
from vlmmerge.backbone.projector import Pairs, Projector, curved_projector, linear_projector, measure
from vlmmerge.backbone.ridge import Sums, fit


@pytest.fixture
def pairs() -> tuple[Pairs, Pairs]:
    """Targets that are a bent function of features whose scales differ a thousandfold."""
    chance = torch.Generator().manual_seed(2)
    x = torch.randn(3000, 6, generator=chance) * torch.tensor([100.0, 1.0, 0.1, 10.0, 1.0, 1.0]) + 5
    scaled = (x - 5) / torch.tensor([100.0, 1.0, 0.1, 10.0, 1.0, 1.0])
    y = torch.nn.functional.gelu(scaled @ torch.randn(6, 8, generator=chance)) @ torch.randn(8, 8, generator=chance)
    return (x[:2500], y[:2500]), (x[2500:], y[2500:])


def linear_of(pairs: tuple[Pairs, Pairs]) -> Projector:
    sums = [Sums(6, 8) for _ in pairs]
    for each, (x, y) in zip(sums, pairs, strict=True):
        each.add(x, y)
    return linear_projector(fit(sums[0], sums[1]))


def test_a_fit_beats_the_closed_form_and_never_ends_worse(pairs: tuple[Pairs, Pairs]) -> None:
    train, held_out = pairs
    centre, linear = train[1].mean(0), linear_of(pairs)
    start = curved_projector(linear, "gelu", train, held_out)
    fitted = polish(start, train, held_out, centre, replace(DEFAULT, epochs=8, rows=128, rate=3e-3))
    errors = [measure(each, held_out, centre).relative_error for each in (linear, start, fitted)]
    assert errors[2] < 0.9 * errors[0]
    wild = polish(start, train, held_out, centre, replace(DEFAULT, epochs=1, rows=128, rate=50.0))
    assert measure(wild, held_out, centre).relative_error <= errors[1]


def test_a_first_layer_undoes_the_whitening_of_its_inputs(pairs: tuple[Pairs, Pairs]) -> None:
    x = pairs[0][0]
    whitening, projector = Whitening(x), Projector(6, 8, "gelu")
    moved = whitening.moved_behind(projector)
    assert torch.allclose(moved(whitening(x)), projector(x), atol=1e-3)
    assert torch.allclose(whitening.taken_in(moved)(x), projector(x), atol=1e-3)
    covariance = torch.cov(whitening(x).T)
    assert torch.allclose(covariance, torch.diag(covariance.diag()), atol=1e-3), "uncorrelated"
    assert covariance.diag().max() < 1.01
