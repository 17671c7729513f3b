"""The recipe: defaults, overrides, parents' places, and every fault told at once in words that help."""

import copy
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from vlmmerge.errors import RecipeError
from vlmmerge.recipe import (
    METHOD_OPTIONS,
    METHODS_OF_TWO,
    METHODS_WITHOUT_RATIOS,
    SECTIONS,
    Blend,
    FixedRatio,
    Ranges,
    Recipe,
    check_names,
    fingerprint_fields,
    load_recipe,
    missing_for_evolve,
    require_for_evolve,
)

FULL: dict[str, Any] = {
    "parents": {"vlm": "org/vlm", "base": "org/base", "llms": {"shisa": "org/shisa"}},
    "blend": {
        "method": "dare_ties",
        "depth": {"groups": 4},
        "split": ["attention", "mlp"],
        "ranges": {"weight": [0.0, 2.0], "density": [0.2, 1.0]},
        "ratios": {"vlm": {"weight": 0.9, "density": 0.6}, "shisa": {"weight": [0.2, 0.8, 1.1]}},
        "seed": 1,
    },
    "evalset": {
        "search": {"name": "ja-scenes", "split": "search", "samples": 64},
        "held_out": {"name": "ja-scenes", "split": "held_out"},
    },
    "generate": {"question": "画像を説明してください。", "max_new_tokens": 48, "batch_tokens": 8, "device": "cpu"},
    "score": {"objective": {"cider": 1.0}, "report": ["rouge"]},
    "search": {"evaluations": 40, "population": 6, "seed": 2, "actors": 2},
}
METRICS = ("cider", "rouge", "chrf")
EVALSETS = {"ja-scenes": ("search", "held_out")}


def write(folder: Path, data: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def changed(changes: dict[str, Any], drop: tuple[str, ...] = ()) -> dict[str, Any]:
    """FULL with values set at dotted keys and keys dropped."""
    data = copy.deepcopy(FULL)
    for dotted, value in [*changes.items(), *((key, None) for key in drop)]:
        *keys, last = dotted.split(".")
        section = data
        for key in keys:
            section = section[key]
        if dotted in drop:
            del section[last]
        else:
            section[last] = value
    return data


def faults(path: Path, **kwargs: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, **kwargs)
    assert caught.value.hint
    return list(caught.value.details)


def test_a_full_recipe_is_read_as_written(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, FULL))
    assert recipe.parents.llms == {"shisa": "org/shisa"}
    assert recipe.blend.depth == {"groups": 4}
    assert recipe.blend.split == ("attention", "mlp")
    assert recipe.blend.ranges.weight == (0.0, 2.0)
    assert recipe.blend.ratios is not None and recipe.blend.ratios["shisa"].weight == [0.2, 0.8, 1.1]
    assert recipe.blend.ratios["shisa"].density == 1.0
    assert recipe.evalset is not None and recipe.evalset.held_out.samples is None
    assert recipe.generate.question == "画像を説明してください。"
    assert recipe.score is not None and recipe.score.report == ("rouge",)
    assert recipe.search.population == 6
    assert recipe.source == tmp_path / "recipe.yaml"


def test_parents_and_a_method_are_a_whole_recipe_for_blend(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, {"parents": FULL["parents"], "blend": {"method": "ties"}}))
    assert recipe.blend.depth == "global" and recipe.blend.split is None and recipe.blend.ratios is None
    assert recipe.blend.ranges.weight == (0.0, 1.5) and recipe.blend.ranges.density == (0.1, 1.0)
    search = recipe.search
    assert (search.evaluations, search.population, search.start, search.sigma) == (400, "auto", 0.5, 1 / 6)
    assert (search.seed, search.actors) == (0, 0)
    assert recipe.generate.max_new_tokens == 64 and recipe.generate.dtype == "auto"


def test_depth_may_be_a_curve_split_may_be_roles_and_ratios_may_map_parts_and_roles(tmp_path: Path) -> None:
    weight = {"attention": [0, 1], "q_proj": 0.5, "embeddings": 0, "default": 1}
    changes = {"blend.depth": {"curve": 5}, "blend.split": "roles", "blend.ratios.vlm.weight": weight}
    blend = load_recipe(write(tmp_path, changed(changes))).blend
    assert blend.depth == {"curve": 5} and blend.split == "roles"
    assert blend.ratios is not None
    assert blend.ratios["vlm"].weight == {"attention": [0.0, 1.0], "q_proj": 0.5, "embeddings": 0.0, "default": 1.0}


