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
from vlmmerge.score.traits import describe

Result = dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """One model's answers and their scores.

    Args:
        answers: One a sample, in the samples' order.
        scores: By metric, the headline first.
        asked: The signature of how they were asked for; empty where that is not known.
        grounding: With `blank` and with `other` pictures: the headline metric's `score`, and the share of the score
            that needs the pictures, as `value` with its interval (`low`, `high`); None where it was not asked for.
    """

    answers: Sequence[str]
    scores: Mapping[str, Score]
    asked: str = ""
    grounding: Mapping[str, Mapping[str, float]] | None = None


def compare(samples: Sequence[Sample], models: Mapping[str, Answered]) -> Result:
    """Put models side by side, each against the first one.

    Args:
        samples: What was asked.
        models: By name, at least one; scored by the same metrics on these samples.

    Returns:
        `models`: by name, `scores` (by metric, with intervals and signature), `traits` of the answers, `answers` (one
        row a sample, with each metric's value for it and its own traits), and `asked` and `grounding` where they are
        known; `differences`: for every model but the first, by metric, by how much it is above the
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
    traits = describe(model.answers, [sample.references for sample in samples])
    rows = [
        {
            "id": sample.id,
            "question": sample.question,
            "answer": answer,
            "references": list(sample.references),
            "scores": {metric: values[number] for metric, values in each.items()},
            "traits": traits.of_sample(number),
        }
        for number, (sample, answer) in enumerate(zip(samples, model.answers, strict=True))
    ]
    known = {"asked": model.asked, "grounding": model.grounding}
    return {"scores": scores, "traits": traits.overall(), **{k: v for k, v in known.items() if v}, "answers": rows}


def _differences(scores: Mapping[str, Score], first: Mapping[str, Score]) -> Result:
    found = {metric: paired_difference(score, first[metric]) for metric, score in scores.items()}
    return {metric: dict(zip(("value", "low", "high"), numbers, strict=True)) for metric, numbers in found.items()}
