"""A model over several places, as accelerate divides it, blends and answers as one that lies in one.

Real GPUs take no part: accelerate, transformers, caches, features and blends are real, and GPUs are pretended.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from torch import Tensor

from tests.generate.pretended import gpu, try_with_gpus
from vlmmerge.anatomy import Slot
from vlmmerge.blend.live import LiveBlender
from vlmmerge.blend.spread import SpreadBlender
from vlmmerge.evalsets import load
from vlmmerge.evaluate import Evaluator
from vlmmerge.generate import LiveVlm, Prompt, answering
from vlmmerge.generate.features import move
from vlmmerge.generate.placement import HOST, Placement
from vlmmerge.genome import Ratios
from vlmmerge.plan import make_plan
from vlmmerge.recipe import Generate, load_recipe

CPU, SETTINGS = torch.device("cpu"), Generate(max_new_tokens=4, batch_tokens=400)
EYES, MODEL = ("model.vision_tower", "model.multi_modal_projector"), "model.language_model"
FIRST = (*EYES, f"{MODEL}.embed_tokens", f"{MODEL}.rotary_emb", f"{MODEL}.layers.0")
LAST = (f"{MODEL}.layers.1", f"{MODEL}.norm", "lm_head")


def evaluator_of(folder: Path) -> Evaluator:
    overrides = ["generate.batch_tokens=400", "evalset.search.split=search_questions", "generate.question="]
    return Evaluator(make_plan(load_recipe(folder / "recipe.yaml", overrides)))


def some_ratios(evaluator: Evaluator) -> Ratios:
    return evaluator.plan.space.decode([0.1 * (gene % 10) for gene in range(len(evaluator.plan.space.genes))])


def blended(evaluator: Evaluator) -> dict[str, Tensor]:
    """Every live parameter after a blend, on the CPU."""
    evaluator.blender.write(some_ratios(evaluator))
    return {name: parameter.detach().cpu() for name, parameter in evaluator.vlm.parameters().items()}


def is_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def dispatch(vlm: LiveVlm, places: Mapping[str, torch.device | str], main: torch.device) -> None:
    """Divide a model as transformers does where it loads one with a device map."""
    keys = vlm.model._skip_keys_device_placement
    dispatch_model(vlm.model, dict(places), main_device=main, skip_keys=keys, force_hooks=True)


def on(prompt: Prompt, device: torch.device) -> Prompt:
    of_tokens = {name: value.to(device) for name, value in prompt.of_tokens.items()}
    return replace(
        prompt, token_ids=prompt.token_ids.to(device), seen=move(prompt.seen, device), of_tokens=of_tokens
    )  # fmt: skip


@pytest.mark.parametrize("second", [1, HOST], ids=["on two GPUs", "on a GPU and in host memory"])
@pytest.mark.parametrize("family", ["parents", "tied_parents"])
def test_a_model_over_several_devices_blends_and_answers_as_on_one(
    request: pytest.FixtureRequest, family: str, second: int | str
) -> None:
    """All that is scored: weights bit for bit, answers token for token; each layer is blended where it lives."""
    plain, spread = (evaluator_of(request.getfixturevalue(family)) for _ in range(2))
    weights = blended(plain)
    asked = [plain.search_exam.prompts, plain.held_out_exam.prompts]  # the first ones share pictures
    answers = [plain.vlm.answer(prompts) for prompts in asked]
    first = ("lm_head",) if family == "tied_parents" else ()  # lies with the embeddings

    def task() -> None:
        answering.PART = 1  # prompts are worked on one by one, and go on together
        other = gpu(second) if isinstance(second, int) else second
        dispatch(spread.vlm, dict.fromkeys(LAST, other) | dict.fromkeys((*FIRST, *first), gpu(0)), gpu(0))
        assert isinstance(spread.blender, SpreadBlender)
        devices = [part.live[slot].device for part in spread.blender.parts for slot in part.live]
        assert set(devices) == {gpu(0), torch.device(other)}
        assert any(parameter.is_meta for parameter in spread.vlm.model.parameters()) == (second == HOST)
        assert is_same(blended(spread), weights)
        assert spread.blender.distances == plain.blender.distances
        there = [[on(prompt, gpu(0)) for prompt in prompts] for prompts in asked]
        assert [spread.vlm.answer(prompts) for prompts in there] == answers

    assert try_with_gpus(task) == ""


def test_tensors_on_different_pretended_gpus_do_not_mix() -> None:
    """Else the test above would prove nothing."""

    def add() -> None:
        torch.ones(2).to(gpu(0)) + torch.ones(2).to(gpu(1))

    assert "tensors on pretended:0, pretended:1" in try_with_gpus(add)


@pytest.mark.parametrize("waiting", [False, True], ids=["all there", "some waiting"])
def test_accelerates_hooks_change_neither_features_nor_blends_nor_answers(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: bool
) -> None:
    """A CPU takes the GPU's place: blends are written to what waits in host memory, which is sent for each step."""
    plain, hooked = evaluator_of(parents), evaluator_of(parents)
    weights, answers = blended(plain), plain.vlm.answer(plain.search_exam.prompts)
    places = dict.fromkeys(FIRST, CPU) | dict.fromkeys((*EYES, *LAST), HOST if waiting else CPU)
    dispatch(hooked.vlm, places, CPU)
    assert any(parameter.is_meta for parameter in hooked.vlm.model.parameters()) == waiting
    assert hooked.vlm._digest == plain.vlm._digest
    assert is_same(blended(hooked), weights)
    monkeypatch.setenv("VLMMERGE_CACHE", str(tmp_path))  # these eyes have seen nothing yet
    assert hooked.vlm.answer(hooked.search_exam.prompts) == answers


