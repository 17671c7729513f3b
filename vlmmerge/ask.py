"""Any vision-language models, asked the samples of evalsets, or one question about one picture.

Knows how to open a model of a folder, and what to ask it. Does not know candidates.
"""

import gc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from vlmmerge.blind import Others, blank_samples, find_others
from vlmmerge.compare import Answered, compare
from vlmmerge.errors import VlmMergeError
from vlmmerge.evalsets import Sample, load
from vlmmerge.evalsets.pictures import read_images
from vlmmerge.exam import DEFAULT_SETTINGS, ScoreSettings, make_scorer
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import EvalsetChoice, Generate
from vlmmerge.score import Score, Scorer, paired_grounding

Results = dict[str, dict[str, Any]]

# What a protocol's published numbers are; other protocols take each split's usual metrics.
PUBLISHED = {"evovlm-jp": ("rouge_l_strict", "rouge_l", "japanese")}


@dataclass(frozen=True)
class Questions:
    """What models are asked, and how their answers are scored.

    Args:
        choices: The samples.
        metrics: Names, the headline first; empty for the protocol's, or each split's usual ones.
        generate: How to ask.
        score: What metrics are made with.
        has_grounding: Whether to ask once more with blank and with other pictures.
        trusts_code: Whether code that comes with a model may run.
    """

    choices: Sequence[EvalsetChoice]
    metrics: Sequence[str] = ()
    generate: Generate = field(default_factory=Generate)
    score: ScoreSettings = DEFAULT_SETTINGS
    has_grounding: bool = False
    trusts_code: bool = False


@dataclass(frozen=True)
class _Blind:
    """The same questions without their pictures, and what scores the answers."""

    blank: list[Sample]
    others: Others
    scorer: Scorer


@dataclass(frozen=True)
class _Part:
    """One split's samples, and what scores the answers."""

    name: str
    samples: list[Sample]
    scorer: Scorer
    blind: _Blind | None


def evaluate_models(
    models: Mapping[str, Path],
    questions: Questions,
    keep: Callable[[Results], None] = lambda results: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Results:
    """Score vision-language models on evalsets, side by side.

    Args:
        models: Names with local checkpoints; only one is in memory at a time.
        questions: What to ask.
        keep: Given the results so far after each model, so that long work can be interrupted.
        warn: Told of samples that cannot be asked, whose answers are empty and count; and of a model without room.

    Returns:
        For each `NAME:SPLIT` what `compare.compare` tells; each model also has `asked`, the signature of how it was.

    Raises:
        VlmMergeError: A model or an evalset cannot be loaded, or a metric is unknown.
    """
    parts = {part.name: part for part in (_read(choice, questions) for choice in questions.choices)}
    answered: dict[str, dict[str, Answered]] = {name: {} for name in parts}
    results: Results = {}
    for model, folder in models.items():
        vlm = LiveVlm(folder, questions.generate, trusts_code=questions.trusts_code)
        if vlm.placement.has_waiting:
            warn(f"{model}: {vlm.placement.why}")
        for name, part in parts.items():
            answered[name][model], faults = _ask(vlm, part, f"{model}, {name}")
            for fault in faults:
                warn(f"{model}, {name}: {fault.message}; its answer counts as empty")
            results[name] = compare(part.samples, answered[name])
        del vlm
        gc.collect()  # modules refer to each other in circles, and the next model needs the room
        keep(results)
    return results


def answer_one(folder: Path, image: bytes, question: str, settings: Generate, *, trusts_code: bool = False) -> str:
    """Ask one picture one thing.

    Raises:
        VlmMergeError: The model or the picture cannot be loaded.
    """
    sample = Sample("image", (image,), question, ())
    read_images(sample)  # before the model is loaded, which takes longer
    vlm = LiveVlm(folder, settings, trusts_code=trusts_code)
    return vlm.answer(vlm.prepare([sample]))[0]


def signature(vlm: LiveVlm, name: str, samples: Sequence[Sample], settings: Generate | None = None) -> str:
    """All that could move answers beside the weights: what is asked, how, and what computes it.

    Args:
        vlm: Who is asked.
        name: Of the samples.
        samples: What is asked.
        settings: How; the model's own by default.
    """
    settings = settings or vlm.settings
    texts = {"system": settings.system, "question": settings.question, "stop": "\n".join(settings.stop)}
    parts = [
        f"{name}@{_digest(repr([(sample.id, sample.question, sample.references) for sample in samples]))}",
        *(f"{key}:{_digest(text)}" for key, text in texts.items() if text),
        f"beams:{settings.beams}",
        f"penalty:{settings.repetition_penalty:g}",
        f"max:{settings.max_new_tokens}",
        f"{str(vlm.model.dtype).removeprefix('torch.')}",
        f"attention:{vlm.attention}",
        *(f"{package}:{metadata.version(package)}" for package in ("transformers", "torch")),
    ]
    return "|".join(parts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]


def _read(choice: EvalsetChoice, questions: Questions) -> _Part:
    samples = load(choice.name, choice.split, choice.samples)
    metrics = questions.metrics or PUBLISHED.get(questions.generate.protocol, ())
    scorer = make_scorer(choice, samples, metrics, questions.score)
    blind = None
    if questions.has_grounding:
        headline = make_scorer(choice, samples, [next(iter(scorer.prepared))], questions.score)
        blind = _Blind(blank_samples(samples), find_others(samples, questions.generate.question), headline)
    return _Part(f"{choice.name}:{choice.split}", samples, scorer, blind)


def _ask(vlm: LiveVlm, part: _Part, label: str) -> tuple[Answered, list[VlmMergeError]]:
    """Ask one model one split's samples; also what is wrong with those that cannot be asked."""
    answers, faults = vlm.ask(part.samples, label)
    scores = part.scorer.score(answers)
    answered = Answered(answers, scores, asked=signature(vlm, part.name, part.samples))
    if part.blind is None:
        return answered, faults
    right = next(iter(scores.values()))
    blank, _ = vlm.ask(part.blind.blank, f"{label}, blank pictures")
    unasked, _ = (
        vlm.ask(part.blind.others.unasked, f"{label}, other pictures") if part.blind.others.unasked else ([], [])
    )
    said = {"blank": blank, "other": part.blind.others.answers([*answers, *unasked])}
    grounding = {kind: _grounding(right, part.blind.scorer.score(those)[right.metric]) for kind, those in said.items()}
    return replace(answered, grounding=grounding), faults


def _grounding(right: Score, blind: Score) -> dict[str, float]:
    value, low, high = paired_grounding(right, blind)
    return {"score": blind.value, "value": value, "low": low, "high": high}
