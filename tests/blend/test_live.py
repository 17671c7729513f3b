"""Blending into a live model: what is scored is what ships, and nothing resident is touched."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vlmmerge.anatomy import Slot
from vlmmerge.blend import METHODS, Options, blend_slot, live
from vlmmerge.blend.live import LiveBlender
from vlmmerge.errors import VlmMergeError
from vlmmerge.finite import is_finite
from vlmmerge.genome import Ratio, Ratios, build_space
from vlmmerge.ratios import fixed_ratios

RANGES = {"weight": (0.0, 1.5), "density": (0.1, 1.0), "gamma": (0.0, 0.05), "epsilon": (0.0, 0.15)}


class Tower(nn.Module):
    """A toy language tower of two layers; the head may be tied to the embeddings."""

    def __init__(self, *, is_tied: bool = False) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(19, 8)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q_proj": nn.Linear(8, 8, bias=False), "up_proj": nn.Linear(8, 12, bias=False)})
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(8, bias=False)
        self.lm_head = nn.Linear(8, 19, bias=False)
        if is_tied:
            self.lm_head.weight = self.embed_tokens.weight

    def parameters_by_slot(self) -> dict[Slot, nn.Parameter]:
        """As `named_parameters`, which leaves out the tied duplicate."""
        roles = {"q_proj": "self_attn.q_proj", "up_proj": "mlp.up_proj"}
        by_slot = {}
        for name, parameter in self.named_parameters():
            _, layer, role, *_ = [*name.split("."), "", ""]
            is_layer = name.startswith("layers.")
            slot = Slot(int(layer), f"{roles[role]}.weight") if is_layer else Slot(None, name)
            by_slot[slot] = parameter
        return by_slot


def resident(dtype: torch.dtype, seed: int, *, is_tied: bool = False) -> dict[Slot, Tensor]:
    torch.manual_seed(seed)
    slots = Tower(is_tied=is_tied).parameters_by_slot()
    return {slot: torch.randn(parameter.shape).to(dtype) for slot, parameter in slots.items()}


def make_blender(
    method: str = "task_arithmetic",
    *,
    dtype: torch.dtype = torch.bfloat16,
    live_dtype: torch.dtype = torch.float32,
    is_tied: bool = False,
) -> LiveBlender:
    live = Tower(is_tied=is_tied).to(live_dtype).parameters_by_slot()
    base, vlm, ja = (resident(dtype, seed, is_tied=is_tied) for seed in range(3))
    return LiveBlender(method, 5, base, {"vlm": vlm, "ja": ja}, live, dict.fromkeys(live, dtype))


def some_ratios(blender: LiveBlender, weight: float = 0.6, density: float = 0.5) -> Ratios:
    fixed: dict[str, dict[str, float | list[float]]] = {
        "vlm": {"weight": [0.4, 1.1], "density": density},
        "ja": {"weight": weight, "density": density},
    }
    return fixed_ratios(blender.live, ["vlm", "ja"], fixed)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("live_dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_written_equals_what_is_exported_bit_for_bit(
    method: str, dtype: torch.dtype, live_dtype: torch.dtype
) -> None:
    blender = make_blender(method, dtype=dtype, live_dtype=live_dtype)
    ratios = some_ratios(blender)
    blender.write(ratios)
    exported = dict(blender.tensors(ratios))
    assert list(exported) == list(blender.live)
    for slot, tensor in exported.items():
        assert tensor.dtype == dtype
        assert torch.equal(blender.live[slot].to(dtype), tensor)
        assert torch.equal(blender.live[slot], tensor.to(live_dtype))


@pytest.mark.parametrize("method", METHODS)
def test_each_slot_is_blended_under_its_own_name_and_scored_with_the_files_precision(method: str) -> None:
    blender = make_blender(method, dtype=torch.bfloat16, live_dtype=torch.float32)
    ratios = some_ratios(blender)
    blender.write(ratios)
    for slot, parameter in blender.live.items():
        parents = {name: tower[slot] for name, tower in blender.parents.items()}
        exact = blend_slot(method, blender.base[slot], parents, ratios[slot], seed=5, slot=str(slot))
        assert not torch.equal(parameter, exact)
        assert torch.equal(parameter, exact.bfloat16().float())


@pytest.mark.parametrize("method", METHODS)
def test_the_vlm_alone_comes_back_bit_for_bit(method: str) -> None:
    blender = make_blender(method)
    ones = {"vlm": {"weight": 1.0}, "ja": {"weight": 0.0}}
    for slot, tensor in blender.tensors(fixed_ratios(blender.live, ["vlm", "ja"], ones)):
        assert torch.equal(tensor.view(torch.int16), blender.parents["vlm"][slot].view(torch.int16))


@pytest.mark.parametrize("method", METHODS)
def test_a_candidate_does_not_depend_on_the_ones_before_it(method: str) -> None:
    blender = make_blender(method)
    space = build_space(blender.live, ["vlm", "ja"], "per_layer", None, RANGES, METHODS[method].parameters)
    genomes = [[0.1 + 0.8 * ((7 * i + k) % 10) / 10 for i in range(len(space.genes))] for k in range(3)]
    kept = []
    for genome in [*genomes, *reversed(genomes)]:
        blender.write(space.decode(genome))
        kept.append({slot: parameter.detach().clone() for slot, parameter in blender.live.items()})
    for first, again in zip(kept, reversed(kept), strict=True):
        assert all(torch.equal(first[slot], again[slot]) for slot in first)
    assert all(torch.equal(kept[0][slot], kept[1][slot]) for slot in kept[0]) == (not space.genes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_a_gpu_without_kernels_writes_in_pieces_is_the_same(
    method: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PIECE", 20)  # elements: two rows of most of these slots
    blender = make_blender(method, dtype=dtype)
    ratios = some_ratios(blender)
    with torch.no_grad():
        blender._write_plainly(list(blender.live), ratios)
    for slot, tensor in blender.tensors(ratios):
        assert torch.equal(blender.live[slot].to(dtype), tensor)


def poison(blender: LiveBlender, slots: Iterable[Slot]) -> None:
    """Overwrite live parameters behind torch's back, which counts no change through `data`."""
    for slot in slots:
        blender.live[slot].data.fill_(7.0)