def test_the_options_of_a_blend_are_read_by_the_fields_names(tmp_path: Path) -> None:
    options = {
        "normalize": True,
        "rescale": "l1",
        "lambda": 0.5,
        "majority_sign_method": "frequency",
        "majority_sign_tie": "positive",
    }
    recipe = load_recipe(write(tmp_path, changed({f"blend.{name}": value for name, value in options.items()})))
    dumped = recipe.model_dump(mode="json")["blend"]
    assert {name: dumped[name] for name in options} == options
    assert recipe.blend.lambda_ == 0.5
    assert load_recipe(write(tmp_path, FULL), ["blend.lambda=0.5", "blend.rescale=false"]).blend.rescale is False


def test_options_at_their_defaults_are_no_fault_whatever_the_method(tmp_path: Path) -> None:
    """So a resolved recipe, which has them all, can be read again; and --set can take one back."""
    recipe = load_recipe(write(tmp_path, changed({"blend.method": "linear"})))
    dumped = recipe.model_dump(mode="json")
    assert load_recipe(write(tmp_path, dumped)).model_dump() == recipe.model_dump()


def test_the_recipe_knows_the_methods_and_options_of_the_registry() -> None:
    """The recipe must not load torch, so it has lists of its own."""
    from vlmmerge.blend import METHODS, Options

    assert list(get_args(Blend.model_fields["method"].annotation)) == list(METHODS)
    assert {name: set(options) for name, options in METHOD_OPTIONS.items()} == {
        name: set(method.options) for name, method in METHODS.items()
    }
    assert set(METHODS_OF_TWO) == {name for name, method in METHODS.items() if method.most_parents == 2}
    assert set(METHODS_WITHOUT_RATIOS) == {name for name, method in METHODS.items() if not method.parameters}
    used = {parameter for method in METHODS.values() for parameter in method.parameters}
    assert used == set(Ranges.model_fields) == set(FixedRatio.model_fields)
    for field in fields(Options):
        assert Blend.model_fields[field.name].default == field.default, field.name


