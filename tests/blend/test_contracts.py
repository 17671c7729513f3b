"""What every method in the registry promises: identities bit for bit, symmetries, scale, and how methods meet."""

import hashlib
import itertools
import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from vlmmerge.blend import METHODS, Options, blend_slot
from vlmmerge.blend.masks import uniform
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

SHAPES = [(1,), (5,), (3, 7), (64, 33), (130, 131)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SLOT = "layers.3.mlp.gate_proj.weight"
NAMES = ("vlm", "ja", "en")

# Methods that add task vectors to the base, and those of them that elect a sign.
ADDING = [name for name, method in METHODS.items() if "lambda" in method.options]
ELECTING = [name for name in ADDING if "majority_sign_method" in METHODS[name].options]
AVERAGING = [name for name, method in METHODS.items() if method.is_mean]

every_method = pytest.mark.parametrize("method", METHODS)
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def tensors(shape: tuple[int, ...], dtype: torch.dtype, count: int = 4, seed: int = 0) -> list[Tensor]:
    """Random tensors that hold -0.0 and a denormal where there is room."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator).to(dtype) for _ in range(count)]
    for tensor in made:
        odd = torch.tensor([-0.0, max(torch.finfo(dtype).smallest_normal, 1e-38) / 4]).to(dtype)
        tensor.view(-1)[: min(2, tensor.numel())] = odd[: min(2, tensor.numel())]
    return made


FIRST_VERSION = {
    ("linear", "float32"): "98767bb480a6c67a",
    ("linear", "bfloat16"): "090981dc15a43547",
    ("linear", "float16"): "33eb8e0965fe970f",
    ("task_arithmetic", "float32"): "50c8f184ea7a0521",
    ("task_arithmetic", "bfloat16"): "c12bcd5526ec3483",
    ("task_arithmetic", "float16"): "da7b281ea57ebfac",
    ("ties", "float32"): "3cb30f075814bff0",
    ("ties", "bfloat16"): "4c7a9bd46405409f",
    ("ties", "float16"): "86fc7ebbf65a5945",
    ("dare_ties", "float32"): "b0a1a7b89a78903c",
    ("dare_ties", "bfloat16"): "7d78e299d50dd494",
    ("dare_ties", "float16"): "7c7f0e5f6bc2cb4f",
}
"""What 0.1.0 made of the tensors below: the first 16 digits of the sha256 of the bytes."""


def sparse(weight: float, density: float) -> Ratio:
    return Ratio(weight, density, gamma=0.05, epsilon=0.1)


def count(method: str, most: int = 3) -> int:
    """How many parents to blend: all that the method takes, up to `most`."""
    return int(min(METHODS[method].most_parents, most))


def blend(
    method: str,
    base: Tensor,
    parents: list[Tensor],
    ratios: list[Ratio],
    seed: int = 0,
    slot: str = SLOT,
    options: Options | None = None,
) -> Tensor:
    """Blend, with fewer parents where the method takes no more."""
    of_parents = dict(zip(NAMES, parents[: count(method)], strict=False))
    of_ratios = dict(zip(of_parents, ratios[: count(method)], strict=True))
    return blend_slot(method, base, of_parents, of_ratios, seed=seed, slot=slot, options=options or Options())


def same_bits(one: Tensor, two: Tensor) -> bool:
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return one.dtype == two.dtype and torch.equal(one.view(integers), two.view(integers))


def test_the_registry_lists_each_method_under_its_own_name() -> None:
    assert " ".join(METHODS) == (
        "linear slerp task_arithmetic ties dare dare_ties breadcrumbs breadcrumbs_ties della della_ties model_stock sce"
    )
    assert all(name == method.name for name, method in METHODS.items())


@every_method
def test_every_parameter_is_a_ratios_and_every_option_is_one(method: str) -> None:
    assert set(METHODS[method].parameters) <= {field.name for field in fields(Ratio)}
    assert set(METHODS[method].options) <= {field.name.rstrip("_") for field in fields(Options)}


@every_method
def test_a_method_cites_its_source(method: str) -> None:
    assert "Source: " in (METHODS[method].function.__doc__ or "")


@pytest.mark.parametrize(
    ("method", "dtype"),
    list(itertools.product(["linear", "task_arithmetic", "ties", "dare_ties"], ["float32", "bfloat16", "float16"])),
)
def test_the_bits_of_the_first_version_stay(method: str, dtype: str) -> None:
    """Journals and exports of 0.1.0 depend on them."""
    made = [(uniform(0, name, "golden", 130 * 131) - 0.5).to(getattr(torch, dtype)) for name in ("base", *NAMES)]
    base, *parents = (tensor.view(130, 131) for tensor in made)
    ratios = [Ratio(0.9, 0.5), Ratio(0.41, 0.3), Ratio(-0.2, 0.83)]
    blended = blend(method, base, parents, ratios, seed=7, slot="layers.3.mlp.up_proj.weight")
    assert hashlib.sha256(blended.numpy().tobytes()).hexdigest()[:16] == FIRST_VERSION[method, dtype]


@every_method
@every_shape
@every_dtype
def test_the_result_is_new_float32_and_the_inputs_stay_as_they_were(
    method: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    for weights in ([0.3, 0.9], [1.0, 0.0], [0.0, 0.0] if METHODS[method].uses_base else [0.0, 2.0]):
        base, *parents = inputs = tensors(shape, dtype, 3)
        before = [tensor.clone() for tensor in inputs]
        blended = blend(method, base, parents, [sparse(weight, 0.6) for weight in weights])
        assert blended.dtype == torch.float32
        assert blended.shape == shape
        blended.fill_(7.0)
        assert all(same_bits(now, then) for now, then in zip(inputs, before, strict=True))


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].uses_base])
@every_shape
@every_dtype
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_all_weights_zero_returns_base_bit_for_bit(
    method: str, shape: tuple[int, ...], dtype: torch.dtype, density: float
) -> None:
    base, *parents = tensors(shape, dtype)
    blended = blend(method, base, parents, [sparse(0.0, density)] * 3)
    assert same_bits(blended, base.to(torch.float32))


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].uses_base])
@pytest.mark.parametrize("normalize", [None, False])
def test_all_weights_zero_without_a_base_is_an_error_since_there_is_nothing_to_average(
    method: str, normalize: bool | None
) -> None:
    base, *parents = tensors((4,), torch.float32)
    with pytest.raises(VlmMergeError, match=f"{method} divides by the sum of the weights, and they sum to 0"):
        blend(method, base, parents, [Ratio(0.0)] * 3, options=Options(normalize=normalize))


def test_too_few_or_too_many_parents_are_an_error_that_names_them() -> None:
    base, *parents = tensors((4,), torch.float32)
    of_parents, ratios = dict(zip(NAMES, parents, strict=True)), dict.fromkeys(NAMES, Ratio(0.0))
    hint = "\nhint: `linear` and `task_arithmetic` blend any number"
    for method, names, message in [
        ("slerp", NAMES, "slerp blends 2 parents, found 3: vlm, ja, en"),
        ("slerp", NAMES[:1], "slerp blends 2 parents, found 1: vlm"),
        ("model_stock", NAMES[:1], "model_stock blends at least 2 parents, found 1: vlm"),
    ]:
        with pytest.raises(VlmMergeError) as caught:
            blend_slot(method, base, {name: of_parents[name] for name in names}, ratios, seed=0, slot=SLOT)
        assert str(caught.value) == message + hint


@every_method
@every_shape
@every_dtype
def test_one_weight_1_at_density_1_returns_that_parent_bit_for_bit(
    method: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    base, *parents = tensors(shape, dtype)
    for chosen in range(count(method)):
        ratios = [sparse(1.0, 1.0) if i == chosen else sparse(0.0, 0.5) for i in range(3)]
        blended = blend(method, base, parents, ratios)
        assert same_bits(blended, parents[chosen].to(torch.float32))
        if dtype != torch.float64:
            assert same_bits(blended.to(dtype), parents[chosen])


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if "density" not in method.parameters])
def test_density_means_nothing_to_a_method_that_does_not_use_it(method: str) -> None:
    base, *parents = tensors((9, 5), torch.float32)
    assert same_bits(blend(method, base, parents, [Ratio(1.0, 0.4), Ratio(0.0), Ratio(0.0)]), parents[0])
    weights = (0.5, 0.7, 0.2)
    one = blend(method, base, parents, [Ratio(weight, 0.4) for weight in weights])
    assert same_bits(one, blend(method, base, parents, [Ratio(weight, 1.0) for weight in weights]))


@pytest.mark.parametrize("method", AVERAGING)
def test_an_average_of_a_single_parent_is_that_parent_bit_for_bit(method: str) -> None:
    base, *parents = tensors((9, 5), torch.float32)
    for options in (Options(), Options(select_topk=0.5)):
        alone = blend(method, base, parents, [Ratio(0.0), Ratio(0.37), Ratio(0.0)], options=options)
        assert same_bits(alone, parents[1])


def test_a_sum_of_a_single_parent_is_not_that_parent() -> None:
    base, *parents = tensors((9, 5), torch.float32)
    ratios = [Ratio(0.0), Ratio(0.5), Ratio(0.0)]
    assert same_bits(blend("linear", base, parents, ratios, options=Options(normalize=False)), parents[1] * 0.5)


@pytest.mark.parametrize("method", ADDING)
def test_normalize_gives_a_single_parent_back_bit_for_bit_and_lambda_does_not(method: str) -> None:
    base, *parents = tensors((9, 5), torch.float32)
    ratios = [sparse(0.0, 0.5), sparse(0.37, 1.0), sparse(0.0, 0.5)]
    assert same_bits(blend(method, base, parents, ratios, options=Options(normalize=True)), parents[1])
    half = blend(method, base, parents, ratios, options=Options(normalize=True, lambda_=0.5))
    torch.testing.assert_close(half, (base + parents[1]) / 2)


@every_method
def test_a_parent_with_weight_0_takes_no_part_even_if_it_is_broken(method: str) -> None:
    base, *parents = tensors((20, 11), torch.float32)
    ratios = [sparse(0.8, 0.5), sparse(0.0, 0.5), sparse(0.6, 0.5)]
    whole = blend(method, base, parents, ratios)
    parents[1] = torch.full_like(base, math.nan)
    assert same_bits(blend(method, base, parents, ratios), whole)


@every_method
@every_shape
def test_parents_equal_to_the_base_give_the_base(method: str, shape: tuple[int, ...]) -> None:
    base, *_ = tensors(shape, torch.float32)
    blended = blend(method, base, [base.clone(), base.clone()], [sparse(0.5, 0.5), sparse(0.5, 0.5)])
    assert torch.equal(blended, base)


@every_method
@every_shape
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_the_order_of_two_parents_does_not_matter_at_all(method: str, shape: tuple[int, ...], density: float) -> None:
    base, vlm, ja = tensors(shape, torch.bfloat16, 3)
    of_parents, ratios = {"vlm": vlm, "ja": ja}, {"vlm": sparse(0.9, density), "ja": sparse(0.4, density)}
    one = blend_slot(method, base, of_parents, ratios, seed=1, slot=SLOT)
    other = blend_slot(method, base, dict(reversed(of_parents.items())), ratios, seed=1, slot=SLOT)
    assert torch.equal(one, other)


@pytest.mark.parametrize("method", [name for name in METHODS if count(name) == 3])
def test_the_order_of_three_parents_matters_to_rounding_only(method: str) -> None:
    base, *parents = tensors((40, 41), torch.float32)
    of_parents = dict(zip(NAMES, parents, strict=True))
    ratios = {name: sparse(weight, 0.5) for name, weight in zip(NAMES, (0.9, 0.4, 0.7), strict=True)}
    wanted = blend_slot(method, base, of_parents, ratios, seed=1, slot=SLOT)
    for order in itertools.permutations(NAMES):
        blended = blend_slot(method, base, {name: of_parents[name] for name in order}, ratios, seed=1, slot=SLOT)
        torch.testing.assert_close(blended, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ADDING)
@pytest.mark.parametrize("factor", [2.0, 0.25, -1.0])
def test_scaling_all_weights_scales_the_distance_from_the_base(method: str, factor: float) -> None:
    """Exactly so from a base of zeros and by powers of two, where nothing is rounded."""
    parents = tensors((40, 41), torch.float32, 3)
    base = torch.zeros(40, 41)
    weights = (0.9, 0.4, 0.7)
    one = blend(method, base, parents, [sparse(weight, 0.5) for weight in weights])
    scaled = blend(method, base, parents, [sparse(weight * factor, 0.5) for weight in weights])
    assert torch.equal(scaled[1:], one[1:] * factor)  # row 0 has a denormal


@pytest.mark.parametrize("method", ["linear", "slerp", "sce"])
def test_scaling_all_weights_does_not_change_an_average(method: str) -> None:
    base, *parents = tensors((40, 41), torch.float32)
    one = blend(method, base, parents, [Ratio(0.9), Ratio(0.4), Ratio(0.7)])
    assert torch.equal(one, blend(method, base, parents, [Ratio(1.8), Ratio(0.8), Ratio(1.4)]))


def test_weights_mean_nothing_to_model_stock_unless_they_are_0() -> None:
    base, *parents = tensors((40, 41), torch.float32)
    one = blend("model_stock", base, parents, [Ratio(0.9), Ratio(0.4), Ratio(-0.7)])
    assert same_bits(one, blend("model_stock", base, parents, [Ratio(1.0)] * 3))
    two = blend("model_stock", base, parents[:2], [Ratio(1.0)] * 2)
    assert same_bits(two, blend("model_stock", base, parents, [Ratio(1.0), Ratio(1.0), Ratio(0.0)]))


@pytest.mark.parametrize("method", ELECTING)
@every_shape
@every_dtype
def test_an_election_at_density_1_changes_nothing_where_all_signs_agree(
    method: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    base, *steps = tensors(shape, dtype)
    ratios = [sparse(0.9, 1.0), sparse(0.4, 1.0), sparse(0.7, 1.0)]
    for parents in ([base + step.abs() for step in steps], [base - step.abs() for step in steps]):
        assert torch.equal(blend(method, base, parents, ratios), blend("task_arithmetic", base, parents, ratios))


@pytest.mark.parametrize("method", ADDING)
def test_one_parent_at_density_1_blends_as_in_task_arithmetic(method: str) -> None:
    base, parent = tensors((40, 41), torch.float32, 2)
    one = blend(method, base, [parent], [sparse(0.37, 1.0)])
    assert torch.equal(one, blend("task_arithmetic", base, [parent], [sparse(0.37, 1.0)]))


@pytest.mark.parametrize("method", ADDING)
@every_shape
def test_at_density_1_all_that_elect_are_ties_and_the_others_task_arithmetic(
    method: str, shape: tuple[int, ...]
) -> None:
    base, *parents = tensors(shape, torch.float32)
    ratios = [sparse(0.9, 1.0), sparse(0.4, 1.0), sparse(-0.7, 1.0)]
    plain = "ties" if method in ELECTING else "task_arithmetic"
    for options in (Options(), Options(rescale="l1", lambda_=0.7, normalize=True)):
        blended = blend(method, base, parents, ratios, options=options)
        assert same_bits(blended, blend(plain, base, parents, ratios, options=options))


@pytest.mark.parametrize(
    ("method", "plain"), [("della", "dare"), ("della_ties", "dare_ties"), ("breadcrumbs_ties", "ties")]
)
def test_without_gamma_and_epsilon_a_method_is_the_one_that_it_grew_from(method: str, plain: str) -> None:
    base, *parents = tensors((130, 131), torch.bfloat16)
    ratios = [Ratio(0.9, 0.5), Ratio(0.4, 0.3), Ratio(-0.7, 0.8)]
    assert same_bits(blend(method, base, parents, ratios), blend(plain, base, parents, ratios))
    with_both = [replace(ratio, gamma=0.1, epsilon=0.1) for ratio in ratios]
    assert not torch.equal(blend(method, base, parents, with_both), blend(plain, base, parents, ratios))


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_trimming_changes_exactly_the_densitys_share_of_elements(method: str, density: float) -> None:
    base, parent = tensors((64, 65), torch.float32, 2)
    base.zero_()
    blended = blend(method, base, [parent], [sparse(0.5, density)])
    assert int((blended != 0).sum()) == int(density * 64 * 65)


@pytest.mark.parametrize("method", ["dare", "dare_ties"])
@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_dare_drops_the_right_share_and_keeps_the_mean(method: str, density: float) -> None:
    num = 200_000
    base, parent = torch.zeros(num), torch.ones(num)
    blended = blend(method, base, [parent], [Ratio(0.5, density)])
    assert (blended != 0).double().mean().item() == pytest.approx(density, abs=4 * math.sqrt(0.25 / num))
    spread = 0.5 * math.sqrt((1 - density) / density / num)
    assert blended.double().mean().item() == pytest.approx(0.5, abs=4 * spread)
    assert set(blended.tolist()) == {0.0, torch.tensor(0.5 / density).item()}


@pytest.mark.parametrize("method", ["della", "della_ties"])
@pytest.mark.parametrize(("density", "epsilon"), [(0.2, 0.15), (0.5, 0.4), (0.9, 0.1)])
def test_della_drops_the_right_share_and_keeps_the_mean(method: str, density: float, epsilon: float) -> None:
    """Of 400 rows of 500 ones: p goes from density - epsilon to density + epsilon; var = 1 / p - 1."""
    base, parent = torch.zeros(400, 500), torch.ones(400, 500)
    blended = blend(method, base, [parent], [Ratio(0.5, density, epsilon=epsilon)])
    num = blended.numel()
    assert (blended != 0).double().mean().item() == pytest.approx(density, abs=4 * math.sqrt(0.25 / num))
    mean_of_inverse = math.log((density + epsilon) / (density - epsilon)) / (2 * epsilon)
    spread = 0.5 * math.sqrt((mean_of_inverse - 1) / num)
    assert blended.double().mean().item() == pytest.approx(0.5, abs=4 * spread)
    halves = blended.view(400, 2, 250).double()  # of equals the first rank highest, so the first half is kept more
    assert (halves[:, 0] != 0).double().mean() > (halves[:, 1] != 0).double().mean() + epsilon / 2
    assert halves.mean(dim=(0, 2)).tolist() == pytest.approx([0.5, 0.5], abs=6 * spread)


@pytest.mark.parametrize("method", ["dare", "dare_ties", "della", "della_ties"])
def test_the_same_seed_gives_the_same_blend_and_another_seed_or_slot_another(method: str) -> None:
    base, *parents = tensors((40, 41), torch.float32)
    ratios = [sparse(0.9, 0.5), sparse(0.4, 0.5), sparse(0.7, 0.5)]
    one = blend(method, base, parents, ratios, seed=1)
    assert same_bits(one, blend(method, base, parents, ratios, seed=1))
    assert not torch.equal(one, blend(method, base, parents, ratios, seed=2))
    assert not torch.equal(one, blend(method, base, parents, ratios, seed=1, slot="lm_head.weight"))


@pytest.mark.parametrize("method", ["dare", "dare_ties", "della", "della_ties"])
def test_each_parent_has_a_mask_of_its_own(method: str) -> None:
    base, parent = torch.zeros(4000), torch.ones(4000)
    one = blend_slot(method, base, {"ja": parent}, {"ja": Ratio(1.0, 0.5)}, seed=1, slot=SLOT)
    other = blend_slot(method, base, {"en": parent}, {"en": Ratio(1.0, 0.5)}, seed=1, slot=SLOT)
    assert ((one != 0) & (other != 0)).double().mean().item() == pytest.approx(0.25, abs=0.03)


OTHER_OPTIONS = {
    "normalize": True,
    "rescale": "l1",
    "lambda": 0.7,
    "majority_sign_method": "frequency",
    "majority_sign_tie": "positive",
    "select_topk": 0.5,
    "filter_wise": True,
}


@every_method
@pytest.mark.parametrize("option", OTHER_OPTIONS)
def test_a_method_heeds_its_own_options_and_no_other(method: str, option: str) -> None:
    if (method, option) == ("linear", "normalize"):
        return  # it normalizes by itself
    base, *parents = tensors((40, 41), torch.bfloat16, 3)
    parents = [(base + step).clone() for step in parents]
    parents[1][0] = 2 * base[0] - parents[0][0]  # a row in which equal weights balance
    ratios = [sparse(0.75, 0.9), sparse(0.75, 0.9)]
    field = "lambda_" if option == "lambda" else option
    plain = blend(method, base, parents, ratios)
    other = blend(method, base, parents, ratios, options=Options(**{field: OTHER_OPTIONS[option]}))
    assert torch.equal(plain, other) == (option not in METHODS[method].options)


@every_method
def test_a_parents_nan_shows_in_the_blend(method: str) -> None:
    for position in (0, 5, 38, 40 * 41 - 1):
        base, *parents = tensors((40, 41), torch.float32)
        parents[1].view(-1)[position] = math.nan
        for options in (Options(), Options(True, "l1", 0.5, "frequency", "positive", 0.5, True)):
            blended = blend(
                method, base, parents, [sparse(0.9, 0.5), sparse(0.4, 0.5), sparse(0.7, 0.5)], 0, SLOT, options
            )
            assert blended.view(-1)[position].isnan()


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
@every_dtype
def test_formulas_without_masks_give_the_same_bits_in_any_chunks(method: str, dtype: torch.dtype) -> None:
    base, *parents = tensors((3001,), dtype)
    ratios = [Ratio(0.9), Ratio(0.41), Ratio(0.77)]
    whole = blend(method, base, parents, ratios)
    for cuts in ([0, 1, 3001], [0, 7, 15, 1024, 3001], [0, 1500, 3001]):
        pieces = [
            blend(method, base[a:b], [parent[a:b] for parent in parents], ratios) for a, b in itertools.pairwise(cuts)
        ]
        assert same_bits(torch.cat(pieces), whole)


@every_method
def test_the_number_of_threads_does_not_change_a_bit(method: str) -> None:
    base, *parents = tensors((301, 997), torch.bfloat16)
    before = torch.get_num_threads()
    try:
        made = []
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            made.append(blend(method, base, parents, [sparse(0.9, 0.5), sparse(0.41, 0.3), sparse(0.77, 0.8)]))
    finally:
        torch.set_num_threads(before)
    assert same_bits(made[0], made[1])
    assert same_bits(made[0], made[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_method
def test_cpu_and_gpu_give_the_same_bits(method: str) -> None:
    base, *parents = tensors((301, 997), torch.bfloat16)
    ratios = [sparse(0.9, 0.5), sparse(0.41, 0.3), sparse(0.77, 0.8)]
    for options in (Options(), Options(True, "l1", 0.7, "frequency", "positive", 0.5, True)):
        on_gpu = blend(method, base.cuda(), [parent.cuda() for parent in parents], ratios, options=options)
        assert same_bits(on_gpu.cpu(), blend(method, base, parents, ratios, options=options))
