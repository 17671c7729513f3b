"""Ratios as a mergekit file: filters and gradients from which mergekit reads the very same number for each tensor.

Knows what mergekit cannot express. Does not know where the ratios come from.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from vlmmerge.anatomy import Slot
from vlmmerge.errors import RecipeError
from vlmmerge.genome import Ratio, Ratios, count_layers
from vlmmerge.mergekit.methods import COUNTERPARTS
from vlmmerge.mergekit.settings import Setting, depth_in_slice, evaluate, number
from vlmmerge.recipe import Recipe

NOTE = (
    "Of the language towers alone: mergekit wants each parent's language model, and the result goes back into the VLM."
)
NOTE_OF_MASKS = "mergekit draws other random masks, and rescales what is kept to the same L1 norm."


def write_mergekit(recipe: Recipe, tensors: Mapping[Slot, str], ratios: Ratios, dtype: str, title: str) -> str:
    """Write a blend as a mergekit file.

    Args:
        recipe: Says parents, method and options.
        tensors: For each slot of `ratios`, its tensor's name in the base.
        ratios: The ratios of each slot.
        dtype: That of the result, such as `bfloat16`; mergekit is told to compute in float32 as vlmmerge does.
        title: What this is, for the comment on top.

    Returns:
        The file's text, YAML with a comment on top.

    Raises:
        RecipeError: mergekit cannot express the blend; all reasons are told.
    """
    blend = recipe.blend.model_dump(mode="json", by_alias=True)
    if blend.get("embeddings") == "vlm":
        ratios, tensors = _with_rows_of_vlm(recipe, ratios), {**dict(_ROWS), **tensors}
    name, counterpart = next(item for item in COUNTERPARTS.items() if item[1].name == recipe.blend.method)
    if reasons := [*_inexpressible_options(blend), *_inexpressible_ratios(name, ratios)]:
        hint = "`vlmmerge export RUN --out DIR` writes the blended model itself"
        raise RecipeError("mergekit cannot express this blend", details=reasons, hint=hint)
    data: dict[str, Any] = {"merge_method": name}
    if counterpart.needs_base or name == "slerp":
        data["base_model"] = _reference(recipe.parents.vlm if name == "slerp" else recipe.parents.base)
    data["models"] = []
    for parent, model in {"vlm": recipe.parents.vlm, **recipe.parents.llms}.items():
        if name == "sce" and all(of_parents[parent].weight == 0.0 for of_parents in ratios.values()):
            continue
        settings = {
            parameter: to_setting({slot: getattr(ratios[slot][parent], parameter) for slot in ratios}, tensors)
            for parameter in counterpart.ratios
        }
        data["models"].append({"model": _reference(model)} | ({"parameters": settings} if settings else {}))
    options = {option: _option(option, recipe.blend.method, blend.get(option)) for option in counterpart.options}
    if name == "slerp":
        options["t"] = to_setting({slot: _t(of_parents) for slot, of_parents in ratios.items()}, tensors)
    if options:
        data["parameters"] = options
    data |= {"dtype": "float32", "out_dtype": dtype}
    notes = [title, NOTE, *([NOTE_OF_MASKS] if recipe.blend.method.startswith(("dare", "della")) else [])]
    return "".join(f"# {note}\n" for note in notes) + yaml.safe_dump(
        data, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )


def to_setting(values: Mapping[Slot, float], tensors: Mapping[Slot, str]) -> Setting:
    """Write one number a tensor in the shortest form from which mergekit reads these very numbers.

    Args:
        values: A number for each slot.
        tensors: Each slot's tensor's name.

    Returns:
        One number; or a gradient with a point a layer for most roles, after conditions for the roles that differ, after
        conditions for single tensors: embeddings and head, and those at which a gradient misses its point by a rounding
        error (in a tower of 40 layers, mergekit reads the 26th point at 24.999...).
    """
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    num_layers = count_layers(values)
    gradients: dict[str, Any] = {}
    for role in dict.fromkeys(slot.role for slot in values if slot.layer is not None):
        points = [value for slot, value in sorted(values.items()) if slot.role == role and slot.layer is not None]
        if len(points) == num_layers:
            gradients[role] = points[0] if len(set(points)) == 1 else points
    common = Counter(map(repr, gradients.values())).most_common(1)[0][0]
    conditions: list[dict[str, Any]] = [
        {"filter": role, "value": gradients[role]}
        for role in sorted(gradients, key=len, reverse=True)  # a name may hold a shorter one: the longer goes first
        if repr(gradients[role]) != common
    ]
    conditions.append({"value": next(points for points in gradients.values() if repr(points) == common)})
    single: dict[str, float] = {}
    while True:
        alone = [{"filter": name, "value": single[name]} for name in sorted(single, key=len, reverse=True)]
        missed = {
            tensors[slot]: value
            for slot, value in values.items()
            if evaluate([*alone, *conditions], number, tensors[slot], depth_in_slice(slot, 0, num_layers)) != value
        }
        if not missed:
            return [*alone, *conditions]
        single |= missed


_ROWS = {slot: slot.role for slot in (Slot(None, "embed_tokens.weight"), Slot(None, "lm_head.weight"))}


def _with_rows_of_vlm(recipe: Recipe, ratios: Ratios) -> Ratios:
    """Embeddings and head that stay the VLM's, as weights: 1 of the VLM, 0 of the others."""
    whole = {"vlm": Ratio(1.0), **dict.fromkeys(recipe.parents.llms, Ratio(0.0))}
    return {**dict.fromkeys(_ROWS, whole), **ratios}