def test_a_recipe_cannot_be_changed_once_read(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, FULL))
    with pytest.raises(ValueError, match="frozen"):
        recipe.search.seed = 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blend.depth": {"curve": 3}, "blend.split": "roles"},
        {"blend.ratios.vlm": {"weight": {"mlp": [0, 1], "default": 1}, "density": {"head": 1, "default": [0.5, 1]}}},
    ],
)
def test_a_recipe_dumps_as_plain_values_without_warnings_and_comes_back(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe = load_recipe(write(tmp_path, changed(changes)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = json.dumps(recipe.model_dump(mode="json"), allow_nan=False)
    assert Recipe.model_validate_json(text).model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"generate.stop": [""]}, 'generate.stop: wanted a list of texts, none of them empty, found [""]'),
        ({"search.evaluatons": 3}, 'search.evaluatons: unknown key (did you mean "evaluations"?)'),
        ({"seed": 3}, "seed: unknown key (did you mean blend.seed or search.seed?)"),
        (
            {"score.xyz": 3},
            "score.xyz: unknown key; the keys here are objective, guards, report, segmenter, clip, judg",
        ),
        ({"blend.ratios.vlm.densty": 1}, 'blend.ratios.vlm.densty: unknown key (did you mean "density"?)'),
        (
            {"blend.method": "tie"},
            'blend.method: "tie" is not one of linear, slerp, task_arithmetic, ties, dare, dare_ties, breadcrumbs, '
            'breadcrumbs_ties, della, della_ties, model_stock, sce (did you mean "ties"?)',
        ),
        ({"search.seed": "x"}, 'search.seed: wanted an integer, found "x"'),
        ({"search.seed": True}, "search.seed: wanted an integer, found true"),
        ({"search.evaluations": 4.5}, "search.evaluations: wanted an integer, found 4.5"),
        ({"search.evaluations": 0}, "search.evaluations: wanted a number of at least 1, found 0"),
        ({"search.population": 1}, "search.population: wanted auto or an integer of at least 2, found 1"),
        ({"search.start": 2}, "search.start: wanted a number of at most 1, found 2"),
        ({"search.start": float("nan")}, "search.start: wanted a finite number, found NaN"),
        ({"search.sigma": 0}, "search.sigma: wanted a number above 0, found 0"),
        ({"search.actors": -1}, "search.actors: wanted a number of at least 0, found -1"),
        ({"search": None}, "search: wanted a mapping of keys to values, found nothing"),
        (
            {"blend.depth": {"groups": 0}},
            "blend.depth: wanted global, {groups: N} with N of at least 1, {curve: K} with K of at least 2 "
            '(1 point is global) or per_layer, found {"groups": 0}',
        ),
        ({"blend.residency": "gpu"}, 'blend.residency: "gpu" is not one of auto, device, host'),
        ({"blend.embeddings": "vml"}, 'blend.embeddings: "vml" is not one of blend, vlm (did you mean "vlm"?)'),
        (
            {"blend.depth": {"curve": 1}},
            "blend.depth: wanted global, {groups: N} with N of at least 1, {curve: K} with K of at least 2 "
            '(1 point is global) or per_layer, found {"curve": 1}',
        ),
        (
            {"blend.depth": {"groups": 2, "curve": 2}},
            "blend.depth: wanted global, {groups: N} with N of at least 1, {curve: K}",
        ),
        ({"blend.depth": "curve"}, "blend.depth: wanted global, {groups: N} with N of at least 1, {curve: K}"),
        (
            {"blend.split": ["mlp"]},
            "blend.split: wanted [attention, mlp], roles (q_proj, k_proj, ..., each apart) or no such key, "
            'found ["mlp"]',
        ),
        ({"blend.split": "role"}, "blend.split: wanted [attention, mlp], roles (q_proj, k_proj, ..., each apart)"),
        ({"blend.ranges.weight": [1, 1]}, "blend.ranges.weight: wanted [low, high] with low below high, found [1, 1]"),
        (
            {"blend.ranges.density": [0, 1]},
            "blend.ranges.density: wanted [low, high] with low below high, both above 0 and up to 1, found [0, 1]",
        ),
        (
            {"blend.ratios.vlm.weight": [0.5, "x"]},
            "blend.ratios.vlm.weight: wanted a number, a list of such numbers (control points over depth), "
            'or a mapping of parts and roles to these, found [0.5, "x"]',
        ),
        (
            {"blend.ratios.vlm.weight": {"mlp": {"q_proj": 1}}},
            "blend.ratios.vlm.weight: wanted a number, a list of such numbers (control points over depth), "
            'or a mapping of parts and roles to these, found {"mlp": {"q_proj": 1}}',
        ),
        (
            {"blend.ratios.vlm.weight": {}},
            "blend.ratios.vlm.weight: wanted a number, a list of such numbers (control points over depth), "
            "or a mapping of parts and roles to these, found {}",
        ),
        (
            {"blend.ratios.vlm.density": 0},
            "blend.ratios.vlm.density: wanted a number above 0 and up to 1, a list of such numbers (control points "
            "over depth), or a mapping of parts and roles to these, found 0",
        ),
        (
            {"blend.ratios.vlm.density": {"mlp": [0.5, 1.5], "default": 1}},
            "blend.ratios.vlm.density: wanted a number above 0 and up to 1, a list of such numbers",
        ),
        (
            {"blend.ratios.vlm.density": [0.5, 1.2]},
            "blend.ratios.vlm.density: wanted a number above 0 and up to 1, a list of such numbers (control points "
            "over depth), or a mapping of parts and roles to these, found [0.5, 1.2]",
        ),
        (
            {"blend.ratios.vlm.weight": float("nan")},
            "blend.ratios.vlm.weight: wanted a number, a list of such numbers (control points over depth), "
            "or a mapping of parts and roles to these, found NaN",
        ),
        (
            {"blend.ratios.vlm.gamma": 1.5},
            "blend.ratios.vlm.gamma: wanted a number from 0 to 1, a list of such numbers (control points over depth), "
            "or a mapping of parts and roles to these, found 1.5",
        ),
        (
            {"blend.ratios.vlm.epsilon": [0.1, 0.6]},
            "blend.ratios.vlm.epsilon: wanted a number from 0 to 0.5, a list of such numbers (control points over "
            "depth), or a mapping of parts and roles to these, found [0.1, 0.6]",
        ),
        (
            {"blend.ranges.gamma": [-0.1, 0.1]},
            "blend.ranges.gamma: wanted [low, high] with low below high, both from 0 to 1, found [-0.1, 0.1]",
        ),
        (
            {"blend.ranges.epsilon": [0, 0.7]},
            "blend.ranges.epsilon: wanted [low, high] with low below high, both from 0 to 0.5, found [0, 0.7]",
        ),
        ({"blend.normalize": "yes"}, 'blend.normalize: wanted true or false, found "yes"'),
        ({"blend.rescale": "l2"}, 'blend.rescale: wanted true, false or l1, found "l2"'),
        ({"blend.rescale": 1}, "blend.rescale: wanted true, false or l1, found 1"),
        ({"blend.lambda": "x"}, 'blend.lambda: wanted a number, found "x"'),
        ({"blend.lambda": float("inf")}, "blend.lambda: wanted a finite number, found Infinity"),
        ({"blend.lambda_": 1.0}, 'blend.lambda_: unknown key (did you mean "lambda"?)'),
        (
            {"blend.majority_sign_method": "count"},
            'blend.majority_sign_method: "count" is not one of total, frequency',
        ),
        ({"blend.majority_sign_tie": "none"}, 'blend.majority_sign_tie: "none" is not one of drop, positive'),
        (
            {"blend.method": "sce", "blend.select_topk": 0},
            "blend.select_topk: wanted a number above 0, found 0",
        ),
        (
            {"blend.method": "sce", "blend.select_topk": 1.1},
            "blend.select_topk: wanted a number of at most 1, found 1.1",
        ),
        (
            {"blend.select_topk": 0.5},
            "blend.select_topk: dare_ties does not use it; it is for sce",
        ),
        (
            {"blend.method": "della", "blend.majority_sign_method": "frequency"},
            "blend.majority_sign_method: della does not use it; it is for ties, dare_ties, breadcrumbs_ties, della_t",
        ),
        (
            {"blend.method": "slerp", "blend.lambda": 0.5},
            "blend.lambda: slerp does not use it; it is for task_arithmetic, ties, dare, dare_ties, breadcrumbs, ",
        ),
        (
            {"blend.method": "slerp", "parents.llms.rin": "org/rin", "blend.ratios.rin": {"weight": 1}},
            "parents.llms: wanted one, since slerp blends two parents, vlm and one more; found 2: rin, shisa",
        ),
        ({"blend.method": "model_stock"}, "blend.ratios: model_stock has no ratios; wanted no such key"),
        ({"blend.ratios.shiza": {"weight": 1}}, 'blend.ratios.shiza: no such parent (did you mean "shisa"?)'),
        ({"blend.ratios.x": {"weight": 1}}, "blend.ratios.x: no such parent; the parents are vlm, shisa"),
        ({"parents.llms": {}}, "parents.llms: wanted at least one entry, found {}"),
        (
            {"parents.llms.base": "org/x"},
            'parents.llms.base: "base" is taken by parents.base; give the language model another name',
        ),
        ({"parents.llms.a b": "x"}, 'parents.llms.a b: wanted a name of the letters A-Z a-z 0-9 _ . -, found "a b"'),
        (
            {"generate.question": 3},
            "generate.question: wanted text (put it in quotes if it only looks like something else), found 3",
        ),
        (
            {"generate.dtype": "bf16"},
            'generate.dtype: "bf16" is not one of auto, float32, bfloat16, float16 (did you mean "bfloat16"?)',
        ),
        ({"score.objective": {}}, "score.objective: wanted at least one entry, found {}"),
        (
            {"score.segmenter": "unidic"},
            'score.segmenter: "unidic" is not one of unidic-lite, ipadic, sudachi, sudachi-a, '
            'sudachi-b, sudachi-c, characters (did you mean "unidic-lite"?)',
        ),
        ({"score.clip": 3}, "score.clip: wanted text (put it in quotes if it only looks like something else), found 3"),
        ({"score.clip": ""}, 'score.clip: wanted a folder or hub id, found ""'),
        (
            {"score.judge": {"url": "http://localhost:8000/v1"}},
            "score.judge.model: missing, wanted the name of a model there",
        ),
        (
            {"score.judge": {"url": "localhost:8000", "model": "m"}},
            'score.judge.url: wanted an endpoint such as http://localhost:8000/v1, found "localhost:8000"',
        ),
        (
            {"score.judge": {"url": "http://h/v1", "model": "m", "key": "sk"}},
            "score.judge.key: unknown key; the keys here are url, model, sends_images",
        ),
        ({"score.report": "cider"}, 'score.report: wanted a list, found "cider"'),
        ({"score.report": [1]}, "score.report[0]: wanted text (put it in quotes if it only looks like something else)"),
        ({"score.guards": {"japanes": 90}}, 'score.guards.japanes: unknown key (did you mean "japanese"?)'),
        (
            {"score.guards": {"loudness": 1}},
            "score.guards.loudness: unknown key; the keys here are japanese, length_ratio, repetition, grounding",
        ),
        ({"score.guards": 3}, "score.guards: wanted a mapping of keys to values, found 3"),
        (
            {"score.guards": {"japanese": 101}},
            "score.guards.japanese: wanted a percentage above 0 and up to 100, found 101",
        ),
        (
            {"score.guards": {"japanese": "90"}},
            'score.guards.japanese: wanted a percentage above 0 and up to 100, found "',
        ),
        (
            {"score.guards": {"length_ratio": 0.5}},
            "score.guards.length_ratio: wanted a number of at least 1, found 0.5",
        ),
        ({"score.guards": {"repetition": 0}}, "score.guards.repetition: wanted a number above 0 and up to 1, found 0"),
        ({"score.guards": {"grounding": 10}}, "score.guards.grounding: wanted a number above 0 and up to 1, found 10"),
        ({"evalset.retention": {"name": "x"}}, "evalset.retention.split: missing, wanted a split of that evalset"),
        ({"evalset.search.samples": 0}, "evalset.search.samples: wanted a number of at least 1, found 0"),
        (
            {"evalset.held_out.split": "search"},
            "evalset.held_out: wanted other samples than evalset.search, found the same (ja-scenes, split search)",
        ),
        (
            {"evalset.finals": {"name": "ja-scenes", "split": "held_out"}},
            "evalset.held_out: wanted other samples than evalset.finals, found the same (ja-scenes, split held_out)",
        ),
    ],
)
def test_a_fault_names_key_found_wanted_and_nearest_name(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    lines = faults(write(tmp_path, changed(changes)))
    assert any(each.startswith(line) for each in lines), lines


@pytest.mark.parametrize(
    ("dropped", "line"),
    [
        ("blend", "blend: missing, wanted method and, if wanted, depth, split, embeddings, ranges, ratios and seed"),
        (
            "parents.base",
            "parents.base: missing, wanted a folder or hub id: the common ancestor of the language towers",
        ),
        ("evalset.held_out", "evalset.held_out: missing, wanted {name, split} for the headline number"),
        ("blend.ratios.vlm.weight", "blend.ratios.vlm.weight: missing, wanted a number, a list of such numbers"),
        ("blend.ratios.vlm", "blend.ratios.vlm: missing, wanted a weight (weight: 0 leaves a parent out)"),
    ],
)
def test_a_missing_key_says_what_is_wanted_there(tmp_path: Path, dropped: str, line: str) -> None:
    lines = faults(write(tmp_path, changed({}, drop=(dropped,))))
    assert len(lines) == 1 and lines[0].startswith(line), lines


def test_all_faults_of_all_kinds_come_in_one_error(tmp_path: Path) -> None:
    data = changed(
        {
            "parents.vlm": "./nowhere",
            "blend.method": "tie",
            "blend.ratios.x": {"weight": 1},
            "search.evaluatons": 3,
            "score.objective": {"cidr": 1.0},
            "evalset.search.name": "ja-scene",
        }
    )
    # blend.method cannot be left out, so the names can only be checked once it is mended
    lines = faults(write(tmp_path, data), overrides=["oops"], extra_checks=lambda r: check_names(r, METRICS, EVALSETS))
    assert {line.partition(": ")[0] for line in lines} == {
        "--set oops",
        "parents.vlm",
        "blend.method",
        "blend.ratios.x",
        "search.evaluatons",
    }
    data["blend"]["method"] = "ties"
    lines = faults(write(tmp_path, data), overrides=["oops"], extra_checks=lambda r: check_names(r, METRICS, EVALSETS))
    assert lines[-2:] == [
        'score.objective.cidr: no metric "cidr" (did you mean "cider"?)',
        'evalset.search.name: no evalset "ja-scene" (did you mean "ja-scenes"?)',
    ]
    assert len(lines) == 6


def test_extra_checks_do_not_repeat_a_fault_already_told(tmp_path: Path) -> None:
    assert faults(write(tmp_path, changed({"score": 3})), extra_checks=missing_for_evolve) == [
        "score: wanted a mapping of keys to values, found 3"
    ]


def test_the_message_counts_the_faults_and_ends_with_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path, changed({"search.sed": 3}))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value) == (
        f"{path}: 1 fault in the recipe\n"
        '  search.sed: unknown key (did you mean "seed"?)\n'
        "hint: mend the file, or use --set KEY=VALUE"
    )


