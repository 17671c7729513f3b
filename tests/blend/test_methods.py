"""The pieces of the formulas, against values worked out by hand and against slower, plainer code."""

import pytest
import torch
from torch import Tensor

from vlmmerge.blend.methods import dare_ties, drop, kth_largest, linear, sum_agreeing, task_arithmetic, ties, trim
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

BASE = torch.tensor([1.0, 1.0, 1.0, 1.0])
PARENTS = [torch.tensor([3.0, 2.0, 0.0, 1.0]), torch.tensor([2.0, 0.0, -1.0, 5.0])]
NO_MASKS = [None, None]


def test_linear_is_the_weighted_mean_of_the_parents() -> None:
    blended = linear(BASE, PARENTS, [Ratio(1.0), Ratio(3.0)], NO_MASKS)
    assert torch.equal(blended, torch.tensor([2.25, 0.5, -0.75, 4.0]))


def test_task_arithmetic_adds_weighted_task_vectors_to_the_base() -> None:
    blended = task_arithmetic(BASE, PARENTS, [Ratio(1.0), Ratio(0.5)], NO_MASKS)
    assert torch.equal(blended, torch.tensor([3.5, 1.5, -1.0, 3.0]))


def test_ties_drops_what_disagrees_with_the_elected_sign() -> None:
    # Task vectors: 2, 1, -1, 0 and, at weight 0.5, 0.5, -0.5, -1, 2.
    blended = ties(BASE, PARENTS, [Ratio(1.0), Ratio(0.5)], NO_MASKS)
    assert torch.equal(blended, torch.tensor([3.5, 2.0, -1.0, 3.0]))


def test_ties_trims_each_task_vector_before_the_election() -> None:
    # Trimmed to two: 2, 1, 0, 0 and 0, 0, -2, 4.
    blended = ties(BASE, PARENTS, [Ratio(1.0, 0.5), Ratio(0.5, 0.5)], NO_MASKS)
    assert torch.equal(blended, torch.tensor([3.0, 2.0, 0.0, 3.0]))


def test_dare_ties_drops_by_mask_and_rescales_by_density() -> None:
    masks = [torch.tensor([True, False, True, False]), torch.tensor([False, True, True, True])]
    blended = dare_ties(BASE, PARENTS, [Ratio(1.0, 0.5), Ratio(0.5, 0.25)], masks)
    assert torch.equal(blended, torch.tensor([5.0, -1.0, -5.0, 9.0]))


def test_linear_with_weights_that_sum_to_0_is_an_error() -> None:
    with pytest.raises(VlmMergeError, match="linear divides by the sum of the weights, and they sum to 0"):
        linear(BASE, PARENTS, [Ratio(0.5), Ratio(-0.5)], NO_MASKS)


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


@pytest.mark.parametrize("count", [1, 3, 64])
def test_the_election_never_hides_a_nan(count: int) -> None:
    delta = torch.ones(count)
    delta[0] = torch.nan
    for deltas in ([delta], [delta, torch.ones(count)], [torch.ones(count), -delta, torch.zeros(count)]):
        assert sum_agreeing([d.clone() for d in deltas])[0].isnan()


def test_the_election_equals_the_definition_element_by_element() -> None:
    torch.manual_seed(0)
    deltas = [(torch.randn(500) * 3).round() for _ in range(4)]
    wanted = []
    for values in zip(*(delta.tolist() for delta in deltas), strict=True):
        total = sum(values)
        wanted.append(sum(value for value in values if value * total > 0))
    assert sum_agreeing(deltas).tolist() == wanted


def test_a_balanced_election_adds_nothing() -> None:
    assert torch.equal(sum_agreeing([torch.tensor([2.0, -2.0]), torch.tensor([-2.0, 2.0])]), torch.zeros(2))


def test_very_small_deltas_still_vote() -> None:
    """Electing by products of deltas would lose them: 1e-30 squared is 0 in float32."""
    deltas = [torch.tensor([1e-30, 1e-40]), torch.tensor([2e-30, 1e-40])]
    assert torch.equal(sum_agreeing([delta.clone() for delta in deltas]), deltas[0] + deltas[1])
