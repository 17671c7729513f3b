"""A candidate's whole life: genome, ratios, weights, answers, score.

Used by the search and by tests. Knows every step between a recipe and a score. Does not know
who chooses the candidates.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from vlmmerge.ask import signature
from vlmmerge.blend.live import LiveBlender
from vlmmerge.blend.spread import SpreadBlender
from vlmmerge.blind import find_others
from vlmmerge.errors import ScoreError, VlmMergeError
from vlmmerge.evalsets import find_split, load
from vlmmerge.exam import Exam, make_scorer, passport, settings_of
from vlmmerge.generate import LiveVlm
from vlmmerge.genome import Ratios
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import EvalsetChoice, Recipe
from vlmmerge.resident import make_blender
from vlmmerge.score import Score, objective
from vlmmerge.score.defaults import DEFAULT_OBJECTIVES
from vlmmerge.score.guards import Guarded, Look, check_guards, grounding, guarded
from vlmmerge.score.scorer import objective_parts

Result = dict[str, Any]


class Evaluator:
    """The live model, the resident parents, and what candidates are asked."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        assert plan.recipe.evalset and plan.recipe.score, "a recipe without evalset and score cannot be evaluated"
        self.evalset = plan.recipe.evalset
        self.weights, self.limits = plan.recipe.score.weights, plan.recipe.score.limits
        self.metrics = list(dict.fromkeys([*self.weights, *plan.recipe.score.report]))
        self.settings = settings_of(plan.recipe.score)
        self.vlm = LiveVlm(plan.eyes.folder, plan.recipe.generate, trusts_code=plan.trusts_code)

    @cached_property
    def blender(self) -> LiveBlender | SpreadBlender:
        """The parents' towers beside the live model; read when the first candidate is blended."""
        return make_blender(self.plan, self.vlm.model)

    @cached_property
    def search_exam(self) -> Exam:
        return self._exam(self.evalset.search, list(self.weights))

    @cached_property
    def finals_exam(self) -> Exam:
        assert self.evalset.finals
        return self._exam(self.evalset.finals, list(self.weights))

    @cached_property
    def held_out_exam(self) -> Exam:
        return self._exam(self.evalset.held_out, self.metrics)

    @cached_property
    def retention_exam(self) -> Exam:
        """The retention's samples, asked as they stand: the recipe's question and system prompt are Japanese."""
        assert self.evalset.retention
        choice = self.evalset.retention
        samples = load(choice.name, choice.split, choice.samples)
        settings = self.vlm.settings.model_copy(update={"question": None, "system": None})
        prompts = self.vlm.prepare(samples, f"looking at {_name(choice)}", settings)
        scorer = make_scorer(choice, samples, retention_metrics(choice), self.settings)
        return Exam(samples, prompts, scorer, asked=signature(self.vlm, _name(choice), samples, settings))

    def evaluate(self, genome: Sequence[float]) -> Result:
        """Score a genome on the search split; one that fails gets no score and the reason."""
        return self.evaluate_ratios(lambda: self.plan.space.decode(genome))

    def evaluate_ratios(self, make_ratios: Callable[[], Ratios], exam: Exam | None = None) -> Result:
        """As `evaluate`, for the ratios that `make_ratios()` returns, on the search's samples or another exam.

        Returns:
            A new dict: `status` (`ok` or `failed`), `score`, each metric's value, and a checksum of the answers; or
            `reason` in place of the last two; `notes` where something happened that moves no score. Where there are
            guards, also `objective`, the score without them, and `guards`, what each found and kept.

        Raises:
            VlmMergeError: The parents or the samples cannot be read, or the judge cannot be asked.
        """
        # A fault in parents or samples is no candidate's: it is raised.
        blender, exam = self.blender, exam or self.search_exam
        try:
            blender.write(make_ratios())
            said = self.vlm.answer([*exam.prompts, *exam.unasked])
            answers = said[: len(exam.prompts)]
            if not any(answers):
                raise VlmMergeError("every answer is empty")
            scores = exam.scorer.score(answers, intervals=False)
            marked = self._guard(exam, said, scores)
        except ScoreError:  # a judge that cannot be asked is no candidate's fault
            raise
        except Exception as error:  # a bad candidate never ends a run
            reason = str(error).splitlines()[0] if str(error) else ""
            return {"status": "failed", "score": None, "reason": f"{type(error).__name__}: {reason}"}
        return {
            "status": "ok",
            "score": marked.score,
            **(marked.as_plain() if self.limits else {}),
            "metrics": {name: score.value for name, score in scores.items()},
            "answers_sha256": answers_checksum(answers),
            **({"notes": notes} if (notes := self.vlm.answerer.take_notes()) else {}),
        }

    def hold_out(self, ratios: Ratios) -> Result:
        """Answer and score the held-out split, and the retention's if the recipe has one.

        Returns:
            A new dict: `scores`, each metric's passport, `asked`, the signature of how was asked, and `answers`; where
            there are guards, `guarded` with the score that they leave, `objective` and `guards`; with a retention its
            own `scores`, `asked` and `answers`.

        Raises:
            VlmMergeError: The blend is not finite.
        """
        self.blender.write(ratios)
        exam = self.held_out_exam
        said = self.vlm.answer([*exam.prompts, *exam.unasked])
        answers = said[: len(exam.prompts)]
        scores = exam.scorer.score(answers)
        marked = self._guard(exam, said, scores)
        return {
            "scores": {name: passport(score) for name, score in scores.items()},
            "asked": exam.asked,
            "answers": answers,
            **({"guarded": {"score": marked.score, **marked.as_plain()}} if self.limits else {}),
            **({"retention": self._retain()} if self.evalset.retention else {}),
        }

    def _retain(self) -> Result:
        exam = self.retention_exam
        answers = self.vlm.answer(exam.prompts)
        scores = {name: passport(score) for name, score in exam.scorer.score(answers).items()}
        return {"scores": scores, "asked": exam.asked, "answers": answers}

    def _guard(self, exam: Exam, said: Sequence[str], scores: Mapping[str, Score]) -> Guarded:
        """The objective, turned down by the guards; `said` are the answers to the exam and to its `unasked`."""
        value, needs_pictures = objective(scores, self.weights), None
        if exam.others:
            scorer = replace(exam.scorer, prepared={name: exam.scorer.prepared[name] for name in self.weights})
            others = scorer.score(exam.others.answers(said), intervals=False)
            needs_pictures = grounding(value, objective(others, self.weights))
        references = [sample.references for sample in exam.samples]
        answers, parts = said[: len(exam.samples)], objective_parts(scores, self.weights)
        return guarded(value, self.limits, Look(answers, references, parts, needs_pictures))

    def _exam(self, choice: EvalsetChoice, metrics: list[str]) -> Exam:
        samples = load(choice.name, choice.split, choice.samples)
        check_guards(self.limits, [sample.references for sample in samples])
        others = find_others(samples, self.vlm.settings.question) if "grounding" in self.limits else None
        unasked = others.unasked if others else []
        prompts = self.vlm.prepare([*samples, *unasked], f"looking at {_name(choice)}")
        number, scorer = len(samples), make_scorer(choice, samples, metrics, self.settings)
        asked = signature(self.vlm, _name(choice), samples)
        return Exam(samples, prompts[:number], scorer, others, prompts[number:], asked)


def _name(choice: EvalsetChoice) -> str:
    return f"{choice.name}:{choice.split}"


def retention_metrics(choice: EvalsetChoice) -> list[str]:
    """What a retention is scored by: the default objective's metrics for samples of its kind."""
    return list(DEFAULT_OBJECTIVES[find_split(choice.name, choice.split)[1].kind])


def answers_checksum(answers: Sequence[str]) -> str:
    """The checksum by which a candidate's answers are kept in the journal."""
    return hashlib.sha256("\n".join(answers).encode()).hexdigest()


def make_evaluate(recipe: Recipe, *, trusts_code: bool = False) -> Callable[[Sequence[float]], Result]:
    """Build a function from genome to result, in this process: what an actor does first."""
    return Evaluator(make_plan(recipe, trusts_code=trusts_code)).evaluate