def test_overrides_set_any_key_and_the_last_one_wins(tmp_path: Path) -> None:
    overrides = [
        "search.seed=3",
        "search.seed=4",
        "blend.depth=per_layer",
        "blend.ratios=null",
        "evalset.search.samples=",
        "generate.question=これは=何？",
        "search.sigma=2e-1",
    ]
    recipe = load_recipe(write(tmp_path, FULL), overrides)
    assert recipe.search.seed == 4 and recipe.blend.depth == "per_layer" and recipe.blend.ratios is None
    assert recipe.evalset is not None and recipe.evalset.search.samples is None
    assert recipe.generate.question == "これは=何？"
    assert recipe.search.sigma == 0.2


def test_an_override_makes_the_section_that_is_not_there(tmp_path: Path) -> None:
    data = {"parents": FULL["parents"], "blend": {"method": "ties", "depth": "global"}}
    recipe = load_recipe(write(tmp_path, data), ["search.seed=3", "blend.depth.groups=2"])
    assert recipe.search.seed == 3 and recipe.blend.depth == {"groups": 2}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("search.seed", "--set search.seed: wanted KEY=VALUE, such as search.seed=3"),
        ("search..seed=3", "--set search..seed=3: wanted KEY=VALUE"),
        ("search.seed=[", "--set search.seed=[: the value is not YAML: line 1, column 2"),
        ("search.sed=3", 'search.sed: unknown key (did you mean "seed"?)'),
    ],
)
def test_a_wrong_override_is_a_fault_like_any_other(tmp_path: Path, override: str, line: str) -> None:
    (only,) = faults(write(tmp_path, FULL), overrides=[override])
    assert only.startswith(line)


