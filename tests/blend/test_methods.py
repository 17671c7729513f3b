"""The formulas against values worked out by hand, and what each option does to them."""

import math

import pytest
import torch
from torch import Tensor

from vlmmerge.blend.methods import (
    METHODS,
    Options,
    breadcrumbs,
    breadcrumbs_ties,
    dare,
    dare_ties,
    della,
    della_ties,
    linear,
    model_stock,
    sce,
    slerp,
    task_arithmetic,
    ties,
)
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

BASE = torch.tensor([1.0, 1.0, 1.0, 1.0])
PARENTS = [torch.tensor([3.0, 2.0, 0.0, 1.0]), torch.tensor([2.0, 0.0, -1.0, 5.0])]
# Task vectors: 2, 1, -1, 0 and 1, -1, -2, 4.


def keep_all(probability: float | Tensor) -> None:
    return None


NO_DRAWS = [keep_all, keep_all]


def keep(*kept: bool):
    """A draw that keeps just these, whatever the probability."""
    return lambda probability: torch.tensor(kept)


def test_linear_is_the_weighted_mean_of_the_parents() -> None:
    blended = linear(BASE, PARENTS, [Ratio(1.0), Ratio(3.0)], NO_DRAWS)
    assert torch.equal(blended, torch.tensor([2.25, 0.5, -0.75, 4.0]))


def test_linear_without_normalize_is_the_weighted_sum() -> None:
    blended = linear(BASE, PARENTS, [Ratio(1.0), Ratio(0.5)], NO_DRAWS, Options(normalize=False))
    assert torch.equal(blended, torch.tensor([4.0, 2.0, -0.5, 3.5]))
    blended = linear(BASE, PARENTS, [Ratio(1.0), Ratio(-1.0)], NO_DRAWS, Options(normalize=False))
    assert torch.equal(blended, torch.tensor([1.0, 2.0, 1.0, -4.0]))


def test_slerp_goes_along_the_arc() -> None:
    one, other = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 3.0])
    third = slerp(BASE, [one, other], [Ratio(1.0), Ratio(0.5)], NO_DRAWS)
    assert third.tolist() == pytest.approx([2 * math.cos(math.pi / 6), 3 * math.sin(math.pi / 6)])


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.7, 1.3])
def test_slerp_of_two_unit_vectors_is_a_unit_vector(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    parents = [torch.randn(900, generator=generator) for _ in range(2)]
    parents = [parent / parent.norm() for parent in parents]
    blended = slerp(BASE, parents, [Ratio(weight), Ratio(1.0)], NO_DRAWS)
    assert blended.norm().item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "other", [torch.tensor([2.0, 2.001]), torch.tensor([-3.0, -3.0]), torch.tensor([0.0, 0.0])], ids=str
)
def test_slerp_on_a_line_is_the_plain_average(other: Tensor) -> None:
    parents, ratios = [torch.tensor([1.0, 1.0]), other], [Ratio(1.0), Ratio(0.5)]
    torch.testing.assert_close(slerp(BASE, parents, ratios, NO_DRAWS), linear(BASE, parents, ratios, NO_DRAWS))


def test_task_arithmetic_adds_weighted_task_vectors_to_the_base() -> None:
    blended = task_arithmetic(BASE, PARENTS, [Ratio(1.0), Ratio(0.5)], NO_DRAWS)
    assert torch.equal(blended, torch.tensor([3.5, 1.5, -1.0, 3.0]))


def test_ties_drops_what_disagrees_with_the_elected_sign() -> None:
    # At weight 0.5 the second task vector is 0.5, -0.5, -1, 2.
    blended = ties(BASE, PARENTS, [Ratio(1.0), Ratio(0.5)], NO_DRAWS)
    assert torch.equal(blended, torch.tensor([3.5, 2.0, -1.0, 3.0]))


def test_ties_trims_each_task_vector_before_the_election() -> None:
    # Trimmed to two: 2, 1, 0, 0 and 0, 0, -2, 4.
    blended = ties(BASE, PARENTS, [Ratio(1.0, 0.5), Ratio(0.5, 0.5)], NO_DRAWS)
    assert torch.equal(blended, torch.tensor([3.0, 2.0, 0.0, 3.0]))


