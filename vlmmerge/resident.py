"""The parents' language towers in memory, paired with the live model's parameters, slot by slot.

Knows a plan and a model that transformers loaded. Does not know what the model is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlmmerge.anatomy import EMBEDDINGS, HEAD, KEEP_EMBEDDINGS, Slot, pair
from vlmmerge.blend.live import LiveBlender
from vlmmerge.blend.residency import choose_residency, free_bytes, place
from vlmmerge.blend.spread import SpreadBlender
from vlmmerge.errors import ParentsError
from vlmmerge.generate import live_parameters
from vlmmerge.plan import Plan

CONVERTED = "transformers converts them as it loads them: `vlmmerge blend` works file to file, a search cannot yet"
FUSED = "transformers fuses the experts as it loads them: `vlmmerge blend` works file to file, a search cannot yet"


def make_blender(plan: Plan, model: Any) -> LiveBlender | SpreadBlender:
    """Read the parents' language towers to where the model runs, or to host memory, as the recipe's residency says.

    Of a model over several devices each device has the parents of its own layers beside them, or host memory has.

    Args:
        plan: The parents and how they pair.
        model: The VLM parent as transformers loaded it, untouched.

    Raises:
        ParentsError: The live model has other parameters than the parent's files, or a tied head differs from its
            embeddings.
        VlmMergeError: A device is to hold the parents, and is too small.
    """
    check_repeated_heads(plan)
    of_device: dict[torch.device, dict[Slot, Tensor]] = {}
    for slot, parameter in pair_live(plan, model).items():
        of_device.setdefault(parameter.device, {})[slot] = parameter
    parts = [_blender_on(plan, live, device) for device, live in of_device.items()]
    return parts[0] if len(parts) == 1 else SpreadBlender(parts)


def _blender_on(plan: Plan, live: Mapping[Slot, Tensor], device: torch.device) -> LiveBlender:
    """A blender for the slots that live on one device."""
    wanted, free = plan.recipe.blend.residency, free_bytes(device)
    residency = choose_residency(wanted, plan.bytes_of(live), free, plan.buffer_bytes(live))
    towers = {name: _resident_tower(plan, name, list(live), device, residency) for name in plan.read_parents}
    check_live(plan, live, towers["vlm"].__getitem__ if plan.layout == "vlm" else partial(plan.read, plan.layout))
    rows = plan.vocabulary.rows_of(plan.layout, EMBEDDINGS)
    return LiveBlender(
        method=plan.recipe.blend.method,
        seed=plan.recipe.blend.seed,
        base=towers.pop("base"),
        parents=towers,
        live=live,
        store_dtypes={slot: plan.eyes.dtype(plan.anatomy.keys[plan.layout][slot]) for slot in live},
        options=plan.options,
        token_rows=None if rows is None else rows.to(device),
    )


def pair_live(plan: Plan, model: Any) -> dict[Slot, Tensor]:
    """Find the live parameter of each slot: see `live_names`."""
    live = live_parameters(model)
    return {slot: live[name] for slot, name in live_names(plan, live).items()}


def live_names(plan: Plan, live: Mapping[str, Tensor]) -> dict[Slot, str]:
    """Find the name of each slot's live parameter, under whatever prefix most are found.

    Args:
        plan: The parents and how they pair.
        live: A model's parameters by name, with or without weights.

    Raises:
        ParentsError: Some have none, or a head that the files tie has one of its own.
    """
    slots = plan.anatomy.slots
    shapes = {slot: plan.eyes.shapes[plan.anatomy.keys[plan.layout][slot]] for slot in slots}
    keys = pair([*slots, HEAD], live, lambda slot, key: shapes.get(slot) == tuple(live[key].shape))
    if missing := [slot for slot in slots if slot not in keys]:
        is_fused = all(".experts." in slot.role for slot in missing)
        raise ParentsError(
            f"the loaded VLM lacks {len(missing)} of {len(slots)} language slots",
            details=[str(slot) for slot in missing[:6]],
            hint=FUSED
            if is_fused
            else f"`parents.{plan.layout}` loads otherwise than its files say; a config.json of other weights may be "
            "to blame",
        )
    if EMBEDDINGS in slots and HEAD in keys and HEAD not in slots:
        raise ParentsError(
            "the loaded VLM has a head of its own, which its files tie to the embeddings",
            hint=f"mend `tie_word_embeddings` in its config.json; or {KEEP_EMBEDDINGS}",
        )
    return {slot: keys[slot] for slot in slots}


def check_live(plan: Plan, live: Mapping[Slot, Tensor], read: Callable[[Slot], Tensor]) -> None:
    """Check that each live parameter holds what the layout's file holds for its slot, bit for bit.

    Names alone do not tell: transformers transposes, permutes or fuses some tensors as it loads them, and what is
    blended into one of those would not be what is exported.

    Args:
        plan: The parents and how they pair.
        live: The loaded model's parameters, which nobody has written to yet.
        read: Gives what of the layout's files is blended in a slot.

    Raises:
        ParentsError: Some hold something else.
    """
    told = []
    for slot, parameter in live.items():
        rows = plan.vocabulary.rows_of(plan.layout, slot)
        there, file = parameter.detach(), read(slot)
        if rows is not None:
            there = there[rows[rows < len(there)].to(there.device)]
        if slot.has_token_rows:  # transformers may pad the rows, or cut them
            there, file = there[: len(file)], file[: len(there)]
        if not torch.equal(there, file.to(there)):
            told.append(f"{slot}  {tuple(file.shape)} in the file   {tuple(there.shape)} in memory")
    if told:
        raise ParentsError(
            f"the loaded VLM holds other values than its files in {len(told)} of {len(live)} language slots",
            details=told[:6],
            hint=CONVERTED,
        )


def _resident_tower(
    plan: Plan, parent: str, slots: Sequence[Slot], device: torch.device, residency: str
) -> dict[Slot, Tensor]:
    """Read some slots of one parent's tower; those of one key (a tied head) share one tensor."""
    keys = plan.anatomy.keys[parent]
    slot_of = {keys[slot]: slot for slot in slots}
    tensors = {key: place(plan.read(parent, slot), device, residency) for key, slot in slot_of.items()}
    return {slot: tensors[keys[slot]] for slot in slots}


def check_repeated_heads(plan: Plan) -> None:
    """Check that a head which a config ties, but the file holds all the same, is what the embeddings are.

    Raises:
        ParentsError: It is not: then nobody can tell which of the two the model uses.
    """
    for name, key in plan.anatomy.repeated_heads.items():
        embeddings = plan.anatomy.keys[name][EMBEDDINGS]
        if not torch.equal(plan.checkpoints[name].read(key), plan.checkpoints[name].read(embeddings)):
            raise ParentsError(
                f"the config of `{name}` ties its head to its embeddings, but `{key}` differs from `{embeddings}`",
                hint=f"mend `tie_word_embeddings` in its config.json; or {KEEP_EMBEDDINGS}",
            )
