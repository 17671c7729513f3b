"""What may stand for a recipe's key: numbers, ranges, points over depth, and how each is told when it is wrong.

Knows one value at a time. Does not know which section it stands in.
"""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from vlmmerge.recipe.faults import must

Depth = str | dict[str, int]  # "global", "per_layer", {"groups": N} or {"curve": K}
Points = float | list[float]

_PARTS = ("attention", "mlp")


def is_path(name: str) -> bool:
    """Whether the name of an evalset is a path, to a person's own set.

    >>> is_path("./my-set"), is_path("my.jsonl"), is_path("ja-scenes")
    (True, True, False)
    """
    return "/" in name or name.startswith("~") or name.endswith((".jsonl", ".parquet"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_density(value: Any) -> bool:
    return _is_number(value) and 0 < value <= 1


def _is_gamma(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_epsilon(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 0.5


def _is_range(value: Any, is_good: Callable[[object], bool] = _is_number) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_good, value)) and value[0] < value[1]


def _is_points(value: Any, is_good: Callable[[object], bool] = _is_number) -> bool:
    points = value if isinstance(value, list) else [value]
    return bool(points) and all(map(is_good, points))


def _is_ratio(value: Any, is_good: Callable[[object], bool] = _is_number) -> bool:
    forms = list(value.values()) if isinstance(value, dict) else [value]
    return bool(forms) and all(_is_points(form, is_good) for form in forms)


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _floats(points) for name, points in value.items()}
    return [float(each) for each in value] if isinstance(value, list) else float(value)


def _pair(value: Any) -> Any:
    return tuple(_floats(value))


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"https?://[^\s@?#]+", value) is not None


def _is_split(value: Any) -> bool:
    return value == "roles" or (isinstance(value, list) and sorted(map(str, value)) == sorted(_PARTS))


def _is_depth(value: Any) -> bool:
    if not isinstance(value, dict):
        return value in ("global", "per_layer")
    least = {"groups": 1, "curve": 2}
    return len(value) == 1 and all(name in least and type(n) is int and n >= least[name] for name, n in value.items())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)


AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]
# Values of more than one form: pydantic's own unions would tell one slip once for each form.
CheckedDepth = Annotated[
    Depth,
    must(
        "global, {groups: N} with N of at least 1, {curve: K} with K of at least 2 (1 point is global) or per_layer",
        _is_depth,
    ),
]
Split = Annotated[
    tuple[str, ...] | str | None,
    must(
        "[attention, mlp], roles (q_proj, k_proj, ..., each apart) or no such key",
        lambda value: value is None or _is_split(value),
        lambda value: _PARTS if isinstance(value, list) else value,
    ),
]
Range = Annotated[tuple[float, float], must("[low, high] with low below high", _is_range, _pair)]
DensityRange = Annotated[
    tuple[float, float],
    must("[low, high] with low below high, both above 0 and up to 1", lambda v: _is_range(v, _is_density), _pair),
]
GammaRange = Annotated[
    tuple[float, float],
    must("[low, high] with low below high, both from 0 to 1", lambda v: _is_range(v, _is_gamma), _pair),
]
EpsilonRange = Annotated[
    tuple[float, float],
    must("[low, high] with low below high, both from 0 to 0.5", lambda v: _is_range(v, _is_epsilon), _pair),
]
FORMS = "a list of such numbers (control points over depth), or a mapping of parts and roles to these"
Weight = Annotated[Points | dict[str, Points], must(f"a number, {FORMS}", _is_ratio, _floats)]
Density = Annotated[
    Points | dict[str, Points],
    must(f"a number above 0 and up to 1, {FORMS}", lambda v: _is_ratio(v, _is_density), _floats),
]
Gamma = Annotated[
    Points | dict[str, Points], must(f"a number from 0 to 1, {FORMS}", lambda v: _is_ratio(v, _is_gamma), _floats)
]
Epsilon = Annotated[
    Points | dict[str, Points], must(f"a number from 0 to 0.5, {FORMS}", lambda v: _is_ratio(v, _is_epsilon), _floats)
]
Rescale = Annotated[
    bool | Literal["l1"] | None,
    must("true, false or l1", lambda value: value is None or type(value) is bool or value == "l1"),
]
Percentage = Annotated[
    float, must("a percentage above 0 and up to 100", lambda value: _is_number(value) and 0 < value <= 100, float)
]
Share = Annotated[float, must("a number above 0 and up to 1", _is_density, float)]
LengthRatio = Annotated[float, must("a number of at least 1", lambda value: _is_number(value) and value >= 1, float)]
Population = Annotated[
    Literal["auto"] | int,
    must("auto or an integer of at least 2", lambda value: value == "auto" or (type(value) is int and value >= 2)),
]
Texts = Annotated[tuple[str, ...], must("a list of texts, none of them empty", _is_texts, tuple)]
BatchTokens = Annotated[
    Literal["auto"] | int,
    must("auto or an integer of at least 1", lambda value: value == "auto" or (type(value) is int and value >= 1)),
]
Url = Annotated[str, must("an endpoint such as http://localhost:8000/v1", _is_url)]
