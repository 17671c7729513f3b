"""`parents.vision`: the language towers are blended as ever, for the eyes and into the files of another VLM."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from vlmmerge.errors import RecipeError
from vlmmerge.evaluate import Evaluator
from vlmmerge.export import export
from vlmmerge.journal import read_journal
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import load_recipe

DONORS_TOKEN = "<eyes>"  # as tests/conftest.py has it

if TYPE_CHECKING:
    from conftest import Cli


@pytest.fixture
def folder(with_donor: Path) -> Path:
    return with_donor


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
    assert plan.vocabulary.policy["stay vision's"] == f"1 row: {DONORS_TOKEN}"


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