@pytest.mark.parametrize(
    "places", [{"": HOST}, dict.fromkeys(FIRST, CPU) | dict.fromkeys(LAST, HOST)], ids=["one device", "some waiting"]
)
def test_what_transformers_loads_by_a_device_map_is_what_it_loads_without(
    parents: Path, monkeypatch: pytest.MonkeyPatch, places: Any
) -> None:
    """By one, a model that a GPU has room for goes there at once, and not by way of host memory."""
    plain = LiveVlm(parents / "vlm", SETTINGS)
    monkeypatch.setattr("vlmmerge.generate.live.place_model", lambda *_, **__: Placement(CPU, "", places))
    mapped = LiveVlm(parents / "vlm", SETTINGS)
    assert any(parameter.is_meta for parameter in mapped.model.parameters()) == mapped.placement.is_spread
    assert is_same(mapped.parameters(), plain.parameters())
    samples = load("ja-scenes", "search", 3)
    assert mapped.answer(mapped.prepare(samples)) == plain.answer(plain.prepare(samples))


def test_a_blender_of_several_parts_is_one(parents: Path) -> None:
    plain, parted = evaluator_of(parents), evaluator_of(parents)
    whole = parted.blender
    assert isinstance(whole, LiveBlender)
    slots = sorted(whole.live)
    halves = [slots[: len(slots) // 2], slots[len(slots) // 2 :]]

    def part(slots: list[Slot]) -> LiveBlender:
        of_slots = {name: {slot: tower[slot] for slot in slots} for name, tower in whole.parents.items()}
        return replace(
            whole, base={slot: whole.base[slot] for slot in slots}, parents=of_slots,
            live={slot: whole.live[slot] for slot in slots}, store_dtypes={s: whole.store_dtypes[s] for s in slots},
        )  # fmt: skip

    spread = SpreadBlender([part(half) for half in halves])
    spread.write(some_ratios(parted))
    assert is_same({name: p.detach() for name, p in parted.vlm.parameters().items()}, blended(plain))
    assert spread.distances == whole.distances
