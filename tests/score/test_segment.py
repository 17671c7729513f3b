"""Segmenting: pinned dictionaries, and text that C libraries do not like."""

import sys

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import segment
from vlmmerge.score.segment import segmenter_name, words


def test_white_space_ends_a_word_and_is_dropped():
    assert words("犬　猫\n鳥 \t") == ("犬", "猫", "鳥")


@pytest.mark.parametrize("text", ["", " ", "\u3000\n", "\0"])
def test_text_without_words_has_no_words(text):
    assert words(text) == ()


def test_text_after_nul_is_not_lost():
    assert words("犬\0猫") == ("犬", "猫")


def test_a_lone_surrogate_does_not_raise():
    assert "犬" in words("\ud800犬")


def test_the_dictionary_decides_the_words():
    pytest.importorskip("ipadic")
    assert words("走っています", "ipadic") == ("走っ", "て", "い", "ます")
    assert segmenter_name("ipadic").startswith("ipadic-1")


def test_an_unknown_dictionary_is_an_error():
    with pytest.raises(ScoreError) as caught:
        words("犬", "sudachi")
    assert str(caught.value) == "unknown dictionary `sudachi`\nhint: known: unidic-lite, ipadic"


def test_a_missing_dictionary_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipadic", None)
    segment._tagger.cache_clear()
    with pytest.raises(ScoreError) as caught:
        segmenter_name("ipadic")
    assert str(caught.value) == "the dictionary `ipadic` is not installed\nhint: pip install ipadic"
