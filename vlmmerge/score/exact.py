"""Exact match: the share of answers that are a reference, for short answers.

Knows nothing of what counts as a difference: see `normalise.py`.
"""

from vlmmerge.score.metric import Metric, Prepared, Targets, check_references, describe_references, each_sample, mean
from vlmmerge.score.normalise import NORMALISATION, normalise


def _matches(answer: str, references: frozenset[str]) -> float:
    folded = normalise(answer)
    return 100.0 if folded and folded in references else 0.0


def _prepare(targets: Targets) -> Prepared:
    check_references(targets, "exact")
    samples = [frozenset(map(normalise, sample)) for sample in targets.references]
    return Prepared(each_sample(_matches, samples), (describe_references(targets), NORMALISATION))


EXACT = Metric("exact", "% of answers that are a reference", 100.0, _prepare, mean)
