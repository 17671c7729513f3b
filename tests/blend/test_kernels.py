"""The kernels' bits are the plain formulas': on a GPU if there is one, else in Triton's interpreter."""

import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vlmmerge.anatomy import Slot
from vlmmerge.blend import DEFAULTS, METHODS, Options, blend_slot
from vlmmerge.blend.fused import LIMITS, FusedBlender, Target, can_launch
from vlmmerge.blend.launch import ONE_PASS, has_launch, plan_launch
from vlmmerge.blend.live import LiveBlender
from vlmmerge.blend.masks import uniform
from vlmmerge.blend.residency import place, send_ahead
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IS_INTERPRETED = DEVICE.type == "cpu"

pytest.importorskip("triton", reason="Triton is not installed: it is for Linux alone, and kernels need it")
from vlmmerge.blend import device_cuts  # noqa: E402

assert device_cuts.IS_INTERPRETED == IS_INTERPRETED, "the first conftest.py asks for the interpreter"

# numpy, in the interpreter, tells of what the tests of values that are not finite want.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

SLOT = Slot(3, "mlp.gate_proj.weight")
SEED = 7
RATIOS = [Ratio(0.7, 0.6, 0.05), Ratio(-0.2, 0.31, 0.01), Ratio(0.5, 0.9), Ratio(1.3, 0.1, 0.2)]
DTYPES = list(LIMITS)
INTEGERS = {2: torch.int16, 4: torch.int32}
CUTTING = [method for method, (sparsity, _) in ONE_PASS.items() if sparsity in ("cut", "band")]
# More than two blocks and an odd end; in the interpreter a block takes as long as many elements.
LENGTH = 2 * device_cuts.BLOCK + 905
every_kernel = pytest.mark.parametrize("method", ONE_PASS)


