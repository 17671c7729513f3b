"""A candidate's whole life: genome, ratios, weights, answers, score.

Used by the search, by `vlmmerge evaluate` and by tests. Knows every step between a recipe and a score. Does not know
who chooses the candidates.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmmerge.blend.live import LiveBlender
from vlmmerge.errors import VlmMergeError
from vlmmerge.evalsets import Sample, find_split, load
from vlmmerge.generate import LiveVlm, Prompt
from vlmmerge.generate.pictures import read_image
from vlmmerge.genome import Ratios
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import EvalsetChoice, Generate, Recipe
from vlmmerge.resident import make_blender
from vlmmerge.score import METRICS as METRICS_BY_NAME
from vlmmerge.score import DocumentFrequency, Score, Scorer, Targets, objective, prepare

Result = dict[str, Any]


@dataclass(frozen=True)
class Exam:
    """The samples of one split, ready to be asked and scored as often as wanted."""

    samples: list[Sample]
    prompts: list[Prompt]
    scorer: Scorer


class Evaluator:
    """The live model, the resident parents, and what candidates are asked."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        assert plan.recipe.evalset and plan.recipe.score, "a recipe without evalset and score cannot be evaluated"
        self.score_settings, self.evalset = plan.recipe.score, plan.recipe.evalset
        self.metrics = list(dict.fromkeys([*self.score_settings.objective, *self.score_settings.report]))
        self.vlm = LiveVlm(plan.checkpoints["vlm"].folder, plan.recipe.generate, trusts_code=plan.trusts_code)

    @cached_property
    def blender(self) -> LiveBlender:
        """The parents' towers beside the live model; read when the first candidate is blended."""
        return make_blender(self.plan, self.vlm.model)

    @cached_property
    def search_exam(self) -> Exam:
        return self._exam(self.evalset.search, list(self.score_settings.objective))

    @cached_property
    def finals_exam(self) -> Exam:
        assert self.evalset.finals
        return self._exam(self.evalset.finals, list(self.score_settings.objective))

    @cached_property
    def held_out_exam(self) -> Exam:
        return self._exam(self.evalset.held_out, self.metrics)

    def evaluate(self, genome: Sequence[float]) -> Result:
        """Score a genome on the search split; one that fails gets no score and the reason."""
        return self.evaluate_ratios(lambda: self.plan.space.decode(genome))

    def evaluate_ratios(self, make_ratios: Callable[[], Ratios], exam: Exam | None = None) -> Result:
        """As `evaluate`, for the ratios that `make_ratios()` returns, on the search's samples or another exam.

        Returns:
            A new dict: `status` (`ok` or `failed`), `score`, each metric's value, and a checksum of the answers; or
            `reason` in place of the last two.

        Raises:
            VlmMergeError: The parents or the samples cannot be read.
        """
        # A fault in parents or samples is no candidate's: it is raised.
        blender, exam = self.blender, exam or self.search_exam
        try:
            blender.write(make_ratios())
            answers = self.vlm.answer(exam.prompts)
            if not any(answers):
                raise VlmMergeError("every answer is empty")
            scores = exam.scorer.score(answers, intervals=False)
        except Exception as error:  # a bad candidate never ends a run
            reason = str(error).splitlines()[0] if str(error) else ""
            return {"status": "failed", "score": None, "reason": f"{type(error).__name__}: {reason}"}
        return {
            "status": "ok",
            "score": objective(scores, self.score_settings.objective),
            "metrics": {name: score.value for name, score in scores.items()},
            "answers_sha256": answers_checksum(answers),
        }

    def hold_out(self, ratios: Ratios) -> tuple[list[str], dict[str, Score]]:
        """Answer and score the held-out split.

        Raises:
            VlmMergeError: The blend is not finite.
        """
        self.blender.write(ratios)
        answers = self.vlm.answer(self.held_out_exam.prompts)
        return answers, self.held_out_exam.scorer.score(answers)

    def _exam(self, choice: EvalsetChoice, metrics: list[str]) -> Exam:
        samples = load(choice.name, choice.split, choice.samples)
        prompts = self.vlm.prepare(samples, f"looking at {choice.name}:{choice.split}")
        return Exam(samples, prompts, make_scorer(choice, samples, metrics))


def make_scorer(choice: EvalsetChoice, samples: Sequence[Sample], metrics: Sequence[str]) -> Scorer:
    """Read the samples' targets once, with the evalset's own document frequencies and fact vocabulary.

    Raises:
        ScoreError: A metric is unknown, or the evalset lacks what it needs.
    """
    evalset, split = find_split(choice.name, choice.split)
    has_facts = any(sample.facts for sample in samples)
    # The set's frozen table is of its captions in Japanese; anything else counts its own references.
    frozen = evalset.document_frequency if split.language == "ja" and split.references != "qas" else None
    targets = Targets(
        references=tuple(sample.references for sample in samples),
        facts=tuple(sample.facts for sample in samples) if has_facts else None,
        documents=DocumentFrequency.from_json(frozen) if frozen else None,
        fact_vocabulary=evalset.fact_vocabulary,
    )
    return prepare(metrics, targets)


def answers_checksum(answers: Sequence[str]) -> str:
    """The checksum by which a candidate's answers are kept in the journal."""
    return hashlib.sha256("\n".join(answers).encode()).hexdigest()


def make_evaluate(recipe: Recipe, *, trusts_code: bool = False) -> Callable[[Sequence[float]], Result]:
    """Build a function from genome to result, in this process: what an actor does first."""
    return Evaluator(make_plan(recipe, trusts_code=trusts_code)).evaluate


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
    sample = Sample("image", image, question, ())
    read_image(sample)  # before the model is loaded, which takes longer
    vlm = LiveVlm(folder, Generate(max_new_tokens=max_new_tokens), trusts_code=trusts_code)
    return vlm.answer(vlm.prepare([sample]))[0]


def passport(score: Score) -> dict[str, Any]:
    """A score as plain values: the number with its interval, size and signature."""
    return {name: getattr(score, name) for name in ("value", "low", "high", "num_samples", "signature")}


def _possible_metrics(samples: Sequence[Sample]) -> list[str]:
    has_facts = any(sample.facts for sample in samples)
    return [name for name in METRICS_BY_NAME if has_facts or name != "facts"]
