"""ask.py: any model is asked as a candidate is, and what is done is kept."""

import copy
from pathlib import Path
from typing import Any

from vlmmerge.ask import answer_one, evaluate_models
from vlmmerge.evalsets import load
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import EvalsetChoice, Generate


def test_evaluating_a_model_gives_scores_and_every_answer(parents: Path) -> None:
    choices = [
        EvalsetChoice(name="ja-scenes", split="held_out", samples=3),
        EvalsetChoice(name="ja-scenes", split="held_out_questions", samples=5),
    ]
    results = evaluate_models({"vlm": parents / "vlm"}, choices, [], Generate(max_new_tokens=8))
    assert list(results) == ["ja-scenes:held_out", "ja-scenes:held_out_questions"]
    captions, questions = (result["models"]["vlm"] for result in results.values())
    assert "facts" in captions["scores"] and "facts" not in questions["scores"], "questions state no facts"
    vlm = LiveVlm(parents / "vlm", Generate(max_new_tokens=8))
    samples = load("ja-scenes", "held_out_questions", 5)
    assert [row["answer"] for row in questions["answers"]] == vlm.answer(vlm.prepare(samples))
    assert [row["id"] for row in questions["answers"]] == [sample.id for sample in samples]
    for metric, score in captions["scores"].items():
        assert score["num_samples"] == 3 and all(metric in row["scores"] for row in captions["answers"])


def test_answering_one_picture_gives_what_the_model_says_of_it(parents: Path) -> None:
    sample = load("ja-scenes", "search_questions", 1)[0]
    vlm = LiveVlm(parents / "vlm", Generate(max_new_tokens=8))
    said = answer_one(parents / "vlm", sample.images[0], sample.question, Generate(max_new_tokens=8))
    assert said == vlm.answer(vlm.prepare([sample]))[0] != ""


def test_results_are_kept_after_each_model(parents: Path) -> None:
    kept: list[Any] = []
    choice = EvalsetChoice(name="ja-scenes", split="held_out", samples=2)
    models = {"first": parents / "vlm", "second": parents / "vlm"}
    settings = Generate(max_new_tokens=4)
    results = evaluate_models(
        models, [choice], ["exact"], settings, keep=lambda so_far: kept.append(copy.deepcopy(so_far))
    )
    assert [list(part["ja-scenes:held_out"]["models"]) for part in kept] == [["first"], ["first", "second"]]
    assert kept[-1] == results
    assert results["ja-scenes:held_out"]["differences"]["second"]["exact"] == {"value": 0.0, "low": 0.0, "high": 0.0}