@pytest.fixture(autouse=True)
def small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several regions in a small slot; and some of Triton's modules ask for the mode only when a kernel runs."""
    monkeypatch.setattr(device_cuts, "SMALLEST_REGION", device_cuts.BLOCK)
    if IS_INTERPRETED:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def make_tensors(count: int, dtype: torch.dtype = torch.bfloat16, length: int = LENGTH, seed: int = 0) -> list[Tensor]:
    """A base and parents near it: with -0.0, what is below the normal numbers, and many equal magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(length, generator=generator) * 0.02
    made = [base, *(base + torch.randn(length, generator=generator) * 0.002 for _ in range(count))]
    for number, tensor in enumerate(made):
        odd = torch.tensor([-0.0, 0.0 if number else -0.0, 1e-39 * number, -0.0 if number else 0.0, -3e-40])
        tensor[: min(5, length)] = odd[: min(5, length)]
        tensor[length // 2 :] = (tensor[length // 2 :] * 512).round() / 512
    return [tensor.to(dtype).to(DEVICE) for tensor in made]


def make_ratios(count: int, **changes: Any) -> dict[str, Ratio]:
    return {f"p{number}": replace(ratio, **changes) for number, ratio in enumerate(RATIOS[:count])}


def blend(
    method: str,
    base: Tensor,
    parents: list[Tensor],
    ratios: dict[str, Ratio],
    options: Options = DEFAULTS,
    *,
    store: torch.dtype | None = None,
    live: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """What the kernel makes of a live parameter."""
    store = store or base.dtype
    live = torch.full_like(base, 9.0) if live is None else live
    launch = plan_launch(method, SEED, options, str(SLOT), base.numel(), ratios)
    assert launch is not None
    tensors = {"base": base, **dict(zip(ratios, parents, strict=True))}
    taking_part = {name: tensors[name] for name in {*launch.sources, *(["base"] if launch.uses_base else [])}}
    blender = FusedBlender(options, DEVICE)
    assert blender.write({SLOT: launch}, [(SLOT, taking_part)], {SLOT: Target(live, store, rows)}) is None
    return live


def plain(
    method: str, base: Tensor, parents: list[Tensor], ratios: dict[str, Ratio], options: Options = DEFAULTS
) -> Tensor:
    """What the plain formula makes on a CPU, as float32."""
    on_cpu = {name: parent.cpu() for name, parent in zip(ratios, parents, strict=True)}
    return blend_slot(method, base.cpu(), on_cpu, ratios, seed=SEED, slot=str(SLOT), options=options)


def same_bits(one: Tensor, other: Tensor) -> bool:
    integers = INTEGERS[one.element_size()]
    return one.dtype == other.dtype and torch.equal(one.cpu().view(integers), other.cpu().view(integers))


@every_kernel
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_kernel_has_the_bits_of_its_plain_formula(method: str, dtype: torch.dtype, count: int) -> None:
    base, *parents = make_tensors(count, dtype)
    ratios = make_ratios(count)
    wanted = plain(method, base, parents, ratios).to(dtype)
    assert same_bits(blend(method, base, parents, ratios), wanted)
    assert not torch.equal(wanted, base.cpu())


@every_kernel
@pytest.mark.parametrize("density", [1.0, 1.0 - 2.0**-40, 0.999, 0.01])
def test_any_density_gives_the_plain_formulas_bits(method: str, density: float) -> None:
    base, *parents = make_tensors(2)
    ratios = make_ratios(2, density=density)
    assert same_bits(blend(method, base, parents, ratios), plain(method, base, parents, ratios).bfloat16())


@pytest.mark.parametrize("element", [0, 1, 2050, LENGTH - 1])
def test_a_mask_keeps_an_element_from_the_very_density_on_that_the_plain_one_does(element: int) -> None:
    base, *parents = make_tensors(1)
    number = float(uniform(SEED, "p0", str(SLOT), LENGTH)[element])
    kept = []
    for density in (number, number + 2.0**-32):
        ratios = {"p0": Ratio(1.0, density)}
        blended = blend("dare", base, parents, ratios)
        assert same_bits(blended, plain("dare", base, parents, ratios).bfloat16())
        kept.append(not torch.equal(blended[element], base[element]))
    assert kept == [False, True] or torch.equal(parents[0][element], base[element])


@every_kernel
@pytest.mark.parametrize("length", [1, 2, 255, device_cuts.BLOCK, device_cuts.BLOCK + 1])
def test_any_length_gives_the_plain_formulas_bits(method: str, length: int) -> None:
    base, *parents = make_tensors(3, length=length)
    ratios = make_ratios(3, density=1.0) if length < 255 else make_ratios(3)
    assert same_bits(blend(method, base, parents, ratios), plain(method, base, parents, ratios).bfloat16())


def option_sets(method: str) -> Iterator[Options]:
    """Every combination of a method's options, but for `rescale: l1`."""
    of_options = {
        "normalize": (None, True, False),
        "rescale": (None, True, False),
        "lambda_": (1.0, 0.3),
        "majority_sign_method": ("total", "frequency"),
        "majority_sign_tie": ("drop", "positive"),
    }
    used = [name for name in of_options if name.rstrip("_") in METHODS[method].options]
    for values in product(*(of_options[name] for name in used)):
        options = Options(**dict(zip(used, values, strict=True)))
        if has_launch(method, options):
            yield options


# Cuts take the interpreter long, and do not depend on these options.
@pytest.mark.parametrize("method", [method for method in ONE_PASS if method not in CUTTING] + ["ties"])
def test_every_combination_of_options_gives_the_plain_formulas_bits(method: str) -> None:
    base, *parents = make_tensors(3, length=600)
    for options in option_sets(method):
        if method == "ties" and IS_INTERPRETED and options.normalize is False:
            continue  # as None
        for count in (1, 3):
            ratios = make_ratios(count)
            wanted = plain(method, base, parents[:count], ratios, options).bfloat16()
            assert same_bits(blend(method, base, parents[:count], ratios, options), wanted), options


