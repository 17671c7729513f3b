"""Exact match: what counts as a difference and what does not."""

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.normalise import normalise


def value(answer, *references):
    return prepare(["exact"], Targets((references,))).score([answer])["exact"].value


@pytest.mark.parametrize(
    "answer",
    ["3つ", "３つ", "3つ。", " 3つ ", "3つ！", "3つ、", "3つ. ", "3つ\u3000。\n", "3つ｡", "三つ", "みっつ", "3つです"],
)
def test_width_numerals_and_what_stands_at_the_end_do_not_matter(answer):
    assert value(answer, "3つ。") == 100


@pytest.mark.parametrize("answer", ["3", "3個", "13つ", "3つか?", "3つあります"])
def test_anything_else_is_a_difference(answer):
    assert value(answer, "3つ") == 0


def test_any_reference_will_do():
    assert value("赤色", "赤", "赤色", "赤い") == 100


@pytest.mark.parametrize("answer", ["。", "!!", " 。 "])
def test_an_answer_of_nothing_but_a_full_stop_is_empty(answer):
    assert normalise(answer) == ""
    assert value(answer, "。", "犬") == 0


def test_the_value_is_a_percentage():
    targets = Targets((("犬",), ("猫",), ("鳥",), ("駅",)))
    assert prepare(["exact"], targets).score(["犬", "猫です", "魚", "駅前"])["exact"].value == 50