def test_local_parents_start_at_the_recipes_folder_and_hub_ids_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes"
    (folder / "models" / "vlm").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    parents = {
        "vlm": "models/vlm",
        "base": "../base",
        "llms": {"a": "org/name", "b": "gpt2", "c": str(tmp_path / "base")},
    }
    write(folder, changed({"parents": parents}, drop=("blend.ratios",)))
    recipe = load_recipe("recipes/recipe.yaml")
    assert recipe.parents.vlm == str(folder / "models" / "vlm")
    assert recipe.parents.base == str(tmp_path / "base")
    assert recipe.parents.llms == {"a": "org/name", "b": "gpt2", "c": str(tmp_path / "base")}
    assert recipe.source == folder / "recipe.yaml"


def test_a_local_parent_that_is_not_there_is_a_fault_with_the_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "llava").mkdir()
    (tmp_path / "file").touch()
    parents = {"vlm": "./lava", "base": "./file", "llms": {"shisa": "a/b/c", "empty": "", "gone": "/no/such"}}
    assert faults(write(tmp_path, changed({"parents": parents}, drop=("blend.ratios",)))) == [
        f'parents.vlm: no such folder ./lava (did you mean "llava"?), looked for {tmp_path / "lava"}',
        f"parents.base: wanted a folder, found a file ./file, looked for {tmp_path / 'file'}",
        'parents.llms.empty: wanted a folder or hub id, found ""',
        "parents.llms.gone: no such folder /no/such, looked for /no/such",
        f"parents.llms.shisa: no such folder a/b/c, looked for {tmp_path / 'a/b/c'}",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted a mapping of keys to values, found nothing"),
        ("- 1\n", "wanted a mapping of keys to values, found a list"),
        ("a: [1\nb: 2\n", "is not YAML\n  line 2, column 2: expected ',' or ']'"),
        ("blend: {}\nblend: {}\n", 'is not YAML\n  line 2, column 1: key "blend" stands here twice'),
        ("? [a]\n: 1\n", "is not YAML\n  line 1, column 3: wanted a plain key"),
        ("a: !!python/object:os.path {}\n", "is not YAML\n  line 1, column 4: could not determine a constructor"),
        ("a: &a [*a]\n", "is not a recipe\n  Circular reference"),
    ],
)
def test_a_file_that_is_no_recipe_says_where_it_breaks(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text))
    assert message in str(caught.value) and caught.value.hint


