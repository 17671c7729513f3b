"""Japanese share: how many answers are in Japanese, by their script.

Knows scripts; needs no references. A statistical detector does not work below about eight characters, where most
answers to questions are, and 白色 is Japanese as well as Chinese; so the rule is about characters and can be read:

An answer is Japanese if at least half of its letters are kana or kanji, and it has kana, or is shorter than eight
letters and has no Chinese character that Japanese character sets lack (红). Digits, signs and punctuation are
no letters; an answer without letters is not Japanese.
"""

import unicodedata
from functools import lru_cache

from vlmmerge.score.metric import Metric, Prepared, Targets, each_sample, mean

# Below this many letters, kanji alone may be a Japanese answer: 東京駅.
SHORT = 8


def is_japanese(text: str) -> bool:
    """Tell by script whether a text is Japanese.

    >>> [is_japanese(text) for text in ("赤いバスです。", "白色", "红色", "a red bus", "3")]
    [True, True, False, False, False]
    """
    letters = [letter for letter in unicodedata.normalize("NFKC", text) if letter.isalpha()]
    ideographs = [letter for letter in letters if _is_ideograph(letter)]
    num_kana = sum(map(_is_kana, letters))
    num_kanji = sum(map(_is_in_japanese_sets, ideographs))
    is_mostly_japanese = bool(letters) and 2 * (num_kana + num_kanji) >= len(letters)
    is_short_and_maybe_japanese = len(letters) < SHORT and num_kanji == len(ideographs)
    return is_mostly_japanese and (num_kana > 0 or is_short_and_maybe_japanese)


def _is_kana(letter: str) -> bool:
    return "ぁ" <= letter <= "ヿ" or "ㇰ" <= letter <= "ㇿ"


def _is_ideograph(letter: str) -> bool:
    return letter == "々" or unicodedata.name(letter, "").startswith("CJK UNIFIED")


@lru_cache(maxsize=2**14)
def _is_in_japanese_sets(letter: str) -> bool:
    try:
        return bool(letter.encode("euc_jisx0213"))
    except UnicodeEncodeError:
        return False


def _prepare(targets: Targets) -> Prepared:
    statistics = each_sample(lambda answer, _: 100.0 * is_japanese(answer), targets.references)
    return Prepared(statistics, ("by:script",))


JAPANESE = Metric("japanese", "% of answers in Japanese", 100.0, _prepare, mean)
