"""A candidate's whole life: genome, ratios, weights, answers, score.

Used by the search and by tests. Knows every step between a recipe and a score. Does not know
who chooses the candidates.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from vlmmerge.blend.live import LiveBlender
from vlmmerge.errors import ScoreError, VlmMergeError
from vlmmerge.evalsets import load
from vlmmerge.exam import Exam, make_scorer, settings_of
from vlmmerge.generate import LiveVlm
from vlmmerge.genome import Ratios
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import EvalsetChoice, Recipe
from vlmmerge.resident import make_blender
from vlmmerge.score import Score, objective

Result = dict[str, Any]


class Evaluator:
    """The live model, the resident parents, and what candidates are asked."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        assert plan.recipe.evalset and plan.recipe.score, "a recipe without evalset and score cannot be evaluated"
        self.score_settings, self.evalset = plan.recipe.score, plan.recipe.evalset
        self.metrics = list(dict.fromkeys([*self.score_settings.objective, *self.score_settings.report]))
        self.vlm = LiveVlm(plan.eyes.folder, plan.recipe.generate, trusts_code=plan.trusts_code)

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
            `reason` in place of the last two; `notes` where something happened that moves no score.

        Raises:
            VlmMergeError: The parents or the samples cannot be read, or the judge cannot be asked.
        """
        # A fault in parents or samples is no candidate's: it is raised.
        blender, exam = self.blender, exam or self.search_exam
        try:
            blender.write(make_ratios())
            answers = self.vlm.answer(exam.prompts)
            if not any(answers):
                raise VlmMergeError("every answer is empty")
            scores = exam.scorer.score(answers, intervals=False)
        except ScoreError:  # a judge that cannot be asked is no candidate's fault
            raise
        except Exception as error:  # a bad candidate never ends a run
            reason = str(error).splitlines()[0] if str(error) else ""
            return {"status": "failed", "score": None, "reason": f"{type(error).__name__}: {reason}"}
        return {
            "status": "ok",
            "score": objective(scores, self.score_settings.objective),
            "metrics": {name: score.value for name, score in scores.items()},
            "answers_sha256": answers_checksum(answers),
            **({"notes": notes} if (notes := self.vlm.answerer.take_notes()) else {}),
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
        return Exam(samples, prompts, make_scorer(choice, samples, metrics, settings_of(self.score_settings)))


def answers_checksum(answers: Sequence[str]) -> str:
    """The checksum by which a candidate's answers are kept in the journal."""
    return hashlib.sha256("\n".join(answers).encode()).hexdigest()


def make_evaluate(recipe: Recipe, *, trusts_code: bool = False) -> Callable[[Sequence[float]], Result]:
    """Build a function from genome to result, in this process: what an actor does first."""
    return Evaluator(make_plan(recipe, trusts_code=trusts_code)).evaluate
