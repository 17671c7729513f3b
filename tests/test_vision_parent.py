"""`parents.vision`: the language towers are blended as ever, for the eyes and into the files of another VLM."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from vlmmerge.errors import RecipeError
from vlmmerge.evaluate import Evaluator
from vlmmerge.export import export
from vlmmerge.journal import read_journal
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe

if TYPE_CHECKING:
    from conftest import Cli

SIDE, PATCH = 24, 12
NEW_TOKEN = "<eyes>"


@pytest.fixture(scope="module")
def folder(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny parents beside `donor`: a bfloat16 LLaVA with SigLIP's eyes, and its own language tower and token."""
    folder = tmp_path_factory.mktemp("with-donor")
    shutil.copytree(parents, folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(parents / "vlm")
    tokenizer.add_special_tokens({"additional_special_tokens": [NEW_TOKEN]})
    vlm = AutoModelForImageTextToText.from_pretrained(parents / "vlm")
    eyes = SiglipVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH, vision_use_head=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=eyes, text_config=vlm.config.text_config, image_token_index=vlm.config.image_token_id,
        vision_feature_layer=-1, vision_feature_select_strategy="full", image_seq_length=(SIDE // PATCH) ** 2,
    )  # fmt: skip
    config.text_config.vocab_size = len(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        donor = LlavaForConditionalGeneration(config).bfloat16()
        for parameter in donor.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    donor.generation_config = vlm.generation_config
    donor.save_pretrained(folder / "donor")
    pictures = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    LlavaProcessor(
        pictures, tokenizer, patch_size=PATCH, vision_feature_select_strategy="full", image_token="<image>",
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder / "donor")  # fmt: skip
    return folder


def plan_of(folder: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(folder / "recipe.yaml", ["parents.vision=donor", *overrides]))


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_all_but_the_language_tower_is_the_vision_parents(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder)
    export(plan, plan.uniform({"vlm": 1.0}), tmp_path / "out", {})
    out, donor, vlm = (tensors_of(where) for where in (tmp_path / "out", folder / "donor", folder / "vlm"))
    language = set(plan.anatomy.keys["vision"].values())
    assert out.keys() == donor.keys()
    for key in donor.keys() - language:
        assert torch.equal(out[key].view(torch.uint8), donor[key].view(torch.uint8)), key
    for name in ("config.json", "processor_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "donor" / name).read_bytes()
    keys = plan.anatomy.keys
    for slot in plan.anatomy.slots:
        written, wanted = out[keys["vision"][slot]], vlm[keys["vlm"][slot]].bfloat16()
        assert torch.equal(written[: len(wanted)], wanted), f"{slot}: the VLM's language tower, in the layout's dtype"
    own_row = donor["language_model.model.embed_tokens.weight"][-1]
    assert torch.equal(out["language_model.model.embed_tokens.weight"][-1], own_row), "a token that the donor alone has"


def test_the_vocabularys_policy_tells_whose_rows_stay(folder: Path) -> None:
    plan = plan_of(folder)
    assert plan.vocabulary.policy["stay vision's"] == f"1 row: {NEW_TOKEN}"


def test_what_is_scored_is_what_ships(folder: Path, tmp_path: Path) -> None:
    plan = plan_of(folder, "generate.device=cpu")
    evaluator = Evaluator(plan)
    ratios = plan.uniform({"vlm": 0.7, "ja": 0.4})
    answers = evaluator.hold_out(ratios)["answers"]
    export(plan, ratios, tmp_path / "out", {})
    shipped = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    live = evaluator.vlm.model.state_dict()
    assert shipped.keys() == live.keys()
    assert all(torch.equal(shipped[key], live[key]) for key in live)
    own_eyes = Evaluator(make_plan(load_recipe(folder / "recipe.yaml")))
    assert answers != own_eyes.hold_out(ratios)["answers"], "other eyes see other things"


def test_a_run_for_other_eyes_resumes_and_its_card_names_them(cli: "Cli", folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    few = ["--set", "search.evaluations=3", "--set", "search.grid=0", "--set", "evalset.finals="]
    command = ["evolve", folder / "recipe.yaml", "--run", run, "--set", "parents.vision=donor", *few]
    done = cli.run(*command, "--json")
    assert done.status == 0, done.err
    _, records = read_journal(run / "journal.jsonl")
    names = [record["name"] for record in records if record["kind"] == "held_out"]
    assert "ja with the eyes of vision" in names
    assert {row["name"] for row in json.loads(done.out)["held_out"]} == set(names)
    card = (run / "best" / "README.md").read_text(encoding="utf-8")
    assert "those of the `vision` parent, byte for byte" in card and "\n  vision: donor\n" in card
    assert cli.run(*command, "--resume").status == 0


def test_no_language_model_may_be_called_vision(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(folder / "recipe.yaml", ["parents.llms={vision: ja-llm}"])
    assert 'parents.llms.vision: "vision" is taken by parents.vision; give the language model another name' in str(
        caught.value
    )


def test_a_vision_parent_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(folder / "recipe.yaml", ["parents.vision=./doner"])
    assert 'parents.vision: no such folder ./doner (did you mean "donor"?)' in str(caught.value)
