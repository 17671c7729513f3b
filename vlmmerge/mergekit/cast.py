"""Who is who among a mergekit file's models: the VLM, the base, and the language models.

Knows checkpoints by their configs. Does not know settings.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmmerge.checkpoint import Checkpoint, open_checkpoint
from vlmmerge.errors import CheckpointError
from vlmmerge.mergekit.file import MergekitFile


@dataclass(frozen=True)
class Cast:
    """Who is who, each as the file names it.

    Args:
        vlm: Whose vision tower, projector, processor and layout are kept.
        base: The ancestor; of a method that has none, a language model that only says which slots there are.
        llms: The language models, by the names that the recipe gives them.
        blended: The models that mergekit blends; the VLM need not be one of them.
        checkpoints: All of these, opened.
    """

    vlm: str
    base: str
    llms: dict[str, str]
    blended: tuple[str, ...]
    checkpoints: Mapping[str, Checkpoint]

    @property
    def parents(self) -> dict[str, str]:
        """The models that have ratios, by the recipe's names."""
        return {"vlm": self.vlm, **self.llms}

    def as_section(self) -> dict[str, Any]:
        """The recipe's `parents`; local folders are absolute."""
        llms = {name: _absolute(model) for name, model in self.llms.items()}
        return {"vlm": _absolute(self.vlm), "base": _absolute(self.base), "llms": llms}


def cast_models(file: MergekitFile, vlm: str | None, faults: list[str]) -> Cast | None:
    """Open the models and find out who is who; None, and fault lines, where that cannot be."""
    places = dict(file.places)
    for key, model in (("base_model", file.base_model), ("--vlm", vlm)):
        if model:
            places.setdefault(model, key)
    checkpoints = _open_all(places, faults)
    if file.counterpart is None or len(checkpoints) < len(places) or not file.names_all_models:
        return None
    before = len(faults)
    blended = _blended(file, faults)
    eyes = _choose_eyes(blended, vlm, checkpoints, faults)
    llms = [model for model in blended if model != eyes]
    needs_all = file.counterpart.name in ("slerp", "model_stock")
    if eyes is not None and not llms:
        faults.append("models: wanted a language model beside the VLM")
    if eyes is not None and eyes not in blended and needs_all:
        faults.append(f"models: {file.counterpart.name} weighs no model, so the VLM must be one of them ({eyes})")
    if needs_all and any({source.model for source in part.sources} != set(file.places) for part in file.slices):
        faults.append(f"slices: {file.counterpart.name} weighs no model, so all of them must be in each slice")
    base = file.base_model if file.counterpart.needs_base else next(iter(llms), None)
    if base and file.counterpart.needs_base and _has_eyes(checkpoints[base]):
        faults.append(f"base_model: {base} is a VLM; wanted a language model, the ancestor of all language towers")
    if len(faults) > before or not eyes or not base:
        return None
    return Cast(eyes, base, _name_all(llms), tuple(blended), checkpoints)


def _open_all(places: Mapping[str, str], faults: list[str]) -> dict[str, Checkpoint]:
    checkpoints = {}
    for model, key in places.items():
        try:
            checkpoints[model] = open_checkpoint(model)
        except CheckpointError as error:
            faults.append(f"{key}: {error.message}")
    return checkpoints


def _blended(file: MergekitFile, faults: list[str]) -> list[str]:
    """The models that take part: for task vectors all but the base, which `linear` and `slerp` count in."""
    assert file.counterpart is not None
    models, name = list(file.places), file.counterpart.name
    if file.counterpart.needs_base:
        if file.base_model is None:
            faults.append(f"base_model: missing, wanted the ancestor that {name} compares with")
        return [model for model in models if model != file.base_model]
    with_base = list(dict.fromkeys([*models, *([file.base_model] if file.base_model else [])]))
    if name == "slerp":
        if file.base_model is None:
            faults.append("base_model: missing, wanted the one of the two models that t = 0 gives")
        elif len(with_base) != 2:
            faults.append(f"models: wanted two, since slerp blends two models, found {', '.join(with_base)}")
        return with_base
    return with_base if file.has_models else models


def _choose_eyes(
    blended: Sequence[str], vlm: str | None, checkpoints: Mapping[str, Checkpoint], faults: list[str]
) -> str | None:
    """The VLM whose vision tower is kept, as `blended` names it if it is one of these."""
    if vlm is not None:
        if not _has_eyes(checkpoints[vlm]):
            faults.append(f"--vlm: {vlm} has no vision tower")
            return None
        same = [model for model in blended if checkpoints[model].folder == checkpoints[vlm].folder]
        return (same or [vlm])[0]
    eyes = [model for model in blended if _has_eyes(checkpoints[model])]
    if len(eyes) != 1:
        found = f"{' and '.join(eyes)} have" if eyes else "none of them has"
        faults.append(f"models: {found} a vision tower; name the VLM whose is kept by --vlm MODEL")
        return None
    return eyes[0]


def _has_eyes(checkpoint: Checkpoint) -> bool:
    return "vision_config" in checkpoint.config


def _name_all(models: Sequence[str]) -> dict[str, str]:
    """Give each model the last part of its path as a name, with a number where that is taken."""
    named: dict[str, str] = {}
    for model in models:
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(model).name) or "llm"
        taken = {"vlm", "base", "vision", *named}
        names = [name, *(f"{name}-{number}" for number in range(2, len(models) + 4))]
        named[next(each for each in names if each not in taken)] = model
    return named


def _absolute(model: str) -> str:
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model
