"""Writing mergekit files: mergekit's own planner reads the very ratios that were written, and so do we."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmmerge.anatomy import Slot, language_tower
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import RecipeError
from vlmmerge.genome import Ratio, Ratios
from vlmmerge.mergekit import read_mergekit, write_mergekit
from vlmmerge.mergekit.methods import COUNTERPARTS
from vlmmerge.mergekit.settings import depth_in_slice, evaluate, number
from vlmmerge.mergekit.write import to_setting
from vlmmerge.recipe import Recipe, make_recipe

SHAPES = ("global", "by part", "over depth", "by role and layer")
OPTIONS = {"normalize": True, "rescale": False, "lambda": 0.75, "select_topk": 0.25, "filter_wise": True}


def make(method: str, llms: tuple[str, ...] = ("a", "b"), **options: Any) -> Recipe:
    parents = {"vlm": "vlm", "base": "base", "llms": {name: name for name in llms}}
    return make_recipe({"parents": parents, "blend": {"method": method, **options}}, Path("recipe.yaml"))


def numbers(rng: random.Random, slots: Mapping[Slot, str], shape: str, low: float, high: float) -> dict[Slot, float]:
    """A number for each slot, as alike as a shape of a search space makes them."""
    drawn: dict[Any, float] = {}

    def draw(key: Any) -> float:
        return drawn.setdefault(key, rng.uniform(low, high))

    keys: dict[str, Callable[[Slot], Any]] = {
        "global": lambda slot: None,
        "by part": lambda slot: slot.part,
        "over depth": lambda slot: (slot.layer, slot.part) if slot.layer is None else slot.layer,
        "by role and layer": lambda slot: slot,
    }
    return {slot: draw(keys[shape](slot)) for slot in slots}


def some_ratios(rng: random.Random, tensors: Mapping[Slot, str], names: list[str], llms: tuple[str, ...]) -> Ratios:
    bounds = {"weight": (0.1, 1.5), "density": (0.4, 0.6), "gamma": (0.0, 0.1), "epsilon": (0.0, 0.15)}
    fields = {
        (parent, name): numbers(rng, tensors, rng.choice(SHAPES), *bounds[name])
        for parent in ("vlm", *llms)
        for name in names
    }
    return {
        slot: {parent: Ratio(**{name: fields[parent, name][slot] for name in names}) for parent in ("vlm", *llms)}
        for slot in tensors
    }


@pytest.mark.parametrize("num_layers", [1, 2, 24, 40])  # in 24 and 40 layers gradients miss some points
@pytest.mark.parametrize("method", [name for name in COUNTERPARTS if name not in ("model_stock", "sce")])
def test_mergekit_reads_the_very_ratios_that_are_written_and_so_does_vlmmerge(
    method: str, num_layers: int, make_models: Callable[[int], Path], as_mergekit_reads: Callable[..., Any],
    ratios_of: Callable[[Recipe], Ratios], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rng, counterpart = random.Random(f"{method} {num_layers}"), COUNTERPARTS[method]
    llms = ("a",) if method == "slerp" else ("a", "b")
    tensors = language_tower(open_checkpoint(make_models(num_layers) / "ours" / "base").shapes)
    for options in ({}, {name: OPTIONS[name] for name in counterpart.options}):
        recipe = make(counterpart.name, llms, **options)
        ratios = some_ratios(rng, tensors, list(counterpart.ratios) or ["weight"], llms)
        text = write_mergekit(recipe, tensors, ratios, "bfloat16", "a test")
        theirs = as_mergekit_reads(text, num_layers)
        assert set(theirs) == set(tensors.values())
        for slot, of_parents in ratios.items():
            per_model, shared = theirs[tensors[slot]]
            if method == "slerp":
                assert shared["t"] == of_parents["a"].weight / (of_parents["vlm"].weight + of_parents["a"].weight)
                continue
            for parent, ratio in of_parents.items():
                assert (
                    per_model[parent] | {name: getattr(ratio, name) for name in counterpart.ratios} == per_model[parent]
                )
            assert shared | options == shared

        monkeypatch.chdir(make_models(num_layers) / "ours")
        (tmp_path / "file.yaml").write_text(text)
        again = read_mergekit(tmp_path / "file.yaml")
        assert again.blend.method == counterpart.name
        for slot, of_parents in ratios_of(again).items():
            for parent, ratio in of_parents.items() if method != "slerp" else ():
                for name in counterpart.ratios:
                    assert getattr(ratio, name) == getattr(ratios[slot][parent], name)


@pytest.mark.parametrize("method", COUNTERPARTS)
def test_what_a_recipe_leaves_out_is_written_out_as_our_default_not_mergekits(
    method: str, make_models: Callable[[int], Path], as_mergekit_reads: Callable[..., Any]
) -> None:
    llms = ("a",) if method == "slerp" else ("a", "b")
    tensors = language_tower(open_checkpoint(make_models(2) / "ours" / "base").shapes)
    whole = dict.fromkeys(tensors, dict.fromkeys(("vlm", *llms), Ratio(1.0)))
    text = write_mergekit(make(COUNTERPARTS[method].name, llms), tensors, whole, "bfloat16", "a test")
    shared = as_mergekit_reads(text, 2)["model.norm.weight"][1]
    wanted = {
        "normalize": method == "linear",
        "rescale": method.startswith(("dare", "della")),
        "lambda": 1.0,
        "select_topk": 1.0,
        "filter_wise": False,
    }
    assert {name: shared[name] for name in COUNTERPARTS[method].options} == {
        name: wanted[name] for name in COUNTERPARTS[method].options
    }


def test_a_file_has_a_title_the_dtype_and_one_line_for_what_is_the_same_everywhere() -> None:
    tensors = {slot: f"model.{slot}" for slot in (Slot(None, "embed_tokens.weight"), Slot(0, "mlp.up_proj.weight"))}
    ratios = everywhere(tensors, vlm=0.5, a=1.0)
    text = write_mergekit(make("task_arithmetic", ("a",)), tensors, ratios, "bfloat16", "Candidate 3 of runs/demo")
    assert text == (
        "# Candidate 3 of runs/demo\n"
        "# Of the language towers alone: mergekit wants each parent's language model, "
        "and the result goes back into the VLM.\n"
        "merge_method: task_arithmetic\n"
        "base_model: base\n"
        "models:\n"
        "- model: vlm\n"
        "  parameters: {weight: 0.5}\n"
        "- model: a\n"
        "  parameters: {weight: 1.0}\n"
        "parameters: {normalize: false, lambda: 1.0}\n"
        "dtype: float32\n"
        "out_dtype: bfloat16\n"
    )


def test_a_file_of_random_masks_says_that_mergekit_draws_others() -> None:
    tensors = tower(2)
    text = write_mergekit(make("dare_ties"), tensors, everywhere(tensors, vlm=1.0, a=1.0, b=1.0), "bfloat16", "t")
    note = "# mergekit draws other random masks, and rescales what is kept to the same L1 norm."
    assert text.splitlines()[2] == note


def everywhere(tensors: Mapping[Slot, str], **weights: float | Ratio) -> Ratios:
    """The same ratios in every slot; a number is a weight."""
    ratios = {parent: each if isinstance(each, Ratio) else Ratio(each) for parent, each in weights.items()}
    return dict.fromkeys(tensors, ratios)


def tower(num_layers: int, prefix: str = "model.") -> dict[Slot, str]:
    roles = ("input_layernorm.weight", "self_attn.q_norm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight")
    slots = [Slot(None, "embed_tokens.weight"), *(Slot(i, role) for i in range(num_layers) for role in roles)]
    slots += [Slot(None, "norm.weight"), Slot(None, "lm_head.weight")]
    return {slot: prefix + str(slot) if slot.role != "lm_head.weight" else "lm_head.weight" for slot in slots}


def test_a_setting_names_only_what_differs_from_most() -> None:
    tensors = tower(3)
    assert to_setting(dict.fromkeys(tensors, 0.5), tensors) == 0.5
    by_part = {"attention": 0.5, "mlp": 0.25, "embeddings": 0.5, "head": 1.0}
    assert to_setting({slot: by_part[slot.part] for slot in tensors}, tensors) == [
        {"filter": "model.norm.weight", "value": 1.0},
        {"filter": "lm_head.weight", "value": 1.0},
        {"filter": "mlp.gate_proj.weight", "value": 0.25},
        {"filter": "mlp.up_proj.weight", "value": 0.25},
        {"value": 0.5},
    ]
    over_depth = {slot: 0.0 if slot.layer is None else slot.layer / 2 for slot in tensors}
    assert to_setting(over_depth, tensors) == [{"value": [0.0, 0.5, 1.0]}]


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_name_within_another_name_does_not_catch_it(prefix: str) -> None:
    """Without a prefix the final norm is `norm.weight`, which stands in `input_layernorm.weight` too."""
    tensors = tower(12, prefix)  # `layers.1.` stands in `layers.11.` only without its dot
    rng = random.Random(0)
    for _ in range(20):
        values = {slot: rng.choice([0.0, 0.5, 1.0]) for slot in tensors}
        setting = to_setting(values, tensors)
        for slot, name in tensors.items():
            assert evaluate(setting, number, name, depth_in_slice(slot, 0, 12)) == values[slot]


def test_a_path_that_mergekit_would_take_for_an_adapter_is_written_as_a_path(
    read_back: Callable[[str], Recipe], make_models: Callable[[int], Path], tmp_path: Path
) -> None:
    (tmp_path / "a+b@c").symlink_to(make_models(2) / "ours" / "a")
    parents = {"vlm": "vlm", "base": "base", "llms": {"a": str(tmp_path / "a+b@c")}}
    recipe = make_recipe({"parents": parents, "blend": {"method": "linear"}}, Path("recipe.yaml"))
    tensors = tower(2)
    text = write_mergekit(recipe, tensors, everywhere(tensors, vlm=0.5, a=1.0), "bfloat16", "t")
    assert read_back(text).parents.llms == {"a-b-c": str(tmp_path / "a+b@c")}


@pytest.fixture
def read_back(
    make_models: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Recipe]:
    monkeypatch.chdir(make_models(2) / "ours")

    def read(text: str) -> Recipe:
        (tmp_path / "file.yaml").write_text(text)
        return read_mergekit(tmp_path / "file.yaml")

    return read


@pytest.mark.parametrize("method", ["ties", "linear", "slerp"])
def test_embeddings_and_head_that_stay_the_vlms_are_written_as_weights(
    method: str, make_models: Callable[[int], Path], as_mergekit_reads: Callable[..., Any]
) -> None:
    slots = language_tower(open_checkpoint(make_models(2) / "ours" / "base").shapes)
    tensors = {slot: name for slot, name in slots.items() if slot.role not in ("embed_tokens.weight", "lm_head.weight")}
    ratios = everywhere(tensors, vlm=Ratio(0.25, 0.5), a=Ratio(0.75, 0.5))
    theirs = as_mergekit_reads(
        write_mergekit(make(method, ("a",), embeddings="vlm"), tensors, ratios, "bfloat16", "t"), 2
    )
    for name, (per_model, shared) in theirs.items():
        is_kept = name in ("model.embed_tokens.weight", "lm_head.weight")
        if method == "slerp":
            assert shared["t"] == (0.0 if is_kept else 0.75)
        else:
            assert [per_model[model]["weight"] for model in ("vlm", "a")] == ([1.0, 0.0] if is_kept else [0.25, 0.75])
        if method == "ties":
            assert {per_model[model]["density"] for model in ("vlm", "a")} == {1.0 if is_kept else 0.5}


def test_methods_that_weigh_no_model_cannot_keep_embeddings() -> None:
    tensors = tower(2)
    with pytest.raises(RecipeError) as caught:
        write_mergekit(make("model_stock", embeddings="vlm"), tensors, everywhere(tensors, vlm=1.0), "bfloat16", "t")
    assert caught.value.details == ("blend.embeddings: vlm; mergekit's model_stock weighs no model",)


def test_sce_leaves_out_models_of_weight_0_and_weighs_no_other(read_back: Callable[[str], Recipe]) -> None:
    tensors = tower(2)
    ratios = everywhere(tensors, vlm=1.0, a=0.0, b=1.0)
    text = write_mergekit(make("sce"), tensors, ratios, "bfloat16", "t")
    assert [model["model"] for model in yaml.safe_load(text)["models"]] == ["vlm", "b"]
    assert list(read_back(text).parents.llms) == ["b"]


@pytest.mark.parametrize(
    ("method", "options", "ratio", "reason"),
    [
        (
            "ties",
            {"majority_sign_method": "frequency"},
            Ratio(0.5),
            "blend.majority_sign_method: frequency; mergekit knows only total",
        ),
        ("sce", {}, Ratio(0.5), "weights of a: mergekit's sce weighs no model"),
        ("slerp", {}, Ratio(-1.0), "the weights of 11 slots sum to 0, such as embed_tokens.weight"),
        (
            "della_ties",
            {},
            Ratio(0.5, 0.9, epsilon=0.15),
            "density plus or minus epsilon leaves 0 to 1 in 11 slots, such as embed_tokens.weight",
        ),
    ],
)
def test_what_mergekit_cannot_express_is_refused_with_the_reason(
    method: str, options: dict[str, Any], ratio: Ratio, reason: str
) -> None:
    tensors = tower(2)
    with pytest.raises(RecipeError) as caught:
        ratios = everywhere(tensors, vlm=1.0, a=ratio)
        write_mergekit(make(method, ("a",), **options), tensors, ratios, "bfloat16", "t")
    assert str(caught.value) == (
        f"mergekit cannot express this blend\n  {reason}\n"
        "hint: `vlmmerge export RUN --out DIR` writes the blended model itself"
    )
