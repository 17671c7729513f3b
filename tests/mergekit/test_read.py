"""Reading mergekit files: tensor by tensor what mergekit's own planner reads, and a fault for what cannot be said."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmmerge.errors import RecipeError
from vlmmerge.genome import Ratios
from vlmmerge.mergekit import read_mergekit
from vlmmerge.mergekit.methods import COUNTERPARTS
from vlmmerge.recipe import Recipe

NUM_FILES = 6  # for each method and number of layers
FILTERS = (
    None, "*", "self_attn", "mlp", "layernorm", "q_proj", "mlp.up_proj", "embed_tokens", "lm_head", "model.norm",
    "norm", "layers.1.", "layers.2.self_attn", "no_such_tensor",
)  # fmt: skip
BOUNDS = {"weight": (-1, 2), "density": (0.2, 0.8), "gamma": (0, 0.1), "epsilon": (0, 0.15), "t": (0, 1)}
TIES = """
merge_method: ties
base_model: base
models:
  - model: vlm
    parameters: {weight: 0.9, density: 0.6}
  - model: a
    parameters: {weight: [0.2, 0.8, 1.1], density: [{filter: mlp, value: 0.4}, {value: 0.7}]}
"""


def some_setting(rng: random.Random, name: str) -> Any:
    """A parameter in any of mergekit's forms: a number, a gradient, or conditions with either."""

    def number() -> Any:
        value = rng.uniform(*BOUNDS[name])
        return rng.choice([value, round(value, 2), f"{value:.3e}"])  # YAML 1.1 takes 1e-3 for text; mergekit does not

    def value() -> Any:
        return number() if rng.random() < 0.5 else [number() for _ in range(rng.randrange(1, 7))]

    def condition() -> dict[str, Any]:
        return {"value": value()} | ({"filter": which} if (which := rng.choice(FILTERS)) else {})

    return rng.choice([value, condition, lambda: [condition() for _ in range(rng.randrange(1, 5))]])()


def some_settings(rng: random.Random, names: list[str]) -> dict[str, Any]:
    return {"parameters": {name: some_setting(rng, name) for name in names if rng.random() < 0.7}}


def some_file(rng: random.Random, method: str, num_layers: int) -> dict[str, Any]:
    """A file of the method with settings in every scope."""
    counterpart = COUNTERPARTS[method]
    base = {"base_model": "base"} if counterpart.needs_base else {"base_model": rng.choice(["vlm", "a"])}
    models = ["vlm", "a"] if method == "slerp" else rng.choice([["vlm", "a"], ["b", "vlm"], ["vlm", "a", "b"]])
    if method == "linear":
        base = rng.choice([{}, {"base_model": "base"}, {"base_model": "vlm"}])
    if method == "model_stock":
        models = ["vlm", "a", "b"]
    ratios = list(counterpart.ratios)
    shared = ["t"] if method == "slerp" else []
    file: dict[str, Any] = {"merge_method": method, **base}
    if rng.random() < 0.5:
        file["models"] = [{"model": model, **some_settings(rng, ratios)} for model in models]
        if counterpart.needs_base and rng.random() < 0.5:
            file["models"].insert(0, {"model": "base", **some_settings(rng, ratios)})
    else:
        cuts = sorted(rng.sample(range(1, num_layers), min(rng.randrange(3), num_layers - 1)))
        bounds = [0, *cuts, num_layers]
        file["slices"] = [
            {
                "sources": [
                    {"model": model, "layer_range": [first, end], **some_settings(rng, ratios)}
                    for model in dict.fromkeys([*base.values(), *models])
                ],
                **some_settings(rng, ratios + shared),
            }
            for first, end in pairwise(bounds)
        ]
    file |= some_settings(rng, ratios)
    for name in {"weight", *shared} & {*ratios, *shared}:
        file["parameters"].setdefault(name, rng.uniform(*BOUNDS[name]))
        if not isinstance(file["parameters"][name], float):
            file["parameters"][name] = [{"value": rng.uniform(*BOUNDS[name])}]
    options = {name: rng.choice([default, not default]) for name, default in counterpart.options.items()}
    options |= {"lambda": 0.75} if "lambda" in options else {}
    options |= {"select_topk": 0.25} if "select_topk" in options else {}
    file["parameters"] |= {name: value for name, value in options.items() if rng.random() < 0.5}
    return file


