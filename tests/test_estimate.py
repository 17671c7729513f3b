"""estimate.py: where the weights will lie, told before one is read."""

from pathlib import Path

import pytest

from vlmmerge.errors import VlmMergeError
from vlmmerge.estimate import describe_plan, memory_bytes, times_asked
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe


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


@pytest.mark.parametrize("residency", ["auto", "device", "host"])
@pytest.mark.parametrize("actors", [0, 1, 3])
def test_without_a_gpu_all_weights_are_in_one_memory_for_each_actor(parents: Path, residency: str, actors: int) -> None:
    vlm, towers = sizes(parents)
    plan = plan_of(parents, f"blend.residency={residency}", f"search.actors={actors}")
    assert memory_bytes(plan, None) == ((vlm + towers) * max(actors, 1), 0)


def test_parents_that_a_gpu_has_no_room_for_beside_the_model_are_counted_in_host_memory(parents: Path) -> None:
    vlm, towers = sizes(parents)
    enough = vlm + int(towers / 0.8) + 1
    plan = plan_of(parents)
    assert memory_bytes(plan, enough) == (vlm + towers, 0)
    on_device, on_host = memory_bytes(plan, enough - 2)
    assert on_host == towers and vlm < on_device < vlm + towers
    assert memory_bytes(plan_of(parents, "blend.residency=host"), 10 * enough) == (on_device, on_host)
    assert memory_bytes(plan_of(parents, "search.actors=2"), enough) == (2 * on_device, 2 * on_host)


def test_a_gpu_that_is_to_hold_the_parents_and_is_too_small_is_told_before_anything_is_read(parents: Path) -> None:
    vlm, towers = sizes(parents)
    plan = plan_of(parents, "blend.residency=device")
    assert memory_bytes(plan, vlm + towers) == (vlm + towers, 0)
    with pytest.raises(VlmMergeError, match=r"blend\.residency: the parents' language towers need"):
        memory_bytes(plan, vlm + towers - 1)


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
    assert memory_bytes(plan, None) == (vlm + towers + 2 * base_bytes, 0)
    assert memory_bytes(plan, 10**9) == (vlm + towers, 0)
