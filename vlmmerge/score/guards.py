"""Guards: how much of an objective a candidate keeps whose answers cheat.

Knows the rule and the traits that it reads. Knows no metric and no model.

The rule. Each guard keeps a share of the objective, 1 where nothing is wrong, and the candidate's score is

    score = objective - (1 - kept) * |objective|        with kept = the product of what the guards keep,

so `objective * kept` where the objective is positive, and an objective below 0 is turned down as well.

- `japanese` and `grounding` are least shares of the whole: kept = min(1, found / least).
- `length_ratio` and `repetition` are the most that one answer may have: an answer keeps min(1, (most / found)²) of its
  own part of the objective. A mean over answers would let half of them be long while the others are short.

Every step is continuous: a candidate that mends a fault a little scores a little more, which is what evolution climbs.
The square makes guessing a loss: naming twice as many things can at best double the chance that one of them is right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from vlmmerge.errors import ScoreError
from vlmmerge.score.japanese import is_japanese
from vlmmerge.score.traits import length, nearest_length, repetition

# Characters. A short sentence (このバスの色は黒です) is an honest answer to a question whose reference is one word, so
# a reference that is shorter counts as if it had as many.
SHORT_SENTENCE = 12


@dataclass(frozen=True)
class Found:
    """What a guard found in one candidate's answers: its number, and the share of the objective that it keeps."""

    value: float
    kept: float


@dataclass(frozen=True)
class Guarded:
    """A candidate's score after its guards.

    Attributes:
        score: What the search makes higher.
        objective: What it would be without guards.
        found: What each guard found, by name.
    """

    score: float
    objective: float
    found: Mapping[str, Found]

    def as_plain(self) -> dict[str, object]:
        """Objective and guards as plain values, for the journal."""
        found = {name: {"value": each.value, "kept": each.kept} for name, each in self.found.items()}
        return {"objective": self.objective, "guards": found}


@dataclass(frozen=True)
class Look:
    """What guards look at.

    Attributes:
        answers: One a sample.
        references: Each sample's.
        parts: Each sample's part of the objective, none below 0.
        grounding: The share of the objective that needs the pictures; None where it was not asked for.
    """

    answers: Sequence[str]
    references: Sequence[Sequence[str]]
    parts: Sequence[float]
    grounding: float | None = None

    def share(self, kept: Sequence[float]) -> float:
        """The share of the objective that is kept where each sample keeps its own share of its part."""
        total = math.fsum(self.parts)
        kept_parts = math.fsum(share * part for share, part in zip(kept, self.parts, strict=True))
        return kept_parts / total if total > 0 else fmean(kept)


def guarded(objective: float, guards: Mapping[str, float], look: Look) -> Guarded:
    """Turn an objective down by the module's rule.

    Args:
        objective: Of the candidate.
        guards: Limits by name.
        look: The answers that it comes from.
    """
    found = {name: GUARDS[name](limit, look) for name, limit in guards.items()}
    kept = math.prod(each.kept for each in found.values())
    return Guarded(objective - (1.0 - kept) * abs(objective), objective, found)


def grounding(right: float, other: float) -> float:
    """The share of a score that needs the pictures: 1 - other / right, within 0 and 1.

    Args:
        right: Score with the samples' own pictures.
        other: Score of the same questions with other pictures, or blank ones: what remains needs no eyes.

    Returns:
        0 as well where there is nothing to keep: `right` not above 0 or not a number, or `other` as good.

    >>> grounding(0.8, 0.2), grounding(0.8, 0.9), grounding(0.0, 0.0), grounding(0.8, -0.1)
    (0.75, 0.0, 0.0, 1.0)
    """
    return min(1.0 - other / right, 1.0) if right > 0 and other < right else 0.0


def check_guards(guards: Mapping[str, float], references: Sequence[Sequence[str]]) -> None:
    """Check that there is what the guards need.

    Raises:
        ScoreError: There is a limit for lengths, and a sample has no reference.
    """
    bare = [number for number, sample in enumerate(references) if not any(map(length, sample))]
    if "length_ratio" in guards and bare:
        shown = ", ".join(map(str, bare[:5])) + (", ..." if len(bare) > 5 else "")
        raise ScoreError(
            f"the guard `length_ratio` needs a reference for every sample: {len(bare)} of {len(references)} have none",
            details=[f"samples {shown} (counted from 0)"],
            hint="leave score.guards.length_ratio out",
        )


def _japanese(least: float, look: Look) -> Found:
    """An answer is right by this guard if it is Japanese, or if no reference is: NHK on a sign is no language."""
    fits = [
        is_japanese(answer) or not any(map(is_japanese, own))
        for answer, own in zip(look.answers, look.references, strict=True)
    ]
    share = 100.0 * sum(fits) / len(fits)
    return Found(share, min(1.0, share / least))


def _length_ratio(most: float, look: Look) -> Found:
    lengths = map(length, look.answers)
    ratios = [
        long / max(nearest_length(long, own), SHORT_SENTENCE)
        for long, own in zip(lengths, look.references, strict=True)
    ]
    return Found(fmean(ratios), look.share([_at_most(ratio, most) for ratio in ratios]))


def _repetition(most: float, look: Look) -> Found:
    shares = list(map(repetition, look.answers))
    return Found(fmean(shares), look.share([_at_most(share, most) for share in shares]))


def _grounding(least: float, look: Look) -> Found:
    assert look.grounding is not None, "grounding is guarded, so the questions were asked with other pictures too"
    return Found(look.grounding, min(1.0, look.grounding / least))


def _at_most(value: float, most: float) -> float:
    """What an answer keeps: all of its part up to `most`, less and less beyond."""
    return (most / max(value, most)) ** 2


GUARDS: dict[str, Callable[[float, Look], Found]] = {
    "japanese": _japanese,
    "length_ratio": _length_ratio,
    "repetition": _repetition,
    "grounding": _grounding,
}
