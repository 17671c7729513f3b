"""The bundled parents, their recipe and their world: what the README promises of them."""

import random
import sys
from pathlib import Path

import pytest
import torch

from vlmmerge.evalsets import load
from vlmmerge.evaluate import Evaluator
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PARENTS = ROOT / "recipes" / "demo-parents"


@pytest.fixture(scope="module")
def scenes():
    """The module tools/scenes.py, which is no part of the package."""
    sys.path.insert(0, str(ROOT / "tools"))
    import scenes

    yield scenes
    sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_recipe(ROOT / "recipes" / "demo.yaml", ["evalset.search.samples=8"]))


@pytest.fixture(scope="module")
def evaluator(plan: Plan) -> Evaluator:
    return Evaluator(plan)


def test_the_bundled_parents_are_small() -> None:
    assert sum(path.stat().st_size for path in PARENTS.rglob("*") if path.is_file()) <= 16 * 2**20


def test_the_bundled_vlm_answers_the_same_in_batches_of_1_and_of_64(evaluator: Evaluator) -> None:
    vlm, prompts = evaluator.vlm, evaluator.search_exam.prompts
    evaluator.blender.write(evaluator.plan.uniform({"vlm": 0.7, "ja-llm": 0.7}))
    together = vlm.answer(prompts)
    assert len(set(together)) > 1
    assert [vlm.answer([prompt])[0] for prompt in prompts] == together


def test_vlm_weight_1_and_llm_weight_0_is_the_bundled_vlm_bit_for_bit(evaluator: Evaluator, plan: Plan) -> None:
    vlm = plan.checkpoints["vlm"]
    for slot, tensor in evaluator.blender.tensors(plan.uniform({"vlm": 1.0})):
        assert torch.equal(tensor.view(torch.int32), vlm.read(plan.anatomy.keys["vlm"][slot]).view(torch.int32))


def test_a_scene_belongs_to_one_split_whichever_thing_is_named_first(scenes) -> None:
    rng = random.Random(7)
    for split in ("train", "search", "held_out"):
        for _ in range(50):
            scene = scenes.random_scene(rng, split)
            assert scenes.split_of(scene) == split
            if isinstance(scene, scenes.Pair):
                assert scenes.split_of(scene.turned()) == split


def test_every_japanese_caption_names_the_scenes_things_and_no_wording_is_said_twice(scenes) -> None:
    rng = random.Random(8)
    for _ in range(200):
        scene = scenes.random_scene(rng, "held_out")
        captions = scenes.japanese_captions(scene)
        assert len(set(captions)) == len(captions) >= 2
        assert all(thing.japanese() in caption for caption in captions for thing in scene.things)


def test_no_held_out_scene_is_in_the_search_split() -> None:
    captions = {
        split: {sample.references[0] for sample in load("ja-scenes", split)} for split in ("search", "held_out")
    }
    assert len(load("ja-scenes", "held_out")) >= 500
    assert not captions["search"] & captions["held_out"]


def test_drawing_the_first_held_out_picture_again_gives_its_captions(scenes) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    import make_ja_scenes

    rng = random.Random(f"{make_ja_scenes.SEED} held_out")
    row = make_ja_scenes.make_row("held_out-0000", scenes.random_scene(rng, "held_out"), rng)
    assert tuple(row["captions"]) == load("ja-scenes", "held_out", 1)[0].references
