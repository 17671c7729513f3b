"""Reading a recipe: one YAML file that says what is blended, searched, asked and scored.

Tells all faults of a recipe at once, each with its dotted key, what was found, what was wanted and the nearest name.
Knows nothing of torch, weights, metrics or evalsets: names of metrics and evalsets are checked against lists that the
caller gives (`check_names`).
"""

import copy
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlmmerge.errors import RecipeError
from vlmmerge.recipe.faults import fault_line, shown, suggestion
from vlmmerge.recipe.sections import METHOD_OPTIONS, METHODS_OF_TWO, METHODS_WITHOUT_RATIOS, SECTIONS, Blend, Recipe
from vlmmerge.recipe.values import is_path
from vlmmerge.recipe.yamlfile import override, read_yaml

NAME = re.compile(r"[A-Za-z0-9_.-]+")
HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?(@[^\s@]+)?")

# Keys that are younger than many a journal, each with the value that says nothing new: it is no part of a fingerprint.
YOUNGER: dict[str, dict[str, Any]] = {
    "generate": {"protocol": "greedy", "beams": 1, "repetition_penalty": 1.0, "stop": [], "attention": "auto"},
    "evalset": {"retention": None},
    "score": {"guards": None, "segmenter": "unidic-lite", "judge": None},
}


def load_recipe(
    path: str | Path,
    overrides: Sequence[str] = (),
    extra_checks: Callable[[Recipe], list[str]] | None = None,
) -> Recipe:
    """Read, override, resolve and check a recipe; tell every fault at once, before a weight is read.

    Args:
        path: A YAML file in UTF-8.
        overrides: `a.b=value`, the value in YAML; later ones win. A missing section is made.
        extra_checks: Gives further fault lines. It is called even if there are faults, on what is left without them.

    Returns:
        The recipe; parents and a CLIP that are local folders, and own evalsets, have absolute paths (relative ones
        start at the recipe's folder).

    Raises:
        RecipeError: No such file, no YAML, or any fault in it.
    """
    path = Path(path)
    data = read_yaml(path)
    faults = [fault for text in overrides if (fault := override(data, text))]
    written = copy.deepcopy(data.get("parents"))
    faults += _resolve_folders(data, path.absolute().parent)
    written_names = _resolve_own_sets(data, path.absolute().parent)
    recipe = make_recipe(data, path, written, faults, extra_checks)
    recipe._written_evalsets = written_names
    return recipe


def make_recipe(
    data: dict[str, Any],
    path: Path,
    written_parents: dict[str, Any] | None = None,
    faults: Sequence[str] = (),
    extra_checks: Callable[[Recipe], list[str]] | None = None,
) -> Recipe:
    """Check the plain values of a recipe.

    Args:
        data: The values; parents that are local folders have absolute paths.
        path: The file that they come from.
        written_parents: The parents as that file writes them, if they have been made absolute.
        faults: What is known to be wrong with it.
        extra_checks: As `load_recipe` takes them.

    Raises:
        RecipeError: `faults`, or any fault found here.
    """
    recipe, errors = _validate(data)
    faults = [*faults, *(fault_line(error, SECTIONS) for error in errors), *_faults_between_sections(data)]
    if errors:
        recipe, _ = _validate(_without(data, [error["loc"] for error in errors]))
    if recipe is not None:
        recipe._source, recipe._written_parents = path.absolute(), written_parents
        told = {line.partition(": ")[0] for line in faults}
        extra = extra_checks(recipe) if extra_checks else []
        faults += [line for line in extra if line.partition(": ")[0] not in told]
    if faults:
        raise faults_to_error(path, faults)
    assert recipe is not None, "a recipe without faults is valid"
    return recipe


def faults_to_error(path: str | Path, lines: Sequence[str]) -> RecipeError:
    """One error for all fault lines of the recipe at `path`."""
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    return RecipeError(f"{path}: {count} in the recipe", details=lines, hint="mend the file, or use --set KEY=VALUE")


