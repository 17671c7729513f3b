"""mergekit as an oracle: the same tensors, ratios and options give the same blend, and where not, what differs.

Its methods are called as its command line calls them, in float32 (`dtype: float32`), on random tensors. Random masks
come from the same numbers: what mergekit asks of `torch.bernoulli` is answered from the counter.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from mergekit.merge_methods import registry
from mergekit.merge_methods.base import TensorGroup
from mergekit.merge_methods.generalized_task_arithmetic import get_mask
from torch import Tensor

from vlmmerge.blend import METHODS, Options, blend_slot
from vlmmerge.blend.elect import elected_sign, sum_of_sign
from vlmmerge.blend.masks import uniform
from vlmmerge.genome import Ratio

SLOT = "layers.3.mlp.gate_proj.weight"
NAMES = ("vlm", "ja", "en")
SHAPES = [(64,), (64, 33), (130, 131)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NUM_SEEDS = 3

THEIR_NAME = {"dare": "dare_linear", "della": "della_linear", "della_ties": "della"}
"""Where mergekit calls a method otherwise."""

AS_MERGEKIT = Options(majority_sign_tie="positive")

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def family(shape: tuple[int, ...], dtype: torch.dtype, seed: int, count: int = 3) -> tuple[Tensor, list[Tensor]]:
    """A base and its descendants, which share a part of their way."""
    generator = torch.Generator().manual_seed(seed)
    base, shared, *own = (torch.randn(shape, generator=generator) for _ in range(count + 2))
    return base.to(dtype), [(base + 0.3 * shared + 0.4 * step).to(dtype) for step in own]


def families(dtype: torch.dtype, count: int = 3) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
    """Every shape with several seeds: seed, base and descendants."""
    for shape, seed in product(SHAPES, range(NUM_SEEDS)):
        yield seed, *family(shape, dtype, seed, count)


def some_ratios(seed: int, lowest_weight: float = 0.1, count: int = 3) -> list[Ratio]:
    rng = random.Random(seed)
    return [
        Ratio(rng.uniform(lowest_weight, 1.5), rng.uniform(0.2, 0.8), rng.uniform(0.0, 0.2), rng.uniform(0.01, 0.19))
        for _ in range(count)
    ]


def ours(
    method: str, base: Tensor, parents: list[Tensor], ratios: list[Ratio], options: Options, seed: int = 0
) -> Tensor:
    of_parents = dict(zip(NAMES, parents, strict=False))
    of_ratios = dict(zip(of_parents, ratios, strict=True))
    return blend_slot(method, base, of_parents, of_ratios, seed=seed, slot=SLOT, options=options)


def theirs(
    name: str,
    tensors: list[Tensor],
    *,
    base_index: int | None = 0,
    dtype: torch.dtype | None = torch.float32,
    **parameters: Any,
) -> Tensor:
    group = TensorGroup.from_tensors(tensors, base_index=base_index)
    parameters = {key.rstrip("_"): value for key, value in parameters.items()}
    (merged,) = registry.get(name)([group], parameters=parameters, dtype=dtype)
    return merged


def theirs_of(method: str, base: Tensor, parents: list[Tensor], ratios: list[Ratio], **shared: Any) -> Tensor:
    """mergekit's method of that kind with the same ratios; shared parameters are as given or mergekit's defaults."""
    of_parents = {
        parameter: [getattr(ratio, parameter) for ratio in ratios] for parameter in METHODS[method].parameters
    }
    return theirs(THEIR_NAME.get(method, method), [base, *parents], **of_parents, **shared)


def assert_agree(one: Tensor, other: Tensor, where: Tensor | None = None, tolerance: float = 3e-6) -> None:
    chosen = torch.ones_like(one, dtype=torch.bool) if where is None else where
    assert chosen.double().mean() > 0.95
    torch.testing.assert_close(one[chosen], other[chosen], rtol=tolerance, atol=tolerance)


def uncontested(base: Tensor, parents: list[Tensor], ratios: list[Ratio], *, with_gamma: bool = False) -> Tensor:
    """Where no parent's magnitude equals a bound of what is kept: of several equals mergekit keeps any."""
    clear = torch.ones(base.shape, dtype=torch.bool)
    for parent, ratio in zip(parents, ratios, strict=True):
        magnitudes = (parent.float() - base.float()).abs()
        ordered = magnitudes.flatten().sort(descending=True).values
        num_kept, num_all = int(ratio.density * len(ordered)), len(ordered)
        first = min(int(ratio.gamma * num_all), num_all - num_kept) if with_gamma else 0
        for bound in (first, first + num_kept):
            if 0 < bound < num_all and ordered[bound - 1] == ordered[bound]:
                clear &= magnitudes != ordered[bound]
    return clear