def test_a_file_that_cannot_be_read_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such recipe: .*nope\.yaml"):
        load_recipe(tmp_path / "nope.yaml")
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*: Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(RecipeError, match="write it as YAML in UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_yaml_traps_are_closed(tmp_path: Path) -> None:
    """PyYAML alone reads `no` as false, `12:30` as 750, `010` as 8, `1e-3` as text and a date as an object."""
    text = """
parents: {vlm: org/vlm, base: org/base, llms: {no: org/no, 7: on}}
blend: {method: ties}
generate: {question: 12:30, system: 2026-01-01}
search: {sigma: 1e-3, start: .5}
"""
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.parents.llms == {"no": "org/no", "7": "on"}
    assert recipe.generate.question == "12:30" and recipe.generate.system == "2026-01-01"
    assert recipe.search.sigma == 0.001 and recipe.search.start == 0.5
    assert faults(write(tmp_path, text), overrides=["search.seed=010"]) == [
        'search.seed: wanted an integer, found "010"'
    ]


def test_names_are_checked_against_the_callers_lists(tmp_path: Path) -> None:
    def check(data: dict[str, Any]) -> list[str]:
        return check_names(load_recipe(write(tmp_path, data)), METRICS, EVALSETS)

    assert check(FULL) == []
    assert check({"parents": FULL["parents"], "blend": {"method": "ties"}}) == []
    assert check(changed({"score.report": ["rogue"], "evalset.held_out.split": "heldout"})) == [
        'score.report[0]: no metric "rogue" (did you mean "rouge"?)',
        'evalset.held_out.split: no split in ja-scenes "heldout" (did you mean "held_out"?)',
    ]
    assert check(changed({"score.objective": {"xyz": 1.0}})) == [
        'score.objective.xyz: no metric "xyz"; there are chrf, cider, rouge'
    ]


def test_evolve_needs_an_evalset_and_no_score(tmp_path: Path) -> None:
    require_for_evolve(load_recipe(write(tmp_path, FULL)))
    require_for_evolve(load_recipe(write(tmp_path, changed({}, drop=("score",)))))
    recipe = load_recipe(write(tmp_path, changed({}, drop=("evalset", "score"))))
    with pytest.raises(RecipeError) as caught:
        require_for_evolve(recipe)
    assert caught.value.details == ("evalset: missing, wanted {search: {name, split}, held_out: {name, split}}",)


def test_guards_are_limits_by_name_and_those_left_out_guard_nothing(tmp_path: Path) -> None:
    score = load_recipe(write(tmp_path, changed({"score.guards": {"japanese": 90, "repetition": 0.2}}))).score
    assert score is not None and score.limits == {"japanese": 90.0, "repetition": 0.2}
    for data in (FULL, changed({"score.guards": {}})):
        score = load_recipe(write(tmp_path, data)).score
        assert score is not None and score.limits == {}


def test_a_journal_is_what_it_was_before_there_were_keys_that_its_recipe_does_not_use(tmp_path: Path) -> None:
    fields = fingerprint_fields(load_recipe(write(tmp_path, FULL)))
    assert set(fields["generate"]) == {"question", "system", "max_new_tokens", "dtype"}
    assert set(fields["score"]) == {"objective", "report"}
    assert set(fields["evalset"]) == {"search", "held_out", "finals"}


def test_a_method_without_ratios_cannot_be_evolved(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, changed({"blend.method": "model_stock"}, drop=("blend.ratios",))))
    with pytest.raises(RecipeError) as caught:
        require_for_evolve(recipe)
    assert caught.value.details == (
        "blend.method: model_stock has no ratios to evolve; take another, or `vlmmerge blend` with this one",
    )


