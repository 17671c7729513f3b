"""plan.py: what a recipe leaves out is filled in, and what cannot be is told."""

from pathlib import Path
from typing import get_args

import pytest

from vlmmerge.errors import RecipeError
from vlmmerge.evalsets.split import Kind
from vlmmerge.plan import make_plan
from vlmmerge.recipe import Score, fingerprint_fields, load_recipe
from vlmmerge.score import METRICS
from vlmmerge.score.defaults import DEFAULT_GUARDS, DEFAULT_OBJECTIVES
from vlmmerge.score.guards import GUARDS

QUESTIONS = "evalset.search.split=search_questions"
APART = "evalset.finals="


def score_of(parents: Path, *overrides: str) -> Score:
    plan = make_plan(load_recipe(parents / "recipe.yaml", overrides))
    assert plan.recipe.score
    return plan.recipe.score


@pytest.mark.parametrize("left_out", ["score=", "score={}", "score={report: [exact]}"])
@pytest.mark.parametrize(("kind", "override"), [("captions", APART), ("questions", QUESTIONS)])
def test_without_an_objective_there_is_the_one_for_the_kind_of_the_searchs_samples(
    parents: Path, left_out: str, kind: str, override: str
) -> None:
    score = score_of(parents, left_out, override)
    assert score.objective == DEFAULT_OBJECTIVES[kind] and score.limits == DEFAULT_GUARDS[kind]
    assert score.report == (("exact",) if "exact" in left_out else ())


def test_every_kind_of_samples_has_an_objective_and_guards_that_there_are() -> None:
    assert set(DEFAULT_OBJECTIVES) == set(DEFAULT_GUARDS) == set(get_args(Kind))
    assert all(name in METRICS for weights in DEFAULT_OBJECTIVES.values() for name in weights)
    assert all(name in GUARDS for limits in DEFAULT_GUARDS.values() for name in limits)


def test_answers_in_english_are_not_guarded_to_be_japanese(parents: Path) -> None:
    score = score_of(parents, "score=", "evalset.search.split=search_english")
    assert set(score.limits) == {*DEFAULT_GUARDS["captions"]} - {"japanese"}


def test_an_objective_of_ones_own_has_only_the_guards_that_are_written(parents: Path) -> None:
    assert score_of(parents).limits == {}
    assert score_of(parents, "score.guards={repetition: 0.3}").limits == {"repetition": 0.3}


@pytest.mark.parametrize(("guards", "limits"), [("{}", {}), ("{repetition: 0.3}", {"repetition": 0.3})])
def test_guards_that_are_written_take_the_place_of_the_default_ones(
    parents: Path, guards: str, limits: dict[str, float]
) -> None:
    score = score_of(parents, f"score={{guards: {guards}}}")
    assert score.objective == DEFAULT_OBJECTIVES["captions"] and score.limits == limits


def test_a_run_remembers_the_objective_and_the_guards_that_it_was_given(parents: Path) -> None:
    plan = make_plan(load_recipe(parents / "recipe.yaml", ["score="]))
    assert fingerprint_fields(plan.recipe)["score"] == {
        "objective": DEFAULT_OBJECTIVES["captions"],
        "guards": DEFAULT_GUARDS["captions"],
        "report": [],
    }


def test_answers_in_english_cannot_be_guarded_to_be_japanese(parents: Path) -> None:
    overrides = ["evalset.search.split=search_english", "score.guards={japanese: 90}"]
    with pytest.raises(RecipeError) as caught:
        make_plan(load_recipe(parents / "recipe.yaml", overrides))
    assert caught.value.details == (
        "score.guards.japanese: the answers to ja-scenes:search_english are to be in `en`; wanted no such key",
    )
