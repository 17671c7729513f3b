"""chrF: n-grams of characters that answer and reference share; needs no segmenter.

Knows character n-grams and sacrebleu's way to combine them: counts are summed over samples before the F-score is taken,
so the value is not the mean of the samples' own values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise

import numpy as np
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from vlmmerge.score.metric import Array, Metric, Prepared, Targets, check_references, describe_references

MAX_ORDER = 6
BETA = 2


@dataclass(frozen=True)
class _Reference:
    """A reference's character n-grams with their counts, all orders in one table, and how many each order has."""

    counts: dict[str, int]
    totals: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> "_Reference":
        orders = extract_all_char_ngrams(text, MAX_ORDER)
        counts = {ngram: count for order in orders for ngram, count in order.items()}
        return cls(counts, tuple(order.total() for order in orders))


def f_score(sums: Array, num_samples: int) -> Array:
    """chrF from summed counts, 0 to 100.

    Args:
        sums: For each order in turn: n-grams of the answers, n-grams of the references, n-grams that match; (..., 18).
        num_samples: Has no say here.

    Source: Popović 2015, chrF: character n-gram F-score, https://aclanthology.org/W15-3049/; orders that either side is
    too short for are left out of the means, as sacrebleu does.
    """
    answers, references, matches = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    is_counted = (answers > 0) & (references > 0)
    num_orders = np.maximum(is_counted.sum(axis=-1), 1)
    precision = (matches / np.where(is_counted, answers, np.inf)).sum(axis=-1) / num_orders
    recall = (matches / np.where(is_counted, references, np.inf)).sum(axis=-1) / num_orders
    denominator = BETA**2 * precision + recall
    return 100 * (1 + BETA**2) * precision * recall / np.where(denominator > 0, denominator, 1.0)


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _row(answer: str, reference: _Reference) -> list[int]:
    """For each order the numbers of n-grams of the answer, of the reference, and that match."""
    # An order that the reference is too short for does not count against the answer.
    said = [max(len(answer) - shorter, 0) if total else 0 for shorter, total in enumerate(reference.totals)]
    triples = zip(said, reference.totals, _count_matches(answer, reference.counts), strict=True)
    return [number for triple in triples for number in triple]


def _count_matches(answer: str, wanted: dict[str, int]) -> list[int]:
    """For each order, how many of the answer's n-grams are in the reference, each as often as it is there at most."""
    matches = [0] * MAX_ORDER
    said: dict[str, int] = {}
    places: Sequence[int] = range(len(answer))
    for order in range(1, MAX_ORDER + 1):
        # An n-gram can only match where the shorter one did: most places of most answers fall away at once.
        last = len(answer) - order
        places = [place for place in places if place <= last and answer[place : place + order] in wanted]
        if not places:
            break
        for place in places:
            ngram = answer[place : place + order]
            said[ngram] = times = said.get(ngram, 0) + 1
            matches[order - 1] += times <= wanted[ngram]
    return matches


def _best_rows(answers: Sequence[str], samples: Sequence[Sequence[_Reference]]) -> Array:
    """Each answer's counts against its best reference, the first of equals; shape (samples, 18)."""
    texts = map(_without_spaces, answers)
    rows = np.array(
        [_row(text, ref) for text, sample in zip(texts, samples, strict=True) for ref in sample], dtype=np.float64
    )
    starts = np.cumsum([0, *map(len, samples)])
    values = f_score(rows, 1)
    best = [start + values[start:end].argmax() for start, end in pairwise(starts)]
    return rows[best]


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "chrf")
    samples = [[_Reference.of(text) for text in sample] for sample in targets.references]
    settings = (f"nc:{MAX_ORDER}", "nw:0", f"beta:{BETA}", "space:no", "case:mixed")
    signature = (describe_references(targets), *settings, f"sacrebleu:{metadata.version('sacrebleu')}")
    return Prepared(lambda answers: _best_rows(answers, samples), signature)


CHRF = Metric("chrf", "F2 of character n-grams, 0 to 100", 100.0, _prepare, f_score)
