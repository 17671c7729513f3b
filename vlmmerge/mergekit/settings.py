"""What a parameter of a mergekit file comes to for one tensor: scopes, conditions with filters, gradients over depth.

Knows plain values and tensors' names. Does not know files, models or methods.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vlmmerge.anatomy import Slot
from vlmmerge.recipe.faults import shown, suggestion

Setting = Any
"""A scalar; a gradient (a list of scalars); a condition {value, filter}; or a list of conditions."""

Settings = Mapping[str, Setting]

Convert = Callable[[Any], Any]


def number(value: Any) -> float:
    """Read a number as mergekit does, which also takes `"1e-3"`.

    Raises:
        ValueError: It is none, or not finite.
    """
    result = float(value) if isinstance(value, int | float | str) else math.nan
    if not math.isfinite(result):
        raise ValueError(value)
    return result


def truth(value: Any) -> bool:
    """Read true or false as mergekit does, which also takes `"yes"` and 0.

    Raises:
        ValueError: It is neither.
    """
    texts = {"true": True, "t": True, "yes": True, "y": True, "on": True, "1": True}
    texts |= {"false": False, "f": False, "no": False, "n": False, "off": False, "0": False}
    if not isinstance(value, bool | int | float | str) or (key := str(value).lower().removesuffix(".0")) not in texts:
        raise ValueError(value)
    return texts[key]


PARAMETERS: dict[str, Convert] = {
    "weight": number,
    "density": number,
    "gamma": number,
    "epsilon": number,
    "t": number,
    "lambda": number,
    "select_topk": number,
    "normalize": truth,
    "rescale": truth,
    "filter_wise": truth,
    "int8_mask": truth,
}
"""All parameters that the methods known here have, and how a scalar of each is read."""


def resolve(name: str, scopes: Iterable[Settings], tensor: str, depth: float) -> Any | None:
    """Find a parameter's value for one tensor.

    Args:
        name: A name in `PARAMETERS`.
        scopes: Settings without faults, the narrowest first; where one says nothing for the tensor, the next does.
        tensor: The tensor's name.
        depth: Where a gradient is read: from 0 in the first layer of a slice to 1 in its last.

    Returns:
        The value; None where no scope says one.
    """
    values = (evaluate(scope[name], PARAMETERS[name], tensor, depth) for scope in scopes if name in scope)
    return next((value for value in values if value is not None), None)


def depth_in_slice(slot: Slot, first: int, end: int) -> float:
    """Where mergekit reads a slot's gradients in a slice of the layers [first, end).

    Embeddings, final norm and head all read the first point; the only layer of a slice reads the last.
    """
    if slot.layer is None:
        return 0.0
    return (slot.layer - first) / (end - first - 1) if end - first > 1 else 1.0


def faults_of_settings(key: str, settings: Any) -> list[str]:
    """Fault lines for parameters that mergekit has not, and for values in none of its forms."""
    if settings is None:
        return []
    if not isinstance(settings, dict):
        return [f"{key}: wanted a mapping of parameters to values, found {shown(settings)}"]
    there_are = f"; there are {', '.join(PARAMETERS)}"
    lines = [
        f"{key}.{name}: unknown parameter{suggestion(name, PARAMETERS, there_are)}"
        for name in settings
        if name not in PARAMETERS
    ]
    for name in [name for name in settings if name in PARAMETERS]:
        lines += _faults_of_setting(f"{key}.{name}", settings[name], PARAMETERS[name])
    return lines


def evaluate(setting: Setting, convert: Convert, tensor: str, depth: float) -> Any | None:
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return convert(setting)
    if not any(isinstance(entry, dict) for entry in setting):
        return _read_gradient([convert(entry) for entry in setting], depth) if setting else None
    holding = (entry for entry in setting if _holds(entry.get("filter"), tensor))
    return next((evaluate(entry["value"], convert, tensor, depth) for entry in holding), None)


def _holds(condition: str | None, tensor: str) -> bool:
    return condition in (None, "*") or condition in tensor


def _read_gradient(points: list[Any], depth: float) -> Any:
    """Numbers lie on straight lines between the points; of truths the one before holds."""
    position = depth * (len(points) - 1)
    before = int(position)
    if isinstance(points[0], bool):
        return points[before]
    after, fraction = min(before + 1, len(points) - 1), position - before
    return (1 - fraction) * points[before] + fraction * points[after]


def _faults_of_setting(key: str, setting: Setting, convert: Convert) -> list[str]:
    conditions = [setting] if isinstance(setting, dict) else setting
    if not isinstance(conditions, list) or not any(isinstance(entry, dict) for entry in conditions):
        return _faults_of_value(key, setting, convert)
    lines = []
    for i, entry in enumerate(conditions):
        at = key if isinstance(setting, dict) else f"{key}[{i}]"
        if not isinstance(entry, dict) or "value" not in entry:
            lines.append(f"{at}: wanted {{value, filter}}, found {shown(entry)}")
            continue
        lines += [
            f"{at}.{name}: unknown key{suggestion(name, ['value', 'filter'], '; the keys here are value, filter')}"
            for name in entry
            if name not in ("value", "filter")
        ]
        if not isinstance(entry.get("filter"), str | None):
            lines.append(f"{at}.filter: wanted a piece of a tensor's name, found {shown(entry['filter'])}")
        lines += _faults_of_value(f"{at}.value", entry["value"], convert)
    return lines


def _faults_of_value(key: str, value: Any, convert: Convert) -> list[str]:
    what = "a number" if convert is number else "true or false"
    try:
        for each in value if isinstance(value, list) else [value]:
            convert(each)
    except ValueError:
        return [f"{key}: wanted {what}, or a list of such, found {shown(value)}"]
    return []
