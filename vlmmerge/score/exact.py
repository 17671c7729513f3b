"""Exact match: the share of answers that are a reference, for short answers.

Knows what does not count as a difference: width (NFKC), outer white space, and a full stop, comma or exclamation mark
at the end. です and ます at the end do count.
"""

import unicodedata

from vlmmerge.score.metric import Metric, Prepared, Targets, check_references, describe_references, each_sample, mean


def fold(text: str) -> str:
    """The form in which answers are compared.

    >>> fold(" ３つ。 ")
    '3つ'
    """
    return unicodedata.normalize("NFKC", text).strip().rstrip("。.、! \u3000\t\r\n")


def _matches(answer: str, references: frozenset[str]) -> float:
    folded = fold(answer)
    return 100.0 if folded and folded in references else 0.0


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "exact")
    samples = [frozenset(map(fold, sample)) for sample in targets.references]
    return Prepared(each_sample(_matches, samples), (describe_references(targets), "norm:nfkc-end"))


EXACT = Metric("exact", "% of answers that are a reference", 100.0, _prepare, mean)