def test_dare_ties_drops_by_mask_and_rescales_by_density() -> None:
    draws = [keep(True, False, True, False), keep(False, True, True, True)]
    blended = dare_ties(BASE, PARENTS, [Ratio(1.0, 0.5), Ratio(0.5, 0.25)], draws)
    assert torch.equal(blended, torch.tensor([5.0, -1.0, -5.0, 9.0]))


def test_dare_drops_by_mask_rescales_by_density_and_adds() -> None:
    # 4, 0, -2, 0 and 0, -2, -4, 8
    draws = [keep(True, False, True, False), keep(False, True, True, True)]
    ratios = [Ratio(1.0, 0.5), Ratio(0.5, 0.25)]
    assert torch.equal(dare(BASE, PARENTS, ratios, draws), torch.tensor([5.0, -1.0, -5.0, 9.0]))
    ratios = [Ratio(-1.0, 0.5), Ratio(0.5, 0.25)]
    assert torch.equal(dare(BASE, PARENTS, ratios, draws), torch.tensor([-3.0, -1.0, -1.0, 9.0]))
    assert torch.equal(dare_ties(BASE, PARENTS, ratios, draws), torch.tensor([-3.0, -1.0, -3.0, 9.0]))


def test_breadcrumbs_drops_the_largest_and_the_smallest() -> None:
    # Of four the largest goes and two stay: 0, 1, -1, 0 and, of equals the first, 1, 0, -2, 0.
    ratios = [Ratio(1.0, 0.5, gamma=0.25), Ratio(1.0, 0.5, gamma=0.25)]
    assert torch.equal(breadcrumbs(BASE, PARENTS, ratios, NO_DRAWS), torch.tensor([2.0, 2.0, -2.0, 1.0]))
    ratios = [Ratio(1.0, 0.5, gamma=0.25), Ratio(-1.0, 0.5, gamma=0.25)]
    assert torch.equal(breadcrumbs(BASE, PARENTS, ratios, NO_DRAWS), torch.tensor([0.0, 2.0, 2.0, 1.0]))
    assert torch.equal(breadcrumbs_ties(BASE, PARENTS, ratios, NO_DRAWS), torch.tensor([0.0, 2.0, 3.0, 1.0]))


def test_della_divides_each_element_by_its_own_probability() -> None:
    """Magnitudes 4, 3, 2, 1 at density 0.5 with epsilon 0.375 are kept with 0.875, 0.625, 0.375 and 0.125."""
    parent = BASE + torch.tensor([1.0, -3.0, 4.0, 2.0])
    given = []

    def draw(probability: float | Tensor) -> Tensor:
        given.append(probability)
        return torch.tensor([True, True, False, True])

    for method in (della, della_ties):
        blended = method(BASE, [parent], [Ratio(0.5, 0.5, epsilon=0.375)], [draw])
        wanted = [1 + 0.5 * 1 / 0.125, 1 - 0.5 * 3 / 0.625, 1.0, 1 + 0.5 * 2 / 0.375]
        assert blended.tolist() == pytest.approx(wanted)
        assert given.pop().tolist() == [0.125, 0.625, 0.875, 0.375]


def test_model_stock_goes_towards_the_mean_by_the_angle() -> None:
    """Task vectors (2, 0) and (2, 2): cosine c = sqrt(1/2), t = 2 c / (1 + c), mean (2, 1)."""
    base = torch.tensor([[1.0, 1.0]])
    parents = [base + torch.tensor([[2.0, 0.0]]), base + torch.tensor([[2.0, 2.0]])]
    t = 2 * math.sqrt(0.5) / (1 + math.sqrt(0.5))
    blended = model_stock(base, parents, [Ratio(1.0)] * 2, NO_DRAWS)
    assert blended[0].tolist() == pytest.approx([1 + 2 * t, 1 + t])


