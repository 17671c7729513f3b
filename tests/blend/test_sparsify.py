"""Making task vectors sparse, against slower, plainer code, and what is promised of random pruning, statistically."""

import math

import pytest
import torch
from torch import Tensor

from vlmmerge.blend.masks import keep_mask
from vlmmerge.blend.sparsify import (
    drop,
    keep_band,
    keep_most_varied,
    keep_probability,
    kth_largest,
    trim,
    with_l1_norm_of,
)


def plain_trim(delta: Tensor, density: float) -> Tensor:
    """Sort by magnitude, the lowest index first among equals, and keep the first int(density * n)."""
    flat = delta.flatten().tolist()
    kept = sorted(range(len(flat)), key=lambda i: (-abs(flat[i]), i))[: int(density * len(flat))]
    trimmed = [0.0] * len(flat)
    for i in kept:
        trimmed[i] = flat[i]
    return torch.tensor(trimmed).view(delta.shape)


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 8), (150, 151)])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.77, 0.999, 1.0])
def test_trim_equals_sorting_also_where_many_magnitudes_are_equal(shape: tuple[int, ...], density: float) -> None:
    torch.manual_seed(0)
    smooth = torch.randn(shape)
    coarse = (torch.randn(shape) * 2).round()
    for delta in (smooth, coarse, torch.zeros(shape), torch.ones(shape), smooth * 1e-42):
        assert torch.equal(trim(delta.clone(), density), plain_trim(delta, density))


def test_trim_takes_any_memory_layout() -> None:
    delta = (torch.randn(6, 9, generator=torch.Generator().manual_seed(0)) * 2).round().t()
    assert torch.equal(trim(delta.clone(memory_format=torch.preserve_format), 0.4), plain_trim(delta, 0.4))


@pytest.mark.parametrize("count", [1, 2, 100, 20_000, 70_001])
def test_kth_largest_equals_sorting(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    spread = torch.randn(count, generator=generator).abs().pow(8)  # over many bins of the histogram
    narrow = torch.rand(count, generator=generator) * 1e-3 + 1.0  # all in one or two bins
    for magnitudes in (spread, narrow, (spread * 3).round()):
        ordered = magnitudes.sort(descending=True).values
        for k in {1, count // 3 + 1, count // 2 + 1, count}:
            assert kth_largest(magnitudes, k).item() == ordered[k - 1].item()


@pytest.mark.parametrize("count", [30, 20_000])
@pytest.mark.parametrize("density", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("num_bad", [1, 20])
def test_trim_never_hides_a_nan(count: int, density: float, num_bad: int) -> None:
    delta = torch.randn(count, generator=torch.Generator().manual_seed(0))
    delta[3 : 3 + num_bad] = torch.nan
    assert trim(delta, density).isnan().sum() == num_bad


def test_drop_never_hides_a_nan() -> None:
    delta = drop(torch.tensor([torch.nan, torch.nan, 1.0]), torch.tensor([True, False, False]))
    assert delta.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 8), (150, 151)])
@pytest.mark.parametrize("density", [0.01, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.2, 1.0])
def test_a_band_is_what_is_left_of_a_trim_without_the_largest(
    shape: tuple[int, ...], density: float, gamma: float
) -> None:
    torch.manual_seed(0)
    for delta in (torch.randn(shape), (torch.randn(shape) * 2).round(), torch.zeros(shape)):
        flat, count = delta.flatten().tolist(), delta.numel()
        ranked = sorted(range(count), key=lambda i: (-abs(flat[i]), i))
        num_kept = int(density * count)
        first = min(int(gamma * count), count - num_kept)
        wanted = torch.zeros(count)
        for i in ranked[first : first + num_kept]:
            wanted[i] = flat[i]
        assert torch.equal(keep_band(delta.clone(), density, gamma), wanted.view(shape))


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_a_band_never_hides_a_nan(density: float) -> None:
    delta = torch.randn(30, generator=torch.Generator().manual_seed(0))
    delta[3:5] = torch.nan
    assert keep_band(delta, density, 0.1).isnan().sum() == 2


@pytest.mark.parametrize("shape", [(2,), (7,), (1, 9), (40, 33), (3, 4, 5)])
@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.25), (0.3, 0.1), (0.9, 0.1), (0.7, 0.01)])
def test_keep_probabilities_go_in_equal_steps_of_rank_within_each_row(
    shape: tuple[int, ...], density: float, epsilon: float
) -> None:
    delta = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 5).round()  # with equal magnitudes
    probability = keep_probability(delta, density, epsilon)
    assert isinstance(probability, Tensor)
    assert probability.shape == shape
    num_rows = shape[0] if len(shape) > 1 else 1
    rows, found = delta.reshape(num_rows, -1).tolist(), probability.reshape(num_rows, -1).tolist()
    for row, of_row in zip(rows, found, strict=True):
        ranked = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))
        for rank, i in enumerate(ranked):
            assert of_row[i] == pytest.approx(density + epsilon - 2 * epsilon * rank / (len(row) - 1), abs=1e-7)