@every_kernel
def test_weights_of_0_give_the_base_and_of_1_the_one_parent_bit_for_bit(method: str) -> None:
    base, *parents = make_tensors(2)
    alone = {"p0": Ratio(0.0, 0.5), "p1": Ratio(1.0)}
    assert same_bits(blend(method, base, parents, alone), parents[1])
    nothing = {"p0": Ratio(0.0, 0.5), "p1": Ratio(0.0)}
    if METHODS[method].uses_base:
        assert same_bits(blend(method, base, parents, nothing), base)
        assert same_bits(blend(method, base, parents, nothing, Options(lambda_=0.5)), base)
    else:
        with pytest.raises(VlmMergeError, match="linear divides by the sum of the weights, and they sum to 0"):
            blend(method, base, parents, nothing)


@pytest.mark.parametrize(("store", "live"), list(product(DTYPES, DTYPES)), ids=str)
def test_results_are_rounded_to_the_stored_dtype_before_the_live_one(store: torch.dtype, live: torch.dtype) -> None:
    base, *parents = make_tensors(2, torch.float32, length=3001)
    ratios = make_ratios(2)
    wanted = plain("dare_ties", base, parents, ratios).to(store).to(live)
    target = torch.zeros(3001, dtype=live, device=DEVICE)
    assert same_bits(blend("dare_ties", base, parents, ratios, store=store, live=target), wanted)


def test_rounding_goes_to_the_nearest_and_of_two_as_near_to_the_even_one() -> None:
    upper = torch.randint(-(2**15), 2**15, (LENGTH,), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=torch.int32).repeat(LENGTH)[:LENGTH]
    values = (upper << 16 | lower).view(torch.float32)
    values = torch.where(values.abs() < 1e38, values, 1.0).to(DEVICE)
    assert same_bits(
        blend("linear", values, [values], {"p0": Ratio()}, store=torch.bfloat16), values.bfloat16().float()
    )
    small = torch.where(values.abs() < 6e4, values, 1.0)
    assert same_bits(blend("linear", small, [small], {"p0": Ratio()}, store=torch.float16), small.half().float())


