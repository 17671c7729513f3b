"""Any vision-language models on evalsets: asked, scored, side by side.

Knows how to ask a model of a folder. Does not know candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmmerge.evalsets import Sample, load
from vlmmerge.exam import make_scorer, passport
from vlmmerge.generate import LiveVlm
from vlmmerge.generate.pictures import read_images
from vlmmerge.recipe import EvalsetChoice, Generate
from vlmmerge.score import METRICS

Result = dict[str, Any]


def evaluate_model(
    folder: Path,
    choices: Sequence[EvalsetChoice],
    metrics: Sequence[str],
    max_new_tokens: int,
    *,
    trusts_code: bool = False,
) -> dict[str, Result]:
    """Score any VLM on evalsets.

    Args:
        folder: A local checkpoint.
        choices: What to ask.
        metrics: Their names; empty for all that an evalset allows.
        max_new_tokens: The longest answer.
        trusts_code: Whether code that comes with the model may run.

    Returns:
        For each `NAME:SPLIT`, the scores as plain values and every answer.

    Raises:
        VlmMergeError: The model or an evalset cannot be loaded, or a metric is unknown.
    """
    sets = {f"{choice.name}:{choice.split}": load(choice.name, choice.split, choice.samples) for choice in choices}
    scorers = [
        make_scorer(choice, samples, metrics or _possible_metrics(samples))
        for choice, samples in zip(choices, sets.values(), strict=True)
    ]
    vlm = LiveVlm(folder, Generate(max_new_tokens=max_new_tokens), trusts_code=trusts_code)
    results = {}
    for (name, samples), scorer in zip(sets.items(), scorers, strict=True):
        answers = vlm.answer(vlm.prepare(samples, f"looking at {name}"))
        scores = scorer.score(answers)
        results[name] = {
            "scores": {metric: passport(score) for metric, score in scores.items()},
            "answers": [
                {
                    "id": sample.id,
                    "question": sample.question,
                    "answer": answer,
                    "references": sample.references,
                    **{metric: score.per_sample[number] for metric, score in scores.items()},
                }
                for number, (sample, answer) in enumerate(zip(samples, answers, strict=True))
            ],
        }
    return results


def answer_one(folder: Path, image: bytes, question: str, max_new_tokens: int, *, trusts_code: bool = False) -> str:
    """Ask one picture one thing.

    Raises:
        VlmMergeError: The model or the picture cannot be loaded.
    """
    sample = Sample("image", (image,), question, ())
    read_images(sample)  # before the model is loaded, which takes longer
    vlm = LiveVlm(folder, Generate(max_new_tokens=max_new_tokens), trusts_code=trusts_code)
    return vlm.answer(vlm.prepare([sample]))[0]


def _possible_metrics(samples: Sequence[Sample]) -> list[str]:
    has_facts = any(sample.facts for sample in samples)
    return [name for name in METRICS if has_facts or name != "facts"]
