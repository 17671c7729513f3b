"""compare.py: what is told of each model, and which of its answers are the worst."""

from vlmmerge.compare import worst


def test_the_worst_answers_are_the_least_by_the_metric_and_of_equals_the_first() -> None:
    rows = [
        {"id": name, "scores": {"a": value, "b": -value}} for name, value in zip("vwxyz", (3, 1, 2, 1, 5), strict=True)
    ]
    assert [row["id"] for row in worst(rows, "a", 3)] == ["w", "y", "x"]
    assert [row["id"] for row in worst(rows, "b", 2)] == ["z", "v"]
    assert len(worst(rows, "a", 9)) == 5
