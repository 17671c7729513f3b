"""Japanese share: how many answers are in Japanese, by their script.

Knows scripts; needs no references. A statistical detector does not work below about eight characters, where most
answers to questions are, and 白色 is Japanese as well as Chinese; so the rule is about characters and can be read:

An answer is Japanese if at least half of its letters are kana or kanji, and it has kana, or is shorter than eight
letters and has no Chinese character that Japanese character sets lack (红). Digits, signs and punctuation are
no letters; an answer without letters is not Japanese.
"""

import unicodedata

from vlmmerge.score.metric import Metric, Prepared, Targets, each_sample, mean

# Below this many letters, kanji alone may be a Japanese answer: 東京駅.
SHORT = 8
KANA, KANJI, OTHER_IDEOGRAPH, OTHER_LETTER, NO_LETTER = "akcl."


def is_japanese(text: str) -> bool:
    """Tell by script whether a text is Japanese.

    >>> [is_japanese(text) for text in ("赤いバスです。", "白色", "红色", "a red bus", "3")]
    [True, True, False, False, False]
    """
    kinds = unicodedata.normalize("NFKC", text).translate(KINDS)
    num_kana, num_kanji = kinds.count(KANA), kinds.count(KANJI)
    num_letters = len(kinds) - kinds.count(NO_LETTER)
    is_mostly_japanese = num_letters > 0 and 2 * (num_kana + num_kanji) >= num_letters
    is_short_and_maybe_japanese = num_letters < SHORT and OTHER_IDEOGRAPH not in kinds
    return is_mostly_japanese and (num_kana > 0 or is_short_and_maybe_japanese)


class _Kinds(dict[int, str]):
    """Each character's kind, found when it is first met: `str.translate` reads it ten times faster than a loop."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = _kind(chr(code))
        return kind


def _kind(sign: str) -> str:
    if not sign.isalpha():
        return NO_LETTER
    if "ぁ" <= sign <= "ヿ" or "ㇰ" <= sign <= "ㇿ":
        return KANA
    if sign == "々" or unicodedata.name(sign, "").startswith("CJK UNIFIED"):
        return KANJI if _is_in_japanese_sets(sign) else OTHER_IDEOGRAPH
    return OTHER_LETTER


def _is_in_japanese_sets(sign: str) -> bool:
    try:
        return bool(sign.encode("euc_jisx0213"))
    except UnicodeEncodeError:
        return False


KINDS = _Kinds()


def _prepare(targets: Targets) -> Prepared:
    statistics = each_sample(lambda answer, _: 100.0 * is_japanese(answer), targets.references)
    return Prepared(statistics, ("by:script",))


JAPANESE = Metric("japanese", "% of answers in Japanese", 100.0, _prepare, mean)
