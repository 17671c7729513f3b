"""The recipe: one YAML file that says what is blended, searched, asked and scored.

Knows every key, every default and its reason, and how to tell all faults of a recipe at once, each with its dotted key,
what was found, what was wanted and the nearest name. Knows nothing of torch, weights, metrics or evalsets: names of
metrics and evalsets are checked against lists that the caller gives (`check_names`).
"""

import copy
import json
import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from vlmmerge.errors import RecipeError
from vlmmerge.faults import Sections, fault_line, must, shown, suggestion
from vlmmerge.yamlfile import override, read_yaml

Depth = str | dict[str, int]  # "global", "per_layer", {"groups": N} or {"curve": K}
Points = float | list[float]

_PARTS = ("attention", "mlp")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?(@[^\s@]+)?")


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


def _is_split(value: Any) -> bool:
    return value == "roles" or (isinstance(value, list) and sorted(map(str, value)) == sorted(_PARTS))


def _is_depth(value: Any) -> bool:
    if not isinstance(value, dict):
        return value in ("global", "per_layer")
    least = {"groups": 1, "curve": 2}
    return len(value) == 1 and all(name in least and type(n) is int and n >= least[name] for name, n in value.items())


_AtLeast0 = Annotated[int, Field(ge=0)]
_AtLeast1 = Annotated[int, Field(ge=1)]
# Values of more than one form: pydantic's own unions would tell one slip once for each form.
_Depth = Annotated[
    Depth,
    must(
        "global, {groups: N} with N of at least 1, {curve: K} with K of at least 2 (1 point is global) or per_layer",
        _is_depth,
    ),
]
_Split = Annotated[
    tuple[str, ...] | str | None,
    must(
        "[attention, mlp], roles (q_proj, k_proj, ..., each apart) or no such key",
        lambda value: value is None or _is_split(value),
        lambda value: _PARTS if isinstance(value, list) else value,
    ),
]
_Range = Annotated[tuple[float, float], must("[low, high] with low below high", _is_range, _pair)]
_DensityRange = Annotated[
    tuple[float, float],
    must("[low, high] with low below high, both above 0 and up to 1", lambda v: _is_range(v, _is_density), _pair),
]
_GammaRange = Annotated[
    tuple[float, float],
    must("[low, high] with low below high, both from 0 to 1", lambda v: _is_range(v, _is_gamma), _pair),
]
_EpsilonRange = Annotated[
    tuple[float, float],
    must("[low, high] with low below high, both from 0 to 0.5", lambda v: _is_range(v, _is_epsilon), _pair),
]
_FORMS = "a list of such numbers (control points over depth), or a mapping of parts and roles to these"
_Weight = Annotated[Points | dict[str, Points], must(f"a number, {_FORMS}", _is_ratio, _floats)]
_Density = Annotated[
    Points | dict[str, Points],
    must(f"a number above 0 and up to 1, {_FORMS}", lambda v: _is_ratio(v, _is_density), _floats),
]
_Gamma = Annotated[
    Points | dict[str, Points], must(f"a number from 0 to 1, {_FORMS}", lambda v: _is_ratio(v, _is_gamma), _floats)
]
_Epsilon = Annotated[
    Points | dict[str, Points], must(f"a number from 0 to 0.5, {_FORMS}", lambda v: _is_ratio(v, _is_epsilon), _floats)
]
_Rescale = Annotated[
    bool | Literal["l1"] | None,
    must("true, false or l1", lambda value: value is None or type(value) is bool or value == "l1"),
]
_Population = Annotated[
    Literal["auto"] | int,
    must("auto or an integer of at least 2", lambda value: value == "auto" or (type(value) is int and value >= 2)),
]


class _Section(BaseModel):
    # strict: `seed: "3"` or `samples: 64.0` is a slip to tell, not to guess at. A key unknown here is always a fault.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, serialize_by_alias=True)


