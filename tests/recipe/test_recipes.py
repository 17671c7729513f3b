"""recipes/: every recipe that is offered loads, and its cost can be told without a network."""

from pathlib import Path

import pytest
import yaml

from vlmmerge.estimate import describe_plan
from vlmmerge.evalsets import find_evalsets
from vlmmerge.plan import make_plan
from vlmmerge.recipe import check_names, load_recipe, missing_for_evolve
from vlmmerge.score import METRICS

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_its_command_and_what_it_needs(path: Path) -> None:
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert comment[0] == f"# vlmmerge evolve recipes/{path.name}"
    assert "eeds " in " ".join(comment) or "take about" in " ".join(comment)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_whole_and_its_cost_can_be_told_offline(path: Path) -> None:
    """The parents are the demo's: what is tried is all else."""
    splits = {name: list(evalset.splits) for name, evalset in find_evalsets().items()}
    (llm,) = yaml.safe_load(path.read_text(encoding="utf-8"))["parents"]["llms"]
    demo = {"vlm": "vlm", "base": "base", f"llms.{llm}": "ja-llm"}
    parents = [f"parents.{key}={FOLDER / 'demo-parents' / folder}" for key, folder in demo.items()]
    load_recipe(path, parents, lambda r: missing_for_evolve(r) + check_names(r, METRICS, splits))
    described = describe_plan(make_plan(load_recipe(path, [*parents, "blend.depth=per_layer"])))
    assert "candidates" in described["search"] and described["memory"].endswith("GiB of weights")
    assert described["time"].startswith("about ")
