"""card.py: a model card that the hub reads, people can act on, and that tells nothing but what is so."""

import dataclasses
import io
import re
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image

from vlmmerge.anatomy import Slot
from vlmmerge.ask import answer_one
from vlmmerge.checkpoint.hub import HubId, Snapshot
from vlmmerge.export import export
from vlmmerge.export.card import model_card, ratio_rows
from vlmmerge.genome import Ratio
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import Generate, load_recipe

if TYPE_CHECKING:
    from conftest import Cli

SCORE = {"value": 1.25, "low": 1.0, "high": 1.5, "num_samples": 6, "signature": "cider|n:6"}
FIXED = "blend.ratios={vlm: {weight: 0.9, density: 0.6}, ja: {weight: [0.2, 1.1], density: 0.5}}"


def plan_of(folder: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(folder / "recipe.yaml", list(overrides)))


def card_of(plan: Plan, **provenance: Any) -> str:
    return model_card(plan, plan.fixed_ratios(), provenance)


def front_matter(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found
    fields = yaml.safe_load(found[1])
    assert isinstance(fields, dict)
    return fields


def licensed(parents: Path, folder: Path, licences: Sequence[str]) -> Path:
    """Copies of the parents, with cards that state these licences, in the order vlm, base, ja."""
    shutil.copytree(parents, folder)
    for name, licence in zip(("vlm", "base", "ja-llm"), licences, strict=True):
        (folder / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n", encoding="utf-8")
    return folder


def test_the_strictest_licence_is_the_cards(parents: Path, tmp_path: Path) -> None:
    card = card_of(plan_of(licensed(parents, tmp_path / "parents", ["apache-2.0", "mit", "cc-by-sa-4.0"])))
    assert front_matter(card)["license"] == "cc-by-sa-4.0"
    assert "the strictest is **cc-by-sa-4.0** (share alike). The terms of all of them hold." in card
    assert "[!WARNING]" not in card
    assert "| `ja` | ja-llm (cc-by-sa-4.0) | a local folder |" in card


def test_a_parent_that_forbids_is_told_loudly(parents: Path, tmp_path: Path) -> None:
    card = card_of(plan_of(licensed(parents, tmp_path / "parents", ["llama3.1", "cc-by-nc-4.0", "cc-by-nd-4.0"])))
    assert front_matter(card)["license"] == "cc-by-nd-4.0"
    assert (
        "> [!WARNING]\n> `base` forbids commercial use: its licence is cc-by-nc-4.0\n"
        "> `ja` forbids derivatives, and a merge is one: its licence is cc-by-nd-4.0\n"
    ) in card


def test_terms_of_use_come_as_other_with_their_name(parents: Path, tmp_path: Path) -> None:
    fields = front_matter(card_of(plan_of(licensed(parents, tmp_path / "parents", ["gemma", "mit", "mit"]))))
    assert fields["license"] == "other" and fields["license_name"] == "gemma"


def test_an_export_warns_of_a_parent_that_forbids(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    folder = licensed(parents, tmp_path / "parents", ["cc-by-nc-4.0", "mit", "mit"])
    done = cli.run("blend", folder / "recipe.yaml", "--set", FIXED, "--out", tmp_path / "out")
    assert done.status == 0
    assert "warning: `vlm` forbids commercial use: its licence is cc-by-nc-4.0\n" in done.err


def test_without_stated_licences_the_card_says_so(parents: Path) -> None:
    card = card_of(plan_of(parents))
    assert front_matter(card)["license"] == "unknown"
    assert "Not every parent states a licence: ask before you share this model." in card
    assert "base_model" not in front_matter(card), "a local folder is no model of the hub"


def test_hub_parents_are_named_with_their_revisions(parents: Path) -> None:
    plan = plan_of(parents, FIXED)
    commit = "0123456789abcdef0123456789abcdef01234567"
    of_hub = {"vlm": HubId("org/vlm", "main"), "base": HubId("org/base")}
    checkpoints = {
        name: dataclasses.replace(opened, snapshot=Snapshot(of_hub[name], commit, opened.folder))
        if name in of_hub
        else opened
        for name, opened in plan.checkpoints.items()
    }
    card = card_of(dataclasses.replace(plan, checkpoints=checkpoints))
    assert front_matter(card)["base_model"] == ["org/vlm", "org/base"]
    assert front_matter(card)["base_model_relation"] == "merge"
    assert f"| `vlm` | org/vlm (not stated) | {commit} |" in card
    assert f"vlm: org/vlm@{commit}" in card


def test_scores_stand_beside_those_of_the_other_blends(parents: Path) -> None:
    beside = {"vlm": {"cider": SCORE | {"value": 0.5, "low": 0.25, "high": 0.75}}}
    card = card_of(plan_of(parents), held_out={"scores": {"cider": SCORE}, "beside": beside}, candidate={"index": 3})
    assert (
        "|  | cider |\n| --- | --- |\n| vlm | 0.50 (0.25 to 0.75) |\n| **this model** | 1.25 (1.00 to 1.50) |\n\n"
        "- `cider|n:6`\n"
    ) in card


def test_the_notes_of_scores_are_told_below_them(parents: Path) -> None:
    noted = SCORE | {"notes": ["1 of 6 judgements could not be read, and are left out"]}
    card = card_of(plan_of(parents), held_out={"scores": {"judge": noted}, "beside": {"vlm": {"judge": SCORE}}})
    assert "- `cider|n:6`\n- **this model**, judge: 1 of 6 judgements could not be read, and are left out\n" in card


def test_guards_and_retention_are_told_where_there_are_any(parents: Path) -> None:
    plan = plan_of(parents, "evalset.retention={name: ja-scenes, split: held_out_english}")
    found = {"japanese": {"value": 45.0, "kept": 0.5}, "repetition": {"value": 0.01, "kept": 1.0}}
    held_out = {"scores": {"cider": SCORE}, "beside": {}, "guarded": {"score": 0.6, "objective": 1.2, "guards": found}}
    retention = {"scores": {"cider": SCORE}, "beside": {"vlm": {"cider": SCORE | {"value": 2.5, "high": 3.5}}}}
    card = card_of(plan, held_out=held_out, retention=retention, candidate={"index": 3})
    assert "\n\nThe guards found: japanese 45.00 (keeps 50%), repetition 0.01 (keeps 100%).\n\n## Retention\n" in card
    assert (
        "on `ja-scenes:held_out_english`, with 95 % intervals:\n\n|  | cider |\n| --- | --- |\n"
        "| vlm | 2.50 (1.00 to 3.50) |\n| **this model** | 1.25 (1.00 to 1.50) |\n"
    ) in card
    bare = card_of(plan_of(parents), held_out={"scores": {"cider": SCORE}}, candidate={"index": 3})
    assert "guards" not in bare.lower() and "retention" not in bare.lower()


def test_ratios_are_told_by_layer_and_equal_neighbours_share_a_line() -> None:
    ratios = {
        Slot(None, "embed_tokens.weight"): {"vlm": Ratio(1.0, 0.5)},
        Slot(0, "self_attn.q_proj.weight"): {"vlm": Ratio(0.1)},
        Slot(0, "self_attn.k_proj.weight"): {"vlm": Ratio(0.3)},
        Slot(0, "mlp.up_proj.weight"): {"vlm": Ratio(0.2)},
        Slot(1, "self_attn.q_proj.weight"): {"vlm": Ratio(0.4)},
        Slot(1, "mlp.up_proj.weight"): {"vlm": Ratio(0.4)},
        Slot(2, "self_attn.q_proj.weight"): {"vlm": Ratio(0.4)},
        Slot(2, "mlp.up_proj.weight"): {"vlm": Ratio(0.4)},
        Slot(None, "norm.weight"): {"vlm": Ratio(0.9)},
    }
    assert ratio_rows(ratios, ("weight", "density")) == [
        ("embeddings", ("1.000", "0.500")),
        ("layer 0, attention", ("0.100 to 0.300", "1.000")),
        ("layer 0, mlp", ("0.200", "1.000")),
        ("layers 1 to 2", ("0.400", "1.000")),
        ("head", ("0.900", "1.000")),
    ]


def test_the_recipe_in_the_card_makes_the_model_again(parents: Path, tmp_path: Path) -> None:
    plan = plan_of(parents, FIXED, "blend.seed=8", "blend.lambda=0.9")
    export(plan, plan.fixed_ratios(), tmp_path / "one", {})
    card = (tmp_path / "one" / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert found and "`vlmmerge blend recipe.yaml --out DIR`" in card
    folder = Path(shutil.copytree(parents, tmp_path / "parents"))
    (folder / "recipe.yaml").write_text(found[1], encoding="utf-8")
    again = plan_of(folder)
    export(again, again.fixed_ratios(), tmp_path / "other", {})
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other")]
    assert weights[0] == weights[1]


def test_a_run_that_started_from_another_says_from_which(parents: Path) -> None:
    card = card_of(plan_of(parents), candidate={"index": 3}, start={"run": "abcdef0123456789", "candidate": 5})
    assert "candidate 3 of `vlmmerge evolve recipe.yaml` `--start-from` candidate 5 of the run abcdef012345" in card


def test_the_system_prompt_is_in_the_code(parents: Path) -> None:
    card = card_of(plan_of(parents, "generate.system=絵を見てください。"))
    turn = '{"role": "system", "content": [{"type": "text", "text": "絵を見てください。"}]}'
    assert f'messages = [\n    {turn},\n    {{"role": "user", "content": content}},\n]' in card


def test_the_code_in_the_card_runs_and_gives_the_models_answer(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(parents, FIXED, "generate.max_new_tokens=8")
    Image.effect_noise((40, 30), 80).convert("RGB").save(tmp_path / "picture.jpg")
    export(plan, plan.fixed_ratios(), tmp_path / "PATH", {})
    found = re.search(r"```python\n(.*?)```", (tmp_path / "PATH" / "README.md").read_text("utf-8"), re.DOTALL)
    assert found
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(io.StringIO()) as printed:
        exec(
            found[1].replace('{"role": "system", "content": [{"type": "text", "text": "絵を見てください。"}]},', ""), {}
        )
    image = (tmp_path / "picture.jpg").read_bytes()
    assert plan.recipe.generate.question
    answer = answer_one(tmp_path / "PATH", image, plan.recipe.generate.question, Generate(max_new_tokens=8))
    assert answer and printed.getvalue().strip() == answer