@pytest.mark.parametrize("method", METHODS)
def test_only_slots_whose_ratios_changed_are_blended_again(method: str) -> None:
    blender = make_blender(method)
    first = some_ratios(blender)
    blender.write(first)
    changed = Slot(1, "mlp.up_proj.weight")
    second = {**first, changed: {**first[changed], "ja": Ratio(0.3, 0.4)}}
    poison(blender, blender.live)
    blender.write(second)
    wanted = dict(blender.tensors(second))
    for slot, parameter in blender.live.items():
        assert torch.equal(parameter, wanted[slot].float() if slot == changed else torch.full_like(parameter, 7.0))
    poison(blender, blender.live)
    blender.write(first)
    assert [slot for slot, parameter in blender.live.items() if not bool((parameter == 7.0).all())] == [changed]


def test_a_live_parameter_that_someone_else_changed_is_written_again() -> None:
    blender = make_blender()
    ratios, slot = some_ratios(blender), Slot(0, "self_attn.q_proj.weight")
    blender.write(ratios)
    with torch.no_grad():
        blender.live[slot][2, 3] = 7.0
    blender.write(ratios)
    assert torch.equal(blender.live[slot], dict(blender.tensors(ratios))[slot].float())


def test_ratios_that_are_changed_in_place_are_seen() -> None:
    blender = make_blender()
    ratios, slot = some_ratios(blender), Slot(0, "self_attn.q_proj.weight")
    blender.write(ratios)
    ratios[slot]["ja"] = Ratio(0.1)
    blender.write(ratios)
    assert torch.equal(blender.live[slot], dict(blender.tensors(ratios))[slot].float())


