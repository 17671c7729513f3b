"""BLEU: how much of what an answer says, by one to four words in a row, stands in a reference.

Knows n-grams and pycocoevalcap's way to combine them: counts are summed over samples before precision and length are
taken, so the value is not the mean of the samples' own values. An answer of fewer than n words scores next to nothing
in BLEU-n, even if it is a reference: for short answers use `exact`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vlmmerge.score.metric import Array, Metric, Prepared, Targets, check_references, describe_references
from vlmmerge.score.ngrams import NGram, count_ngrams
from vlmmerge.score.segment import content_words, segmenter_name

# pycocoevalcap adds these to every count above and below a fraction line, so that no precision is 0 / 0.
TINY, SMALL = 1e-15, 1e-9


def bleu(sums: Array, num_samples: int) -> Array:
    """BLEU from summed counts, 0 to 100.

    Args:
        sums: Words of the answers, words of the references that are closest in length, then for each order the n-grams
            of the answers, then for each order those that match; (..., 2 + 2 * order).
        num_samples: Has no say here.

    Source: Papineni 2002, BLEU: a Method for Automatic Evaluation of Machine Translation, section 2.3,
    https://aclanthology.org/P02-1040/; as in pycocoevalcap, with its `TINY` and `SMALL`.
    """
    length, wanted_length = sums[..., 0], sums[..., 1]
    said, matches = np.split(sums[..., 2:], 2, axis=-1)
    precisions = (matches + TINY) / (said + SMALL)
    brevity = (length + TINY) / (wanted_length + SMALL)
    return 100 * precisions.prod(axis=-1) ** (1 / said.shape[-1]) * np.exp(np.minimum(1 - 1 / brevity, 0))


@dataclass(frozen=True)
class _Sample:
    """One sample's references: the most that any of them has of each n-gram, and their lengths."""

    counts: Mapping[NGram, int]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, references: Sequence[Sequence[str]], order: int) -> "_Sample":
        counts: dict[NGram, int] = {}
        for reference in references:
            for ngram, count in count_ngrams(reference, order).items():
                counts[ngram] = max(count, counts.get(ngram, 0))
        return cls(counts, tuple(map(len, references)))

    def closest_length(self, length: int) -> int:
        """The reference length nearest to an answer's, the shorter of two that are as near."""
        return min(self.lengths, key=lambda own: (abs(own - length), own))


def _row(answer: Sequence[str], sample: _Sample, order: int) -> list[int]:
    matches = [0] * order
    for ngram, count in count_ngrams(answer, order).items():
        matches[len(ngram) - 1] += min(count, sample.counts.get(ngram, 0))
    said = [max(len(answer) - shorter, 0) for shorter in range(order)]
    return [len(answer), sample.closest_length(len(answer)), *said, *matches]


def _prepare(targets: Targets, order: int) -> Prepared:
    check_references(targets, f"bleu_{order}")
    segmenter, its_name = targets.segmenter, segmenter_name(targets.segmenter)
    samples = [_Sample.of([content_words(text, segmenter) for text in refs], order) for refs in targets.references]

    def statistics(answers: Sequence[str]) -> Array:
        pairs = zip(answers, samples, strict=True)
        rows = [_row(content_words(answer, segmenter), sample, order) for answer, sample in pairs]
        return np.array(rows, dtype=np.float64)

    return Prepared(statistics, (describe_references(targets), f"seg:{its_name}"))


def _bleu(order: int) -> Metric:
    unit = f"precision of 1 to {order} words in a row, 0 to 100"
    return Metric(f"bleu_{order}", unit, None, partial(_prepare, order=order), bleu)


BLEU_1, BLEU_2, BLEU_3, BLEU_4 = map(_bleu, range(1, 5))