@pytest.mark.parametrize("num_blocks", [1, 2])
@pytest.mark.parametrize("densities", [(0.3, 0.7), (0.5, 0.95)])
@pytest.mark.parametrize("method", CUTTING)
def test_where_all_magnitudes_are_equal_the_first_elements_are_kept(
    method: str, densities: tuple[float, float], num_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the last of them lies: in each block, of regions of one block and of two."""
    monkeypatch.setattr(device_cuts, "SMALLEST_REGION", num_blocks * device_cuts.BLOCK)
    base = torch.zeros(LENGTH, dtype=torch.bfloat16, device=DEVICE)
    parents = [base + 0.5, base - 0.25]
    ratios = {"p0": Ratio(0.5, densities[0], 0.1), "p1": Ratio(0.5, densities[1], 0.05)}
    assert same_bits(blend(method, base, parents, ratios), plain(method, base, parents, ratios).bfloat16())


@pytest.mark.parametrize("method", CUTTING)
def test_a_cut_below_the_smallest_change_keeps_all_changes(method: str) -> None:
    base, *parents = make_tensors(2)
    parents = [torch.where(torch.arange(LENGTH, device=DEVICE) % 9 == 0, parent, base) for parent in parents]
    ratios = make_ratios(2, density=0.5)
    assert same_bits(blend(method, base, parents, ratios), plain(method, base, parents, ratios).bfloat16())


def test_one_table_of_a_parent_serves_every_density() -> None:
    base, *parents = make_tensors(2)
    blender = FusedBlender(DEFAULTS, DEVICE)
    tables: list[Tensor] = []
    for density in (0.9, 0.05, 0.5):
        ratios, live = make_ratios(2, density=density), torch.zeros_like(base)
        launch = plan_launch("ties", SEED, DEFAULTS, str(SLOT), LENGTH, ratios)
        assert launch is not None
        tensors = {"base": base, "p0": parents[0], "p1": parents[1]}
        blender.write({SLOT: launch}, [(SLOT, tensors)], {SLOT: Target(live, base.dtype)})
        assert same_bits(live, plain("ties", base, parents, ratios).bfloat16())
        tables = tables or list(blender._tables.values())
        assert all(one is other for one, other in zip(blender._tables.values(), tables, strict=True))


def test_a_slot_whose_cut_leaves_nothing_is_the_plain_formulas() -> None:
    assert plan_launch("ties", 0, DEFAULTS, "s", 9, {"p0": Ratio(1.0, 0.1), "p1": Ratio(1.0, 0.9)}) is None
    assert plan_launch("ties", 0, DEFAULTS, "s", 9, {"p0": Ratio(1.0, 0.2), "p1": Ratio(1.0, 0.9)}) is not None


@pytest.mark.parametrize("num_live", [40, 25])
def test_compact_rows_go_to_their_live_rows_and_nowhere_else(num_live: int) -> None:
    width, rows = 257, torch.tensor([0, 3, 4, 9, 20, 21, 30, 39], device=DEVICE)
    base, *parents = (tensor.view(-1, width) for tensor in make_tensors(2, length=len(rows) * width))
    ratios = make_ratios(2)
    live = torch.full((num_live, width), 9.0, dtype=torch.bfloat16, device=DEVICE)
    blend("dare", base, parents, ratios, live=live, rows=rows)
    there = rows[rows < num_live]
    wanted = torch.full((num_live, width), 9.0, dtype=torch.bfloat16)
    wanted[there.cpu()] = plain("dare", base, parents, ratios).bfloat16()[: len(there)]
    assert same_bits(live, wanted)


def test_a_live_tensor_with_fewer_rows_takes_the_first_ones() -> None:
    base, *parents = (tensor.view(-1, 100) for tensor in make_tensors(2, length=5000))
    live = torch.zeros(33, 100, dtype=torch.bfloat16, device=DEVICE)
    blend("linear", base, parents, make_ratios(2), live=live)
    assert same_bits(live, plain("linear", base, parents, make_ratios(2)).bfloat16()[:33])


@every_kernel
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_told_by_its_slot(method: str, bad: float) -> None:
    """In the last element of the second of three slots."""
    slots = [Slot(layer, "mlp.up_proj.weight") for layer in range(3)]
    base, *parents = make_tensors(2, length=601)
    parents[1][600] = bad
    good = [base, base]
    ratios = make_ratios(2, density=0.9, gamma=0.02)
    launch = plan_launch(method, SEED, DEFAULTS, "s", 601, ratios)
    assert launch is not None
    by_slot = [{"base": base, "p0": p0, "p1": p1} for p0, p1 in (good, parents, good)]
    targets = {slot: Target(torch.zeros_like(base), base.dtype) for slot in slots}
    blender = FusedBlender(DEFAULTS, DEVICE)
    tensors = zip(slots, by_slot, strict=True)
    assert blender.write(dict.fromkeys(slots, launch), tensors, targets) == slots[1]


@pytest.mark.parametrize("store", DTYPES, ids=str)
def test_the_largest_number_of_the_stored_dtype_is_finite_and_what_rounds_beyond_is_not(store: torch.dtype) -> None:
    largest = torch.tensor(torch.finfo(store).max)
    above = torch.tensor([LIMITS[store]], dtype=torch.int32).view(torch.float32)
    below = torch.tensor([LIMITS[store] - 1], dtype=torch.int32).view(torch.float32)
    assert not above.to(store).isfinite() and torch.equal(below.to(store), largest.to(store)[None])
    launch = plan_launch("linear", SEED, DEFAULTS, "s", 1, {"p0": Ratio()})
    assert launch is not None
    for value, wanted in ((below, None), (above, SLOT), (-below, None), (-above, SLOT)):
        target = Target(torch.zeros(1, device=DEVICE), store)
        faulty = FusedBlender(DEFAULTS, DEVICE).write(
            {SLOT: launch}, [(SLOT, {"p0": value.to(DEVICE)})], {SLOT: target}
        )
        assert faulty == wanted


@pytest.mark.parametrize("method", METHODS)
def test_only_what_needs_no_norms_of_a_slot_has_a_kernel(method: str) -> None:
    assert has_launch(method, DEFAULTS) == (method in ONE_PASS)
    has_rescale = "rescale" in METHODS[method].options
    assert has_launch(method, Options(rescale="l1")) == (method in ONE_PASS and not has_rescale)
    assert has_launch(method, Options(rescale=True)) == (method in ONE_PASS and method not in CUTTING)


def make_live_blender(method: str, dtype: torch.dtype = torch.bfloat16) -> LiveBlender:
    """Three slots, one of them too short for a cut to leave anything, with rows that are live rows 1, 4, 5 and 8."""
    shapes = {Slot(None, "embed_tokens.weight"): (4, 300), SLOT: (3, 500), Slot(None, "norm.weight"): (3,)}
    towers: list[dict[Slot, Tensor]] = [{} for _ in range(3)]
    for number, (slot, shape) in enumerate(shapes.items()):
        made = make_tensors(2, dtype, math.prod(shape), seed=number)
        for tower, tensor in zip(towers, made, strict=True):
            tower[slot] = tensor.view(shape)
    live_shapes = {slot: (9, *shape[1:]) if slot.has_token_rows else shape for slot, shape in shapes.items()}
    live = {slot: torch.nn.Parameter(torch.zeros(shape, device=DEVICE)) for slot, shape in live_shapes.items()}
    rows = torch.tensor([1, 4, 5, 8], device=DEVICE)
    base, vlm, ja = towers
    stores = dict.fromkeys(shapes, dtype)
    return LiveBlender(method, SEED, base, {"p0": vlm, "p1": ja}, live, stores, token_rows=rows)


@pytest.mark.parametrize("is_sent", [False, True])
@every_kernel
def test_a_live_model_gets_the_bits_of_the_export_by_kernels(
    method: str, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where the model runs, and sent slot by slot."""
    if is_sent:
        monkeypatch.setattr(LiveBlender, "_on_device", lambda _, sources: send_ahead(list(sources.items()), DEVICE))
    blender = make_live_blender(method)
    ratios = dict.fromkeys(blender.live, make_ratios(2, density=0.3))
    with torch.no_grad():
        blender._write_fused(list(blender.live), ratios)
    for slot, parameter in blender.live.items():
        parents = {name: tower[slot].cpu() for name, tower in blender.parents.items()}
        base = blender.base[slot].cpu()
        wanted = blend_slot(method, base, parents, ratios[slot], seed=SEED, slot=str(slot)).bfloat16()
        written = parameter.detach().cpu()
        if slot.has_token_rows:
            others = [0, 2, 3, 6, 7]
            assert not written[others].any()
            written = written[[1, 4, 5, 8]]
        assert same_bits(written, wanted.float())


def test_by_kernels_too_only_changed_slots_are_blended_and_a_failed_candidate_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch does not count what kernels write. Writing nothing at all was once an error."""
    monkeypatch.setattr(LiveBlender, "_write", LiveBlender._write_fused)
    blender = make_live_blender("dare_ties", torch.float16)
    good = dict.fromkeys(blender.live, make_ratios(2))
    blender.write(good)
    wanted = {slot: parameter.detach().clone() for slot, parameter in blender.live.items()}
    for parameter in blender.live.values():
        parameter.data.fill_(7.0)
    blender.write(good)
    assert all(bool((parameter == 7.0).all()) for parameter in blender.live.values())
    with pytest.raises(VlmMergeError, match=r"layers\.3\.mlp\.gate_proj\.weight: .* not finite in torch\.float16"):
        blender.write({**dict.fromkeys(blender.live, make_ratios(2, weight=0.1)), SLOT: make_ratios(2, weight=1e7)})
    for slot, parameter in blender.live.items():
        parameter.data.fill_(0.0 if slot.has_token_rows else 7.0)
    blender.write(good)
    assert all(torch.equal(parameter, wanted[slot]) for slot, parameter in blender.live.items())


def test_a_kernels_value_that_is_not_finite_is_the_same_error_as_the_plain_formulas() -> None:
    blender = make_live_blender("dare_ties")
    blender.parents["p1"][SLOT][2, 3] = float("nan")
    ratios = dict.fromkeys(blender.live, make_ratios(2, density=1.0))
    errors = []
    for write in (blender._write_fused, blender._write_plainly):
        with torch.no_grad(), pytest.raises(VlmMergeError, match=r"layers\.3\.mlp\.gate_proj\.weight") as caught:
            write(list(blender.live), ratios)
        errors.append((str(caught.value), caught.value.details, caught.value.hint))
    assert errors[0] == errors[1]


@pytest.mark.skipif(IS_INTERPRETED, reason="there is no GPU")
@pytest.mark.parametrize("residency", ["device", "host"])
@every_kernel
def test_on_a_gpu_a_live_candidate_has_the_cpus_bits(method: str, residency: str) -> None:
    blender = make_live_blender(method)
    towers = [
        {slot: place(tensor.cpu(), DEVICE, residency) for slot, tensor in tower.items()}
        for tower in (blender.base, *blender.parents.values())
    ]
    blender = replace(blender, base=towers[0], parents=dict(zip(blender.parents, towers[1:], strict=True)))
    for density in (0.3, 0.7):
        ratios = dict.fromkeys(blender.live, make_ratios(2, density=density))
        blender.write(ratios)
        for slot, parameter in blender.live.items():
            base = blender.base[slot].cpu()
            parents = {name: tower[slot].cpu() for name, tower in blender.parents.items()}
            wanted = blend_slot(method, base, parents, ratios[slot], seed=SEED, slot=str(slot)).bfloat16().float()
            written = parameter.detach().cpu()
            assert same_bits(written[[1, 4, 5, 8]] if slot.has_token_rows else written, wanted)


COMPILE = """
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vlmmerge.blend import kernels

signature = {name: f"*{dtype}" for name, dtype in (
    ("live", "bf16"), ("base", "bf16"), ("numbers", "fp32"), ("integers", "i64"), ("cuts", "i32"), ("places", "i64"),
    ("rows", "i64"), ("fault", "i32"))}
signature |= {"parents": ("*bf16", "*bf16"), **dict.fromkeys(("num_elements", "num_live", "width"), "i32")}
fixed = {"USES_BASE": True, "ELECTS": True, "NORMALIZES": True, "COUNTS_SIGNS": False, "TIES_ARE_POSITIVE": False,
         "SCALES": True, "HAS_ROWS": False, "STORE": tl.bfloat16, "LIMIT": 0x7F7F8000, "BY_BITS": False,
         "BLOCK": 2048}
for sparsity in ("mask", "cut", "band"):
    constants = fixed | {"SPARSITY": sparsity}
    names = {name: "constexpr" for name in constants}
    ordered = {name: (signature | names)[name] for name in kernels.blend.arg_names}
    source = ASTSource(fn=kernels.blend, signature=ordered, constexprs=constants)
    for is_fused in (False, True):
        options = {"num_warps": 8, "enable_fp_fusion": is_fused}
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
        print(sparsity, is_fused, ptx.count("fma."), ptx.count(".ftz"), ptx.count("div.rn.f32") > 0,
              ptx.count("div.full") + ptx.count("div.approx"))
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="Triton's compiler is elsewhere")
def test_compiled_for_a_gpu_products_and_sums_round_apart_and_nothing_is_flushed_to_zero(tmp_path: Path) -> None:
    """Triton compiles for a GPU without one; with fusion, which must be off, it would fuse."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    script = tmp_path / "compile.py"
    script.write_text(COMPILE)  # Triton reads the source of what it compiles
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["mask", "mask", "cut", "cut", "band", "band"]
    for _, is_fused, num_fused, num_flushed, divides_to_nearest, num_inexact in lines:
        assert (int(num_fused) > 0) == (is_fused == "True")
        assert (num_flushed, divides_to_nearest, num_inexact) == ("0", "True", "0")


def test_kernels_are_not_launched_without_a_gpu() -> None:
    assert can_launch(torch.device("cpu")) is False
    assert not torch.cuda.is_available() or can_launch(torch.device("cuda"))
