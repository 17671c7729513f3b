"""What a run will cost, told before it begins: genes, candidates, memory, time. No weights are read.

Knows a plan and how fast this machine multiplies. The time is a rough estimate.
"""

import io
import math
import time
from typing import Any

import torch
from PIL import Image

from vlmmerge.anatomy import Slot
from vlmmerge.blend.residency import choose_residency, free_bytes
from vlmmerge.evalsets import Sample, find_split, load
from vlmmerge.generate import (
    best_device,
    chat,
    check_template,
    choose_attention,
    describe_device,
    device_of,
    load_processor,
)
from vlmmerge.plan import Plan
from vlmmerge.recipe import EvalsetChoice, Recipe, Score
from vlmmerge.run import grid_weights

GIB = 2**30
# What one decoding step of one batch costs in launching work. A guess from one profile (2026-11: 32 steps of 64 rows
# took 0.47 s on one core with the demo's 6 layers, prefill and products included); larger models and GPUs: unmeasured.
SECONDS_PER_STEP = 0.007
NUM_HELD_OUT_BLENDS = 6
USUAL_BATCH = 2**13  # tokens, where the search that a run begins with was not made yet
# Where only the hub knows: how many samples a split has, and how large its pictures are.
USUAL_SAMPLES, USUAL_PICTURE = 1000, (640, 480)
SAMPLES_ARE = {"search": "to search on", "finals": "for finals", "held_out": "held out", "retention": "for retention"}


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Parents, search space, candidates, memory in GiB and time, as plain values."""
    recipe = plan.recipe
    assert recipe.evalset and recipe.score
    num_grid = sum(1 for _ in grid_weights(plan))
    num_candidates = recipe.search.evaluations + 1
    choices = recipe.evalset.choices
    sizes = {key: choice.samples or num_samples(choice) for key, choice in choices.items()}
    num_finals = recipe.search.finalists + 1 + min(recipe.search.finalists, num_grid)
    times = {key: times_asked(choice, recipe) for key, choice in choices.items()}
    num_answers = (num_candidates + num_grid) * sizes["search"] * times["search"]
    num_answers += num_finals * sizes.get("finals", 0) * times.get("finals", 1)
    num_answers += NUM_HELD_OUT_BLENDS * sizes["held_out"] * times["held_out"]
    num_answers += NUM_HELD_OUT_BLENDS * sizes.get("retention", 0)
    seconds = seconds_per_sample(plan) * num_answers
    num_there, num_beside = memory_bytes(plan, free_bytes(device_of(recipe.generate)))
    return {
        "parents": {name: f"{c.name}, {c.num_bytes / 1e6:,.1f} MB" for name, c in plan.checkpoints.items()},
        "blend": f"{recipe.blend.method}, {len(plan.anatomy.slots)} slots in {plan.anatomy.num_layers} layers",
        "vocabulary": dict(plan.vocabulary.policy),
        "search space": plan.space.describe(),
        "search": f"{recipe.search.algorithm}, {num_candidates} candidates, {num_grid} blends of a grid",
        "score": _score(recipe.score),
        "samples": ", ".join(f"{number} {SAMPLES_ARE[key]}" for key, number in sizes.items()),
        "memory": _memory(num_there, num_beside),
        "device": describe_device(recipe.generate, num_there, num_beside),
        "attention": choose_attention(
            plan.eyes.folder, recipe.generate, device_of(recipe.generate), trusts_code=plan.trusts_code
        ),
        "time": f"about {_rounded(seconds)} on {device_of(recipe.generate).type}",
    }


def times_asked(choice: EvalsetChoice, recipe: Recipe) -> int:
    """How often a sample is asked, at the most: twice where grounding is guarded and each has a question of its own."""
    is_guarded = recipe.score is not None and "grounding" in recipe.score.limits
    has_own_questions = not recipe.generate.question and find_split(choice.name, choice.split)[1].kind != "captions"
    return 2 if is_guarded and has_own_questions else 1


def num_samples(choice: EvalsetChoice) -> int:
    """How many samples a split has, as its manifest says."""
    number = find_split(choice.name, choice.split)[1].num_samples
    return number if number is not None else USUAL_SAMPLES


def example_of(choice: EvalsetChoice) -> Sample:
    """A sample like those that will be asked; of a set on the hub a stand-in, for a dry run fetches nothing."""
    if not find_split(choice.name, choice.split)[1].hub_split:
        return load(choice.name, choice.split, 1)[0]
    picture = io.BytesIO()
    Image.new("RGB", USUAL_PICTURE).save(picture, "png")
    return Sample("example", (picture.getvalue(),), "この画像には何が写っていますか？", ())


def memory_bytes(plan: Plan, num_free: int | None) -> tuple[int, int]:
    """Bytes that are resident: the live model, every parent's language tower, on a CPU DELLA's ranks, for each actor.

    Args:
        plan: What is blended.
        num_free: Free bytes of the device's own memory; None if it has none.

    Returns:
        How many where the model runs, and how many in host memory beside that, from where slots are sent to two buffers
        on the device.

    Raises:
        VlmMergeError: `residency: device` is wanted, and the device is too small.
    """
    num_actors = max(plan.recipe.search.actors, 1)
    model, towers = (number * num_actors for number in (plan.eyes.num_bytes, plan.tower_bytes))
    left = None if num_free is None else max(num_free - model, 0)
    if choose_residency(plan.recipe.blend.residency, towers, left) == "device" or num_free is None:
        return model + towers + num_actors * (rank_bytes(plan) if num_free is None else 0), 0
    longest = max(sum(_slot_bytes(plan, name, slot) for name in plan.read_parents) for slot in plan.anatomy.slots)
    return model + 2 * longest * num_actors, towers


def rank_bytes(plan: Plan) -> int:
    """Bytes of the ranks that DELLA keeps on a CPU, so that no candidate sorts: two an element and parent."""
    if not plan.recipe.blend.method.startswith("della"):
        return 0
    shapes, keys = plan.eyes.shapes, plan.anatomy.keys[plan.layout]
    return 2 * len(plan.blended_parents) * sum(math.prod(shapes[keys[slot]]) for slot in plan.anatomy.slots)


def _slot_bytes(plan: Plan, parent: str, slot: Slot) -> int:
    return plan.checkpoints[parent].tensors[plan.anatomy.keys[parent][slot]].num_bytes


def _score(score: Score) -> str:
    objective = " + ".join(f"{weight:g} {metric}" for metric, weight in score.weights.items())
    guards = ", ".join(f"{name} {limit:g}" for name, limit in score.limits.items())
    return f"{objective}; guards: {guards or 'none'}"


def _memory(num_there: int, num_beside: int) -> str:
    beside = f", and {num_beside / GIB:.2f} GiB in pinned host memory" if num_beside else ""
    return f"{num_there / GIB:.2f} GiB of weights{beside}"


def seconds_per_sample(plan: Plan) -> float:
    """One answer's time: its tokens through the language tower, and its share of a batch's decoding steps."""
    recipe = plan.recipe
    assert recipe.evalset
    sample = example_of(recipe.evalset.search)
    folder = plan.eyes.folder
    processor = load_processor(folder, trusts_code=plan.trusts_code)
    check_template(processor, [sample], recipe.generate, folder)
    num_prompt_tokens = chat(processor, sample, recipe.generate)["input_ids"].shape[1]
    num_weights = sum(math.prod(plan.eyes.shapes[key]) for key in plan.anatomy.keys[plan.layout].values())
    num_tokens = num_prompt_tokens + recipe.generate.max_new_tokens
    budget = recipe.generate.batch_tokens
    num_rows = max(1, (USUAL_BATCH if budget == "auto" else int(budget)) // num_tokens)
    steps = recipe.generate.max_new_tokens / num_rows
    return 2 * num_weights * num_tokens / multiplications_per_second() + steps * SECONDS_PER_STEP


def multiplications_per_second() -> float:
    """Additions and multiplications a second in a matrix product on the best device, measured now."""
    device = best_device()
    left = torch.ones(1024, 1024, device=device)
    left @ left
    start = time.perf_counter()
    for _ in range(4):
        product = left @ left
    product[0, 0].item()  # waits for a GPU
    return 4 * 2 * 1024**3 / (time.perf_counter() - start)


def _rounded(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