@every_dtype
@pytest.mark.parametrize("normalize", [True, False])
def test_linear(dtype: torch.dtype, normalize: bool) -> None:
    for seed, base, parents in families(dtype):
        ratios = some_ratios(seed)
        wanted = theirs("linear", parents, base_index=None, weight=[r.weight for r in ratios], normalize=normalize)
        assert_agree(ours("linear", base, parents, ratios, Options(normalize=normalize)), wanted)


@every_dtype
@pytest.mark.parametrize("t", [0.1, 0.5, 0.83])
def test_slerp(dtype: torch.dtype, t: float) -> None:
    for _, base, parents in families(dtype, 2):
        near = [parents[0], (parents[0] * 1.1).to(dtype)]
        away = [parents[0], -parents[0]]
        for pair in (parents, near, away):
            for factor in (1.0, 1.7):
                ratios = [Ratio(factor * (1 - t)), Ratio(factor * t)]
                assert_agree(ours("slerp", base, pair, ratios, Options()), theirs("slerp", pair, t=t), tolerance=1e-5)


@pytest.mark.parametrize("cosine", [0.99949, 0.99951, -0.99949, -0.99951, 0.0, 0.5])
def test_slerp_takes_the_same_for_a_line(cosine: float) -> None:
    """The arc and the line differ by 1e-4 at 0.9995, and by 1 at -0.9995, where float32 tells angles to 1e-3 only."""
    one = torch.zeros(4096)
    other = torch.zeros(4096)
    one[0], other[0], other[1] = 1.0, cosine, (1.0 - cosine**2) ** 0.5
    ratios = [Ratio(0.5), Ratio(0.5)]
    tolerance = 3e-6 if cosine >= 0.0 else 2e-3
    made = ours("slerp", one, [one, other], ratios, Options())
    assert_agree(made, theirs("slerp", [one, other], t=0.5), tolerance=tolerance)


@every_dtype
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.7])
def test_task_arithmetic(dtype: torch.dtype, normalize: bool, factor: float) -> None:
    for seed, base, parents in families(dtype):
        ratios = some_ratios(seed, 0.1 if normalize else -0.5)
        wanted = theirs_of("task_arithmetic", base, parents, ratios, normalize=normalize, lambda_=factor)
        options = Options(normalize=normalize, lambda_=factor)
        assert_agree(ours("task_arithmetic", base, parents, ratios, options), wanted)


@every_dtype
@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize(
    ("normalize", "rescale", "factor"), [(False, False, 1.0), (True, False, 0.7), (False, True, 1.3), (True, True, 1.0)]
)
def test_methods_that_trim(dtype: torch.dtype, method: str, normalize: bool, rescale: bool, factor: float) -> None:
    for seed, base, parents in families(dtype):
        ratios = some_ratios(seed, 0.1 if normalize else -0.5)
        shared = {"normalize": normalize, "rescale": rescale, "lambda_": factor}
        wanted = theirs_of(method, base, parents, ratios, **shared)
        clear = uncontested(base, parents, ratios, with_gamma=method != "ties")
        assert_agree(ours(method, base, parents, ratios, replace(AS_MERGEKIT, **shared)), wanted, clear, 1e-5)


