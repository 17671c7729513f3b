"""A mergekit file as a recipe: its settings read tensor by tensor, as mergekit reads them.

Knows headers of checkpoints; reads no weights. Does not know what a method computes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmmerge.anatomy import Slot, language_tower, pair
from vlmmerge.errors import RecipeError
from vlmmerge.genome import count_layers
from vlmmerge.mergekit.cast import Cast, cast_models
from vlmmerge.mergekit.file import MergekitFile, Slice, parse
from vlmmerge.mergekit.methods import Counterpart
from vlmmerge.mergekit.settings import Settings, depth_in_slice, resolve
from vlmmerge.ratios import Form, to_form
from vlmmerge.recipe import Recipe, make_recipe
from vlmmerge.recipe.faults import shown
from vlmmerge.recipe.yamlfile import read_yaml

HEAD = Slot(None, "lm_head.weight")
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_mergekit(path: str | Path, vlm: str | None = None) -> Recipe:
    """Read a mergekit file as a recipe for `vlmmerge blend`.

    Args:
        path: A YAML file in UTF-8. Relative paths in it start at the current folder, as they do for mergekit.
        vlm: The VLM whose vision tower, projector and layout are kept. It may be left out where just one of the file's
            models is a VLM. If it is none of these, its language tower takes no part in the blend.

    Returns:
        A recipe whose fixed ratios are, slot by slot, those that mergekit would read.

    Raises:
        RecipeError: No such file, no YAML, or anything that vlmmerge cannot express: all of it is told.
    """
    path = Path(path)
    file, faults = parse(read_yaml(path, "mergekit file", "it is what `mergekit-yaml` takes"))
    cast = cast_models(file, vlm, faults)
    data: dict[str, Any] = {}
    if cast is not None and file.counterpart is not None:
        data = {"parents": cast.as_section(), "blend": _read_blend(file, file.counterpart, cast, faults)}
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        hint = "mend the file, or write a recipe: recipes/ holds some to start from"
        raise RecipeError(f"{path}: {count} in the mergekit file", details=faults, hint=hint)
    return make_recipe(data, path)


@dataclass(frozen=True)
class _Place:
    """Where mergekit reads a slot's settings: by which tensor's name, in which slice, how deep in it."""

    tensor: str
    part: Slice
    depth: float


Places = Mapping[Slot, _Place]


def _read_blend(file: MergekitFile, counterpart: Counterpart, cast: Cast, faults: list[str]) -> dict[str, Any]:
    """The recipe's `blend`; what is in it is of use only if there are no faults."""
    vlm = cast.checkpoints[cast.vlm]
    if file.tokenizer_source not in (None, cast.vlm):
        kept = "the VLM's own, which alone knows pictures, is kept"
        faults.append(f"tokenizer_source: {kept}; found {shown(file.tokenizer_source)}, leave it out")
    tensors = language_tower(cast.checkpoints[cast.base].shapes)
    tensors.setdefault(HEAD, HEAD.role)  # a tied base has none, and the VLM may have one
    own = pair(tensors, vlm.shapes)
    stored = {DTYPES.get(vlm.tensors[key].dtype, vlm.tensors[key].dtype) for key in own.values()}
    if file.dtype is not None and stored != {file.dtype.removeprefix("torch.")}:
        kept = f"the VLM's own, {' and '.join(sorted(stored))}, is kept"
        faults.append(f"dtype: {kept}; found {file.dtype}, leave dtype and out_dtype out")
    if not file.is_whole:
        return {}
    places = _find_places(file, {slot: tensors[slot] for slot in sorted(own)}, faults)
    if places is None:
        return {}
    blend = {"method": counterpart.name, **_read_options(file, counterpart, places, faults)}
    if counterpart.name == "model_stock":
        return blend
    return blend | {"ratios": _read_ratios(file, counterpart, cast, places, faults)}


