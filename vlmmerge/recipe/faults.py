"""Fault lines: one line a fault, with its dotted key, what was found, what was wanted and the nearest name.

Knows how to put pydantic's findings into such lines. Knows nothing of what a key means.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, WrapValidator

Sections = Mapping[tuple[str, ...], type[BaseModel]]  # where each model stands in the file; `*` is any name

_WANTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (put it in quotes if it only looks like something else)",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "too_short": "at least one entry",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than_equal": "a number of at most {le:g}",
}


def shown(value: object) -> str:
    """A value as JSON, cut to 60 characters.

    >>> shown("ties"), shown([1, True]), shown(None)
    ('"ties"', '[1, true]', 'nothing')
    """
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """The nearest of `names` as the end of a message, or `otherwise` if none is near.

    >>> suggestion("CIDr", ["cider", "chrf"])
    ' (did you mean "cider"?)'
    """
    near = difflib.get_close_matches(name.lower(), known := {each.lower(): each for each in names}, n=1)
    return f' (did you mean "{known[near[0]]}"?)' if near else otherwise


def must(wanted: str, holds: Callable[[Any], bool], make: Callable[[Any], Any] = lambda value: value) -> WrapValidator:
    """Check a value that has more than one form, and say in one line what was wanted."""

    def check(value: Any, _: object) -> Any:
        if not holds(value):
            raise ValueError(f"wanted {wanted}, found {shown(value)}")
        return make(value)

    return WrapValidator(check)


def fault_line(error: Mapping[str, Any], sections: Sections) -> str:
    """One line for one of pydantic's findings: key, what was found, what was wanted, the nearest name."""
    location, kind, found = tuple(error["loc"]), error["type"], error["input"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if kind == "missing":
        wanted = _section_at(location[:-1], sections).model_fields[location[-1]].description
        return f"{key}: missing, wanted {wanted}"
    if kind == "extra_forbidden":
        return f"{key}: unknown key{_nearest_key(location, sections)}"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"{key}: {shown(found)} is not one of {', '.join(names)}{suggestion(str(found), names)}"
    if kind == "value_error":
        return f"{key}: {error['ctx']['error']}"
    wanted = _WANTED[kind].format(**error.get("ctx", {}))
    return f"{key}: wanted {wanted}, found {shown(found)}"


def _section_at(location: tuple[Any, ...], sections: Sections) -> type[BaseModel]:
    for path, section in sections.items():
        if len(path) == len(location) and all(part in ("*", key) for part, key in zip(path, location, strict=True)):
            return section
    raise AssertionError(f"no section stands at {location}")


def _nearest_key(location: tuple[Any, ...], sections: Sections) -> str:
    """The same key in another section, else the nearest key in this one, else all keys of this one."""
    *_, name = location
    elsewhere = [".".join((*path, name)) for path, section in sections.items() if name in _keys(section)]
    if elsewhere:
        return f" (did you mean {' or '.join(elsewhere)}?)"
    keys = _keys(_section_at(location[:-1], sections))
    return suggestion(name, keys, f"; the keys here are {', '.join(keys)}")


def _keys(section: type[BaseModel]) -> list[str]:
    """The keys of a section as they are written: `lambda`, which no attribute can be called."""
    return [field.alias or name for name, field in section.model_fields.items()]
