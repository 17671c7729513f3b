"""Ridge regression from streamed sums, and maps resampled."""

import pytest
import torch

from vlmmerge.backbone.grid import resample
from vlmmerge.backbone.ridge import Sums, fit, relative_error


def sums_of(x: torch.Tensor, y: torch.Tensor, parts: int = 3) -> Sums:
    sums = Sums(x.shape[1], y.shape[1])
    for some_x, some_y in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
        sums.add(some_x, some_y)
    return sums


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(3)
    x = torch.randn(200, 5, generator=chance, dtype=torch.float64) * torch.tensor([1.0, 9.0, 0.1, 3.0, 1.0]) + 4
    y = x @ torch.randn(5, 3, generator=chance, dtype=torch.float64) + torch.tensor([1.0, -2.0, 30.0])
    return x, y + 0.1 * torch.randn(200, 3, generator=chance, dtype=torch.float64)


def test_a_linear_map_is_found_again(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = pairs
    weight, bias = torch.arange(15.0, dtype=torch.float64).reshape(3, 5), torch.tensor([5.0, 0.0, -1.0]).double()
    found = fit(sums_of(x[:150], x[:150] @ weight.T + bias), sums_of(x[150:], x[150:] @ weight.T + bias))
    assert torch.allclose(found.weight, weight, atol=1e-3) and torch.allclose(found.bias, bias, atol=1e-2)
    assert found.error < 1e-9


def test_streamed_sums_give_the_solution_of_the_normal_equations(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    """With one penalty: (X^T X + n lambda I) W = X^T Y on centred data, lambda a share of the inputs' mean variance."""
    x, y = pairs
    found = fit(sums_of(x, y, 7), sums_of(x, y), [0.1])
    centred, wanted = x - x.mean(0), y - y.mean(0)
    penalty = 0.1 * centred.square().mean(0).mean() * len(x)
    weight = torch.linalg.solve(centred.T @ centred + penalty * torch.eye(5).double(), centred.T @ wanted).T
    assert torch.allclose(found.weight, weight)
    assert torch.allclose(found.bias, y.mean(0) - weight @ x.mean(0))


def test_the_error_from_sums_is_that_of_the_rows(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = pairs
    weight, bias, centre = torch.ones(3, 5).double(), torch.zeros(3).double(), y.mean(0)
    direct = (x @ weight.T + bias - y).square().sum() / (y - centre).square().sum()
    assert relative_error(weight, bias, sums_of(x, y), centre) == pytest.approx(float(direct))


def test_the_penalty_is_the_best_on_held_out_pairs(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = pairs
    train, held_out = sums_of(x[:8], y[:8]), sums_of(x[8:], y[8:])
    errors = [fit(train, held_out, [penalty]).error for penalty in (1e-6, 1e-2, 1.0)]
    assert fit(train, held_out, [1e-6, 1e-2, 1.0]).error == min(errors)


def test_sums_of_some_columns_are_those_of_these_columns(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = pairs
    inputs = torch.tensor([4, 0, 2])
    part, direct = sums_of(x, y).part(inputs, slice(1, 3)), sums_of(x[:, inputs], y[:, 1:3])
    for name in ("count", "x", "y", "xx", "xy", "yy"):
        assert torch.allclose(torch.as_tensor(getattr(part, name)), torch.as_tensor(getattr(direct, name))), name


def test_inputs_that_never_change_do_no_harm(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, y = pairs
    found = fit(sums_of(torch.ones(200, 2), y), sums_of(torch.ones(200, 2), y))
    assert found.weight.isfinite().all() and found.error == pytest.approx(1.0)


def test_a_map_resampled_keeps_its_mean_and_its_directions() -> None:
    ramp = torch.linspace(0, 1, 6).repeat(6, 1).reshape(-1, 1)
    for side in (3, 4, 8, 12):
        smaller = resample(ramp, (6, 6), (side, side)).reshape(side, side)
        assert float(smaller.mean()) == pytest.approx(0.5, abs=1e-5)
        assert (smaller.diff(dim=1) > 0).all() and smaller.diff(dim=0).abs().max() < 1e-6
    assert resample(ramp, (6, 6), (6, 6)) is ramp