def _find_places(file: MergekitFile, tensors: Mapping[Slot, str], faults: list[str]) -> Places | None:
    """Find the slice and the depth of each slot; None if the slices do not end with the last layer."""
    num_layers = count_layers(tensors)
    last = file.slices[-1].end
    if last is not None and last != num_layers:
        faults.append(f"slices: wanted each layer once, 0 to {num_layers - 1}; found 0 to {last - 1}")
        return None

    def place(slot: Slot) -> _Place:
        if slot.layer is None:
            part = file.slices[0 if slot.part == "embeddings" else -1]
        else:
            part = next(part for part in file.slices if slot.layer < (part.end or num_layers))
        return _Place(tensors[slot], part, depth_in_slice(slot, part.first, part.end or num_layers))

    return {slot: place(slot) for slot in tensors}


def _read(name: str, places: Places, scopes: Callable[[Slice], Sequence[Settings]]) -> dict[Slot, Any]:
    """A parameter's value in each slot, None where the scopes say nothing."""
    return {slot: resolve(name, scopes(place.part), place.tensor, place.depth) for slot, place in places.items()}


def _read_options(file: MergekitFile, counterpart: Counterpart, places: Places, faults: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"majority_sign_tie": "positive"} if counterpart.elects else {}
    for name, default in counterpart.options.items():
        values = _read(name, places, lambda part: [part.settings, file.settings])
        found = list(dict.fromkeys(default if value is None else value for value in values.values()))
        if len(found) > 1:
            faults.append(f"parameters.{name}: wanted one for the whole blend, found {shown(found)}")
        options[name] = found[0]
    if "rescale" in options:
        options["rescale"] = "l1" if options["rescale"] else False
    return options


def _read_ratios(
    file: MergekitFile, counterpart: Counterpart, cast: Cast, places: Places, faults: list[str]
) -> dict[str, dict[str, Form]]:
    if counterpart.name == "slerp":
        values = _read_slerp(file, cast, places, faults)
    else:
        values = {
            name: _read_model(file, counterpart, model if model in cast.blended else None, places, faults)
            for name, model in cast.parents.items()
        }
    ratios: dict[str, dict[str, Form]] = {}
    for name, of_parameters in values.items():
        ratios[name] = {}
        for parameter, of_slots in of_parameters.items():
            try:
                ratios[name][parameter] = to_form(of_slots)
            except ValueError as error:
                model = cast.parents[name]
                faults.append(f"{model}: {parameter} differs between the tensors of one role, {error}")
    return ratios


def _read_model(
    file: MergekitFile, counterpart: Counterpart, model: str | None, places: Places, faults: list[str]
) -> dict[str, dict[Slot, float]]:
    """One model's ratios, by parameter; a model of None, and one that a slice leaves out, has weight 0 there."""

    def takes_part(part: Slice) -> bool:
        # What `models` does not name, mergekit adds (the base of `linear`); slices it takes as they are.
        return model is not None and (part.end is None or any(source.model == model for source in part.sources))

    def scopes(part: Slice) -> list[Settings]:
        own = [source.settings for source in part.sources if source.model == model]
        return [*own, part.settings, file.settings]

    absent = [slot for slot, place in places.items() if not takes_part(place.part)]
    if counterpart.name == "sce":
        return {"weight": {slot: float(slot not in absent) for slot in places}}
    values = {name: _read(name, places, scopes) for name in counterpart.ratios}
    values["weight"] |= dict.fromkeys(absent, 0.0)
    if missing := [places[slot].tensor for slot, value in values["weight"].items() if value is None]:
        faults.append(f"{model}: weight missing for {len(missing)} tensors, such as {missing[0]}")
    return {
        name: {slot: default if value is None else value for slot, value in values[name].items()}
        for name, default in counterpart.ratios.items()
    }


def _read_slerp(
    file: MergekitFile, cast: Cast, places: Places, faults: list[str]
) -> dict[str, dict[str, dict[Slot, float]]]:
    """t as weights: 1 - t of the base model and t of the other, whose sum is 1, so that t comes back to the bit."""
    t = _read("t", places, lambda part: [part.settings, file.settings])
    if missing := [places[slot].tensor for slot, value in t.items() if value is None]:
        faults.append(f"parameters.t: missing for {len(missing)} tensors, such as {missing[0]}")
        t = dict.fromkeys(t, 0.0)
    return {
        name: {"weight": {slot: 1.0 - value if model == file.base_model else value for slot, value in t.items()}}
        for name, model in cast.parents.items()
    }
