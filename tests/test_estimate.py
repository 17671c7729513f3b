"""estimate.py: where the weights will lie, told before one is read."""

from pathlib import Path

import pytest
import torch

from vlmmerge.errors import VlmMergeError
from vlmmerge.estimate import describe_plan, times_asked, weights_by_place
from vlmmerge.generate.placement import Placement
from vlmmerge.generate.skeleton import make_skeleton
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe

CUDA = torch.device("cuda", 0)
ON_CPU, ON_GPU = Placement(torch.device("cpu"), ""), Placement(CUDA, "", {"": 0})
LAST = ("model.language_model.layers.1", "model.language_model.norm", "lm_head")
OVER_TWO = Placement(CUDA, "", {"": 0, **dict.fromkeys(LAST, 1)})


def plan_of(parents: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(parents / "recipe.yaml", overrides))


def sizes(parents: Path) -> tuple[int, int]:
    """The VLM parent's bytes, and those of all language towers."""
    plan = plan_of(parents)
    return plan.checkpoints["vlm"].num_bytes, plan.tower_bytes


def test_the_towers_are_all_of_the_llms_and_the_vlms_without_its_eyes(parents: Path) -> None:
    plan = plan_of(parents)
    llms = sum(plan.checkpoints[name].num_bytes for name in ("base", "ja"))
    of_vlm = plan.tower_bytes - llms
    assert 0.5 * llms / 2 < of_vlm < plan.checkpoints["vlm"].num_bytes


def held(plan: Plan, placement: Placement, **free: int) -> dict[str, int]:
    """Bytes of one process by device."""
    model = make_skeleton(plan.eyes.folder, plan.recipe.generate)
    gpus = {torch.device("cuda", int(name[-1])): number for name, number in free.items()}
    return {str(device): number for device, number in weights_by_place(plan, placement, model, gpus).items()}


@pytest.mark.parametrize("residency", ["auto", "device", "host"])
def test_without_a_gpu_all_weights_are_in_one_memory(parents: Path, residency: str) -> None:
    vlm, towers = sizes(parents)
    assert held(plan_of(parents, f"blend.residency={residency}"), ON_CPU) == {"cpu": vlm + towers}


def test_parents_that_a_gpu_has_no_room_for_beside_the_model_are_counted_in_host_memory(parents: Path) -> None:
    vlm, towers = sizes(parents)
    enough = vlm + int(towers / 0.8) + 1
    plan = plan_of(parents)
    assert held(plan, ON_GPU, gpu_0=enough) == {"cuda:0": vlm + towers}
    beside = held(plan, ON_GPU, gpu_0=enough - 2)
    assert beside["cpu"] == towers and vlm < beside["cuda:0"] < vlm + towers
    assert held(plan_of(parents, "blend.residency=host"), ON_GPU, gpu_0=10 * enough) == beside


def test_a_gpu_that_is_to_hold_the_parents_and_is_too_small_is_told_before_anything_is_read(parents: Path) -> None:
    vlm, towers = sizes(parents)
    plan = plan_of(parents, "blend.residency=device")
    assert held(plan, ON_GPU, gpu_0=vlm + towers) == {"cuda:0": vlm + towers}
    with pytest.raises(VlmMergeError, match=r"blend\.residency: the parents' language towers need"):
        held(plan, ON_GPU, gpu_0=vlm + towers - 1)


def test_each_gpu_has_the_parents_of_its_own_layers_while_it_has_room(parents: Path) -> None:
    vlm, towers = sizes(parents)
    plan = plan_of(parents)
    roomy = held(plan, OVER_TWO, gpu_0=10 * vlm, gpu_1=10 * vlm)
    assert set(roomy) == {"cuda:0", "cuda:1"} and sum(roomy.values()) == vlm + towers
    last = [slot for slot in plan.anatomy.slots if slot.layer == 1 or slot.role in ("norm.weight", "lm_head.weight")]
    tight = held(plan, OVER_TWO, gpu_0=10 * vlm, gpu_1=roomy["cuda:1"] - 1)
    assert tight["cuda:0"] == roomy["cuda:0"] and tight["cpu"] == plan.bytes_of(last)


def test_layers_that_wait_in_host_memory_have_their_parents_there(parents: Path) -> None:
    vlm, towers = sizes(parents)
    waiting = held(
        plan_of(parents), Placement(CUDA, "", {**OVER_TWO.device_map, "lm_head": "cpu"}), gpu_0=10**9, gpu_1=10**9
    )
    assert sum(waiting.values()) == vlm + towers and waiting["cpu"] > 0


def test_actors_are_counted_on_the_device_that_they_share(parents: Path) -> None:
    vlm, towers = sizes(parents)
    told = describe_plan(plan_of(parents, "search.actors=3", "generate.device=cpu"))
    assert told["device"].startswith("3 actors together, as the recipe says: cpu ")
    assert told["memory"] == f"{3 * (vlm + towers) / 2**30:.2f} GiB of weights"


QUESTIONS = ("evalset.search.split=search_questions", "generate.question=")
GUARDED = "score.guards={grounding: 0.1}"


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        ((), 1),
        ((GUARDED,), 1),  # of captions every answer with another picture is known
        (QUESTIONS, 1),
        ((*QUESTIONS, GUARDED), 2),
        ((QUESTIONS[0], GUARDED), 1),  # `generate.question` asks all the same
    ],
)
def test_a_guard_of_grounding_asks_questions_twice_and_captions_once(
    parents: Path, overrides: tuple[str, ...], times: int
) -> None:
    plan = plan_of(parents, *overrides)
    assert plan.recipe.evalset
    assert times_asked(plan.recipe.evalset.search, plan.recipe) == times


def test_a_dry_run_tells_objective_guards_and_the_samples_for_retention(parents: Path) -> None:
    retention = "evalset.retention={name: ja-scenes, split: held_out_english, samples: 3}"
    described = describe_plan(plan_of(parents, retention))
    assert described["score"] == "1 cider + 0.01 chrf; guards: none"
    assert described["samples"].endswith("3 for retention")
    guarded = describe_plan(plan_of(parents, "score="))["score"]
    assert guarded == "1 cider; guards: japanese 90, length_ratio 2, repetition 0.2, grounding 0.1"


def test_on_a_cpu_dellas_ranks_are_counted_two_bytes_an_element_and_parent(parents: Path) -> None:
    vlm, towers = sizes(parents)
    plan = plan_of(parents, "blend.method=della_ties")
    (base_bytes,) = {plan.checkpoints[name].num_bytes for name in ("base", "ja")}  # bfloat16: two bytes an element
    assert held(plan, ON_CPU) == {"cpu": vlm + towers + 2 * base_bytes}
    assert held(plan, ON_GPU, gpu_0=10**9) == {"cuda:0": vlm + towers}