@pytest.mark.parametrize("num_layers", [1, 2, 24])
@pytest.mark.parametrize("method", COUNTERPARTS)
def test_any_file_gives_each_tensor_what_mergekit_gives_it(
    method: str, num_layers: int, make_models: Callable[[int], Path], as_mergekit_reads: Callable[..., Any],
    ratios_of: Callable[[Recipe], Ratios], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rng = random.Random(f"{method} {num_layers}")
    for number in range(NUM_FILES):
        text = yaml.safe_dump(some_file(rng, method, num_layers))
        theirs = as_mergekit_reads(text, num_layers)
        monkeypatch.chdir(make_models(num_layers) / "ours")
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        recipe = read_mergekit(file)
        assert recipe.blend.method == COUNTERPARTS[method].name
        assert len(theirs) == 3 + 9 * num_layers
        blend = recipe.blend.model_dump(mode="json", by_alias=True)
        for name in COUNTERPARTS[method].options:
            expected = {shared[name] for _, shared in theirs.values()}
            assert expected == {blend[name] == "l1" if name == "rescale" else blend[name]}, (name, text)
        if method == "model_stock":
            assert blend["ratios"] is None and set(recipe.parents.llms) == {"a", "b"}
            continue
        for slot, of_parents in ratios_of(recipe).items():
            per_model, shared = theirs[str(slot) if slot.role.startswith("lm_head") else f"model.{slot}"]
            if method == "slerp":
                start, other = ("vlm", "a") if yaml.safe_load(text)["base_model"] == "vlm" else ("a", "vlm")
                assert of_parents[other].weight == shared["t"], (str(slot), text)
                assert of_parents[start].weight + of_parents[other].weight == 1.0
                continue
            takes_part = {"base-2" if model == "base" else model: values for model, values in per_model.items()}
            if COUNTERPARTS[method].needs_base:
                del takes_part["base-2"]
            assert set(of_parents) == {"vlm", *takes_part}
            for model, values in takes_part.items():
                ours = {name: getattr(of_parents[model], name) for name in values}
                assert ours == values, (str(slot), model, text)


@pytest.fixture
def read(make_models: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """Reads a file's text beside models of five layers."""
    monkeypatch.chdir(make_models(5) / "ours")

    def read_text(text: str, vlm: str | None = None) -> Recipe:
        (tmp_path / "file.yaml").write_text(text)
        return read_mergekit(tmp_path / "file.yaml", vlm)

    return read_text


@pytest.fixture
def faults(read: Callable[..., Recipe]) -> Callable[..., list[str]]:
    """The fault lines that a file's text comes to."""

    def of_text(text: str, vlm: str | None = None) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            read(text, vlm)
        assert caught.value.hint == "mend the file, or write a recipe: recipes/ holds some to start from"
        return list(caught.value.details)

    return of_text


def test_a_file_becomes_a_recipe_with_absolute_parents_and_the_same_options(
    read: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = read(TIES)
    here = Path.cwd()
    assert recipe.parents.vlm == str(here / "vlm") and recipe.parents.base == str(here / "base")
    assert recipe.parents.llms == {"a": str(here / "a")}
    blend = recipe.blend.model_dump(mode="json", by_alias=True)
    wanted = {"method": "ties", "normalize": True, "rescale": False, "lambda": 1.0, "majority_sign_tie": "positive"}
    assert {name: blend[name] for name in wanted} == wanted
    assert recipe.source == tmp_path / "file.yaml"
    assert recipe.blend.ratios is not None
    assert recipe.blend.ratios["vlm"].weight == 0.9 and recipe.blend.ratios["vlm"].density == 0.6
    by_part = recipe.blend.ratios["a"].density
    assert by_part == {"embeddings": 0.7, "attention": 0.7, "head": 0.7} | {
        "post_attention_layernorm": 0.7, "down_proj": 0.4, "gate_proj": 0.4, "up_proj": 0.4,
    }  # fmt: skip


def test_head_and_final_norm_take_a_gradients_first_point_as_in_mergekit_and_not_the_last_as_in_a_recipe(
    read: Callable[..., Recipe], ratios_of: Callable[[Recipe], Ratios]
) -> None:
    weights = {str(slot): of_parents["a"].weight for slot, of_parents in ratios_of(read(TIES)).items()}
    assert weights["embed_tokens.weight"] == weights["norm.weight"] == weights["lm_head.weight"] == 0.2
    assert weights["layers.0.mlp.up_proj.weight"] == 0.2 and weights["layers.4.mlp.up_proj.weight"] == 1.1


def test_a_vlm_that_the_file_does_not_blend_gives_its_eyes_and_has_weight_0(
    read: Callable[..., Recipe], ratios_of: Callable[[Recipe], Ratios]
) -> None:
    recipe = read(TIES.replace("model: vlm", "model: b"), vlm="vlm")
    assert recipe.parents.vlm == str(Path("vlm").absolute()) and set(recipe.parents.llms) == {"b", "a"}
    assert {of_parents["vlm"].weight for of_parents in ratios_of(recipe).values()} == {0.0}
    assert {of_parents["b"].weight for of_parents in ratios_of(recipe).values()} == {0.9}


def test_the_vlm_may_be_named_by_another_path_to_the_same_folder(read: Callable[..., Recipe]) -> None:
    assert read(TIES, vlm="./vlm").parents == read(TIES).parents


def test_models_of_one_name_get_different_names(read: Callable[..., Recipe], tmp_path: Path) -> None:
    for where in ("one", "two"):
        (tmp_path / where).mkdir()
        (tmp_path / where / "ja llm").symlink_to(Path("a").absolute())
    models = "".join(
        f"\n  - {{model: '{tmp_path}/{where}/ja llm', parameters: {{weight: 1}}}}" for where in ("one", "two")
    )
    recipe = read(TIES.rstrip() + models)
    assert list(recipe.parents.llms) == ["a", "ja-llm", "ja-llm-2"]


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16"])
def test_a_dtype_that_is_the_vlms_is_no_fault_and_out_dtype_goes_before_dtype(
    read: Callable[..., Recipe], dtype: str
) -> None:
    assert read(f"{TIES}dtype: {dtype}\n").blend == read(TIES).blend
    assert read(f"{TIES}dtype: float32\nout_dtype: {dtype}\n").blend == read(TIES).blend
    assert read(f"{TIES}tokenizer_source: vlm\nchat_template:\n").blend == read(TIES).blend


def test_all_that_cannot_be_expressed_is_told_at_once(read: Callable[..., Recipe], tmp_path: Path) -> None:
    text = (
        TIES.replace("weight: 0.9", "weigth: 0.9")
        + """
parameters: {normalize: maybe}
dtype: float16
tokenizer_source: union
chat_template: chatml
random_seed: 3
"""
    )
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert str(caught.value) == (
        f"{tmp_path / 'file.yaml'}: 6 faults in the mergekit file\n"
        "  chat_template: the VLM's own is kept; leave the key out\n"
        "  random_seed: unknown key\n"
        '  models[0].parameters.weigth: unknown parameter (did you mean "weight"?)\n'
        '  parameters.normalize: wanted true or false, or a list of such, found "maybe"\n'
        '  tokenizer_source: the VLM\'s own, which alone knows pictures, is kept; found "union", leave it out\n'
        "  dtype: the VLM's own, bfloat16, is kept; found float16, leave dtype and out_dtype out\n"
        "hint: mend the file, or write a recipe: recipes/ holds some to start from"
    )


MODELS = "models: [{model: vlm, parameters: {weight: 1}}, {model: a, parameters: {weight: 2}}]"
METHODS = ", ".join(COUNTERPARTS)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            f"merge_method: linear\n{MODELS}\nmodules: {{}}",
            ["modules: only the language tower is blended; write its models or slices at the top"],
        ),
        (
            f"merge_method: linear\n{MODELS}\ntokenizer: {{source: union}}",
            ["tokenizer: the VLM's own is kept; leave the key out"],
        ),
        (f"merge_method: linear\n{MODELS}\ndtipe: x", ['dtipe: unknown key (did you mean "dtype"?)']),
        (f"merge_method: linear\n{MODELS}\ndtype: 16", ["dtype: wanted text, found 16"]),
        (f"merge_method: passthrough\n{MODELS}", [f'merge_method: "passthrough" is not one of {METHODS}']),
        (
            f"merge_method: della_liner\n{MODELS}",
            [f'merge_method: "della_liner" is not one of {METHODS} (did you mean "della_linear"?)'],
        ),
        (MODELS, [f"merge_method: nothing is not one of {METHODS}"]),
        ("merge_method: linear", ["models: wanted either models or slices, found neither"]),
        (f"merge_method: linear\n{MODELS}\nslices: []", ["models: wanted either models or slices, found both"]),
        ("merge_method: linear\nmodels: []", ["models: wanted a list of mappings of model, parameters, found []"]),
        (
            "merge_method: linear\nmodels: [vlm, {model: a, parameters: {weight: 1}, layer_range: [0, 5]}]",
            [
                'models[0]: wanted a mapping of model, parameters, found "vlm"',
                "models[0].model: wanted a folder or hub id, found nothing",
                "models[1].layer_range: unknown key; the keys here are model, parameters",
            ],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('model: a', 'model: a+b')}",
            ["models[1].model: lora is not read; merge the adapter into its model first"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('model: a', 'model: {model: {path: a, revision: main}}')}",
            ["models[1].model: revision is not read; fetch that revision and give its folder"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace(']', ', {model: a}]')}",
            ["models[2].model: a stands here twice"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('model: a', 'model: ./gone')}",
            ["models[1].model: no such checkpoint: ./gone"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('model: vlm', 'model: b')}",
            ["models: none of them has a vision tower; name the VLM whose is kept by --vlm MODEL"],
        ),
        (
            "merge_method: linear\nmodels: [{model: vlm, parameters: {weight: 1}}]",
            ["models: wanted a language model beside the VLM"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('{weight: 1}', '1')}",
            ["models[0].parameters: wanted a mapping of parameters to values, found 1"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('weight: 1', 'weight: [1, x]')}",
            ['models[0].parameters.weight: wanted a number, or a list of such, found [1, "x"]'],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('weight: 1', 'weight: .inf')}",
            ["models[0].parameters.weight: wanted a number, or a list of such, found Infinity"],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('weight: 1', 'weight: [{value: 1, filer: mlp}]')}",
            ['models[0].parameters.weight[0].filer: unknown key (did you mean "filter"?)'],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('weight: 1', 'weight: [{filter: mlp}, 2]')}",
            [
                'models[0].parameters.weight[0]: wanted {value, filter}, found {"filter": "mlp"}',
                "models[0].parameters.weight[1]: wanted {value, filter}, found 2",
            ],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('weight: 1', 'weight: {value: x, filter: 3}')}",
            [
                "models[0].parameters.weight.filter: wanted a piece of a tensor's name, found 3",
                'models[0].parameters.weight.value: wanted a number, or a list of such, found "x"',
            ],
        ),
        (
            f"merge_method: linear\n{MODELS.replace('weight: 1', 'weight: {value: 1, filter: mlp}')}",
            [
                "vlm: weight missing for 33 tensors, such as model.embed_tokens.weight",
            ],
        ),
        (
            f"merge_method: ties\nbase_model: [base]\n{MODELS}",
            ['base_model: wanted a folder or hub id, found ["base"]'],
        ),
        (f"merge_method: ties\n{MODELS}", ["base_model: missing, wanted the ancestor that ties compares with"]),
        (
            f"merge_method: ties\nbase_model: vlm\n{MODELS}",
            [
                "models: none of them has a vision tower; name the VLM whose is kept by --vlm MODEL",
                "base_model: vlm is a VLM; wanted a language model, the ancestor of all language towers",
            ],
        ),
        (
            f"merge_method: ties\nbase_model: base\n{MODELS}\nparameters: {{normalize: {{filter: mlp, value: false}}}}",
            ["parameters.normalize: wanted one for the whole blend, found [true, false]"],
        ),
        (f"merge_method: slerp\n{MODELS}", ["base_model: missing, wanted the one of the two models that t = 0 gives"]),
        (
            f"merge_method: slerp\nbase_model: b\n{MODELS}\nparameters: {{t: 1}}",
            ["models: wanted two, since slerp blends two models, found vlm, a, b"],
        ),
        (
            f"merge_method: slerp\nbase_model: vlm\n{MODELS}",
            ["parameters.t: missing for 48 tensors, such as model.embed_tokens.weight"],
        ),
    ],
)
def test_what_cannot_be_expressed_is_a_fault_that_says_where(
    faults: Callable[..., list[str]], text: str, lines: list[str]
) -> None:
    found = faults(text)
    assert len(found) == len(lines) and all(map(str.startswith, found, lines)), found


