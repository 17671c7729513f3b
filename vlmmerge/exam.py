"""An exam: the samples of one split as a model is asked them, and what its answers are measured against.

Knows evalsets, prompts and metrics. Does not know whose answers they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmmerge.blind import Others
from vlmmerge.evalsets import Sample, find_split
from vlmmerge.generate import Prompt
from vlmmerge.recipe import EvalsetChoice
from vlmmerge.recipe import Score as ScoreSection
from vlmmerge.score import DocumentFrequency, Judge, Score, Scorer, Targets, possible, prepare
from vlmmerge.score.segment import DEFAULT_SEGMENTER


@dataclass(frozen=True)
class Exam:
    """The samples of one split, ready to be asked and scored as often as wanted.

    Args:
        samples: What is asked.
        prompts: One a sample.
        scorer: What the answers are scored by.
        others: Where the answers with other pictures come from, if grounding is asked for.
        unasked: Prompts of `others.unasked`.
        asked: The signature of how the samples are asked.
    """

    samples: list[Sample]
    prompts: list[Prompt]
    scorer: Scorer
    others: Others | None = None
    unasked: Sequence[Prompt] = ()
    asked: str = ""


@dataclass(frozen=True)
class ScoreSettings:
    """What metrics are made with beside the samples.

    Args:
        segmenter: What makes words of text.
        clip: Folder or hub id of a CLIP-like model, for `clipscore` and `refclipscore`; None for none.
        judge: Whom `judge` and `judge_heron` ask; None for nobody.
    """

    segmenter: str = DEFAULT_SEGMENTER
    clip: str | None = None
    judge: Judge | None = None


DEFAULT_SETTINGS = ScoreSettings()
# Told of any answers, where there is what they need.
BESIDE = ("japanese", "facts", "clipscore", "refclipscore", "judge", "judge_heron")


def settings_of(section: ScoreSection) -> ScoreSettings:
    """The settings that a recipe's `score` section says.

    Raises:
        ScoreError: The judge's url is no endpoint.
    """
    judge = Judge(**section.judge.model_dump()) if section.judge else None
    return ScoreSettings(section.segmenter, section.clip, judge)


def make_scorer(
    choice: EvalsetChoice,
    samples: Sequence[Sample],
    metrics: Sequence[str],
    settings: ScoreSettings = DEFAULT_SETTINGS,
) -> Scorer:
    """Read the samples' targets once, with the evalset's own document frequencies and fact vocabulary.

    Args:
        metrics: Their names; empty for the split's usual ones, and what samples and settings allow beside them.
        settings: What the metrics are made with.

    Raises:
        ScoreError: A metric is unknown, or the evalset lacks what it needs.
    """
    evalset, split = find_split(choice.name, choice.split)
    # The set's frozen table is of its Japanese captions' words by the default segmenter; anything else counts its own
    # references.
    has_table = split.language == "ja" and split.kind == "captions" and settings.segmenter == DEFAULT_SEGMENTER
    frozen = evalset.document_frequency if has_table else None
    documents = DocumentFrequency.from_json(frozen) if frozen else None
    targets = make_targets(samples, settings)
    targets = replace(targets, documents=documents, fact_vocabulary=evalset.fact_vocabulary)
    return prepare(metrics or _usual(split.metrics, targets), targets)


def _usual(metrics: Sequence[str], targets: Targets) -> list[str]:
    """A split's metrics as far as they can be had, the headline first, and what tells more of any answers."""
    can_be_had = possible(targets)
    own = [name for name in metrics if name in can_be_had]
    beside = [name for name in can_be_had if name in BESIDE and name not in own]
    return [*own, *beside] if own else can_be_had


def make_targets(samples: Sequence[Sample], settings: ScoreSettings = DEFAULT_SETTINGS) -> Targets:
    """What answers to samples are measured against, from samples and settings alone."""
    has_facts, has_options, has_images, has_contexts = (
        any(getattr(sample, name) for sample in samples) for name in ("facts", "options", "images", "context")
    )
    return Targets(
        references=tuple(sample.references for sample in samples),
        questions=tuple(sample.question for sample in samples),
        options=tuple(sample.options for sample in samples) if has_options else None,
        images=tuple(sample.images for sample in samples) if has_images else None,
        facts=tuple(sample.facts for sample in samples) if has_facts else None,
        contexts=tuple(sample.context for sample in samples) if has_contexts else None,
        segmenter=settings.segmenter,
        clip=settings.clip,
        judge=settings.judge,
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
