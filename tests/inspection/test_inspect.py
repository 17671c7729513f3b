"""`vlmmerge inspect`: what checkpoints are made of, every misfit graded with what to type next, and at once."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from vlmmerge.anatomy import KEEP_EMBEDDINGS
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.inspection import describe, inspect
from vlmmerge.inspection.defaults import class_defaults
from vlmmerge.inspection.lineup import Opened, line_up
from vlmmerge.inspection.misfits import (
    FAILS,
    FINE,
    GRADES,
    MIND,
    NOTHING_TO_SET,
    ONE_BASE,
    WEIGH_ATTENTION,
    as_text,
    differing,
)
from vlmmerge.inspection.traits import read_special_tokens, read_traits

if TYPE_CHECKING:
    from conftest import Cli

DEMO = Path(__file__).parents[2] / "recipes" / "demo-parents"
WEIGHTS = "model.safetensors"
Config = dict[str, Any]
Weights = dict[str, torch.Tensor]


@pytest.fixture
def own(parents: Path, tmp_path: Path) -> Path:
    """A copy of the tiny parents, to break."""
    return shutil.copytree(parents, tmp_path / "parents")


def look(folder: Path, *names: str, base: str | None = None) -> dict[str, Any]:
    """What is found of some of a folder's checkpoints, of vlm, ja-llm and base unless others are named."""
    chosen = names or ("vlm", "ja-llm", "base")
    described = describe(inspect([str(folder / name) for name in chosen], base and str(folder / base)))
    return dict(json.loads(json.dumps(described)))


def edit_config(folder: Path, change: Callable[[Config], object]) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def finding(described: dict[str, Any], about: str) -> dict[str, Any]:
    (found,) = (each for each in described["findings"] if each["about"] == about)
    return found


# --- what a checkpoint is made of ---


def test_every_tensor_of_the_demo_parents_belongs_to_one_tower() -> None:
    described = look(DEMO)
    for name, parent in described["parents"].items():
        checkpoint = open_checkpoint(DEMO / name)
        towers = parent["towers"].values()
        assert sum(tower["bytes"] for tower in towers) == checkpoint.num_bytes
        assert sum(tower["tensors"] for tower in towers) == len(checkpoint.tensors)
        assert sum(sum(tower["dtypes"].values()) for tower in towers) == len(checkpoint.tensors)
        numbers = (tensor.numel() for tensor in load_file(DEMO / name / WEIGHTS).values())
        assert sum(tower["parameters"] for tower in towers) == sum(numbers)
    assert described["parents"]["vlm"]["towers"] == {
        "vision": {"tensors": 71, "parameters": 699_392, "bytes": 2_797_568, "dtypes": {"F32": 71}},
        "projector": {"tensors": 4, "parameters": 33_024, "bytes": 132_096, "dtypes": {"F32": 4}},
        "language": {"tensors": 57, "parameters": 1_401_728, "bytes": 5_606_912, "dtypes": {"F32": 57}},
    }