@pytest.mark.parametrize(
    "override",
    [
        "search.actors=5",
        "search.evaluations=7",
        "generate.batch_tokens=3",
        "generate.device=cuda",
        "blend.residency=host",
        "score.clip=org/clip",
    ],
)
def test_the_fingerprint_leaves_out_what_moves_no_score(tmp_path: Path, override: str) -> None:
    path = write(tmp_path, FULL)
    assert fingerprint_fields(load_recipe(path, [override])) == fingerprint_fields(load_recipe(path))


@pytest.mark.parametrize(
    "override",
    [
        "search.seed=5",
        "search.population=8",
        "search.grid=3",
        "blend.seed=7",
        "blend.lambda=0.5",
        "blend.normalize=true",
        "blend.rescale=l1",
        "blend.majority_sign_tie=positive",
        "blend.ranges.gamma=[0.0, 0.1]",
        "blend.depth=global",
        "blend.ratios.vlm.weight=0.8",
        "blend.ratios.vlm.weight={mlp: 0.9, default: 0.8}",
        "blend.split=roles",
        "generate.max_new_tokens=9",
        "generate.dtype=float32",
        "score.objective.cider=2.0",
        "score.segmenter=ipadic",
        "score.judge={url: 'http://localhost:8000/v1', model: tiny}",
        "score.guards={grounding: 0.1}",
        "evalset.retention={name: ja-scenes, split: held_out_english}",
        "evalset.search.samples=9",
        "parents.base=org/other",
    ],
)
def test_the_fingerprint_holds_whatever_moves_a_candidate_or_its_score(tmp_path: Path, override: str) -> None:
    path = write(tmp_path, FULL)
    assert fingerprint_fields(load_recipe(path, [override])) != fingerprint_fields(load_recipe(path))


