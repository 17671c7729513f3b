"""A YAML file as plain values: read it, and override single keys of it.

Knows YAML and its traps, and how to say where a file is broken. Knows nothing of what the keys mean.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from vlmmerge.errors import RecipeError


class _Loader(yaml.SafeLoader):
    """YAML with 1.2's plain values (`1e-3` is a number, `no` and `12:30` are text) and no key twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                problem = (
                    f'key "{key.value}" stands here twice' if isinstance(key, yaml.ScalarNode) else "wanted a plain key"
                )
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
            if key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"  # a parent may be called `no` or `7`
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def read_yaml(path: Path, what: str = "recipe", hint: str = "recipes/ holds recipes to start from") -> dict[str, Any]:
    """Read a mapping from a YAML file in UTF-8.

    Args:
        path: The file.
        what: What kind of file is wanted, for messages.
        hint: Where to find one, for messages.

    Returns:
        A new dict of plain JSON values; every key is text, as written.

    Raises:
        RecipeError: No such file, no YAML (with the line), or no mapping in it.
    """
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no such {what}: {path}", hint=hint) from None
    except OSError as error:
        raise RecipeError(f"cannot read the {what} {path}: {error.strerror}", hint=hint) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML", details=[_problem(error)], hint="mend that line") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not a {what}", details=[str(error)], hint="write it as YAML in UTF-8") from error
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise RecipeError(f"{path}: wanted a mapping of keys to values, found {found}", hint=hint)
    return data


def override(data: dict[str, Any], text: str) -> str:
    """Apply one `a.b=value` to `data` in place, the value in YAML; a missing mapping on the way is made.

    Returns:
        A fault line; empty if there is no fault.

    >>> data = {"search": {"seed": 0}}
    >>> override(data, "search.seed=3"), override(data, "blend.depth={groups: 4}"), data
    ('', '', {'search': {'seed': 3}, 'blend': {'depth': {'groups': 4}}})
    """
    dotted, equals, written = text.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        return f"--set {text}: wanted KEY=VALUE, such as search.seed=3"
    try:
        value = _parse(written)
    except (yaml.YAMLError, ValueError) as error:
        return f"--set {text}: the value is not YAML: {_problem(error)}"
    for key in keys[:-1]:
        if not isinstance(data.get(key), dict):
            data[key] = {}
        data = data[key]
    data[keys[-1]] = value
    return ""


def _parse(text: str) -> Any:
    # Through JSON and back: plain values only, and no two keys that share one list through an alias.
    return json.loads(json.dumps(yaml.load(text, Loader=_Loader)))


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + (getattr(error, "problem", None) or str(error).splitlines()[0])
