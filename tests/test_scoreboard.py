"""The tables of scores: everything that was found is told, and fits into a terminal of 80 characters."""

import pytest

from vlmmerge.compare import Answered, compare
from vlmmerge.evalsets import Sample
from vlmmerge.exam import make_targets
from vlmmerge.score import prepare
from vlmmerge.scoreboard import show_comparison, show_guards, show_retention, show_worst

SAMPLES = [Sample(f"bus-{number}", (), "何？", ("赤いバスです。", "バス")) for number in range(4)]
ANSWERS = {
    "evovlm-jp-v1": ["赤いバスです。", "バス", "青い車です。", "バス"],
    "llava-1.5-7b": ["a red bus", "バス", "青い車です。", "a bus"],
    "llava-1.6-7b": ["", "a bus", "a bus a bus a bus", "赤い"],
}


def shown(capsys: pytest.CaptureFixture[str], names: list[str], metrics: list[str]) -> list[str]:
    scorer = prepare(metrics, make_targets(SAMPLES))
    answered = {name: Answered(ANSWERS[name], scorer.score(ANSWERS[name])) for name in names}
    show_comparison("buses", compare(SAMPLES, answered))
    return capsys.readouterr().out.splitlines()


def test_three_models_side_by_side_are_legible_in_80_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Three models with their intervals in columns left two letters of a metric's name."""
    lines = shown(capsys, list(ANSWERS), ["rouge_l_strict", "japanese"])
    (told,) = (number for number, line in enumerate(lines) if line.startswith("lead: "))
    text = "\n".join(lines[:told])
    assert max(map(len, lines[:told])) <= 80
    assert "…" not in text
    for name in ANSWERS:
        assert text.count(f" {name} ") == 2 + 4, "a line for each metric and for each trait"
    assert "rouge_l_strict" in text and "100.0 to 100.0" in text


def test_leads_are_above_the_first_model(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, ["llava-1.5-7b", "evovlm-jp-v1"], ["japanese"])
    first, second = (line for line in lines if " to " in line)
    assert "50.0" in first and "+" not in first
    assert "100.0" in second and "+50.0" in second


def test_the_share_of_japanese_is_told_whatever_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = (line for line in shown(capsys, ["llava-1.5-7b"], ["exact"]) if "Japanese, %" in line)
    assert told.split()[-1] == "50.0"
    assert not any("Japanese, %" in line for line in shown(capsys, ["llava-1.5-7b"], ["japanese"]))


def test_a_run_tells_what_guards_found_and_what_they_keep(capsys: pytest.CaptureFixture[str]) -> None:
    guards = {"grounding": {"value": 0.39, "kept": 0.395}, "japanese": {"value": 95.8, "kept": 1.0}}
    show_guards([{"name": "best", "guarded": {"score": 29.2, "objective": 75.0, "guards": guards}}])
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if "best" in line] == [
        ["best", "29.20", "75.00", "0.39", "95.80"]
    ]
    assert "grounding" in out and "40%" in out and "100%" in out
    show_guards([{"name": "best"}])
    assert capsys.readouterr().out == "", "without guards nothing is told"


def test_a_run_tells_what_each_blend_has_kept_of_the_vlms_own_language(capsys: pytest.CaptureFixture[str]) -> None:
    score = {"value": 6.47, "low": 5.74, "high": 7.11, "signature": "cider|n:16"}
    asked = "ja-scenes:held_out_english@1|attention:sdpa"
    told = {"name": "ja-scenes:held_out_english", "scores": {"cider": score}, "asked": asked}
    rows = [
        {"name": "vlm", "retention": {**told, "change": None}},
        {"name": "best", "retention": {**told, "change": {"cider": (-4.22, -5.63, -2.85)}}},
    ]
    show_retention(rows)
    out = capsys.readouterr().out
    assert "ja-scenes:held_out_english" in out and "cider|n:16" in out and asked in out
    parent, best = (line for line in out.splitlines() if "5.74 to 7.11" in line)
    assert "-4.22" in best and "-5.63 to -2.85" in best and "-" not in parent
    show_retention([{"name": "best"}])
    assert capsys.readouterr().out == "", "without a retention nothing is told"


def test_an_answer_that_is_fully_right_is_not_among_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": name, "question": "何？", "references": ["犬"], "answer": said, "scores": {"exact": value}}
        for name, said, value in (("right", "犬", 100.0), ("wrong", "猫", 0.0))
    ]
    scores = {"exact": {}}
    show_worst({"models": {"it": {"scores": scores, "answers": rows}, "all": {"scores": scores, "answers": rows[:1]}}})
    told = capsys.readouterr().out
    assert "wrong" in told and "right" not in told and "all: worst answers" not in told
