"""Several models' answers to the same samples: scored, described, side by side.

Knows samples, answers and scores, as plain values for a table or a file. Does not know where the answers came from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vlmmerge.evalsets import Sample
from vlmmerge.exam import passport
from vlmmerge.score import Score, paired_difference

Result = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """A model's answers, one a sample in the samples' order, and their scores by metric."""

    answers: Sequence[str]
    scores: Mapping[str, Score]


def compare(samples: Sequence[Sample], models: Mapping[str, Answered]) -> Result:
    """Put models side by side, each against the first one.

    Args:
        samples: What was asked.
        models: By name, at least one; scored by the same metrics on these samples.

    Returns:
        `models`: by name, `scores` (by metric, with intervals and signature) and `answers` (one row a sample, with each
        metric's value for it); `differences`: for every model but the first, by metric, by how much it is above the
        first, with the interval of a paired bootstrap.
    """
    first = next(iter(models.values())).scores
    others = islice(models.items(), 1, None)
    return {
        "models": {name: _describe(samples, model) for name, model in models.items()},
        "differences": {name: _differences(model.scores, first) for name, model in others},
    }


def worst(rows: Iterable[Result], metric: str, number: int) -> list[Result]:
    """The answers that a metric gives least, worst first; of equals the first in the set's order.

    A sample that does not count for the metric is left out.
    """
    counted = (row for row in rows if row["scores"][metric] is not None)
    return sorted(counted, key=lambda row: row["scores"][metric])[:number]


def _describe(samples: Sequence[Sample], model: Answered) -> Result:
    scores = {metric: passport(score) for metric, score in model.scores.items()}
    each = {metric: score.per_sample for metric, score in model.scores.items()}
    rows = [
        {
            "id": sample.id,
            "question": sample.question,
            "answer": answer,
            "references": list(sample.references),
            "scores": {metric: values[number] for metric, values in each.items()},
        }
        for number, (sample, answer) in enumerate(zip(samples, model.answers, strict=True))
    ]
    return {"scores": scores, "answers": rows}


def _differences(scores: Mapping[str, Score], first: Mapping[str, Score]) -> Result:
    found = {metric: paired_difference(score, first[metric]) for metric, score in scores.items()}
    return {metric: dict(zip(("value", "low", "high"), numbers, strict=True)) for metric, numbers in found.items()}
