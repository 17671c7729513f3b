"""The Japanese share's rule."""

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.japanese import is_japanese


@pytest.mark.parametrize(
    "text",
    ["はい", "白色", "東京駅", "3つ", "ﾊﾞｽ", "JR東日本の駅です。", "人々", "コカ・コーラ", "Tシャツ", "時速30キロ"],
)
def test_japanese_answers(text):
    assert is_japanese(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "。。。",
        "0000000",
        "white",
        "A dog is running in the park.",
        "红色",
        "一辆汽车",
        "一只白色的狗正在草地上奔跑",
        "빨간 버스",
        "The sign says 東京",
        "😀",
    ],
)
def test_answers_that_are_not_japanese(text):
    assert not is_japanese(text)


def test_the_share_is_a_percentage_and_needs_no_references():
    targets = Targets(((), (), (), ()))
    score = prepare(["japanese"], targets).score(["犬です", "a dog", "", "猫"])["japanese"]
    assert score.value == 50
    assert "|by:script|" in score.signature