def _inexpressible_options(blend: Mapping[str, Any]) -> list[str]:
    reasons = []
    if blend.get("majority_sign_method") == "frequency":
        reasons.append("blend.majority_sign_method: frequency; mergekit knows only total")
    if blend.get("embeddings") == "vlm" and blend["method"] in ("sce", "model_stock"):
        reasons.append(f"blend.embeddings: vlm; mergekit's {blend['method']} weighs no model")
    return reasons


def _inexpressible_ratios(name: str, ratios: Ratios) -> list[str]:
    if name == "sce":
        used = {parent for of_parents in ratios.values() for parent, ratio in of_parents.items() if ratio.weight}
        uneven = {p for p in used if any(of_parents[p].weight != 1.0 for of_parents in ratios.values())}
        return [f"weights of {parent}: mergekit's sce weighs no model" for parent in sorted(uneven)]
    if name in ("della", "della_linear") and (wide := [str(slot) for slot in ratios if _is_too_wide(ratios[slot])]):
        return [f"density plus or minus epsilon leaves 0 to 1 in {len(wide)} slots, such as {wide[0]}"]
    if name == "slerp" and (zero := [str(slot) for slot in ratios if _sum_of_weights(ratios[slot]) == 0.0]):
        return [f"the weights of {len(zero)} slots sum to 0, such as {zero[0]}"]
    return []


def _is_too_wide(of_parents: Mapping[str, Ratio]) -> bool:
    """Whether mergekit would refuse a ratio: its probabilities spread from density - epsilon to density + epsilon."""
    spread = [(ratio.density, getattr(ratio, "epsilon", 0.0)) for ratio in of_parents.values() if ratio.density < 1.0]
    return any(density - epsilon <= 0.0 or density + epsilon >= 1.0 for density, epsilon in spread)


def _sum_of_weights(of_parents: Mapping[str, Ratio]) -> float:
    return sum(ratio.weight for ratio in of_parents.values())


def _t(of_parents: Mapping[str, Ratio]) -> float:
    """slerp's t: the share of the parent that is not the VLM."""
    return next(r.weight for parent, r in of_parents.items() if parent != "vlm") / _sum_of_weights(of_parents)


def _option(name: str, method: str, value: Any) -> Any:
    """An option's value for mergekit, which names every default of ours."""
    if name == "normalize":
        return method == "linear" if value is None else value
    if name == "rescale":
        return method.startswith(("dare", "della")) if value is None else bool(value)
    return {"lambda": 1.0, "select_topk": 1.0, "filter_wise": False}[name] if value is None else value


def _reference(model: str) -> Any:
    """A model as mergekit names it; in a plain name it would take + for an adapter and @ for a revision."""
    return {"model": {"path": model}} if "+" in model or "@" in model else model