def test_what_a_failed_candidate_has_written_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its writes are not counted by torch, as those of kernels are not."""

    def write_uncounted(self: LiveBlender, slots: Sequence[Slot], ratios: Ratios) -> None:
        for slot, tensor in self.tensors(ratios):
            if slot in slots:
                self.live[slot].data.copy_(tensor)

    monkeypatch.setattr(LiveBlender, "_write", write_uncounted)
    blender = make_blender(dtype=torch.float16)
    good = some_ratios(blender)
    blender.write(good)
    wanted = {slot: parameter.detach().clone() for slot, parameter in blender.live.items()}
    last = list(blender.live)[-1]
    bad = {slot: {**of_slot, "ja": Ratio(1e6 if slot == last else 0.1)} for slot, of_slot in good.items()}
    with pytest.raises(VlmMergeError, match=r"not finite in torch\.float16"):
        blender.write(bad)
    assert not torch.equal(blender.live[Slot(0, "mlp.up_proj.weight")], wanted[Slot(0, "mlp.up_proj.weight")])
    blender.write(good)
    assert all(torch.equal(parameter, wanted[slot]) for slot, parameter in blender.live.items())


def test_the_options_of_the_blend_reach_every_slot() -> None:
    plain = make_blender("ties")
    halved = replace(plain, options=Options(lambda_=0.5))
    ratios = some_ratios(plain)
    for (slot, whole), (_, half) in zip(plain.tensors(ratios), halved.tensors(ratios), strict=True):
        base = plain.base[slot].float()
        torch.testing.assert_close(half.float() - base, (whole.float() - base) / 2, rtol=0.02, atol=0.02)
        parents = {name: tower[slot] for name, tower in plain.parents.items()}
        exact = blend_slot("ties", base, parents, ratios[slot], seed=5, slot=str(slot), options=Options(lambda_=0.5))
        assert torch.equal(half, exact.bfloat16())


def test_writing_leaves_the_parents_and_the_parameters_identity_alone() -> None:
    blender = make_blender("dare_ties")
    before = {slot: tensor.clone() for slot, tensor in blender.parents["vlm"].items()}
    addresses = [parameter.data_ptr() for parameter in blender.live.values()]
    blender.write(some_ratios(blender))
    assert all(torch.equal(blender.parents["vlm"][slot], before[slot]) for slot in before)
    assert [parameter.data_ptr() for parameter in blender.live.values()] == addresses
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in blender.live.values())


def test_parents_that_require_gradients_are_blended_without_a_graph() -> None:
    live = Tower().parameters_by_slot()
    base, vlm, ja = (Tower().parameters_by_slot() for _ in range(3))
    blender = LiveBlender("ties", 0, base, {"vlm": vlm, "ja": ja}, live, dict.fromkeys(live, torch.float32))
    assert not any(tensor.requires_grad for _, tensor in blender.tensors(some_ratios(blender)))


def test_a_tied_head_follows_the_embeddings_when_its_slot_is_left_out() -> None:
    tower = Tower(is_tied=True)
    live = tower.parameters_by_slot()
    assert Slot(None, "lm_head.weight") not in live
    base, vlm, ja = (resident(torch.float32, seed, is_tied=True) for seed in range(3))
    blender = LiveBlender("linear", 0, base, {"vlm": vlm, "ja": ja}, live, dict.fromkeys(live, torch.float32))
    blender.write(fixed_ratios(live, ["vlm", "ja"], {"vlm": {"weight": 0.0}, "ja": {"weight": 1.0}}))
    assert torch.equal(tower.lm_head.weight, ja[Slot(None, "embed_tokens.weight")])


def test_compact_embeddings_are_written_to_their_rows_and_nowhere_else() -> None:
    live, rows = Tower().parameters_by_slot(), torch.tensor([1, 4, 5, 18])
    before = {slot: parameter.detach().clone() for slot, parameter in live.items()}
    base, vlm, ja = (
        {
            slot: tensor[rows] if slot.has_token_rows else tensor
            for slot, tensor in resident(torch.float32, seed).items()
        }
        for seed in range(3)
    )
    blender = LiveBlender(
        "ties", 5, base, {"vlm": vlm, "ja": ja}, live, dict.fromkeys(live, torch.float32), token_rows=rows
    )
    ratios = some_ratios(blender)
    blender.write(ratios)
    others = [row for row in range(19) if row not in rows]
    for slot, tensor in blender.tensors(ratios):
        if slot.has_token_rows:
            assert torch.equal(live[slot][rows], tensor) and torch.equal(live[slot][others], before[slot][others])
        else:
            assert torch.equal(live[slot], tensor)
    with pytest.raises(AssertionError, match=r"embed_tokens\.weight: live \(19, 8\), resident \[\(4, 8\)"):
        LiveBlender("ties", 5, base, {"vlm": vlm, "ja": ja}, live, blender.store_dtypes, token_rows=rows[:3])


def test_two_slots_with_one_live_parameter_are_refused() -> None:
    live = Tower(is_tied=True).parameters_by_slot()
    live[Slot(None, "lm_head.weight")] = live[Slot(None, "embed_tokens.weight")]
    base = resident(torch.float32, 0)
    with pytest.raises(AssertionError, match="two slots share one live parameter"):
        LiveBlender("linear", 0, base, {"vlm": resident(torch.float32, 1)}, live, dict.fromkeys(live, torch.float32))


def test_a_resident_parent_that_is_the_live_model_itself_is_refused() -> None:
    live = Tower().parameters_by_slot()
    vlm = {slot: parameter.detach() for slot, parameter in live.items()}
    with pytest.raises(AssertionError, match="copy it first"):
        LiveBlender("linear", 0, resident(torch.float32, 0), {"vlm": vlm}, live, dict.fromkeys(live, torch.float32))


def test_a_resident_tensor_of_another_shape_is_refused_by_name() -> None:
    blender = make_blender()
    slot = Slot(1, "mlp.up_proj.weight")
    base = {**blender.base, slot: torch.zeros(3, 3)}
    with pytest.raises(AssertionError, match=r"layers\.1\.mlp\.up_proj\.weight: live \(12, 8\), resident \[\(3, 3\)"):
        LiveBlender("linear", 0, base, blender.parents, blender.live, blender.store_dtypes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_blend_that_is_not_finite_is_an_error_that_names_the_slot(method: str, bad: float) -> None:
    blender = make_blender(method)
    slot = Slot(1, "self_attn.q_proj.weight")
    blender.parents["ja"][slot][3, 4] = bad
    ratios = some_ratios(blender)
    for use in (blender.write, lambda r: list(blender.tensors(r))):
        with pytest.raises(VlmMergeError, match=r"layers\.1\.self_attn\.q_proj\.weight: blending by") as caught:
            use(ratios)
        assert "not finite in torch.bfloat16" in str(caught.value)
        assert "ja: weight 0.6, density 0.5" in caught.value.details


def test_overflow_of_the_store_dtype_is_caught_though_float32_could_hold_it() -> None:
    blender = make_blender(dtype=torch.float16)
    with pytest.raises(VlmMergeError, match=r"not finite in torch\.float16"):
        blender.write(some_ratios(blender, weight=1e6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("count", [1, 7, 64, 1001])
def test_is_finite_finds_a_single_bad_value_anywhere(dtype: torch.dtype, count: int) -> None:
    largest = torch.full((count,), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(largest)
    assert is_finite(-largest)
    for position in {0, count // 2, count - 1}:
        for bad in (float("nan"), float("inf"), -float("inf")):
            tensor = largest.clone()
            tensor[position] = bad
            assert not is_finite(tensor)