def test_json_tells_all_that_there_is_to_tell_of_the_demo_parents(cli: "Cli") -> None:
    done = cli.run("inspect", DEMO / "vlm", DEMO / "ja-llm", DEMO / "base", "--json")
    assert done.status == 0 and done.err == ""
    told = json.loads(done.out)
    assert list(told) == ["parents", "differs", "vocabulary", "findings", "grade", "next"]
    base = told["parents"]["base"]
    assert list(base) == ["role", "where", "commit", "towers", "layers", "rows", "traits"]
    assert (base["role"], base["where"], base["commit"], base["layers"]) == ("base", str(DEMO / "base"), None, 6)
    assert base["rows"] == {"embed_tokens": 861, "lm_head": 861}
    assert base["traits"] == {
        "architecture": "mistral", "hidden_size": 128, "intermediate_size": 384, "attention_heads": 4,
        "key_value_heads": 2, "head_dim": 32, "activation": "silu", "norm_epsilon": 1e-5, "rope_theta": 10_000.0,
        "max_positions": 512, "sliding_window": None, "rope_scaling": None, "bos_token": 1, "eos_token": 2,
        "pad_token": 3,
    }  # fmt: skip
    assert told["differs"] == {}
    assert told["vocabulary"] == {"blended": "all 861 rows: the parents' vocabularies are the same"}
    fine = [
        ("language slots", "all 57 pair, in 6 layers"),
        ("vocabulary", "all 861 rows: the parents' vocabularies are the same"),
        ("how they compute", "nothing that matters differs between their configs"),
    ]
    message = "F32 in `vlm`, BF16 in `base` and `ja-llm`: a blend is computed in float32 and stored as the VLM is"
    hint = "nothing to set; to ship another dtype, convert the VLM first"
    assert told["findings"] == [
        {"grade": MIND, "about": "dtype", "message": message, "details": [], "hint": hint},
        *({"grade": FINE, "about": about, "message": text, "details": [], "hint": ""} for about, text in fine),
    ]
    assert told["grade"] == MIND
    assert told["next"] == f'a recipe with `parents: {{vlm: "{DEMO}/vlm", base: "{DEMO}/base", llms: ' + (
        f'{{"ja-llm": "{DEMO}/ja-llm"}}}}`'
    )


def test_the_tables_show_towers_and_rows_and_end_with_the_conclusion(cli: "Cli") -> None:
    done = cli.run("inspect", DEMO / "vlm", DEMO / "ja-llm", DEMO / "base")
    assert done.status == 0 and done.err == ""
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "vlm (vlm) vision 71 0.7 M 2.7 MiB F32" in lines and "projector 4 0.0 M 0.1 MiB F32" in lines
    assert "ja-llm (LLM) language 57 1.4 M 2.7 MiB BF16" in lines
    assert "rows of embeddings 861 861 861" in lines
    assert not any(line.startswith("rope theta") for line in lines), "only what differs is shown"
    assert lines[-2] == "the parents fit: 1 to mind" and lines[-1].startswith("next: a recipe with `parents: {vlm: ")


def test_one_checkpoint_is_just_shown(cli: "Cli") -> None:
    done = cli.run("inspect", DEMO / "vlm")
    assert done.status == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines() if line.strip()]
    assert "vlm vision 71 0.7 M 2.7 MiB F32" in lines and "rope theta 10,000" in lines
    assert not any("fit" in line for line in lines)
    assert look(DEMO, "ja-llm")["findings"] == []


def test_a_tied_head_is_shown_as_such(cli: "Cli", tied_parents: Path) -> None:
    done = cli.run("inspect", tied_parents / "vlm", tied_parents / "base")
    assert done.status == 0
    assert "rows of the head tied tied" in (" ".join(line.split()) for line in done.out.splitlines())


