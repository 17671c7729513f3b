"""compare.py: what is told of each model, and which of its answers are the worst."""

from vlmmerge.compare import Answered, compare, worst
from vlmmerge.evalsets import Sample
from vlmmerge.exam import make_targets
from vlmmerge.score import prepare
from vlmmerge.score.traits import describe


def test_the_worst_answers_are_the_least_by_the_metric_and_of_equals_the_first() -> None:
    rows = [
        {"id": name, "scores": {"a": value, "b": -value}} for name, value in zip("vwxyz", (3, 1, 2, 1, 5), strict=True)
    ]
    assert [row["id"] for row in worst(rows, "a", 3)] == ["w", "y", "x"]
    assert [row["id"] for row in worst(rows, "b", 2)] == ["z", "v"]
    assert len(worst(rows, "a", 9)) == 5


def test_traits_of_the_answers_are_told_overall_and_for_each() -> None:
    samples = [Sample(name, (), "何？", ("赤いバス",)) for name in "ab"]
    said = ["赤いバスです", "bus"]
    scores = prepare(["exact"], make_targets(samples)).score(said)
    model = compare(samples, {"it": Answered(said, scores)})["models"]["it"]
    assert model["traits"] == describe(said, [sample.references for sample in samples]).overall()
    assert [row["traits"]["japanese"] for row in model["answers"]] == [True, False]
    assert "asked" not in model and "grounding" not in model