def check_names(recipe: Recipe, metrics: Collection[str], evalsets: Mapping[str, Collection[str]]) -> list[str]:
    """Fault lines for metrics, evalsets and splits that do not exist; `evalsets` maps each name to its splits."""

    def fault(key: str, kind: str, name: str, names: Collection[str]) -> list[str]:
        there_are = f"; there are {', '.join(sorted(names))}" if names else "; there are none"
        return [] if name in names else [f'{key}: no {kind} "{name}"{suggestion(name, names, there_are)}']

    lines = []
    for name in (recipe.score.objective or ()) if recipe.score else ():
        lines += fault(f"score.objective.{name}", "metric", name, metrics)
    for i, name in enumerate(recipe.score.report if recipe.score else ()):
        lines += fault(f"score.report[{i}]", "metric", name, metrics)
    for key, choice in recipe.evalset.choices.items() if recipe.evalset else ():
        lines += fault(f"evalset.{key}.name", "evalset", choice.name, evalsets.keys())
        if choice.name in evalsets:
            lines += fault(f"evalset.{key}.split", f"split in {choice.name}", choice.split, evalsets[choice.name])
    return lines


def missing_for_evolve(recipe: Recipe) -> list[str]:
    """Fault lines for what `evolve` needs and `blend` does not: an evalset, and ratios to evolve."""
    lines = [] if recipe.evalset else ["evalset: missing, wanted {search: {name, split}, held_out: {name, split}}"]
    if (method := recipe.blend.method) in METHODS_WITHOUT_RATIOS:
        lines.append(f"blend.method: {method} has no ratios to evolve; take another, or `vlmmerge blend` with this one")
    return lines


def missing_for_blend(recipe: Recipe, parameters: Collection[str]) -> list[str]:
    """Fault lines for the ratios that `blend` needs, by a method with these parameters."""
    if recipe.blend.ratios or not parameters:
        return []
    wanted = "{PARENT: {" + ", ".join(f"{name}: NUMBER" for name in parameters) + "}} for vlm and each LLM"
    return [f"blend.ratios: missing, but {recipe.blend.method} needs ratios; wanted {wanted}"]


def require_for_evolve(recipe: Recipe) -> None:
    """Check that a recipe can be evolved.

    Raises:
        RecipeError: There is no evalset, or the method has no ratios.
    """
    if lines := missing_for_evolve(recipe):
        raise faults_to_error(recipe.source, lines)


def fingerprint_fields(recipe: Recipe) -> dict[str, Any]:
    """What makes a run this run, as a new plain dict: everything that moves a candidate or its score.

    Left out: actors, size of batches, device and residency (they move no score), evaluations (a run may be prolonged),
    and where the recipe lies (parents stand as the recipe wrote them, so that a journal is the same on every machine;
    of `score.clip` a run keeps the checksum).
    """
    movable = {
        "blend": {"residency"}, "search": {"actors", "evaluations"}, "generate": {"batch_tokens", "device"},
        "score": {"clip"},
    }  # fmt: skip
    fields = recipe.model_dump(mode="json", exclude=movable)
    for section, older in YOUNGER.items():
        for key in [key for key, value in older.items() if fields[section] and fields[section][key] == value]:
            del fields[section][key]
    for key, name in recipe._written_evalsets.items():
        fields["evalset"][key]["name"] = name
    return fields | {"parents": copy.deepcopy(recipe._written_parents or fields["parents"])}


def _resolve_own_sets(data: dict[str, Any], folder: Path) -> dict[str, str]:
    """Make the paths of own evalsets absolute, and take all of one that names no split, in place; the paths by key."""
    written = {}
    for key in _mapping(data, "evalset"):
        choice = _mapping(data, "evalset", key)
        if isinstance(name := choice.get("name"), str) and is_path(name):
            written[key] = name
            choice["name"] = os.path.abspath(folder / Path(name).expanduser())
            choice.setdefault("split", "all")
    return written


