"""ask.py: any model is asked as a candidate is, and what is done is kept."""

import copy
from pathlib import Path
from typing import Any

from vlmmerge.ask import Questions, answer_one, evaluate_models, signature
from vlmmerge.blind import grounding_samples
from vlmmerge.evalsets import Sample, load
from vlmmerge.exam import make_scorer
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import EvalsetChoice, Generate
from vlmmerge.score import paired_grounding


def test_evaluating_a_model_gives_scores_and_every_answer(parents: Path) -> None:
    choices = [
        EvalsetChoice(name="ja-scenes", split="held_out", samples=3),
        EvalsetChoice(name="ja-scenes", split="held_out_questions", samples=5),
    ]
    results = evaluate_models({"vlm": parents / "vlm"}, Questions(choices, generate=Generate(max_new_tokens=8)))
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
    questions = Questions([choice], ["exact"], Generate(max_new_tokens=4))
    results = evaluate_models(models, questions, lambda so_far: kept.append(copy.deepcopy(so_far)))
    assert [list(part["ja-scenes:held_out"]["models"]) for part in kept] == [["first"], ["first", "second"]]
    assert kept[-1] == results
    assert results["ja-scenes:held_out"]["differences"]["second"]["exact"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_grounding_asks_again_with_blank_and_with_other_pictures(parents: Path) -> None:
    choice = EvalsetChoice(name="ja-scenes", split="held_out_questions", samples=6)
    settings = Generate(max_new_tokens=8)
    asked = Questions([choice], ["chrf", "exact"], settings, has_grounding=True)
    model = evaluate_models({"vlm": parents / "vlm"}, asked)["ja-scenes:held_out_questions"]["models"]["vlm"]
    samples = load("ja-scenes", "held_out_questions", 6)
    scorer = make_scorer(choice, samples, ["chrf"])
    vlm = LiveVlm(parents / "vlm", settings)
    right = scorer.score(vlm.answer(vlm.prepare(samples)))["chrf"]
    for kind, blind_samples in grounding_samples(samples).items():
        blind = scorer.score(vlm.answer(vlm.prepare(blind_samples)))["chrf"]
        value, low, high = paired_grounding(right, blind)
        assert model["grounding"][kind] == {"score": blind.value, "value": value, "low": low, "high": high}


def test_the_signature_tells_whatever_moves_an_answer(parents: Path) -> None:
    samples = load("ja-scenes", "held_out", 3)

    def signed(samples: list[Sample], **settings: Any) -> str:
        return signature(LiveVlm(parents / "vlm", Generate(**settings)), "set:split", samples)

    plain = signed(samples)
    assert plain.startswith("set:split@") and "|beams:1|penalty:1|max:64|float32|attention:" in plain
    others = [
        signed(samples[:2]), signed(samples, beams=2), signed(samples, repetition_penalty=1.5),
        signed(samples, max_new_tokens=5), signed(samples, system="日本語で。"), signed(samples, question="何？"),
        signed(samples, stop=("。",)), signed(samples, dtype="bfloat16"),
    ]  # fmt: skip
    assert len({plain, *others}) == 9
    assert signed(samples, batch_tokens=512) == plain, "batches move nothing"