class Parents(_Section):
    """The checkpoints that go in, each a hub id or the absolute path of a local folder."""

    vlm: str = Field(description="a folder or hub id: vision tower, projector, processor and export layout")
    base: str = Field(description="a folder or hub id: the common ancestor of the language towers")
    llms: dict[str, str] = Field(min_length=1, description="one or more names, each with a folder or hub id")


class Ranges(_Section):
    """What a gene's 0 and 1 stand for."""

    # Weights are not normalised, and the best published ones sum to about 2 over two parents, so 1 would be too low.
    weight: _Range = (0.0, 1.5)
    # Density 0 keeps nothing and DARE divides by it; 0.1 already rescales what is kept tenfold.
    density: _DensityRange = (0.1, 1.0)
    # Outliers are few by their nature: from none to five times the field's usual hundredth.
    gamma: _GammaRange = (0.0, 0.05)
    # From DARE, which knows no magnitudes, to the field's default.
    epsilon: _EpsilonRange = (0.0, 0.15)


class FixedRatio(_Section):
    """One parent's ratios, each a number; a list: control points over depth, first = first layer, last = last layer; or
    a mapping to either of these by role (q_proj, ...), part (attention, mlp, embeddings, head) and default."""

    weight: _Weight = Field(description=f"a number, {_FORMS}")
    density: _Density = 1.0  # nothing is dropped unless the recipe says so
    gamma: _Gamma = 0.01  # mergekit's; of breadcrumbs only, and of them only where something is dropped
    epsilon: _Epsilon = 0.15  # mergekit's; of della only, and of it only where something is dropped


class Blend(_Section):
    """How the language towers are blended, and how finely."""

    method: Literal[
        "linear",
        "slerp",
        "task_arithmetic",
        "ties",
        "dare",
        "dare_ties",
        "breadcrumbs",
        "breadcrumbs_ties",
        "della",
        "della_ties",
        "model_stock",
        "sce",
    ] = Field(description="the name of a blending method")
    depth: _Depth = "global"  # the fewest genes, so that a short search gets somewhere
    split: _Split = None  # one gene for attention and mlp together: half as many to find
    # Rows pair by token; `vlm` keeps the VLM's embeddings and head, for parents whose tokenizers cut texts otherwise.
    embeddings: Literal["blend", "vlm"] = "blend"
    ranges: Ranges = Ranges()
    ratios: dict[str, FixedRatio] | None = None  # a search starts from `search.start`; only `vlmmerge blend` needs them
    # The parents' towers: on the model's device while they leave room there, else in host memory and sent slot by slot.
    residency: Literal["auto", "device", "host"] = "auto"
    seed: _AtLeast0 = 0  # the random masks; a fixed number, so that the recipe alone makes the same weights again
    # Each method's own: `linear` divides by the sum of the weights; elsewhere the published optimum sums to about 2.
    normalize: bool | None = None
    rescale: _Rescale = None  # as each paper: dare and della divide by what they keep, no other method rescales
    lambda_: float = Field(default=1.0, alias="lambda")  # the weights say it already; for recipes from elsewhere
    majority_sign_method: Literal["total", "frequency"] = "total"  # the paper's of TIES
    majority_sign_tie: Literal["drop", "positive"] = "drop"  # favours no sign; mergekit and PEFT take the positive
    select_topk: Annotated[float, Field(gt=0, le=1)] = 1.0  # nothing is left out unless the recipe says so
    filter_wise: bool = False  # one interpolation a slot, as mergekit's default


class EvalsetChoice(_Section):
    """Samples to score on."""

    name: str = Field(description="the name of an evalset (`vlmmerge evalsets` lists them)")
    split: str = Field(description="a split of that evalset")
    samples: _AtLeast1 | None = None  # all of them: fewer widen the interval, which only the user can want


