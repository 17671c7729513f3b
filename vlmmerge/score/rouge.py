"""ROUGE-1, ROUGE-2 and ROUGE-L for Japanese: words, pairs of words, and words in order that answer and reference share.

Knows the published preprocessing for Japanese: no emoji, neologdn, MeCab words. They reward terse answers in the
references' style, so they are reported beside other metrics and never alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata

import neologdn

from vlmmerge.score.metric import (
    Metric,
    Prepared,
    Reference,
    Targets,
    check_references,
    describe_references,
    each_sample,
    mean,
)
from vlmmerge.score.ngrams import NGram, ngrams
from vlmmerge.score.segment import DEFAULT_SEGMENTER, readable, segmenter_name, words

# The characters that Unicode calls emoji, digits apart, and the dingbats 2702 to 27B0; beyond the first plane the
# whole of the blocks that hold emoji. Kept as ranges: a package of names in 13 languages is not needed to drop them.
EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa"
    "\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2604\u260e\u2611\u2614\u2615\u2618\u261d\u2620\u2622\u2623"
    "\u2626\u262a\u262e\u262f\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666\u2668\u267b\u267e"
    "\u267f\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4\u26c5\u26c8"
    "\u26ce\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702-\u27b0\u27bf\u2934\u2935"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)


@lru_cache(maxsize=2**16)
def rouge_words(text: str, segmenter: str = DEFAULT_SEGMENTER) -> tuple[str, ...]:
    """Words as the published Japanese ROUGE-L has them: emoji dropped, neologdn, white space collapsed, MeCab.

    >>> rouge_words("ﾈｺです😺。")
    ('ネコ', 'です', '。')
    """
    text = neologdn.normalize(EMOJI.sub("", readable(text)))
    return words(" ".join(text.split()), segmenter)


def rouge_n(answer: Sequence[str], reference: Sequence[str], order: int) -> float:
    """F1 of the n-grams of two segmented texts, 0 to 1.

    Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, section 2, as an F-score with beta 1,
    https://aclanthology.org/W04-1013/

    >>> rouge_n(["a", "b", "c"], ["a", "x", "c"], 1)
    0.6666666666666666
    """
    return _overlap(answer, _count(reference, order), order)


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two segmented texts, 0 to 1.

    Source: Lin 2004, as above, section 3.1

    >>> rouge_l(["a", "b", "c"], ["a", "x", "c"])
    0.6666666666666666
    """
    return _subsequence(answer, _Places.of(reference))


def _count(text: Sequence[str], order: int) -> Counter[NGram]:
    return Counter(ngrams(text, order))


def _overlap(answer: Sequence[str], wanted: Counter[NGram], order: int) -> float:
    said = _count(answer, order)
    num_shared = sum(min(said[ngram], wanted[ngram]) for ngram in wanted.keys() & said.keys())
    return _f1(num_shared, said.total(), wanted.total())


@dataclass(frozen=True)
class _Places:
    """A segmented reference: its length, and for each word the places where it stands, as bits."""

    length: int
    bits: dict[str, int]

    @classmethod
    def of(cls, reference: Sequence[str]) -> "_Places":
        bits: dict[str, int] = {}
        for place, word in enumerate(reference):
            bits[word] = bits.get(word, 0) | 1 << place
        return cls(len(reference), bits)


def _subsequence(answer: Sequence[str], reference: _Places) -> float:
    return _f1(_longest_common_subsequence(answer, reference), len(answer), reference.length)


def _longest_common_subsequence(answer: Sequence[str], reference: _Places) -> int:
    """Length of the longest common subsequence, a whole row of the usual table at a time.

    Source: Hyyrö 2004, Bit-parallel LCS-length computation revisited, https://api.semanticscholar.org/CorpusID:2758404
    """
    row = every_place = (1 << reference.length) - 1
    for word in answer:
        matches = row & reference.bits.get(word, 0)
        row = (row + matches | row - matches) & every_place
    return reference.length - row.bit_count()


def _f1(num_shared: int, num_said: int, num_wanted: int) -> float:
    # 2PR / (P + R) with P = shared / said and R = shared / wanted.
    return 2 * num_shared / (num_said + num_wanted) if num_said + num_wanted else 0.0


def _rouge(
    name: str,
    unit: str,
    best: float | None,
    read: Callable[[Sequence[str]], Reference],
    compare: Callable[[Sequence[str], Reference], float],
) -> Metric:
    """One metric of the family, from what it reads of a reference's words and how it compares an answer's with that."""

    def prepare(targets: Targets) -> Prepared:
        check_references(targets, name)
        segmenter = targets.segmenter
        samples = [[read(rouge_words(text, segmenter)) for text in sample] for sample in targets.references]

        def best_of(answer: str, references: Sequence[Reference]) -> float:
            answer_words = rouge_words(answer, segmenter)
            return 100 * max(compare(answer_words, reference) for reference in references)

        normaliser = f"norm:neologdn-{metadata.version('neologdn')}"
        signature = (describe_references(targets), normaliser, f"seg:{segmenter_name(segmenter)}")
        return Prepared(each_sample(best_of, samples), signature)

    return Metric(name, unit, best, prepare, mean)


ROUGE_1 = _rouge("rouge_1", "F1 of words, 0 to 100", 100.0, partial(_count, order=1), partial(_overlap, order=1))
# There is no best value: an answer of one word has no pair of words and scores 0, even if it is the reference.
ROUGE_2 = _rouge("rouge_2", "F1 of word pairs, 0 to 100", None, partial(_count, order=2), partial(_overlap, order=2))
ROUGE_L = _rouge("rouge_l", "F1 of words in order, 0 to 100", 100.0, _Places.of, _subsequence)
