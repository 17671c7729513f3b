"""Samples that do not count: left out of the value, of resamples and of nothing else, and told in notes."""

import math

import numpy as np
import pytest

from vlmmerge.compare import Answered, compare, worst
from vlmmerge.console import show_table
from vlmmerge.evalsets import Sample
from vlmmerge.exam import passport
from vlmmerge.score import METRICS, Metric, Targets, paired_difference, possible, prepare
from vlmmerge.score.metric import Prepared, mean_of_counted
from vlmmerge.score.statistics import interval, paired_interval
from vlmmerge.scoreboard import show_comparison

TARGETS = Targets((("5",),) * 4)


def tell(statistics):
    unread = len(statistics) - round(statistics[:, 1].sum())
    return (f"{unread} of {len(statistics)} marks could not be read",) if unread else ()


def read_marks(answers):
    """A mark is an answer's own number; what is no number does not count."""
    return np.array([(float(text), 1.0) if text.isdigit() else (0.0, 0.0) for text in answers])


MARK = Metric("mark", "the answer itself", None, lambda targets: Prepared(read_marks), mean_of_counted, tell)


@pytest.fixture
def scored(monkeypatch):
    monkeypatch.setitem(METRICS, "mark", MARK)
    return lambda answers: prepare(["mark"], TARGETS).score(answers)["mark"]


def test_the_value_is_that_of_the_samples_that_count(scored):
    score = scored(["2", "?", "4", "3"])
    assert score.value == 3.0
    assert score.per_sample == (2.0, None, 4.0, 3.0)
    assert score.num_samples == 4
    assert 2.0 <= score.low <= 3.0 <= score.high <= 4.0


def test_samples_that_do_not_count_are_told_and_nothing_is_told_where_all_do(scored):
    assert scored(["2", "?", "4", "x"]).notes == ("2 of 4 marks could not be read",)
    assert scored(["2", "1", "4", "3"]).notes == ()


def test_a_resample_of_nothing_that_counts_is_left_out_of_the_interval():
    statistics = read_marks(["4", "?", "?", "?"])  # a third of all resamples draw the first row never
    assert interval(statistics, mean_of_counted) == (4.0, 4.0)


def test_a_paired_difference_takes_each_candidate_over_what_counts(scored):
    first, second = scored(["2", "?", "4", "3"]), scored(["1", "2", "?", "3"])
    difference, low, high = paired_difference(first, second)
    assert difference == 1.0
    assert low <= difference <= high
    assert not math.isnan(low) and not math.isnan(high)
    assert paired_interval(read_marks("2?43"), read_marks("2?43"), mean_of_counted) == (0.0, 0.0, 0.0)


def test_the_passport_carries_notes_only_where_there_are_any(scored):
    assert passport(scored(["2", "?", "4", "3"]))["notes"] == ["1 of 4 marks could not be read"]
    assert set(passport(scored(["2", "1", "4", "3"]))) == {"value", "low", "high", "num_samples", "signature"}


def test_the_table_of_models_tells_notes_and_the_worst_answers_leave_out_what_does_not_count(scored, capsys):
    samples = [Sample(str(number), (b"",), "何点？", ("5",)) for number in range(4)]
    answers = ["2", "?", "4", "1"]
    result = compare(samples, {"one": Answered(answers, {"mark": scored(answers)})})
    assert [row["answer"] for row in worst(result["models"]["one"]["answers"], "mark", 4)] == ["1", "2", "4"]
    show_comparison("marks", result)
    assert "one, mark: 1 of 4 marks could not be read" in capsys.readouterr().out


def test_the_table_of_a_run_tells_notes(scored, capsys):
    scores = {"mark": passport(scored(["2", "?", "x", "1"]))}
    rows = [{"name": "best", "scores": scores, "difference": None, "asked": "max:64"}]
    show_table(rows, ["mark"])
    out = capsys.readouterr().out
    assert "best, mark: 2 of 4 marks could not be read" in out and "max:64" in out


def test_a_metric_is_possible_where_the_targets_have_what_it_needs():
    assert "facts" not in possible(TARGETS)
    assert "facts" in possible(Targets((("5",),), facts=(("5",),)))
    assert "exact" in possible(TARGETS)