class Evalset(_Section):
    """What the search may see, and what it never sees."""

    search: EvalsetChoice = Field(description="{name, split} to score candidates on")
    held_out: EvalsetChoice = Field(description="{name, split} for the headline number, never seen by the search")
    # No finals: the search's own score decides. They are worth it where the search sees few samples: the best of many
    # candidates on those is partly luck, and more samples show whose score lasts.
    finals: EvalsetChoice | None = None

    @property
    def choices(self) -> dict[str, EvalsetChoice]:
        """Those that are given, by key."""
        return {name: choice for name, choice in self if choice is not None}


class Generate(_Section):
    """How a candidate is asked."""

    question: str | None = None  # each sample's own question
    system: str | None = None  # whatever the parent's chat template does by itself
    max_new_tokens: _AtLeast1 = 64  # room for one or two Japanese sentences, as captions and short answers are
    batch_size: _AtLeast1 = 64  # enough short answers to keep a GPU busy; it never moves a score
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # as the vlm parent was saved, since that ships
    device: str = "auto"  # the GPU where there is one


class Score(_Section):
    """What is optimised, and what is shown beside it."""

    objective: dict[str, float] = Field(min_length=1, description="metrics with a weight each, such as {cider: 1.0}")
    report: tuple[str, ...] = ()  # nothing beside the objective's own metrics


class Search(_Section):
    """The evolution. Source of population, start and sigma: Akiba 2024, https://arxiv.org/abs/2403.13187"""

    algorithm: Literal["cmaes"] = "cmaes"  # the paper's; it learns how genes depend on each other and needs no tuning
    evaluations: _AtLeast1 = 400  # 50 generations of the 8 candidates for 4 genes; the paper: 1000, many genes
    population: _Population = "auto"  # 4 + floor(3 ln genes), the paper's
    start: Annotated[float, Field(ge=0, le=1)] = 0.5  # the middle of every range, the paper's
    sigma: Annotated[float, Field(gt=0)] = 1 / 6  # the paper's: from the middle, three sigma reach either end
    seed: _AtLeast0 = 0  # a fixed number, so that a run can be repeated and resumed
    grid: _AtLeast0 = 0  # no control; N scores N uniform weights for each parent, all combinations, before the search
    finalists: _AtLeast1 = 8  # how many go to `evalset.finals`, where it is given: a generation's worth
    actors: _AtLeast0 = 0  # in this process; each actor holds a model of its own, so memory decides how many fit


class Recipe(_Section):
    """A whole recipe: resolved, checked and frozen."""

    parents: Parents = Field(description="vlm, base and llms")
    blend: Blend = Field(description="method and, if wanted, depth, split, embeddings, ranges, ratios and seed")
    evalset: Evalset | None = None  # `vlmmerge blend` scores nothing
    generate: Generate = Generate()
    score: Score | None = None  # as evalset
    search: Search = Search()
    _source: Path = PrivateAttr(Path())
    _written_parents: dict[str, Any] | None = PrivateAttr(None)

    @property
    def source(self) -> Path:
        """Absolute path of the recipe file."""
        return self._source


_SUM = ("normalize", "lambda")
_ELECTION = ("majority_sign_method", "majority_sign_tie")
# The options that each method uses, as its line in `blend.METHODS` says, which torch would have to be loaded to read.
METHOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "linear": ("normalize",),
    "slerp": (),
    "task_arithmetic": _SUM,
    "ties": (*_SUM, "rescale", *_ELECTION),
    "dare": (*_SUM, "rescale"),
    "dare_ties": (*_SUM, "rescale", *_ELECTION),
    "breadcrumbs": (*_SUM, "rescale"),
    "breadcrumbs_ties": (*_SUM, "rescale", *_ELECTION),
    "della": (*_SUM, "rescale"),
    "della_ties": (*_SUM, "rescale", *_ELECTION),
    "model_stock": ("filter_wise",),
    "sce": ("select_topk", "majority_sign_tie"),
}
METHODS_OF_TWO = ("slerp",)
METHODS_WITHOUT_RATIOS = ("model_stock",)