def test_a_local_clip_starts_at_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    recipe = load_recipe(write(tmp_path, changed({"score.clip": "./clip"})))
    assert recipe.score and recipe.score.clip == str(tmp_path / "clip")
    assert faults(write(tmp_path, changed({"score.clip": "./clop"}))) == [
        f'score.clip: no such folder ./clop (did you mean "clip"?), looked for {tmp_path / "clop"}'
    ]


def test_one_and_one_point_zero_have_one_fingerprint(tmp_path: Path) -> None:
    texts = []
    for one, two in ((1, 2), (1.0, 2.0)):
        changes = {
            "blend.ranges.weight": [one, two],
            "blend.ranges.density": [0.5, one],
            "blend.ratios.vlm": {"weight": [one, two], "density": one},
            "blend.ratios.shisa": {"weight": {"mlp": one, "default": [two, one]}},
            "score.objective.cider": one,
            "search.start": one,
        }
        texts.append(json.dumps(fingerprint_fields(load_recipe(write(tmp_path, changed(changes))))))
    assert texts[0] == texts[1]


def test_the_fingerprint_is_the_same_wherever_the_recipe_lies(tmp_path: Path) -> None:
    fields = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        (folder / "vlm").mkdir(parents=True)
        fields.append(fingerprint_fields(load_recipe(write(folder, changed({"parents.vlm": "./vlm"})))))
    assert fields[0] == fields[1] and fields[0]["parents"]["vlm"] == "./vlm"
    assert json.loads(json.dumps(fields[0])) == fields[0]


def test_every_section_of_the_recipe_is_in_the_table_of_sections() -> None:
    """Faults look a section up there, so one that is missing would break its own error message."""

    def models(annotation: Any) -> list[Any]:
        inner = [each for argument in get_args(annotation) for each in models(argument)]
        return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else inner

    def walk(path: tuple[str, ...], model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
        yield path, model
        for name, field in model.model_fields.items():
            names = (name, "*") if "dict[" in str(field.annotation) else (name,)
            for inner in models(field.annotation):
                yield from walk((*path, *names), inner)

    assert dict(walk((), Recipe)) == SECTIONS
    for path, section in SECTIONS.items():
        required = [field for field in section.model_fields.values() if field.is_required()]
        assert all(field.description for field in required), path


def test_reading_a_recipe_does_not_import_torch() -> None:
    code = "import sys, vlmmerge.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
