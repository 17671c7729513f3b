"""An exam: the samples of one split as a model is asked them, and what its answers are measured against.

Knows evalsets, prompts and metrics. Does not know whose answers they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmmerge.evalsets import Sample, find_split
from vlmmerge.generate import Prompt
from vlmmerge.recipe import EvalsetChoice
from vlmmerge.score import DocumentFrequency, Score, Scorer, Targets, possible, prepare


@dataclass(frozen=True)
class Exam:
    """The samples of one split, ready to be asked and scored as often as wanted."""

    samples: list[Sample]
    prompts: list[Prompt]
    scorer: Scorer


def make_scorer(choice: EvalsetChoice, samples: Sequence[Sample], metrics: Sequence[str]) -> Scorer:
    """Read the samples' targets once, with the evalset's own document frequencies and fact vocabulary.

    Args:
        metrics: Their names; empty for all that the samples allow.

    Raises:
        ScoreError: A metric is unknown, or the evalset lacks what it needs.
    """
    evalset, split = find_split(choice.name, choice.split)
    # The set's frozen table is of its captions in Japanese; anything else counts its own references.
    frozen = evalset.document_frequency if split.language == "ja" and split.kind == "captions" else None
    documents = DocumentFrequency.from_json(frozen) if frozen else None
    targets = make_targets(samples)
    targets = replace(targets, documents=documents, fact_vocabulary=evalset.fact_vocabulary)
    return prepare(metrics or possible(targets), targets)


def make_targets(samples: Sequence[Sample]) -> Targets:
    """What answers to samples are measured against, from the samples alone."""
    has_facts, has_options, has_images = (
        any(getattr(sample, name) for sample in samples) for name in ("facts", "options", "images")
    )
    return Targets(
        references=tuple(sample.references for sample in samples),
        questions=tuple(sample.question for sample in samples),
        options=tuple(sample.options for sample in samples) if has_options else None,
        images=tuple(sample.images for sample in samples) if has_images else None,
        facts=tuple(sample.facts for sample in samples) if has_facts else None,
    )


def passport(score: Score) -> dict[str, Any]:
    """A score as plain values: the number with its interval, size and signature, and notes where there are any."""
    plain = {name: getattr(score, name) for name in ("value", "low", "high", "num_samples", "signature")}
    return plain | ({"notes": list(score.notes)} if score.notes else {})


def told_notes(passports: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The notes of passports by name and metric, a line each.

    >>> told_notes({"vlm": {"judge": {"value": 3.0, "notes": ["1 of 9 is missing"]}, "exact": {"value": 0.0}}})
    ['vlm, judge: 1 of 9 is missing']
    """
    return [
        f"{name}, {metric}: {note}"
        for name, scores in passports.items()
        for metric, score in scores.items()
        for note in score.get("notes", ())
    ]