@pytest.mark.parametrize(
    ("deltas", "share"),
    [
        ([[3.0, 1.0], [3.0, 1.0], [3.0, 1.0]], 1.0),  # they agree: their mean
        ([[3.0, 0.0], [0.0, 2.0]], 0.0),  # at right angles: the base
        ([[3.0, 1.0], [-3.0, -1.0]], 0.0),  # they cancel out: the base
        ([[3.0, 1.0], [-6.0, -2.0]], 0.0),  # opposite ways: the base
        ([[3.0, 1.0], [0.0, 0.0]], 0.0),  # one does not move: the base
    ],
)
def test_model_stock_trusts_the_parents_as_far_as_they_agree(deltas: list[list[float]], share: float) -> None:
    base = torch.tensor([1.0, 2.0])
    moved = torch.tensor(deltas)
    blended = model_stock(base, list(base + moved), [Ratio(1.0)] * len(deltas), NO_DRAWS * 2)
    torch.testing.assert_close(blended, base + share * moved.mean(dim=0))


def test_filter_wise_model_stock_is_model_stock_of_each_row() -> None:
    generator = torch.Generator().manual_seed(0)
    base, *parents = (torch.randn(7, 30, generator=generator) for _ in range(4))
    blended = model_stock(base, parents, [Ratio(1.0)] * 3, [keep_all] * 3, Options(filter_wise=True))
    for row in range(7):
        alone = model_stock(base[row], [parent[row] for parent in parents], [Ratio(1.0)] * 3, [keep_all] * 3)
        assert torch.equal(blended[row], alone)
    assert not torch.equal(blended, model_stock(base, parents, [Ratio(1.0)] * 3, [keep_all] * 3))


def test_sce_weighs_by_squares_and_erases_the_minority() -> None:
    """Task vectors 2, 1, -1, 0 and 1, -1, -2, 4 have squares 6 and 22. The second element is balanced."""
    blended = sce(BASE, PARENTS, [Ratio(1.0), Ratio(1.0)], NO_DRAWS)
    wanted = [1 + (6 * 2 + 22 * 1) / 28, 1.0, 1 + (6 * -1 + 22 * -2) / 28, 1 + 4]
    assert blended.tolist() == pytest.approx(wanted)
    positive = sce(BASE, PARENTS, [Ratio(1.0), Ratio(1.0)], NO_DRAWS, Options(majority_sign_tie="positive"))
    assert positive.tolist() == pytest.approx([wanted[0], 2.0, *wanted[2:]])


def test_sce_blends_only_the_share_that_varies_most() -> None:
    """Differences 1, 2, 1, 4: half of them are the second and the fourth, with squares 1 and 17."""
    ratios = [Ratio(1.0), Ratio(1.0)]
    blended = sce(BASE, PARENTS, ratios, NO_DRAWS, Options(select_topk=0.5, majority_sign_tie="positive"))
    assert blended.tolist() == [1.0, 2.0, 1.0, 5.0]


def test_sces_weights_multiply_its_coefficients() -> None:
    """Squares 6 and 22 with weights 11 and 3 count the same."""
    blended = sce(BASE, PARENTS, [Ratio(11.0), Ratio(3.0)], NO_DRAWS)
    assert blended.tolist() == pytest.approx([2.5, 1.0, -0.5, 5.0])


def test_sce_refuses_weights_below_0() -> None:
    with pytest.raises(VlmMergeError) as caught:
        sce(BASE, PARENTS, [Ratio(1.0), Ratio(-0.5)], NO_DRAWS)
    assert str(caught.value) == "sce takes no weight below 0, found 1, -0.5\nhint: use weights of 0 or more, or `ties`"


@pytest.mark.parametrize("method", [linear, slerp])
def test_weights_that_sum_to_0_are_an_error_where_the_sum_divides(method) -> None:
    with pytest.raises(VlmMergeError) as caught:
        method(BASE, PARENTS, [Ratio(0.5), Ratio(-0.5)], NO_DRAWS)
    assert str(caught.value) == (
        f"{method.__name__} divides by the sum of the weights, and they sum to 0\nhint: use positive weights"
    )
    with pytest.raises(VlmMergeError, match="normalize divides by the sum of the weights, and they sum to 0"):
        task_arithmetic(BASE, PARENTS, [Ratio(0.5), Ratio(-0.5)], NO_DRAWS, Options(normalize=True))


