"""Containment: the share of answers that say a reference somewhere, for short references and answers in sentences.

Knows where a reference may stand in an answer. Both are normalised first, sentence by sentence. Then

- digits, Latin letters and katakana match whole: no 3 in 13 or 3.5, no バス in バスケット;
- one kanji alone is no part of a longer word: no 赤 in 赤ちゃん, no 車 in 電車; but 赤い and 赤色 say 赤, 右側 says 右;
- hiragana stands between particles: no はい in はいています;
- what is denied (犬ではない, 犬はいません) or one of several guesses (赤か青, 赤または青) is not said;
- where a sample has options, an answer that says another option too is wrong.

A list that names everything in a row still contains a reference: read this beside `exact` and the answers' length.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from vlmmerge.score.metric import Metric, Prepared, Targets, check_references, describe_references, each_sample, mean
from vlmmerge.score.normalise import NORMALISATION, normalise

RULE = "edges:1"
SENTENCE_END = re.compile(r"[。．！!？?\n]+|(?<!(?<![A-Za-z])[A-Za-z])\.(?=\s|$)")
PARTICLES = "はがをにのとでもやかへな"
DENIED = re.compile(
    r"(?:色|の姿|らしきもの)?(?:では|じゃ|には|とは)(?:な[いくか]|ありませ)|"
    r"(?:の姿|らしきもの)?(?:は|が|も)(?:い|居|あり|見え|写って(?:は)?い|映って(?:は)?い|存在し|見当たり)(?:ませ|な[いくか])|(?:は|が)な[いくか]"
)
GUESSED = re.compile(r"色?(?:です)?(?:か(?![らいっくけもな])|または|又は|もしくは|あるいは|それとも)|\s*/|\sor\s")
GUESSED_BEFORE = re.compile(r"(?:か、?|または|又は|もしくは|あるいは|それとも|/\s*|\sor\s)(?:a |an |the )?$")
# What may follow one kanji that stands for itself: a particle, です, an adjective's ending, a kanji that adds little.
AFTER_KANJI = re.compile(
    rf"$|[^ぁ-ゖ㐀-鿿々]|[{PARTICLES}さ]|い(?!す)|く|っぽ|だ|です|まで|より|だけ|など|らし|じゃ|みたい|[色側製型形柄系地達]"
)
BEFORE_KANJI = "大小子"
AFTER_HIRAGANA = re.compile(rf"$|[^ぁ-ゖ]|[{PARTICLES}](?!て)|だ|です|じゃ|など|だけ")
WHOLE = ("digit", "latin", "katakana")
PLURAL = re.compile(r"e?s(?![a-z])")
FRACTION, FRACTION_BEFORE = re.compile(r"\.\d"), re.compile(r"\d\.$")
# A word, and the longer one in which it only seems to stand.
WITHIN = {"京都": "東京都", "本人": "日本人"}


def says(answer: str, phrase: str) -> bool:
    """Tell whether an answer says a phrase, by the rules above.

    Args:
        answer: From `in_sentences`.
        phrase: From `normalise`; an empty one is never said.

    >>> [says(in_sentences(text), "赤") for text in ("赤いバス。", "赤ちゃん", "赤ではありません。", "赤か青です。")]
    [True, False, False, False]
    """
    if not phrase or phrase not in answer:
        return False
    if phrase in WITHIN:
        answer = answer.replace(WITHIN[phrase], "\n")
    start = answer.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        if _is_whole(answer, start, end) and not _is_taken_back(answer, start, end):
            return True
        start = answer.find(phrase, end)
    return False


def says_apart(answer: str, phrase: str, longer: Iterable[str]) -> bool:
    """Tell whether an answer says a phrase also outside of longer ones that hold it (犬 outside of 犬と猫)."""
    for other in sorted(longer, key=len, reverse=True):
        if phrase in other and phrase != other:
            answer = answer.replace(other, "\n")
    return says(answer, phrase)


@lru_cache(maxsize=2**16)
def in_sentences(text: str) -> str:
    """Each sentence normalised, joined by 。: 犬です。猫がいます。 is 犬。猫がいる.

    >>> in_sentences("犬です。猫がいます。")
    '犬。猫がいる'
    """
    return "。".join(filter(None, map(normalise, SENTENCE_END.split(text))))


def _is_whole(answer: str, start: int, end: int) -> bool:
    before, after = _script(answer[max(0, start - 1) : start]), _script(answer[end : end + 1])
    first, last = _script(answer[start]), _script(answer[end - 1])
    if first in WHOLE and before == first:
        return False
    if last in WHOLE and after == last and not (last == "latin" and PLURAL.match(answer, end)):
        return False
    if first == "digit" and FRACTION_BEFORE.search(answer[max(0, start - 2) : start]):
        return False
    if last == "digit" and FRACTION.match(answer, end):
        return False
    return _is_word(answer, start, end, answer[max(0, start - 1) : start])


def _is_word(answer: str, start: int, end: int, before: str) -> bool:
    scripts = {_script(sign) for sign in answer[start:end]}
    if scripts == {"kanji"} and end - start == 1:
        is_start = _script(before) != "kanji" or before in BEFORE_KANJI
        return is_start and AFTER_KANJI.match(answer, end) is not None
    if scripts == {"kana"}:
        return (_script(before) != "kana" or before in PARTICLES) and AFTER_HIRAGANA.match(answer, end) is not None
    return True


def _script(sign: str) -> str:
    if not sign:
        return ""
    if sign.isascii():
        return "digit" if sign.isdigit() else "latin" if sign.isalpha() else "other"
    if "ぁ" <= sign <= "ゖ":
        return "kana"
    if "ァ" <= sign <= "ヿ":
        return "katakana"
    return "kanji" if "㐀" <= sign <= "鿿" or sign == "々" else "other"


def _is_taken_back(answer: str, start: int, end: int) -> bool:
    is_guess = GUESSED.match(answer, end) or GUESSED_BEFORE.search(answer[max(0, start - 10) : start])
    return bool(is_guess or DENIED.match(answer, end))


class _Sample(NamedTuple):
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def _value(answer: str, sample: _Sample) -> float:
    text = in_sentences(answer)
    said = [phrase for phrase in sample.right if says(text, phrase)]
    if not said:
        return 0.0
    return 0.0 if any(says_apart(text, phrase, said) for phrase in sample.wrong) else 100.0


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "contains")
    options = targets.options or ((),) * len(targets.references)
    samples = [_read(sample, others) for sample, others in zip(targets.references, options, strict=True)]
    return Prepared(each_sample(_value, samples), (describe_references(targets), NORMALISATION, RULE))


def _read(references: Sequence[str], options: Sequence[str]) -> _Sample:
    right = tuple(map(normalise, references))
    return _Sample(right, tuple(phrase for phrase in map(normalise, options) if phrase not in right))


CONTAINS = Metric("contains", "% of answers that say a reference", 100.0, _prepare, mean)