def test_no_torch_is_imported_to_inspect() -> None:
    """To import it takes a second and 200 MiB, transformers two."""
    heavy = "{'torch', 'transformers'}"
    code = f"import sys; from vlmmerge.cli import main; main(sys.argv[1:]); print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code, "inspect", *(str(DEMO / name) for name in ("vlm", "ja-llm", "base"))]
    done = subprocess.run(command, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_what_is_no_checkpoint_is_told(cli: "Cli", tmp_path: Path) -> None:
    done = cli.run("inspect", DEMO / "vlm", tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.message.startswith(f"error: {tmp_path}: no config.json")


# --- who is who ---


def roles(typed: list[str], base: str | None = None) -> dict[str, str]:
    """The role of each of some names, of which those that begin with `vlm` see."""
    checkpoint = open_checkpoint(DEMO / "base")
    opened = [Opened(name, checkpoint, name.startswith("vlm")) for name in typed]
    named = next((each for each in opened if each.where == base), None)
    lineup = line_up(opened, named or (Opened(base, checkpoint, False) if base else None))
    return {name: lineup.role(label) for label, name in lineup.names.items()}


@pytest.mark.parametrize(
    ("typed", "base", "wanted"),
    [
        (["vlm", "ja", "old"], None, {"vlm": "vlm", "old": "base", "ja": "llm"}),
        (["ja", "vlm", "old"], None, {"vlm": "vlm", "old": "base", "ja": "llm"}),
        (["ja", "en", "vlm"], None, {"vlm": "vlm", "ja": "llm", "en": "llm"}),
        (["vlm", "vlm2", "ja", "old"], None, {"vlm": "vlm", "old": "base", "vlm2": "llm", "ja": "llm"}),
        (["vlm", "ja", "vlm2"], None, {"vlm": "vlm", "ja": "llm", "vlm2": "llm"}),
        (["vlm", "ja"], "old", {"vlm": "vlm", "old": "base", "ja": "llm"}),
        (["vlm", "old", "ja"], "old", {"vlm": "vlm", "old": "base", "ja": "llm"}),
        (["vlm"], "old", {"vlm": "vlm", "old": "base"}),
        (["ja", "vlm"], None, {"vlm": "vlm", "ja": "llm"}),
        (["ja", "en", "old"], None, {"ja": "vlm", "old": "base", "en": "llm"}),
        (["vlm", "base", "old"], None, {"vlm": "vlm", "old": "base", "base": "llm"}),
        (["vlm", "ja", "more/ja"], None, {"vlm": "vlm", "ja": "base", "ja (2)": "llm"}),
        (["vlm@main", "org/ja", "org/old/"], None, {"vlm": "vlm", "old": "base", "ja": "llm"}),
    ],
)
def test_each_checkpoint_gets_its_role(typed: list[str], base: str | None, wanted: dict[str, str]) -> None:
    assert roles(typed, base) == wanted


# --- misfits ---

TRAITS: dict[str, tuple[str, Any, str, str, str]] = {
    # about: (key of the LLM's config, its value, grade, message, hint)
    "rope theta": (
        "rope_parameters", {"rope_theta": 5e5, "rope_type": "default"}, MIND,
        "10,000 in `vlm` and `base`, 500,000 in `ja-llm`: "
        "the blend has the VLM's, so others' attention sees positions otherwise", WEIGH_ATTENTION,
    ),
    "rope scaling": (
        "rope_parameters", {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}, MIND,
        "none in `vlm` and `base`, rope_type linear, factor 2.0 in `ja-llm`: "
        "the blend has the VLM's, so others' attention sees positions otherwise", WEIGH_ATTENTION,
    ),
    "sliding window": (
        "sliding_window", 4096, MIND,
        "none in `vlm` and `base`, 4,096 in `ja-llm`: "
        "the blend has the VLM's; it matters for texts longer than the window", NOTHING_TO_SET,
    ),
    "norm epsilon": (
        "rms_norm_eps", 1e-5, MIND, "1e-06 in `vlm` and `base`, 1e-05 in `ja-llm`: the blend has the VLM's",
        NOTHING_TO_SET,
    ),
    "activation": (
        "hidden_act", "gelu", MIND,
        "silu in `vlm` and `base`, gelu in `ja-llm`: "
        "the blend has the VLM's, and the others' layers were trained for theirs", NOTHING_TO_SET,
    ),
    "attention heads": (
        "num_attention_heads", 2, FAILS,
        "4 in `vlm` and `base`, 2 in `ja-llm`: weights of one head would be added to those of another", ONE_BASE,
    ),
    "key value heads": (
        "num_key_value_heads", 1, FAILS,
        "2 in `vlm` and `base`, 1 in `ja-llm`: weights of one head would be added to those of another", ONE_BASE,
    ),
    "head dim": (
        "head_dim", 16, FAILS,
        "8 in `vlm` and `base`, 16 in `ja-llm`: weights of one head would be added to those of another", ONE_BASE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("about", TRAITS)
def test_a_trait_that_differs_is_graded_with_what_comes_of_it(own: Path, about: str) -> None:
    key, value, grade, message, hint = TRAITS[about]
    edit_config(own / "ja-llm", lambda config: config.update({key: value}))
    described = look(own)
    found = finding(described, about)
    assert (found["grade"], found["message"], found["hint"]) == (grade, message, hint)
    assert list(described["differs"]) == [about.replace(" ", "_")]
    assert described["grade"] == grade
    assert not any(each["about"] == "how they compute" for each in described["findings"])


def test_traits_of_no_consequence_are_shown_and_fine(own: Path) -> None:
    edit_config(own / "ja-llm", lambda config: config.update(max_position_embeddings=512, model_type="llama"))
    described = look(own)
    assert described["differs"]["max_positions"] == {"vlm": 256, "base": 256, "ja-llm": 512}
    assert described["differs"]["architecture"] == {"vlm": "mistral", "base": "mistral", "ja-llm": "llama"}
    assert finding(described, "how they compute")["grade"] == FINE


@pytest.mark.parametrize(("token", "consequence"), [("bos", "begins texts"), ("eos", "ends texts")])
def test_other_special_tokens_are_to_mind(own: Path, token: str, consequence: str) -> None:
    for name in ("config.json", "generation_config.json"):
        file = own / "ja-llm" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {f"{token}_token_id": 5}))
    found = finding(look(own), f"{token} token")
    number = {"bos": 1, "eos": 2}[token]
    assert found["grade"] == MIND and found["hint"]
    assert found["message"].startswith(
        f"{number} in `vlm` and `base`, 5 in `ja-llm`: the blend {consequence} as the VLM"
    )


def test_slots_that_do_not_pair_will_fail_with_what_blend_would_say(cli: "Cli", own: Path) -> None:
    def shorter(weights: Weights) -> Weights:
        return {key: tensor[:60].clone() if "up_proj" in key else tensor for key, tensor in weights.items()}

    edit_weights(own / "ja-llm", shorter)
    done = cli.run("inspect", own / "vlm", own / "ja-llm", own / "base")
    assert done.status == 1 and done.err == ""
    lines = done.out.splitlines()
    assert FAILS in lines and "  language slots: parents do not fit: 2 of 21 language slots differ" in lines
    assert "    layers.0.mlp.up_proj.weight  (60, 32) in `ja-llm`   (64, 32) in `base`" in lines
    assert "    hint: all language towers must come from one base model, with equal shapes" in lines
    assert lines[-1] == "the parents do not fit: 1 will fail"
    told = json.loads(cli.run("inspect", own / "vlm", own / "ja-llm", own / "base", "--json").out)
    assert told["grade"] == FAILS == told["findings"][0]["grade"] and told["next"] == ""


def test_misfits_name_what_was_typed_not_what_stands_in_for_it(own: Path) -> None:
    edit_weights(own / "ja-llm", lambda weights: {k: t for k, t in weights.items() if "layers.1.mlp.up" not in k})
    found = finding(look(own, "vlm", "ja-llm"), "language slots")
    assert found["grade"] == FAILS
    assert any("in `vlm`   missing in `ja-llm`" in line for line in found["details"]), found["details"]
    assert not any("`base`" in line for line in found["details"])


def test_a_checkpoint_without_a_language_tower_will_fail(own: Path) -> None:
    edit_weights(own / "base", lambda weights: {"a.weight": torch.zeros(2, 2)})
    described = look(own)
    assert finding(described, "language slots")["message"].startswith("`base` has no language tower")
    assert described["parents"]["base"]["layers"] == 0 and described["parents"]["base"]["rows"] == {}


def test_tokenizers_that_cut_otherwise_will_fail_unless_embeddings_are_kept(own: Path) -> None:
    file = own / "ja-llm" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["merges"] = []
    file.write_text(json.dumps(tokenizer))
    described = look(own)
    found = finding(described, "vocabulary")
    assert (found["grade"], found["hint"]) == (FAILS, KEEP_EMBEDDINGS)
    assert "the parents' tokenizers cut the same text into other tokens" in found["message"]
    assert all("in `vlm`" in line and "in `ja-llm`" in line for line in found["details"])
    assert described["vocabulary"] == {} and finding(described, "language slots")["grade"] == FINE


def test_rows_that_are_not_blended_are_to_mind(own: Path) -> None:
    def padded(weights: Weights) -> Weights:
        is_token = {key: key.endswith(("embed_tokens.weight", "lm_head.weight")) for key in weights}
        return {k: torch.cat([t, torch.zeros(3, 32)]) if is_token[k] else t for k, t in weights.items()}

    edit_weights(own / "vlm", padded)
    described = look(own)
    found, num_rows = finding(described, "vocabulary"), described["parents"]["base"]["rows"]["lm_head"]
    assert (found["grade"], found["message"], found["hint"]) == (MIND, "not all rows are blended", KEEP_EMBEDDINGS)
    assert found["details"] == [
        f"blended: {num_rows} rows: the tokens that all parents have, paired by their spelling",
        "stay the VLM's: 3 rows: 3 without a token",
    ]
    assert described["parents"]["vlm"]["rows"]["lm_head"] == num_rows + 3


def test_a_parent_without_a_tokenizer_is_to_mind(own: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (own / "ja-llm" / name).unlink()
    found = finding(look(own), "tokenizer")
    assert (found["grade"], found["message"], found["hint"]) == (
        MIND, "`ja-llm` without one: rows pair by number", "put the tokenizer's files beside the weights",
    )  # fmt: skip


def test_one_tied_head_beside_others_is_to_mind_and_a_tied_vlm_will_fail(own: Path, tied_parents: Path) -> None:
    shutil.rmtree(own / "base")
    shutil.copytree(tied_parents / "base", own / "base")
    found = finding(look(own), "head")
    assert (found["grade"], found["hint"]) == (MIND, NOTHING_TO_SET)
    assert found["message"] == "tied in `base`, not in `vlm`: the embeddings stand for the head, too"
    shutil.rmtree(own / "vlm")
    shutil.copytree(tied_parents / "vlm", own / "vlm")
    found = finding(look(own), "language slots")
    assert (found["grade"], found["hint"]) == (FAILS, KEEP_EMBEDDINGS)
    assert "tied to the embeddings in `vlm`" in found["details"][0]


def test_language_tensors_that_hold_no_numbers_to_blend_will_fail(own: Path) -> None:
    edit_weights(own / "ja-llm", lambda weights: weights | {"model.norm.weight": torch.ones(32, dtype=torch.int64)})
    found = next(each for each in look(own)["findings"] if each["about"] == "dtype")
    assert (found["grade"], found["message"]) == (
        FAILS, "language tensors of `ja-llm` are stored 1 as I64, wanted one of F64, F32, F16, BF16",
    )  # fmt: skip
    assert found["hint"] == "quantized weights cannot be blended: use the unquantized model"


def test_what_is_missing_among_the_parents_is_to_mind(parents: Path) -> None:
    described = look(parents, "ja-llm", "base")
    found = finding(described, "vision")
    assert (found["grade"], found["message"]) == (MIND, "none has a vision tower: `ja-llm` is taken for one")
    assert found["hint"] == "name a VLM among the parents"
    found = finding(described, "base")
    assert (found["grade"], found["message"]) == (MIND, "no common ancestor is named: all are compared with `base`")
    assert found["hint"] == "`--base MODEL` names it; a recipe's `parents.base` needs it"
    assert described["next"] == "" and described["parents"]["base"]["role"] == "llm"


def test_the_ancestor_can_be_named(cli: "Cli", parents: Path) -> None:
    typed = cli.run("inspect", parents / "vlm", parents / "ja-llm", "--base", parents / "base", "--json")
    assert json.loads(typed.out) == look(parents)


def test_findings_come_worst_first_and_each_that_is_not_fine_has_a_hint(own: Path) -> None:
    edit_config(own / "ja-llm", lambda config: config.update(num_attention_heads=2, sliding_window=64))
    findings = look(own)["findings"]
    grades = [GRADES.index(each["grade"]) for each in findings]
    assert grades == sorted(grades) and set(grades) == {0, 1, 2}
    assert all(bool(each["hint"]) == (each["grade"] != FINE) for each in findings)


# --- traits ---


@pytest.mark.parametrize(
    "model_type", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "smollm3"]
)
def test_what_a_config_does_not_say_is_what_transformers_takes(model_type: str) -> None:
    whole = AutoConfig.for_model(model_type)
    assert class_defaults(model_type)["rms_norm_eps"] == whole.rms_norm_eps
    said, silent = read_traits(whole.to_dict()), read_traits({"model_type": model_type})
    for trait in ("attention_heads", "key_value_heads", "norm_epsilon", "activation", "sliding_window", "head_dim"):
        assert silent[trait] == said[trait], trait
    if model_type != "gemma3_text":  # whose thetas its class computes
        assert silent["rope_theta"] == said["rope_theta"]


def test_a_model_type_that_nobody_knows_says_what_it_says() -> None:
    assert class_defaults("../etc") == {}
    assert read_traits({"model_type": "new", "hidden_size": 8}) == {"architecture": "new", "hidden_size": 8}


@pytest.mark.parametrize(
    ("rope", "theta", "scaling"),
    [
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, None),
        ({"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 2}}, 1e6, {"rope_type": "yarn", "factor": 2}),
        ({"rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, 1e6, None),
        (
            {"rope_parameters": {"full": {"rope_theta": 1e6, "rope_type": "linear"}, "sliding": {"rope_theta": 1e4}}},
            {"full": 1e6, "sliding": 1e4},
            {"full": {"rope_type": "linear"}},
        ),
    ],
)  # fmt: skip
def test_rope_is_read_in_every_spelling(rope: Config, theta: Any, scaling: Any) -> None:
    traits = read_traits({"model_type": "llama", **rope})
    assert (traits["rope_theta"], traits["rope_scaling"]) == (theta, scaling)


@pytest.mark.parametrize("key", ["text_config", "llm_config"])
def test_a_vlms_language_settings_are_found_within(key: str) -> None:
    text = {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 4096}
    traits = read_traits({"model_type": "some_vlm", "hidden_size": 3, key: text})
    assert (traits["architecture"], traits["rope_theta"], traits["sliding_window"]) == ("qwen2", 1e6, None)


def test_special_tokens_are_those_that_generating_takes() -> None:
    config = {"eos_token_id": 2, "bos_token_id": 1, "text_config": {"eos_token_id": 7}}
    assert read_special_tokens(config, {"eos_token_id": [7, 8]}) == {"bos_token": 1, "eos_token": [7, 8]}
    assert read_special_tokens(config, {}) == {"bos_token": 1, "eos_token": 7}


def test_no_config_is_too_odd_to_be_read() -> None:
    """A config may hold anything; only sizes are checked when it is opened."""
    rng = random.Random(0)
    keys = [
        "model_type",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "use_sliding_window",
        "head_dim",
    ]
    keys += ["hidden_act", "rms_norm_eps", "num_key_value_heads", "eos_token_id", "text_config", "llm_config"]
    values = [
        None,
        True,
        0,
        -1,
        1e308,
        float("inf"),
        float("nan"),
        "",
        "x" * 9999,
        "../..",
        "-",
        [],
        [1, [2]],
        {},
        10**400,
    ]
    values += [{"rope_theta": []}, {"rope_type": {"type": None}}, {"a": {"rope_theta": "1"}}]
    for _ in range(3000):
        configs = [{key: rng.choice(values) for key in rng.sample(keys, rng.randint(0, len(keys)))} for _ in range(2)]
        traits = {str(place): read_traits(config) for place, config in enumerate(configs)}
        for trait in differing(traits):
            assert all(isinstance(as_text(own[trait]), str) for own in traits.values() if trait in own)
        assert all(isinstance(read_special_tokens(config, {}), dict) for config in configs)
