"""Any vision-language models, asked the samples of evalsets, or one question about one picture.

Knows how to open a model of a folder. Does not know candidates.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmmerge.compare import Answered, compare
from vlmmerge.evalsets import Sample, load
from vlmmerge.evalsets.pictures import read_images
from vlmmerge.exam import make_scorer
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import EvalsetChoice, Generate

Results = dict[str, dict[str, Any]]


def evaluate_models(
    models: Mapping[str, Path],
    choices: Sequence[EvalsetChoice],
    metrics: Sequence[str],
    settings: Generate,
    *,
    trusts_code: bool = False,
    keep: Callable[[Results], None] = lambda results: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Results:
    """Score vision-language models on evalsets, side by side.

    Args:
        models: Names with local checkpoints; only one is in memory at a time.
        choices: What to ask.
        metrics: Their names; empty for all that an evalset allows.
        settings: How to ask.
        trusts_code: Whether code that comes with a model may run.
        keep: Given the results so far after each model, so that long work can be interrupted.
        warn: Told of samples that cannot be asked: their answers are empty, and count.

    Returns:
        For each `NAME:SPLIT` what `compare.compare` tells.

    Raises:
        VlmMergeError: A model or an evalset cannot be loaded, or a metric is unknown.
    """
    sets = {f"{choice.name}:{choice.split}": load(choice.name, choice.split, choice.samples) for choice in choices}
    scorers = {name: make_scorer(choice, sets[name], metrics) for name, choice in zip(sets, choices, strict=True)}
    answered: dict[str, dict[str, Answered]] = {name: {} for name in sets}
    results: Results = {}
    for model, folder in models.items():
        vlm = LiveVlm(folder, settings, trusts_code=trusts_code)
        for name, samples in sets.items():
            answers, faults = vlm.ask(samples, f"{model}: looking at {name}")
            for fault in faults:
                warn(f"{model}, {name}: {fault.message}; its answer counts as empty")
            answered[name][model] = Answered(answers, scorers[name].score(answers))
            results[name] = compare(samples, answered[name])
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
