"""The Japanese share's rule."""

import random
import unicodedata

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


def plainly_japanese(text):
    """The rule of the module's docstring, letter by letter."""
    letters = [sign for sign in unicodedata.normalize("NFKC", text) if sign.isalpha()]
    kana = [sign for sign in letters if "ぁ" <= sign <= "ヿ" or "ㇰ" <= sign <= "ㇿ"]
    ideographs = [sign for sign in letters if sign == "々" or unicodedata.name(sign, "").startswith("CJK UNIFIED")]
    kanji = [sign for sign in ideographs if sign.encode("euc_jisx0213", "ignore")]
    if not letters or 2 * len(kana + kanji) < len(letters):
        return False
    return bool(kana) or (len(letters) < 8 and kanji == ideographs)


def test_the_rule_is_kept_on_random_texts():
    rng = random.Random(6)
    signs = "ぁあヽヾㇰー漢字々仝〆〻红车这aZéß가03。、 \n\0\ud800ｱﾞ①㌔㍿㈱😀\u200d𠮟𠀋"
    for _ in range(5000):
        text = "".join(rng.choices(signs, k=rng.randrange(14)))
        assert is_japanese(text) == plainly_japanese(text), text
    assert all(is_japanese(chr(code)) == plainly_japanese(chr(code)) for code in range(0, 0x110000, 7))


def test_the_share_is_a_percentage_and_needs_no_references():
    targets = Targets(((), (), (), ()))
    score = prepare(["japanese"], targets).score(["犬です", "a dog", "", "猫"])["japanese"]
    assert score.value == 50
    assert "|by:script|" in score.signature
