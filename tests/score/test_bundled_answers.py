"""Every accepted answer of the bundled evalsets is right by the metrics of short answers, bare and in a sentence."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vlmmerge.score import Targets, prepare

FILES = sorted((Path(__file__).parents[2] / "evalsets").glob("*/*.parquet"))


def accepted(file):
    """Each question with an accepted answer, every pair once."""
    if "qas" not in pq.read_schema(file).names:
        return []
    rows = pq.read_table(file, columns=["qas"])["qas"].to_pylist()
    return list(dict.fromkeys((qa["question"], answer) for row in rows for qa in row for answer in _answers(qa)))


def _answers(qa):
    return qa["answers"] if "answers" in qa else [qa["answer"]]


def in_a_sentence(answer):
    bare = answer.rstrip("。")
    return f"はい、{bare}。" if bare.endswith(("です", "ます")) else f"答えは{bare}です。"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_an_accepted_answer_is_right_in_any_form(file):
    pairs = accepted(file)
    if not pairs:
        pytest.skip("it has no questions")
    targets = Targets(tuple((answer,) for _, answer in pairs), questions=tuple(question for question, _ in pairs))
    scorer = prepare(["exact", "contains", "numbers"], targets)
    for form in (str, lambda answer: f"「{answer}」", in_a_sentence):
        scores = scorer.score([form(answer) for _, answer in pairs], intervals=False)
        names = ["contains", "numbers"] if form is in_a_sentence else ["exact", "contains", "numbers"]
        for name in names:
            wrong = [pair for pair, value in zip(pairs, scores[name].per_sample, strict=True) if value == 0]
            assert not wrong, f"{name}: {wrong[:5]}"
