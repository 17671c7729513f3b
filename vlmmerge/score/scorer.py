"""From answers to scores: the metrics by name, prepared once for a set of samples.

Knows every metric's name and the form of a signature. Knows no formula.
"""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlmmerge import __version__
from vlmmerge.errors import ScoreError
from vlmmerge.score.bleu import BLEU_1, BLEU_2, BLEU_3, BLEU_4
from vlmmerge.score.choice import CHOICE
from vlmmerge.score.chrf import CHRF
from vlmmerge.score.cider import CIDER
from vlmmerge.score.clipscore import CLIPSCORE, REFCLIPSCORE
from vlmmerge.score.contains import CONTAINS
from vlmmerge.score.exact import EXACT
from vlmmerge.score.facts import FACTS
from vlmmerge.score.guards import grounding
from vlmmerge.score.japanese import JAPANESE
from vlmmerge.score.judge import JUDGE, JUDGE_HERON
from vlmmerge.score.metric import Metric, Prepared, Score, Targets
from vlmmerge.score.numbers import NUMBERS
from vlmmerge.score.rouge import ROUGE_1, ROUGE_2, ROUGE_L
from vlmmerge.score.statistics import combine_all, combine_each, interval, paired_interval
from vlmmerge.score.strict import SUFFIX, strict
from vlmmerge.score.vqa import VQA


@dataclass(frozen=True)
class Scorer:
    """Metrics that have read their targets; scores any number of answers to the same samples. Made by `prepare`."""

    num_samples: int
    prepared: Mapping[str, Prepared]

    def score(self, answers: Sequence[str], *, intervals: bool = True) -> dict[str, Score]:
        """Score one answer a sample, in the samples' order.

        Args:
            answers: As many as there are samples.
            intervals: False leaves the bootstrap out, for the search's inner loop; `low` and `high` are NaN then.

        Raises:
            ScoreError: Too few or too many answers.
        """
        if len(answers) != self.num_samples:
            raise ScoreError(f"{len(answers)} answers, wanted one for each of {self.num_samples} samples")
        return {name: self._score_one(name, answers, intervals) for name in self.prepared}

    def _score_one(self, name: str, answers: Sequence[str], intervals: bool) -> Score:
        combine = METRICS[name].combine
        statistics = self.prepared[name].statistics(answers)
        low, high = interval(statistics, combine) if intervals else (math.nan, math.nan)
        return Score(
            metric=name,
            value=combine_all(statistics, combine),
            low=low,
            high=high,
            num_samples=self.num_samples,
            signature="|".join([name, f"n:{self.num_samples}", *self.prepared[name].signature, f"v:{__version__}"]),
            per_sample=tuple(None if math.isnan(each) else each for each in combine_each(statistics, combine).tolist()),
            statistics=tuple(map(tuple, statistics.tolist())),
            notes=METRICS[name].notes(statistics),
        )


def prepare(metric_names: Iterable[str], targets: Targets) -> Scorer:
    """Read the targets once for each metric.

    Raises:
        ScoreError: A metric is unknown, there are no samples, or something that a metric needs is missing.
    """
    names = list(dict.fromkeys(metric_names))
    faults = [_unknown(name) for name in names if name not in METRICS]
    if faults:
        known = [name for name in METRICS if not name.endswith(SUFFIX)]
        hint = f"known: {', '.join(known)}; and NAME{SUFFIX} of those that are measured against references"
        raise ScoreError("unknown metric", details=faults, hint=hint)
    if not targets.references:
        raise ScoreError("there are no samples to score")
    return Scorer(len(targets.references), {name: METRICS[name].prepare(targets) for name in names})


def possible(targets: Targets) -> list[str]:
    """The usual metrics that the targets have all that is needed for: what is scored where nobody chooses.

    >>> "facts" in possible(Targets((("犬",),)))
    False
    """
    return [name for name in USUAL if all(getattr(targets, need) is not None for need in METRICS[name].needs)]


def objective(scores: Mapping[str, Score], weights: Mapping[str, float]) -> float:
    """The weighted sum of scores that a search makes higher.

    Raises:
        ScoreError: A weight names a metric that was not scored.
    """
    missing = [name for name in weights if name not in scores]
    if missing:
        raise ScoreError("the objective names metrics that were not scored", details=missing)
    return math.fsum(weight * scores[name].value for name, weight in weights.items())


def objective_parts(scores: Mapping[str, Score], weights: Mapping[str, float]) -> list[float]:
    """How large each sample's own objective is, in the samples' order: what guards weigh the samples by.

    A metric that a sample does not count for has no part in it.
    """
    each = zip(*(scores[name].per_sample for name in weights), strict=True)
    return [
        abs(math.fsum(weight * (value or 0.0) for weight, value in zip(weights.values(), row, strict=True)))
        for row in each
    ]


def paired_grounding(right: Score, other: Score) -> tuple[float, float, float]:
    """The share of a score that needs the pictures (`guards.grounding`), with its 95 % paired bootstrap interval.

    Args:
        right: With the samples' own pictures.
        other: Of the same samples' questions with other pictures, or blank ones.

    Returns:
        (grounding, low, high).

    Raises:
        ScoreError: The signatures differ.
    """
    _check_same_signature(right, other)
    return paired_interval(
        np.array(right.statistics), np.array(other.statistics), METRICS[right.metric].combine, np.vectorize(grounding)
    )


def paired_difference(a: Score, b: Score) -> tuple[float, float, float]:
    """How much better `a` is than `b` on the same samples, with the 95 % interval of a paired bootstrap.

    Args:
        a, b: Scores of one metric over the same samples in the same order.

    Returns:
        (difference, low, high); an interval without 0 says that the difference is not the samples' luck.

    Raises:
        ScoreError: The signatures differ, so the two numbers cannot be compared.
    """
    _check_same_signature(a, b)
    return paired_interval(np.array(a.statistics), np.array(b.statistics), METRICS[a.metric].combine)


def _check_same_signature(a: Score, b: Score) -> None:
    if a.signature != b.signature:
        raise ScoreError(
            "scores with different signatures cannot be compared",
            details=[a.signature, b.signature],
            hint="score both on the same samples with the same metric and version",
        )


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, METRICS, n=1)
    return f"{name} (did you mean {nearest[0]}?)" if nearest else name


# Measured against references; each has a variant `NAME_strict`.
OF_REFERENCES: dict[str, Metric] = {
    "cider": CIDER,
    "rouge_1": ROUGE_1,
    "rouge_2": ROUGE_2,
    "rouge_l": ROUGE_L,
    "bleu_1": BLEU_1,
    "bleu_2": BLEU_2,
    "bleu_3": BLEU_3,
    "bleu_4": BLEU_4,
    "chrf": CHRF,
    "exact": EXACT,
    "contains": CONTAINS,
    "vqa": VQA,
}

METRICS: dict[str, Metric] = {
    **OF_REFERENCES,
    "choice": CHOICE,
    "numbers": NUMBERS,
    "japanese": JAPANESE,
    "facts": FACTS,
    "clipscore": CLIPSCORE,
    "refclipscore": REFCLIPSCORE,
    "judge": JUDGE,
    "judge_heron": JUDGE_HERON,
    **{f"{name}_strict": strict(metric) for name, metric in OF_REFERENCES.items()},
}

# What is scored where nobody chooses, as far as possible: one metric of a kind.
USUAL = (
    *("cider", "rouge_l", "chrf", "exact", "contains", "choice", "japanese", "facts"),
    *("clipscore", "refclipscore", "judge", "judge_heron"),
)
