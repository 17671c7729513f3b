"""What a metric is made of: the targets that it measures against, its parts, and the score that comes out.

Knows the contract that every metric keeps. Knows no metric.

The contract: higher is better; an empty answer scores 0; nothing that a model says raises; the order of the samples
does not matter; the references are read once, when the metric is prepared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlmmerge.errors import ScoreError
from vlmmerge.score.segment import DEFAULT_SEGMENTER

if TYPE_CHECKING:
    from vlmmerge.score.cider import DocumentFrequency
    from vlmmerge.score.judge import Judge

Array = NDArray[np.float64]
Combine = Callable[[Array, int], Array]
Notes = Callable[[Array], tuple[str, ...]]
Reference = TypeVar("Reference")


@dataclass(frozen=True)
class Targets:
    """What the answers are measured against, one entry a sample, in the answers' order.

    Attributes:
        references: Each sample's right answers, one or more.
        questions: What was asked; None where it is not known.
        options: What a multiple-choice question lets choose from; None where the evalset has no such questions.
        images: Each sample's pictures as encoded files; None where they are not at hand.
        facts: Each sample's fact phrases; None where the evalset has none.
        documents: Frozen document frequencies for `cider`; None counts them in the references given here.
        fact_vocabulary: Every fact phrase of the whole evalset; None takes those of the samples given here.
        contexts: What each sample's pictures show, in words that only a judge gets to see; None where it is not known.
        clip: Folder or hub id of a CLIP-like model; None where there is none.
        judge: Whom to ask for marks; None for nobody.
        segmenter: What makes words of text, a key of segment.py's `SEGMENTERS`.
    """

    references: tuple[tuple[str, ...], ...]
    questions: tuple[str, ...] | None = None
    options: tuple[tuple[str, ...], ...] | None = None
    images: tuple[tuple[bytes, ...], ...] | None = field(default=None, repr=False)
    facts: tuple[tuple[str, ...], ...] | None = None
    documents: "DocumentFrequency | None" = None
    fact_vocabulary: tuple[str, ...] | None = None
    contexts: tuple[str, ...] | None = None
    clip: str | None = None
    judge: "Judge | None" = None
    segmenter: str = DEFAULT_SEGMENTER


@dataclass(frozen=True)
class Prepared:
    """A metric that has read its targets.

    Attributes:
        statistics: Answers to one row of numbers a sample, shape (samples, statistics).
        signature: What could move the value, as `key:value` parts.
    """

    statistics: Callable[[Sequence[str]], Array]
    signature: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """One metric: a row of the registry.

    Attributes:
        name: As it is written in recipes.
        unit: What the number says, in words.
        best: Value of an answer that is word for word a reference; None where it depends on the references.
        prepare: Reads the targets once; raises ScoreError where something that it needs is missing.
        combine: Statistics summed over samples, shape (..., statistics), and the number of samples, to values (...);
            NaN where the statistics tell that no sample counts.
        notes: Statistics of all samples, shape (samples, statistics), to what a reader of the value must be told, such
            as how many samples do not count; nothing as long as all is well.
        needs: The attributes of the targets that may be None, and must not be for this metric.
    """

    name: str
    unit: str
    best: float | None
    prepare: Callable[[Targets], Prepared]
    combine: Combine
    notes: Notes = lambda statistics: ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A number with its passport.

    Attributes:
        value: Over all samples; higher is better.
        low, high: The bootstrap's 95 % interval; NaN where it was not asked for.
        signature: Everything that could move the value.
        per_sample: Each sample's own value, in the samples' order; None where the sample does not count.
        statistics: Each sample's row of numbers, from which `value` was combined.
        notes: What else a reader must be told, such as `3 of 50 judgements could not be read`; mostly nothing.
    """

    metric: str
    value: float
    low: float
    high: float
    num_samples: int
    signature: str
    per_sample: tuple[float | None, ...]
    statistics: tuple[tuple[float, ...], ...] = field(repr=False)
    notes: tuple[str, ...] = ()


def mean(sums: Array, num_samples: int) -> Array:
    """Combine metrics that have one number a sample: their mean."""
    return sums[..., 0] / num_samples


def mean_of_counted(sums: Array, num_samples: int) -> Array:
    """Combine metrics whose samples may not count: rows of (value, 1), or (0, 0) for a sample that does not.

    Returns:
        The mean over the samples that count, NaN where there are none.

    >>> mean_of_counted(np.array([9.0, 2.0]), 3)
    np.float64(4.5)
    """
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def each_sample(value: Callable[[str, Reference], float], targets: Sequence[Reference]) -> Callable[..., Array]:
    """Lift a function of one answer and one sample's target to one of all answers.

    Returns:
        A function from answers, as many as `targets`, to a new array of shape (samples, 1).
    """

    def statistics(answers: Sequence[str]) -> Array:
        return np.array([[value(answer, target)] for answer, target in zip(answers, targets, strict=True)])

    return statistics


def check_references(targets: Targets, metric: str) -> None:
    """Make sure that every sample has a reference with text in it.

    Raises:
        ScoreError: One has none.
    """
    bare = [index for index, sample in enumerate(targets.references) if not any(text.strip() for text in sample)]
    if bare:
        shown = ", ".join(map(str, bare[:5])) + (", ..." if len(bare) > 5 else "")
        raise ScoreError(
            f"`{metric}` needs a reference for every sample: {len(bare)} of {len(targets.references)} have none",
            details=[f"samples {shown} (counted from 0)"],
            hint="`japanese`, `facts` and `clipscore` need no references",
        )


def describe_references(targets: Targets) -> str:
    """The signature's part for the number of references a sample: `refs:5`, or `refs:5-6` where it varies.

    >>> describe_references(Targets((("赤", "青"), ("白",))))
    'refs:1-2'
    """
    numbers = sorted({len(sample) for sample in targets.references})
    return f"refs:{numbers[0]}" if len(numbers) == 1 else f"refs:{numbers[0]}-{numbers[-1]}"
