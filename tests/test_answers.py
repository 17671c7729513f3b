"""answers.py: answers of any tool get the scores that the same answers get anywhere."""

import json
from pathlib import Path

import pytest

from vlmmerge.answers import score_files
from vlmmerge.errors import ScoreError
from vlmmerge.score import Targets, paired_difference, prepare

REFERENCES = (("白い犬が走っている。", "犬が一匹"), ("赤いバス",), ("猫が二匹います。",))
GOOD, BAD = ["白い犬がいる。", "赤いバスです。", "猫が三匹います。"], ["a dog", "", "猫"]


def write(file: Path, answers: list[str], **columns: list[object]) -> Path:
    rows = [{"answer": said, "references": list(REFERENCES[number])} for number, said in enumerate(answers)]
    for name, values in columns.items():
        rows = [{**row, name: value} for row, value in zip(rows, values, strict=True)]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def test_scores_intervals_signatures_and_differences_are_those_of_the_metrics(tmp_path: Path) -> None:
    files = {"good": write(tmp_path / "a", GOOD), "bad": write(tmp_path / "b", BAD)}
    result = score_files(files, ["rouge_l", "cider"])
    scorer = prepare(["rouge_l", "cider"], Targets(REFERENCES))
    good, bad = scorer.score(GOOD), scorer.score(BAD)
    for name, wanted in (("good", good), ("bad", bad)):
        told = result["models"][name]["scores"]["rouge_l"]
        assert (told["value"], told["low"], told["high"]) == (
            wanted["rouge_l"].value,
            wanted["rouge_l"].low,
            wanted["rouge_l"].high,
        )
        assert told["signature"] == wanted["rouge_l"].signature
        assert [row["scores"]["cider"] for row in result["models"][name]["answers"]] == list(wanted["cider"].per_sample)
    assert tuple(result["differences"]["bad"]["cider"].values()) == paired_difference(bad["cider"], good["cider"])
    assert list(result["differences"]) == ["bad"]


def test_ids_questions_facts_and_options_are_taken_where_there_are_any(tmp_path: Path) -> None:
    columns = {"id": [7, "b", "c"], "question": ["何？"] * 3, "facts": [["犬"], ["赤い"], ["二匹"]], "tool": [1, 2, 3]}
    result = score_files({"it": write(tmp_path / "a", GOOD, **columns)}, ["facts"])["models"]["it"]
    assert [row["id"] for row in result["answers"]] == ["7", "b", "c"]
    assert [row["scores"]["facts"] for row in result["answers"]] == [100.0, 100.0, 0.0]
    without = score_files({"it": write(tmp_path / "a", GOOD)}, ["japanese"])["models"]["it"]
    assert [row["id"] for row in without["answers"]] == ["line 1", "line 2", "line 3"]


def test_files_of_different_samples_are_not_put_side_by_side(tmp_path: Path) -> None:
    first = write(tmp_path / "a", GOOD, question=["何？", "何色？", "何匹？"])
    second = write(tmp_path / "b", GOOD, question=["何？", "どんな色？", "何匹？"])
    with pytest.raises(ScoreError) as caught:
        score_files({"a": first, "b": second}, ["japanese"])
    assert str(caught.value) == (
        "not the same samples: line 2 of a and line 2 of b\n  何色？ 赤いバス\n  どんな色？ 赤いバス\n"
        "hint: both files must have the same references and questions in the same order"
    )
    with pytest.raises(ScoreError) as caught:
        score_files({"a": first, "b": write(tmp_path / "b", GOOD[:2])}, ["japanese"])
    assert str(caught.value) == (
        "not the same samples: 3 in a, 2 in b\nhint: score files of different samples one by one"
    )


def test_what_a_metric_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="`facts` needs each sample's fact phrases, and there are none"):
        score_files({"it": write(tmp_path / "a", GOOD)}, ["facts"])
