"""VQA soft accuracy against a plain implementation of the official formula."""

import random

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.vqa import soft_accuracy


def official(answer, votes):
    """As in the official evaluation: leave each annotator out, count those that agree among the others, average."""
    accuracies = []
    for i in range(len(votes)):
        others = votes[:i] + votes[i + 1 :]
        accuracies.append(min(1, sum(other == answer for other in others) / 3))
    return sum(accuracies) / len(accuracies)


def value(answer, *references):
    return prepare(["vqa"], Targets((references,))).score([answer])["vqa"].value


@pytest.mark.parametrize("num_votes", range(4, 13))
def test_four_votes_or_more_are_counted_as_the_official_evaluation_does(num_votes):
    rng = random.Random(num_votes)
    for _ in range(50):
        votes = rng.choices(["赤", "青", "緑", "白"], k=num_votes)
        for answer in ("赤", "青", "黒"):
            assert value(answer, *votes) == pytest.approx(100 * official(answer, votes), abs=1e-9)


@pytest.mark.parametrize(
    ("num_matching", "wanted"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (5, 1), (9, 1), (10, 1)]
)
def test_the_known_values_for_ten_annotators(num_matching, wanted):
    assert soft_accuracy(num_matching, 10) == pytest.approx(wanted)


@pytest.mark.parametrize("references", [("赤",), ("赤", "朱色"), ("赤", "朱色", "紅")])
def test_fewer_than_four_references_are_accepted_answers_and_one_match_is_fully_right(references):
    assert value("赤です。", *references) == 100
    assert value("青です。", *references) == 0


def test_votes_and_answers_are_normalised():
    assert value("三人です。", "3人", "３人。", "「三人」", "ひとり") == 75


def test_an_empty_answer_matches_no_empty_vote():
    assert value("。", "。", "!", "", "赤") == 0
