"""What `vlmmerge inspect` tells of checkpoints: what each is made of, what differs, and whether they fit as parents.

Reads configs, headers and tokenizers, never a weight, and does without torch, so that it answers at once. Knows
checkpoints. Does not know how its findings are shown.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vlmmerge.anatomy.slots import EMBEDDINGS, HEAD, Slot
from vlmmerge.anatomy.towers import language_tower, towers
from vlmmerge.checkpoint import Checkpoint, open_checkpoint, open_headers
from vlmmerge.checkpoint.header import TensorInfo
from vlmmerge.checkpoint.jsonfile import read_object
from vlmmerge.errors import ParentsError
from vlmmerge.inspection.lineup import BASE, VLM, Lineup, Opened, line_up
from vlmmerge.inspection.misfits import FAILS, Fit, differing, study_fit
from vlmmerge.inspection.traits import read_special_tokens, read_traits

TOWERS = ("vision", "projector", "language")


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found.

    Args:
        lineup: The checkpoints, with their roles.
        traits: How each computes, by label.
        fit: How they fit.
    """

    lineup: Lineup
    traits: Mapping[str, Mapping[str, Any]]
    fit: Fit


def inspect(parents: Sequence[str], base: str | None = None, *, has_weights: bool = False) -> Inspection:
    """Look at checkpoints.

    Args:
        parents: Folders or hub ids, at least one.
        base: The ancestor's, if it is named apart.
        has_weights: Whether weights are fetched, too, where only the hub has them.

    Raises:
        CheckpointError: One cannot be opened.
    """
    open_parent = open_checkpoint if has_weights else open_headers
    opened = [_look(where, open_parent(where)) for where in parents]
    ancestor = next((each for each in opened if each.where == base), None)
    if base and not ancestor:
        ancestor = _look(base, open_parent(base))
    lineup = line_up(opened, ancestor)
    traits = {label: _traits(checkpoint) for label, checkpoint in lineup.checkpoints.items()}
    fit = study_fit(lineup, traits) if len(traits) > 1 else Fit(None, None, ())
    return Inspection(lineup, traits, fit)


def describe(inspection: Inspection) -> dict[str, Any]:
    """All that was found, as values that JSON can hold.

    Returns:
        parents: For each by name its role, where it is, its towers, layers, rows and tokens.
        differs: For each trait in which they differ, the value of each that states it.
        vocabulary: What becomes of which rows.
        findings: Each with grade, about, message, details and hint, the worst first.
        grade: The worst one's.
        next: What to do now, where nothing will fail; else empty.
    """
    names, traits = inspection.lineup.names, inspection.traits
    return {
        "parents": {names[label]: _describe_parent(inspection.lineup, label, traits[label]) for label in names},
        "differs": {
            trait: {names[label]: own[trait] for label, own in traits.items() if trait in own}
            for trait in differing(traits)
        },
        "vocabulary": dict(inspection.fit.pairing.policy) if inspection.fit.pairing else {},
        "findings": [asdict(finding) for finding in inspection.fit.findings],
        "grade": inspection.fit.grade,
        "next": _next(inspection),
    }


def _look(where: str, checkpoint: Checkpoint) -> Opened:
    return Opened(where, checkpoint, "vision" in towers(checkpoint.shapes).values())


def _next(inspection: Inspection) -> str:
    """What a recipe says of parents that fit."""
    lineup = inspection.lineup
    places = {label: json.dumps(opened.where) for label, opened in lineup.opened.items()}
    llms = ", ".join(f"{json.dumps(lineup.names[label])}: {where}" for label, where in list(places.items())[2:])
    if not lineup.has_ancestor or not llms or inspection.fit.grade == FAILS:
        return ""
    return f"a recipe with `parents: {{vlm: {places[VLM]}, base: {places[BASE]}, llms: {{{llms}}}}}`"


def _traits(checkpoint: Checkpoint) -> dict[str, Any]:
    file = checkpoint.folder / "generation_config.json"
    generation = read_object(file) if file.exists() else {}
    return read_traits(checkpoint.config) | read_special_tokens(checkpoint.config, generation)


def _describe_parent(lineup: Lineup, label: str, traits: Mapping[str, Any]) -> dict[str, Any]:
    opened, checkpoint = lineup.opened[label], lineup.opened[label].checkpoint
    tower_of = towers(checkpoint.shapes)
    slots = _slots(checkpoint)
    layers = {slot.layer for slot in slots if slot.layer is not None}
    return {
        "role": lineup.role(label),
        "where": opened.where,
        "commit": checkpoint.commit,
        "towers": {
            tower: _describe_tensors([info for key, info in checkpoint.tensors.items() if tower_of[key] == tower])
            for tower in TOWERS
            if tower in tower_of.values()
        },
        "layers": len(layers),
        "rows": {slot.short_role: slots[slot].shape[0] for slot in (EMBEDDINGS, HEAD) if slot in slots},
        "traits": dict(traits),
    }


def _slots(checkpoint: Checkpoint) -> dict[Slot, TensorInfo]:
    """The language tower's tensors, where it has one."""
    try:
        return {slot: checkpoint.tensors[key] for slot, key in language_tower(checkpoint.shapes).items()}
    except ParentsError:
        return {}


def _describe_tensors(infos: Sequence[TensorInfo]) -> dict[str, Any]:
    return {
        "tensors": len(infos),
        "parameters": sum(math.prod(info.shape) for info in infos),
        "bytes": sum(info.num_bytes for info in infos),
        "dtypes": dict(Counter(info.dtype for info in infos).most_common()),
    }
