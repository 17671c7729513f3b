"""The election of signs, against its definition element by element."""

import pytest
import torch
from torch import Tensor

from vlmmerge.blend.elect import elected_sign, sum_of_sign, weight_of_sign


def agreeing(deltas: list[Tensor], majority: str = "total", tie: str = "drop") -> Tensor:
    return sum_of_sign(deltas, elected_sign(deltas, majority, tie))


@pytest.mark.parametrize("count", [1, 3, 64])
def test_the_election_never_hides_a_nan(count: int) -> None:
    delta = torch.ones(count)
    delta[0] = torch.nan
    for deltas in ([delta], [delta, torch.ones(count)], [torch.ones(count), -delta, torch.zeros(count)]):
        assert agreeing([d.clone() for d in deltas])[0].isnan()


def test_the_election_equals_the_definition_element_by_element() -> None:
    torch.manual_seed(0)
    deltas = [(torch.randn(500) * 3).round() for _ in range(4)]
    wanted = []
    for values in zip(*(delta.tolist() for delta in deltas), strict=True):
        total = sum(values)
        wanted.append(sum(value for value in values if value * total > 0))
    assert agreeing(deltas).tolist() == wanted


def test_a_balanced_election_adds_nothing() -> None:
    assert torch.equal(agreeing([torch.tensor([2.0, -2.0]), torch.tensor([-2.0, 2.0])]), torch.zeros(2))


def test_very_small_deltas_still_vote() -> None:
    """Electing by products of deltas would lose them: 1e-30 squared is 0 in float32."""
    deltas = [torch.tensor([1e-30, 1e-40]), torch.tensor([2e-30, 1e-40])]
    assert torch.equal(agreeing([delta.clone() for delta in deltas]), deltas[0] + deltas[1])


@pytest.mark.parametrize("majority", ["total", "frequency"])
@pytest.mark.parametrize("tie", ["drop", "positive"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_election_equals_its_definition(majority: str, tie: str, count: int) -> None:
    torch.manual_seed(count)
    deltas = [(torch.randn(500) * 2).round() for _ in range(count)]
    weights = [0.5, 0.25, 2.0, 1.0][:count]
    sums, divisors = [], []
    for values in zip(*(delta.tolist() for delta in deltas), strict=True):
        votes = values if majority == "total" else [(value > 0) - (value < 0) for value in values]
        elected = sum(votes) or (1 if tie == "positive" else 0)
        sums.append(sum(value for value in values if value * elected > 0))
        divisor = sum(weight for value, weight in zip(values, weights, strict=True) if value * elected > 0)
        divisors.append(divisor or 1.0)
    sign = elected_sign(deltas, majority, tie)
    assert sum_of_sign(deltas, sign).tolist() == sums
    assert weight_of_sign(deltas, weights, sign).tolist() == divisors


def test_an_election_changes_no_delta() -> None:
    deltas = [torch.tensor([2.0, -1.0]), torch.tensor([-1.0, 3.0])]
    for majority in ("total", "frequency"):
        weight_of_sign(deltas, [1.0, 2.0], elected_sign(deltas, majority, "positive"))
        agreeing(deltas, majority)
    assert [delta.tolist() for delta in deltas] == [[2.0, -1.0], [-1.0, 3.0]]


@pytest.mark.parametrize("majority", ["total", "frequency"])
def test_a_nan_survives_every_election(majority: str) -> None:
    deltas = [torch.tensor([torch.nan, 1.0]), torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0])]
    assert agreeing(deltas, majority, "positive").isnan().tolist() == [True, False]