# Where each section stands; `*` is any name.
SECTIONS: Sections = {
    (): Recipe,
    ("parents",): Parents,
    ("blend",): Blend,
    ("blend", "ranges"): Ranges,
    ("blend", "ratios", "*"): FixedRatio,
    ("evalset",): Evalset,
    ("evalset", "search"): EvalsetChoice,
    ("evalset", "held_out"): EvalsetChoice,
    ("evalset", "finals"): EvalsetChoice,
    ("generate",): Generate,
    ("score",): Score,
    ("search",): Search,
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
        The recipe; parents that are local folders have absolute paths (relative ones start at the recipe's folder).

    Raises:
        RecipeError: No such file, no YAML, or any fault in it.
    """
    path = Path(path)
    data = read_yaml(path)
    faults = [fault for text in overrides if (fault := override(data, text))]
    written = copy.deepcopy(data.get("parents"))
    faults += _resolve_parents(data, path.absolute().parent)
    return make_recipe(data, path, written, faults, extra_checks)


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
    for name in recipe.score.objective if recipe.score else ():
        lines += fault(f"score.objective.{name}", "metric", name, metrics)
    for i, name in enumerate(recipe.score.report if recipe.score else ()):
        lines += fault(f"score.report[{i}]", "metric", name, metrics)
    for key, choice in recipe.evalset.choices.items() if recipe.evalset else ():
        lines += fault(f"evalset.{key}.name", "evalset", choice.name, evalsets.keys())
        if choice.name in evalsets:
            lines += fault(f"evalset.{key}.split", f"split in {choice.name}", choice.split, evalsets[choice.name])
    return lines


def missing_for_evolve(recipe: Recipe) -> list[str]:
    """Fault lines for what `evolve` needs and `blend` does not: its sections, and ratios to evolve."""
    lines = [] if recipe.evalset else ["evalset: missing, wanted {search: {name, split}, held_out: {name, split}}"]
    lines += [] if recipe.score else ["score: missing, wanted {objective: {METRIC: WEIGHT}}"]
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
        RecipeError: There is no evalset or no score, or the method has no ratios.
    """
    if lines := missing_for_evolve(recipe):
        raise faults_to_error(recipe.source, lines)


def fingerprint_fields(recipe: Recipe) -> dict[str, Any]:
    """What makes a run this run, as a new plain dict: everything that moves a candidate or its score.

    Left out: actors, batch size, device and residency (they move no score), evaluations (a run may be prolonged), and
    where the recipe lies (parents stand as the recipe wrote them, so that a journal is the same on every machine).
    """
    movable = {"blend": {"residency"}, "search": {"actors", "evaluations"}, "generate": {"batch_size", "device"}}
    fields = recipe.model_dump(mode="json", exclude=movable)
    return fields | {"parents": copy.deepcopy(recipe._written_parents or fields["parents"])}


def _mapping(data: Any, *keys: str) -> dict[str, Any]:
    """The mapping at `keys` in unchecked data, or an empty one."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _resolve_parents(data: dict[str, Any], folder: Path) -> list[str]:
    """Make local parents absolute, in place; fault lines for those that are not there."""
    faults = []
    for keys, names in ((("parents",), ["vlm", "base"]), (("parents", "llms"), _mapping(data, "parents", "llms"))):
        section = _mapping(data, *keys)
        for name in [name for name in names if isinstance(section.get(name), str)]:
            value, key = section[name], f"{'.'.join(keys)}.{name}"
            local = Path(os.path.abspath(folder / Path(value).expanduser()))
            if not value:
                faults.append(f'{key}: wanted a folder or hub id, found ""')
            elif local.is_dir():
                section[name] = str(local)
            elif not _HUB_ID.fullmatch(value):
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
        if name in ("vlm", "base"):
            lines.append(
                f'parents.llms.{name}: "{name}" is taken by parents.{name}; give the language model another name'
            )
        elif not _NAME.fullmatch(name):
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
