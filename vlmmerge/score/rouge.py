"""ROUGE-L for Japanese: the longest run of words that answer and reference share in order, gaps allowed.

Knows the published preprocessing for Japanese: no emoji, neologdn, MeCab words. It rewards terse answers in the
references' style, so it is reported beside other metrics and never alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

import neologdn

from vlmmerge.score.metric import Metric, Prepared, Targets, check_references, describe_references, each_sample, mean
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


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two segmented texts, 0 to 1.

    Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, section 3.1, with beta 1,
    https://aclanthology.org/W04-1013/

    >>> rouge_l(["a", "b", "c"], ["a", "x", "c"])
    0.6666666666666666
    """
    return _f1(answer, _Reference.of(reference))


@dataclass(frozen=True)
class _Reference:
    """A segmented reference: its length, and for each word the places where it stands, as bits."""

    length: int
    places: dict[str, int]

    @classmethod
    def of(cls, reference: Sequence[str]) -> "_Reference":
        places: dict[str, int] = {}
        for place, word in enumerate(reference):
            places[word] = places.get(word, 0) | 1 << place
        return cls(len(reference), places)


def _f1(answer: Sequence[str], reference: _Reference) -> float:
    total = len(answer) + reference.length
    # 2PR / (P + R) with P = lcs / len(answer) and R = lcs / len(reference).
    return 2 * _longest_common_subsequence(answer, reference) / total if total else 0.0


def _longest_common_subsequence(answer: Sequence[str], reference: _Reference) -> int:
    """Length of the longest common subsequence, a whole row of the usual table at a time.

    Source: Hyyrö 2004, Bit-parallel LCS-length computation revisited, https://api.semanticscholar.org/CorpusID:2758404
    """
    row = every_place = (1 << reference.length) - 1
    for word in answer:
        matches = row & reference.places.get(word, 0)
        row = (row + matches | row - matches) & every_place
    return reference.length - row.bit_count()


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "rouge_l")
    segmenter = targets.segmenter
    samples = [[_Reference.of(rouge_words(text, segmenter)) for text in sample] for sample in targets.references]

    def best(answer: str, references: Sequence[_Reference]) -> float:
        answer_words = rouge_words(answer, segmenter)
        return 100 * max(_f1(answer_words, reference) for reference in references)

    normaliser = f"norm:neologdn-{metadata.version('neologdn')}"
    signature = (describe_references(targets), normaliser, f"seg:{segmenter_name(segmenter)}")
    return Prepared(each_sample(best, samples), signature)


ROUGE_L = Metric("rouge_l", "F1 of words in order, 0 to 100", 100.0, _prepare, mean)