def test_faults_that_come_with_a_vlm_beside_the_file(faults: Callable[..., list[str]]) -> None:
    alone = MODELS.replace("model: vlm", "model: b")
    assert faults(f"merge_method: linear\n{alone}", vlm="base") == ["--vlm: base has no vision tower"]
    assert faults(f"merge_method: linear\n{alone}", vlm="./gone") == ["--vlm: no such checkpoint: ./gone"]
    three = "merge_method: model_stock\nbase_model: base\nmodels: [{model: a}, {model: b}]"
    assert faults(three, vlm="vlm") == ["models: model_stock weighs no model, so the VLM must be one of them (vlm)"]


def test_two_vlms_need_one_to_be_named(
    faults: Callable[..., list[str]], read: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "other").symlink_to(Path("vlm").absolute())
    text = f"merge_method: linear\n{MODELS.replace('model: a', f'model: {tmp_path}/other')}"
    assert faults(text) == [
        f"models: vlm and {tmp_path}/other have a vision tower; name the VLM whose is kept by --vlm MODEL"
    ]


def sources(*ranges: tuple[str, int, int]) -> str:
    return ", ".join(f"{{model: {m}, layer_range: [{i}, {j}], parameters: {{weight: 1}}}}" for m, i, j in ranges)


@pytest.mark.parametrize(
    ("slices", "lines"),
    [
        (
            [sources(("vlm", 0, 4), ("a", 0, 4)), sources(("vlm", 2, 5), ("a", 2, 5))],
            [
                "slices[1].sources[0].layer_range: layers are stacked; "
                "wanted each once and in order, from 4 on, found [2, 5]"
            ],
        ),
        (
            [sources(("vlm", 0, 3), ("a", 1, 4)), sources(("vlm", 3, 5), ("a", 3, 5))],
            [
                "slices[0].sources[1].layer_range: layers are stacked; "
                "wanted [0, 3] as of the slice's first source, found [1, 4]"
            ],
        ),
        ([sources(("vlm", 0, 4), ("a", 0, 4))], ["slices: wanted each layer once, 0 to 4; found 0 to 3"]),
        (
            ["{model: vlm, parameters: {weight: 1}}, {model: a, layer_range: [0, x]}"],
            [
                "slices[0].sources[0].layer_range: wanted [first, end], found nothing",
                'slices[0].sources[1].layer_range: wanted [first, end], found [0, "x"]',
            ],
        ),
    ],
)
def test_stacked_layers_are_told(faults: Callable[..., list[str]], slices: list[str], lines: list[str]) -> None:
    text = "merge_method: linear\nslices:" + "".join(f"\n  - sources: [{each}]" for each in slices)
    assert faults(text) == lines