def _mapping(data: Any, *keys: str) -> dict[str, Any]:
    """The mapping at `keys` in unchecked data, or an empty one."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _resolve_folders(data: dict[str, Any], folder: Path) -> list[str]:
    """Make local parents and `score.clip` absolute, in place; fault lines for those that are not there."""
    faults = []
    llms = _mapping(data, "parents", "llms")
    places = ((("parents",), ["vlm", "base", "vision"]), (("parents", "llms"), llms), (("score",), ["clip"]))
    for keys, names in places:
        section = _mapping(data, *keys)
        for name in [name for name in names if isinstance(section.get(name), str)]:
            value, key = section[name], f"{'.'.join(keys)}.{name}"
            local = Path(os.path.abspath(folder / Path(value).expanduser()))
            if not value:
                faults.append(f'{key}: wanted a folder or hub id, found ""')
            elif local.is_dir():
                section[name] = str(local)
            elif not HUB_ID.fullmatch(value):
                what = "wanted a folder, found a file" if local.is_file() else "no such folder"
                beside = local.parent.iterdir() if local.parent.is_dir() else ()
                near = suggestion(local.name, [each.name for each in beside if each.is_dir()])
                faults.append(f"{key}: {what} {value}{near}, looked for {local}")
    return faults


def _validate(data: dict[str, Any]) -> tuple[Recipe | None, list[Any]]:
    try:
        return Recipe.model_validate_json(json.dumps(data)), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _without(data: dict[str, Any], locations: list[tuple[str | int, ...]]) -> dict[str, Any]:
    """A copy without the faulty places, so that what is left can be checked too."""
    data = copy.deepcopy(data)
    for location in locations:
        keys = [key for key in location if isinstance(key, str)]
        section = _mapping(data, *keys[:-1])
        section.pop(keys[-1], None)
    return data


def _faults_between_sections(data: dict[str, Any]) -> list[str]:
    """Fault lines for what one key alone cannot tell; reads unchecked data, so that it runs whatever else is wrong."""
    llms, ratios = _mapping(data, "parents", "llms"), _mapping(data, "blend", "ratios")
    lines = []
    for name in llms:
        if name in ("vlm", "base", "vision"):
            lines.append(
                f'parents.llms.{name}: "{name}" is taken by parents.{name}; give the language model another name'
            )
        elif not NAME.fullmatch(name):
            lines.append(f"parents.llms.{name}: wanted a name of the letters A-Z a-z 0-9 _ . -, found {shown(name)}")
    if llms and ratios:
        parents = ["vlm", *llms]
        known = f"; the parents are {', '.join(parents)}"
        unknown = [name for name in ratios if name not in parents]
        lines += [f"blend.ratios.{name}: no such parent{suggestion(name, parents, known)}" for name in unknown]
        absent = [name for name in parents if name not in ratios]
        lines += [f"blend.ratios.{name}: missing, wanted a weight (weight: 0 leaves a parent out)" for name in absent]
    held_out = _mapping(data, "evalset", "held_out")
    for used in ("search", "finals"):
        seen = _mapping(data, "evalset", used)
        if seen and all(seen.get(key) == held_out.get(key) is not None for key in ("name", "split")):
            same = f"{seen['name']}, split {seen['split']}"
            lines.append(f"evalset.held_out: wanted other samples than evalset.{used}, found the same ({same})")
    lines += _faults_of_method(_mapping(data, "blend"), list(llms))
    return lines


def _faults_of_method(blend: dict[str, Any], llms: list[str]) -> list[str]:
    """Fault lines for what the chosen method cannot take or does not use; none if there is no such method."""
    method = blend.get("method")
    if not isinstance(method, str) or method not in METHOD_OPTIONS:
        return []
    lines = []
    if method in METHODS_OF_TWO and len(llms) > 1:
        found = f"found {len(llms)}: {', '.join(llms)}"
        lines.append(f"parents.llms: wanted one, since {method} blends two parents, vlm and one more; {found}")
    if method in METHODS_WITHOUT_RATIOS and blend.get("ratios") is not None:
        lines.append(f"blend.ratios: {method} has no ratios; wanted no such key")
    defaults = {field.alias or name: field.default for name, field in Blend.model_fields.items()}
    for option in dict.fromkeys(chain.from_iterable(METHOD_OPTIONS.values())):
        if option in blend and blend[option] != defaults[option] and option not in METHOD_OPTIONS[method]:
            users = ", ".join(name for name, options in METHOD_OPTIONS.items() if option in options)
            lines.append(f"blend.{option}: {method} does not use it; it is for {users}")
    return lines