@pytest.mark.parametrize(
    ("density", "epsilon", "low", "high"),
    [(0.5, 0.2, 0.3, 0.7), (0.9, 0.3, 0.8, 1.0), (0.1, 0.5, 2**-32, 0.2), (0.5, 0.5, 2**-32, 1.0)],
)
def test_a_spread_that_would_leave_0_to_1_narrows_around_the_density(
    density: float, epsilon: float, low: float, high: float
) -> None:
    probability = keep_probability(torch.arange(1001.0), density, epsilon)
    assert isinstance(probability, Tensor)
    assert probability.min().item() == pytest.approx(low, abs=1e-7)
    assert probability.min().item() > 0.0
    assert probability.max().item() == pytest.approx(high, abs=1e-7)
    assert probability.double().mean().item() == pytest.approx(density, abs=1e-6)


@pytest.mark.parametrize(
    ("delta", "density", "epsilon"),
    [
        (torch.arange(9.0), 0.4, 0.0),
        (torch.arange(9.0), 1.0, 0.3),
        (torch.ones(1), 0.4, 0.3),
        (torch.ones(5, 1), 0.4, 0.3),
    ],
)
def test_without_a_spread_all_are_kept_with_the_density(delta: Tensor, density: float, epsilon: float) -> None:
    assert keep_probability(delta, density, epsilon) == density


def test_keep_probabilities_do_not_depend_on_how_many_rows_are_sorted_at_once() -> None:
    delta = (torch.randn(1100, 1500, generator=torch.Generator().manual_seed(0)) * 20).round()
    whole = keep_probability(delta, 0.4, 0.2)
    for first in (0, 698, 699, 1099):
        row = keep_probability(delta[first], 0.4, 0.2)
        assert isinstance(whole, Tensor) and isinstance(row, Tensor)
        assert torch.equal(whole[first], row)


@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.3), (0.2, 0.15), (0.8, 0.2)])
def test_magnitude_pruning_keeps_the_density_the_mean_and_rather_the_large(density: float, epsilon: float) -> None:
    """Over 400 rows of 500, within four standard deviations."""
    delta = torch.randn(400, 500, generator=torch.Generator().manual_seed(0)).abs() + 1.0
    probability = keep_probability(delta, density, epsilon)
    assert isinstance(probability, Tensor)
    kept = keep_mask(3, "ja", "layers.0.mlp.up_proj.weight", delta.shape, probability)
    spread = math.sqrt((probability * (1 - probability)).sum().item()) / delta.numel()
    assert kept.double().mean().item() == pytest.approx(density, abs=4 * spread)
    ranks = delta.argsort(dim=1).argsort(dim=1)
    for tenth in range(10):
        chosen = (ranks >= 50 * tenth) & (ranks < 50 * (tenth + 1))
        wanted = probability[chosen].double().mean().item()
        assert wanted == pytest.approx(density + epsilon * (2 * tenth + 1 - 10) / 10, abs=0.003)
        assert kept[chosen].double().mean().item() == pytest.approx(wanted, abs=4 * 0.5 / math.sqrt(20_000))
    rescaled = (delta * kept / probability).double()
    spread = ((delta**2 * (1 - probability) / probability).double().sum() / delta.numel() ** 2).sqrt().item()
    assert rescaled.mean().item() == pytest.approx(delta.double().mean().item(), abs=4 * spread)


def test_the_most_varied_elements_are_kept_in_every_parent() -> None:
    deltas = [torch.tensor([1.0, 5.0, 2.0, 0.0, 3.0]), torch.tensor([1.0, -5.0, 2.5, 1.0, 3.0])]
    keep_most_varied(deltas, 0.67)  # three of the five vary
    assert deltas[0].tolist() == [0.0, 5.0, 0.0, 0.0, 0.0]
    assert deltas[1].tolist() == [0.0, -5.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_selection_by_variation_equals_sorting_by_variance(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    deltas = [torch.randn(40, 41, generator=generator) for _ in range(count)]
    before = torch.stack(deltas)
    keep_most_varied(deltas, 0.3)
    order = before.double().var(dim=0, unbiased=False).flatten().argsort(descending=True)
    wanted = torch.zeros(40 * 41, dtype=torch.bool)
    wanted[order[: int(0.3 * 40 * 41)]] = True
    for delta, whole in zip(deltas, before, strict=True):
        assert torch.equal(delta, whole * wanted.view(40, 41))


def test_all_of_it_is_selected_at_1_even_where_nothing_varies() -> None:
    deltas = [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])]
    keep_most_varied(deltas, 1.0)
    assert [delta.tolist() for delta in deltas] == [[1.0, 2.0], [1.0, 3.0]]


def test_selection_never_hides_a_nan() -> None:
    deltas = [torch.randn(30, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    deltas[1][4] = torch.nan
    keep_most_varied(deltas, 0.1)
    assert deltas[1][4].isnan()


def test_the_factor_gives_the_sparse_vector_the_l1_norm_that_it_had() -> None:
    delta = torch.randn(70_000, generator=torch.Generator().manual_seed(0))
    norm = delta.abs().double().sum().item()
    trimmed, factor = with_l1_norm_of(lambda whole: trim(whole, 0.3), delta)
    assert (trimmed * factor).abs().double().sum().item() == pytest.approx(norm, rel=1e-6)
    assert with_l1_norm_of(lambda whole: whole.mul_(0.0), torch.ones(3))[1] == 1.0
