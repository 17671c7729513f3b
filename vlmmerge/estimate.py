"""What a run will cost, told before it begins: genes, candidates, memory, time. No weights are read.

Knows a plan and how fast this machine multiplies. The time is a rough estimate.
"""

import io
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from vlmmerge.anatomy import Slot
from vlmmerge.blend.residency import choose_residency
from vlmmerge.evalsets import Sample, find_split, load
from vlmmerge.generate import best_device, chat, check_template, choose_attention, device_of, load_processor
from vlmmerge.generate.placement import Placement, describe_placement, free_gpus, free_memory, place_model
from vlmmerge.generate.skeleton import make_skeleton, parameter_bytes
from vlmmerge.plan import Plan
from vlmmerge.recipe import EvalsetChoice, Recipe, Score
from vlmmerge.resident import live_names
from vlmmerge.run import gpus_of_actor, grid_weights

GIB = 2**30
CPU = torch.device("cpu")
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
    num_answers: float = num_grid * sizes["search"] * times["search"]
    num_answers += num_finals * sizes.get("finals", 0) * times.get("finals", 1)
    num_answers += NUM_HELD_OUT_BLENDS * sizes["held_out"] * times["held_out"]
    num_answers += NUM_HELD_OUT_BLENDS * sizes.get("retention", 0)
    machine = describe_machine(plan)
    # Actors on GPUs of their own work side by side; others share what there is.
    at_once = recipe.search.actors if (gpus_of_actor(plan) or 0) >= 1 else 1
    num_answers += num_candidates * sizes["search"] * times["search"] / at_once
    seconds = seconds_per_sample(plan) * num_answers
    return {
        "parents": {name: f"{c.name}, {_size(c.num_bytes)}" for name, c in plan.checkpoints.items()},
        "blend": f"{recipe.blend.method}, {len(plan.anatomy.slots)} slots in {plan.anatomy.num_layers} layers",
        "vocabulary": dict(plan.vocabulary.policy),
        "search space": plan.space.describe(),
        "search": f"{recipe.search.algorithm}, {num_candidates} candidates, {num_grid} blends of a grid",
        "score": _score(recipe.score),
        "samples": ", ".join(f"{number} {SAMPLES_ARE[key]}" for key, number in sizes.items()),
        **machine,
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


def describe_machine(plan: Plan) -> dict[str, str]:
    """How much memory weights take, where and why, as `memory` and `device`.

    Raises:
        VlmMergeError: There are too few or too small GPUs for so many actors, or there is no room for the model.
    """
    settings, trusts_code, folder = plan.recipe.generate, plan.trusts_code, plan.eyes.folder
    num_actors, each = max(plan.recipe.search.actors, 1), gpus_of_actor(plan)
    num_gpus = None if each is None else max(int(each), 1)
    placement = place_model(folder, settings, trusts_code=trusts_code, num_gpus=num_gpus)
    model = make_skeleton(folder, settings, trusts_code=trusts_code)
    on_one = num_actors if each is None else max(round(1 / each), 1)  # so many actors share a device
    free = {device: free_memory(device) for device in {CPU, *placement.devices}}
    for_one = {device: number // on_one for device, number in free.items() if device != CPU and number is not None}
    weights = {
        device: number * (num_actors if device == CPU else on_one)
        for device, number in weights_by_place(plan, placement, model, for_one).items()
    }
    placement = replace(placement, why=_why(placement, num_actors, on_one, len(free_gpus(settings))))
    return {"memory": _memory(weights, num_actors // on_one), "device": describe_placement(placement, weights, free)}


def _why(placement: Placement, num_actors: int, on_one: int, num_gpus: int) -> str:
    """Why models run where they do; of several actors what each has, for one device stands for all."""
    if num_actors == 1 or not placement.device_map:
        return f"{num_actors} actors together, {placement.why}" if num_actors > 1 else placement.why
    shared = f"{on_one} on a GPU" if on_one > 1 else f"each on {len(placement.devices)} of {num_gpus} GPUs"
    return f"{num_actors} actors, {shared}" + (f", {placement.why}" if placement.is_spread else "")


def weights_by_place(
    plan: Plan, placement: Placement, model: Any, free: Mapping[torch.device, int]
) -> dict[torch.device, int]:
    """Bytes of weights that one process holds: the live model, every parent's language tower, on a CPU DELLA's ranks.

    Args:
        plan: What is blended.
        placement: Where the model lies.
        model: The model, with or without weights.
        free: Free bytes of the GPUs' own memories.

    Returns:
        By device, `cpu` for the host's memory. What is sent slot by slot to a GPU takes two buffers there.

    Raises:
        VlmMergeError: `residency: device` is wanted, and a GPU is too small.
    """
    wanted, found = plan.recipe.blend.residency, placement.share_out(parameter_bytes(model))
    for device, slots in _slots_by_place(plan, placement, model).items():
        towers, left = plan.bytes_of(slots), None if device not in free else max(free[device] - found[device], 0)
        if left is None:
            found[device] += towers + rank_bytes(plan, slots)
        elif choose_residency(wanted, towers, left, plan.buffer_bytes(slots)) == "device":
            found[device] += towers
        else:
            found[device] += plan.buffer_bytes(slots)
            found[CPU] = found.get(CPU, 0) + towers
    return found


def _slots_by_place(plan: Plan, placement: Placement, model: Any) -> dict[torch.device, list[Slot]]:
    if not placement.is_spread:
        return {placement.device: list(plan.anatomy.slots)}
    found: dict[torch.device, list[Slot]] = {}
    for slot, name in live_names(plan, dict(model.named_parameters())).items():
        found.setdefault(placement.where(name), []).append(slot)
    return found


def rank_bytes(plan: Plan, slots: Iterable[Slot]) -> int:
    """Bytes of the ranks of slots that DELLA keeps on a CPU, so that no candidate sorts: two an element and parent."""
    if not plan.recipe.blend.method.startswith("della"):
        return 0
    shapes, keys = plan.eyes.shapes, plan.anatomy.keys[plan.layout]
    return 2 * len(plan.blended_parents) * sum(math.prod(shapes[keys[slot]]) for slot in slots)


def _score(score: Score) -> str:
    objective = " + ".join(f"{weight:g} {metric}" for metric, weight in score.weights.items())
    guards = ", ".join(f"{name} {limit:g}" for name, limit in score.limits.items())
    return f"{objective}; guards: {guards or 'none'}"


def _memory(weights: Mapping[torch.device, int], times: int) -> str:
    """The weights of all processes, of which so many have GPUs of their own."""
    of_gpus = sum(number for device, number in weights.items() if device != CPU) * times
    there, beside = (of_gpus, weights.get(CPU, 0)) if of_gpus else (weights[CPU], 0)
    return f"{there / GIB:.2f} GiB of weights" + (f", and {beside / GIB:.2f} GiB in host memory" if beside else "")


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
    hours = seconds / 3600
    if hours > 72:
        return f"{hours / 24:,.0f} days"
    return f"{hours:.1f} hours" if hours >= 1.5 else f"{math.ceil(seconds / 60)} minutes"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.2f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 2**20:,.1f} MiB"