def test_slices_of_different_bases_are_told(faults: Callable[..., list[str]]) -> None:
    halves = [sources(("vlm", 0, 2), ("a", 0, 2)), sources(("vlm", 2, 5), ("a", 2, 5))]
    parts = [
        f"\n  - {{base_model: {base}, sources: [{half}]}}" for base, half in zip(("base", "b"), halves, strict=True)
    ]
    assert faults(f"merge_method: ties\nslices:{''.join(parts)}") == [
        "slices[1].base_model: wanted one base for all slices, base, found b"
    ]


def test_a_model_that_a_slice_leaves_out_has_weight_0_there_and_only_where_models_are_weighed(
    read: Callable[..., Recipe], ratios_of: Callable[[Recipe], Ratios], faults: Callable[..., list[str]]
) -> None:
    halves = [sources(("vlm", 0, 2), ("a", 0, 2), ("base", 0, 2)), sources(("vlm", 2, 5), ("base", 2, 5))]
    slices = "slices:" + "".join(f"\n  - sources: [{half}]" for half in halves)
    ratios = ratios_of(read(f"merge_method: task_arithmetic\nbase_model: base\n{slices}"))
    found = {
        slot.layer: of_parents["a"].weight for slot, of_parents in ratios.items() if slot.role.startswith("mlp.up")
    }
    assert found == {0: 1.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0}
    assert faults(f"merge_method: model_stock\nbase_model: base\n{slices}") == [
        "slices: model_stock weighs no model, so all of them must be in each slice"
    ]


def test_a_ratio_out_of_our_range_is_told_as_of_the_recipe_that_it_would_be(read: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError) as caught:
        read(TIES.replace("density: 0.6", "density: 0"))
    (line,) = caught.value.details
    assert line.startswith("blend.ratios.vlm.density: wanted a number above 0 and up to 1") and line.endswith(
        "found 0.0"
    )


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_mergekit(tmp_path / "gone.yaml")
    assert str(caught.value) == (
        f"no such mergekit file: {tmp_path / 'gone.yaml'}\nhint: it is what `mergekit-yaml` takes"
    )
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match="wanted a mapping of keys to values, found a list"):
        read_mergekit(tmp_path / "list.yaml")