@pytest.fixture
def same_numbers(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let `torch.bernoulli` draw from the counter, for one parent after the other."""

    def start(seed: int) -> None:
        def draw(names: Iterator[str]) -> Callable[[Tensor], Tensor]:
            def bernoulli(probability: Tensor) -> Tensor:
                numbers = uniform(seed, next(names), SLOT, probability.numel()).view(probability.shape)
                return (numbers < probability.double()).to(probability.dtype)

            return bernoulli

        monkeypatch.setattr(torch, "bernoulli", draw(iter(NAMES)))

    return start


@every_dtype
@pytest.mark.parametrize("method", ["dare", "dare_ties", "della", "della_ties"])
@pytest.mark.parametrize(("normalize", "rescale"), [(False, False), (True, "l1"), (False, "l1")])
def test_methods_that_drop_at_random_with_the_same_numbers(
    dtype: torch.dtype,
    method: str,
    normalize: bool,
    rescale: Any,
    same_numbers: Callable[[int], None],
) -> None:
    if method.startswith("della") and dtype != torch.float32:
        return  # of equal magnitudes mergekit ranks any first; float32 has none here
    for seed, base, parents in families(dtype):
        ratios = some_ratios(seed, 0.1 if normalize else -0.5)
        same_numbers(seed)
        wanted = theirs_of(method, base, parents, ratios, normalize=normalize, rescale=bool(rescale))
        options = replace(AS_MERGEKIT, normalize=normalize, rescale=rescale)
        assert_agree(ours(method, base, parents, ratios, options, seed), wanted, tolerance=1e-5)


DEFAULTS = {
    "task_arithmetic": {},
    "ties": {"normalize": True, "majority_sign_tie": "positive"},
    "dare": {"rescale": "l1"},
    "dare_ties": {"rescale": "l1", "majority_sign_tie": "positive"},
    "breadcrumbs": {},
    "breadcrumbs_ties": {"majority_sign_tie": "positive"},
    "della": {"rescale": "l1"},
    "della_ties": {"normalize": True, "rescale": "l1", "majority_sign_tie": "positive"},
}
"""The options that give mergekit's defaults, as the table in `vlmmerge.blend.methods` has them."""


@pytest.mark.parametrize("method", DEFAULTS)
def test_mergekits_defaults_are_these_options(method: str, same_numbers: Callable[[int], None]) -> None:
    base, parents = family((130, 131), torch.float32, 0)
    ratios = some_ratios(0)
    same_numbers(0)
    wanted = theirs_of(method, base, parents, ratios)
    assert_agree(ours(method, base, parents, ratios, Options(**DEFAULTS[method])), wanted, tolerance=1e-5)
    if DEFAULTS[method].keys() - {"majority_sign_tie"}:  # nothing is balanced here
        assert not torch.allclose(ours(method, base, parents, ratios, Options()), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["dare", "della"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_methods_that_drop_at_random_expect_the_same(method: str, dtype: torch.dtype) -> None:
    """300 blends of each without rescaling, within five standard deviations of the difference of their means."""
    base, (parent,) = family((16, 33), dtype, 0, 1)
    ratio = Ratio(1.0, 0.6, epsilon=0.3)
    torch.manual_seed(0)
    options = Options(rescale=False)
    made = torch.stack([ours(method, base, [parent], [ratio], options, seed) for seed in range(300)])
    wanted = torch.stack([theirs_of(method, base, [parent], [ratio], rescale=False) for _ in range(300)])
    delta = parent.float() - base.float()
    assert ((made.mean(dim=0) - wanted.mean(dim=0)).abs() <= 5 * delta.abs() * (0.5 / 300) ** 0.5 + 1e-6).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(("majority", "named"), [("total", "sum"), ("frequency", "count")])
def test_the_election_with_many_balances(count: int, majority: str, named: str) -> None:
    torch.manual_seed(count)
    deltas = (torch.randn(count, 40, 41) * 2).round()
    wanted = (deltas * get_mask(deltas, method=named)).sum(dim=0)
    one, other = (elected_sign(list(deltas), majority, tie) for tie in ("positive", "drop"))
    assert torch.equal(sum_of_sign(list(deltas), one), wanted)
    balanced = (deltas if majority == "total" else deltas.sign()).sum(dim=0) == 0
    assert torch.equal(sum_of_sign(list(deltas), other), wanted.masked_fill(balanced, 0.0))


@every_dtype
@pytest.mark.parametrize("filter_wise", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_model_stock(dtype: torch.dtype, filter_wise: bool, count: int) -> None:
    for _, base, parents in families(dtype, count):
        wanted = theirs("model_stock", [base, *parents], filter_wise=filter_wise)
        made = ours("model_stock", base, parents, [Ratio()] * count, Options(filter_wise=filter_wise))
        assert_agree(made, wanted, tolerance=2e-5)


def unambiguous(base: Tensor, parents: list[Tensor], fraction: float) -> float:
    """A fraction near by at whose bound no two elements vary equally, up to rounding."""
    variance = torch.stack([parent.double() - base.double() for parent in parents]).var(dim=0, unbiased=False)
    ordered = variance.flatten().sort(descending=True).values.tolist()
    num_vary = sum(value > 0 for value in ordered)
    chosen = int(fraction * num_vary)
    while ordered[chosen - 1] < ordered[chosen] * (1 + 1e-4):
        chosen -= 1
    return (chosen + 0.5) / num_vary


@every_dtype
@pytest.mark.parametrize("select_topk", [1.0, 0.6, 0.15])
@pytest.mark.parametrize("count", [2, 3])
def test_sce(dtype: torch.dtype, select_topk: float, count: int) -> None:
    for _, base, parents in families(dtype, count):
        fraction = unambiguous(base, parents, select_topk) if select_topk < 1.0 else 1.0
        wanted = theirs("sce", [base, *parents], select_topk=fraction)
        made = ours("sce", base, parents, [Ratio()] * count, replace(AS_MERGEKIT, select_topk=fraction))
        assert_agree(made, wanted, tolerance=2e-5)


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "model_stock"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_the_files_own_dtype_mergekit_agrees_to_its_rounding(method: str, dtype: torch.dtype) -> None:
    base, parents = family((130, 131), dtype, 0, 2)
    ratios = [Ratio(0.7), Ratio(0.3)]
    calls = {
        "linear": lambda: theirs("linear", parents, base_index=None, dtype=None, weight=[0.7, 0.3]),
        "slerp": lambda: theirs("slerp", parents, dtype=None, t=0.3),
        "task_arithmetic": lambda: theirs("task_arithmetic", [base, *parents], dtype=None, weight=[0.7, 0.3]),
        "model_stock": lambda: theirs("model_stock", [base, *parents], dtype=None),
    }
    wanted = calls[method]()
    assert wanted.dtype == dtype
    rounding = 8 * torch.finfo(dtype).eps
    made = ours(method, base, parents, ratios, Options()).to(dtype)
    torch.testing.assert_close(made, wanted, rtol=rounding, atol=rounding)


# Where the definition differs on purpose.


def test_a_balanced_election_adds_nothing_where_mergekit_adds_the_positive() -> None:
    base = torch.zeros(3)
    parents = [torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 1.0, -3.0])]
    ratios = [Ratio(1.0), Ratio(1.0)]
    assert theirs_of("ties", base, parents, ratios, normalize=False).tolist() == [1.0, 3.0, -3.0]
    assert ours("ties", base, parents, ratios, Options()).tolist() == [0.0, 3.0, -3.0]


def test_trimming_may_leave_nothing_where_mergekit_keeps_one() -> None:
    base, parent, ratios = torch.zeros(3), torch.tensor([1.0, 3.0, 2.0]), [Ratio(1.0, 0.2)]
    assert theirs_of("ties", base, [parent], ratios).tolist() == [0.0, 3.0, 0.0]
    assert ours("ties", base, [parent], ratios, Options()).tolist() == [0.0, 0.0, 0.0]


def test_a_spread_beyond_0_to_1_narrows_where_mergekit_refuses() -> None:
    base, parents = family((16, 33), torch.float32, 0, 1)
    ratios = [Ratio(1.0, 0.9, epsilon=0.15)]
    with pytest.raises(ValueError, match="Epsilon must be chosen"):
        theirs_of("della", base, parents, ratios)
    narrowed = [Ratio(1.0, 0.9, epsilon=1.0 - 0.9)]
    assert torch.equal(
        ours("della", base, parents, ratios, Options()), ours("della", base, parents, narrowed, Options())
    )


def test_small_task_vectors_are_blended_as_large_ones_where_mergekits_epsilons_take_over() -> None:
    """mergekit's sce then counts all parents the same, and its model_stock takes all angles for right ones."""
    base = torch.zeros(64)
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(64, generator=generator)
    parents = [one, 3 * one + 0.1 * torch.randn(64, generator=generator)]
    small = [1e-5 * parent for parent in parents]
    for method in ("sce", "model_stock"):
        large_blend = ours(method, base, parents, [Ratio()] * 2, Options())
        small_blend = ours(method, base, small, [Ratio()] * 2, Options())
        torch.testing.assert_close(small_blend, 1e-5 * large_blend, rtol=1e-4, atol=1e-10)
        assert_agree(large_blend, theirs(method, [base, *parents]), tolerance=1e-4)
        assert (theirs(method, [base, *small]) - small_blend).abs().max() > 0.2 * small_blend.abs().max()


def test_a_tensor_of_zeros_has_no_direction_where_mergekit_takes_a_right_angle() -> None:
    zeros, ones = torch.zeros(4), torch.ones(4)
    assert ours("slerp", zeros, [ones, zeros], [Ratio(1.0), Ratio(1.0)], Options()).tolist() == [0.5] * 4
    assert theirs("slerp", [ones, zeros], t=0.5).tolist() == pytest.approx([0.5**0.5] * 4)
