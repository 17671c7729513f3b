"""What every method in the registry promises: identities bit for bit, symmetries, scale, and how methods meet."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from vlmmerge.blend import METHODS, blend_slot
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

SHAPES = [(1,), (5,), (3, 7), (64, 33), (130, 131)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SLOT = "layers.3.mlp.gate_proj.weight"
NAMES = ("vlm", "ja", "en")

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


def blend(
    method: str, base: Tensor, parents: list[Tensor], ratios: list[Ratio], seed: int = 0, slot: str = SLOT
) -> Tensor:
    of_parents = dict(zip(NAMES, parents, strict=False))
    return blend_slot(method, base, of_parents, dict(zip(of_parents, ratios, strict=True)), seed=seed, slot=slot)


def same_bits(one: Tensor, two: Tensor) -> bool:
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return one.dtype == two.dtype and torch.equal(one.view(integers), two.view(integers))


def test_the_registry_lists_each_method_under_its_own_name() -> None:
    assert list(METHODS) == ["linear", "task_arithmetic", "ties", "dare_ties"]
    assert all(name == method.name for name, method in METHODS.items())
    assert all(set(method.parameters) <= {"weight", "density"} for method in METHODS.values())


@every_method
@every_shape
@every_dtype
def test_the_result_is_new_float32_and_the_inputs_stay_as_they_were(
    method: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    for weights in ([0.3, 0.9], [1.0, 0.0], [0.0, 0.0] if method != "linear" else [0.0, 2.0]):
        base, *parents = inputs = tensors(shape, dtype, 3)
        before = [tensor.clone() for tensor in inputs]
        blended = blend(method, base, parents, [Ratio(weight, 1.0) for weight in weights])
        assert blended.dtype == torch.float32
        assert blended.shape == shape
        blended.fill_(7.0)
        assert all(same_bits(now, then) for now, then in zip(inputs, before, strict=True))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "linear"])
@every_shape
@every_dtype
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_all_weights_zero_returns_base_bit_for_bit(
    method: str, shape: tuple[int, ...], dtype: torch.dtype, density: float
) -> None:
    base, *parents = tensors(shape, dtype)
    blended = blend(method, base, parents, [Ratio(0.0, density)] * 3)
    assert same_bits(blended, base.to(torch.float32))


def test_linear_with_all_weights_zero_is_an_error_since_there_is_nothing_to_average() -> None:
    base, *parents = tensors((4,), torch.float32)
    with pytest.raises(VlmMergeError, match="they sum to 0"):
        blend("linear", base, parents, [Ratio(0.0)] * 3)


@every_method
@every_shape
@every_dtype
@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_one_weight_1_at_density_1_returns_that_parent_bit_for_bit(
    method: str, shape: tuple[int, ...], dtype: torch.dtype, chosen: int
) -> None:
    base, *parents = tensors(shape, dtype)
    ratios = [Ratio(1.0, 1.0) if i == chosen else Ratio(0.0, 0.5) for i in range(3)]
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


def test_linear_with_a_single_weight_returns_that_parent_bit_for_bit() -> None:
    base, *parents = tensors((9, 5), torch.float32)
    assert same_bits(blend("linear", base, parents, [Ratio(0.0), Ratio(0.37), Ratio(0.0)]), parents[1])


@every_method
def test_a_parent_with_weight_0_takes_no_part_even_if_it_is_broken(method: str) -> None:
    base, *parents = tensors((20, 11), torch.float32)
    ratios = [Ratio(0.8, 0.5), Ratio(0.0, 0.5), Ratio(0.6, 0.5)]
    whole = blend(method, base, parents, ratios)
    parents[1] = torch.full_like(base, math.nan)
    assert same_bits(blend(method, base, parents, ratios), whole)


@every_method
@every_shape
def test_parents_equal_to_the_base_give_the_base(method: str, shape: tuple[int, ...]) -> None:
    base, *_ = tensors(shape, torch.float32)
    blended = blend(method, base, [base.clone(), base.clone()], [Ratio(0.5, 0.5), Ratio(0.5, 0.5)])
    assert torch.equal(blended, base)


@every_method
@every_shape
@pytest.mark.parametrize("density", [1.0, 0.5])
def test_the_order_of_two_parents_does_not_matter_at_all(method: str, shape: tuple[int, ...], density: float) -> None:
    base, vlm, ja = tensors(shape, torch.bfloat16, 3)
    of_parents, ratios = {"vlm": vlm, "ja": ja}, {"vlm": Ratio(0.9, density), "ja": Ratio(0.4, density)}
    one = blend_slot(method, base, of_parents, ratios, seed=1, slot=SLOT)
    other = blend_slot(method, base, dict(reversed(of_parents.items())), ratios, seed=1, slot=SLOT)
    assert torch.equal(one, other)


@every_method
def test_the_order_of_three_parents_matters_to_rounding_only(method: str) -> None:
    base, *parents = tensors((40, 41), torch.float32)
    of_parents = dict(zip(NAMES, parents, strict=True))
    ratios = {name: Ratio(weight, 0.5) for name, weight in zip(NAMES, (0.9, 0.4, 0.7), strict=True)}
    wanted = blend_slot(method, base, of_parents, ratios, seed=1, slot=SLOT)
    for order in itertools.permutations(NAMES):
        blended = blend_slot(method, base, {name: of_parents[name] for name in order}, ratios, seed=1, slot=SLOT)
        torch.testing.assert_close(blended, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "linear"])
@pytest.mark.parametrize("factor", [2.0, 0.25, -1.0])
def test_scaling_all_weights_scales_the_distance_from_the_base(method: str, factor: float) -> None:
    """Exactly so from a base of zeros and by powers of two, where nothing is rounded."""
    parents = tensors((40, 41), torch.float32, 3)
    base = torch.zeros(40, 41)
    weights = (0.9, 0.4, 0.7)
    one = blend(method, base, parents, [Ratio(weight, 0.5) for weight in weights])
    scaled = blend(method, base, parents, [Ratio(weight * factor, 0.5) for weight in weights])
    assert torch.equal(scaled[1:], one[1:] * factor)  # row 0 has a denormal


def test_scaling_all_weights_does_not_change_linear() -> None:
    base, *parents = tensors((40, 41), torch.float32)
    one = blend("linear", base, parents, [Ratio(0.9), Ratio(0.4), Ratio(0.7)])
    assert torch.equal(one, blend("linear", base, parents, [Ratio(1.8), Ratio(0.8), Ratio(1.4)]))


@every_shape
@every_dtype
def test_ties_at_density_1_equals_task_arithmetic_where_all_signs_agree(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    base, *steps = tensors(shape, dtype)
    ratios = [Ratio(0.9), Ratio(0.4), Ratio(0.7)]
    for parents in ([base + step.abs() for step in steps], [base - step.abs() for step in steps]):
        assert torch.equal(blend("ties", base, parents, ratios), blend("task_arithmetic", base, parents, ratios))


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_one_parent_at_density_1_blends_as_in_task_arithmetic(method: str) -> None:
    base, parent = tensors((40, 41), torch.float32, 2)
    one = blend(method, base, [parent], [Ratio(0.37)])
    assert torch.equal(one, blend("task_arithmetic", base, [parent], [Ratio(0.37)]))


@every_shape
def test_dare_ties_at_density_1_equals_ties_at_density_1(shape: tuple[int, ...]) -> None:
    base, *parents = tensors(shape, torch.float32)
    ratios = [Ratio(0.9), Ratio(0.4), Ratio(-0.7)]
    assert same_bits(blend("dare_ties", base, parents, ratios), blend("ties", base, parents, ratios))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_ties_changes_exactly_the_densitys_share_of_elements(density: float) -> None:
    base, parent = tensors((64, 65), torch.float32, 2)
    base.zero_()
    blended = blend("ties", base, [parent], [Ratio(0.5, density)])
    assert int((blended != 0).sum()) == int(density * 64 * 65)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_dare_drops_the_right_share_and_keeps_the_mean(density: float) -> None:
    count = 200_000
    base, parent = torch.zeros(count), torch.ones(count)
    blended = blend("dare_ties", base, [parent], [Ratio(0.5, density)])
    assert (blended != 0).double().mean().item() == pytest.approx(density, abs=4 * math.sqrt(0.25 / count))
    spread = 0.5 * math.sqrt((1 - density) / density / count)
    assert blended.double().mean().item() == pytest.approx(0.5, abs=4 * spread)
    assert set(blended.tolist()) == {0.0, torch.tensor(0.5 / density).item()}


def test_the_same_seed_gives_the_same_blend_and_another_seed_or_slot_another() -> None:
    base, *parents = tensors((40, 41), torch.float32)
    ratios = [Ratio(0.9, 0.5), Ratio(0.4, 0.5), Ratio(0.7, 0.5)]
    one = blend("dare_ties", base, parents, ratios, seed=1)
    assert same_bits(one, blend("dare_ties", base, parents, ratios, seed=1))
    assert not torch.equal(one, blend("dare_ties", base, parents, ratios, seed=2))
    assert not torch.equal(one, blend("dare_ties", base, parents, ratios, seed=1, slot="lm_head.weight"))


def test_each_parent_has_a_mask_of_its_own() -> None:
    base, parent = torch.zeros(4000), torch.ones(4000)
    one = blend_slot("dare_ties", base, {"ja": parent}, {"ja": Ratio(1.0, 0.5)}, seed=1, slot=SLOT)
    other = blend_slot("dare_ties", base, {"en": parent}, {"en": Ratio(1.0, 0.5)}, seed=1, slot=SLOT)
    assert ((one != 0) & (other != 0)).double().mean().item() == pytest.approx(0.25, abs=0.03)


@every_method
def test_a_parents_nan_shows_in_the_blend(method: str) -> None:
    for position in (0, 5, 38, 40 * 41 - 1):
        base, *parents = tensors((40, 41), torch.float32)
        parents[1].view(-1)[position] = math.nan
        blended = blend(method, base, parents, [Ratio(0.9, 0.5), Ratio(0.4, 0.5), Ratio(0.7, 0.5)])
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
            made.append(blend(method, base, parents, [Ratio(0.9, 0.5), Ratio(0.41, 0.3), Ratio(0.77, 0.8)]))
    finally:
        torch.set_num_threads(before)
    assert same_bits(made[0], made[1])
    assert same_bits(made[0], made[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_method
def test_cpu_and_gpu_give_the_same_bits(method: str) -> None:
    base, *parents = tensors((301, 997), torch.bfloat16)
    ratios = [Ratio(0.9, 0.5), Ratio(0.41, 0.3), Ratio(0.77, 0.8)]
    on_gpu = blend(method, base.cuda(), [parent.cuda() for parent in parents], ratios)
    assert same_bits(on_gpu.cpu(), blend(method, base, parents, ratios))