def test_normalize_divides_by_the_sum_of_the_weights() -> None:
    blended = task_arithmetic(BASE, PARENTS, [Ratio(1.0), Ratio(3.0)], NO_DRAWS, Options(normalize=True))
    assert torch.equal(blended, torch.tensor([2.25, 0.5, -0.75, 4.0]))


def test_normalize_after_an_election_divides_by_the_weights_that_agree() -> None:
    # Weighted 2, 1, -1, 0 and 0.5, -0.5, -1, 2; a task vector of 0 agrees with nobody.
    blended = ties(BASE, PARENTS, [Ratio(1.0), Ratio(0.5)], NO_DRAWS, Options(normalize=True))
    assert blended.tolist() == pytest.approx([1 + 2.5 / 1.5, 2.0, 1 - 2.0 / 1.5, 5.0])


def test_lambda_scales_what_is_added_to_the_base() -> None:
    ratios = [Ratio(1.0), Ratio(0.5)]
    for method in (task_arithmetic, ties):
        added = method(BASE, PARENTS, ratios, NO_DRAWS) - BASE
        assert torch.equal(method(BASE, PARENTS, ratios, NO_DRAWS, Options(lambda_=0.5)), BASE + added / 2)


def test_the_majority_can_be_counted_instead_of_summed() -> None:
    base = torch.zeros(2)
    parents = [torch.tensor([1.0, 2.0]), torch.tensor([1.0, -1.0]), torch.tensor([-5.0, 0.0])]
    ratios = [Ratio(1.0)] * 3
    draws = [keep_all] * 3
    assert ties(base, parents, ratios, draws).tolist() == [-5.0, 2.0]
    counted = Options(majority_sign_method="frequency")
    assert ties(base, parents, ratios, draws, counted).tolist() == [2.0, 0.0]
    counted = Options(majority_sign_method="frequency", majority_sign_tie="positive")
    assert ties(base, parents, ratios, draws, counted).tolist() == [2.0, 2.0]


def test_rescale_false_leaves_what_dare_keeps_as_it_is() -> None:
    draws = [keep(True, False, True, False), keep(False, True, True, True)]
    blended = dare(BASE, PARENTS, [Ratio(1.0, 0.5), Ratio(0.5, 0.25)], draws, Options(rescale=False))
    assert torch.equal(blended, torch.tensor([3.0, 0.5, -1.0, 3.0]))


@pytest.mark.parametrize("rescale", [True, "l1"])
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if "rescale" in method.options])
def test_rescale_l1_keeps_each_task_vectors_norm(method: str, rescale: object) -> None:
    if rescale is True and method.startswith(("dare", "della")):
        return  # these divide by the probability instead
    generator = torch.Generator().manual_seed(0)
    base, parent = torch.zeros(9000), torch.randn(9000, generator=generator)
    mask = torch.rand(9000, generator=generator) < 0.4
    ratio = Ratio(0.5, 0.4, gamma=0.02, epsilon=0.1)
    options = Options(rescale=rescale)  # type: ignore[arg-type]
    blended = METHODS[method].function(base, [parent], [ratio], [lambda probability: mask], options)
    assert (blended == 0).sum() > 4000
    assert blended.abs().double().sum().item() == pytest.approx(0.5 * parent.abs().double().sum().item(), rel=1e-6)


@pytest.mark.parametrize(
    "fields", [{"lambda_": math.nan}, {"lambda_": math.inf}, {"select_topk": 0.0}, {"select_topk": 1.5}]
)
def test_options_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(VlmMergeError, match="no such options: lambda") as caught:
        Options(**fields)  # type: ignore[arg-type]
    assert caught.value.hint == "lambda is a finite number; select_topk is above 0 and at most 1"
