"""A candidate's whole life: genome, ratios, weights, answers, score.

Used by the search, by `vlmmerge evaluate` and by tests. Knows every step between a recipe and a score. Does not know
who chooses the candidates.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmmerge.anatomy import EMBEDDINGS, HEAD, KEEP_EMBEDDINGS, Anatomy, Slot, pair, study
from vlmmerge.blend import METHODS, Options
from vlmmerge.blend.live import LiveBlender
from vlmmerge.blend.residency import choose_residency, free_bytes, place
from vlmmerge.checkpoint import Checkpoint, open_checkpoint, open_headers
from vlmmerge.errors import EvalsetError, ParentsError, VlmMergeError
from vlmmerge.evalsets import Sample, find_split, load, origin
from vlmmerge.generate import LiveVlm, Prompt
from vlmmerge.genome import Ratio, Ratios, SearchSpace, build_space
from vlmmerge.pictures import read_image
from vlmmerge.ratios import fixed_ratios
from vlmmerge.recipe import EvalsetChoice, Generate, Recipe
from vlmmerge.score import METRICS as METRICS_BY_NAME
from vlmmerge.score import DocumentFrequency, Score, Scorer, Targets, objective, prepare
from vlmmerge.vocabulary import Vocabulary, study_vocabulary

Result = dict[str, Any]

CONVERTED = "transformers converts them as it loads them: `vlmmerge blend` works file to file, a search cannot yet"
FUSED = "transformers fuses the experts as it loads them: `vlmmerge blend` works file to file, a search cannot yet"


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to before any weight is read.

    Args:
        recipe: The recipe.
        checkpoints: Each parent's opened checkpoint: `vlm`, `base` and the LLMs.
        anatomy: How their tensors pair.
        space: The genes.
        vocabulary: How the rows of their embeddings and heads pair.
        fixed: The recipe's own ratios, if it has some.
        trusts_code: Whether code that comes with the VLM may run. No recipe can say so.
    """

    recipe: Recipe
    checkpoints: dict[str, Checkpoint]
    anatomy: Anatomy
    space: SearchSpace
    vocabulary: Vocabulary
    fixed: Ratios | None = None
    trusts_code: bool = False

    @property
    def pinned_recipe(self) -> Recipe:
        """The recipe with the commits that were opened in place of the hub's branches, which may move on."""
        opened = {name: checkpoint.snapshot for name, checkpoint in self.checkpoints.items()}
        pinned = {name: str(snapshot.pinned) for name, snapshot in opened.items() if snapshot}
        parents = self.recipe.parents
        llms = {name: pinned.get(name, where) for name, where in parents.llms.items()}
        vlm, base = pinned.get("vlm", parents.vlm), pinned.get("base", parents.base)
        update = parents.model_copy(update={"vlm": vlm, "base": base, "llms": llms})
        return self.recipe.model_copy(update={"parents": update})

    @property
    def commits(self) -> dict[str, str]:
        """The hub's commit of each parent that is not a local folder."""
        return {name: checkpoint.commit for name, checkpoint in self.checkpoints.items() if checkpoint.commit}

    @property
    def blended_parents(self) -> list[str]:
        """The parents that have ratios: all but the base."""
        return ["vlm", *self.recipe.parents.llms]

    @property
    def options(self) -> Options:
        """What the recipe says of the whole blend."""
        return Options(**{field.name: getattr(self.recipe.blend, field.name) for field in fields(Options)})

    def uniform(self, weights: dict[str, float]) -> Ratios:
        """Ratios that are the same in every slot; parents that are not named get weight 0."""
        ratios = {parent: Ratio(weights.get(parent, 0.0)) for parent in self.blended_parents}
        return dict.fromkeys(self.anatomy.slots, ratios)

    def fixed_ratios(self) -> Ratios:
        """The ratios that the recipe fixes; weight 1 for every parent where it fixes none."""
        return self.fixed or self.uniform(dict.fromkeys(self.blended_parents, 1.0))

    def read(self, parent: str, slot: Slot) -> Tensor:
        """What of a parent is blended in a slot, new: its tensor, or of embeddings and head the shared tokens' rows."""
        tensor = self.checkpoints[parent].read(self.anatomy.keys[parent][slot])
        return self.vocabulary.gather(parent, slot, tensor)

    @property
    def tower_bytes(self) -> int:
        """The bytes of all parents' language towers."""
        return sum(
            checkpoint.tensors[key].num_bytes
            for name, checkpoint in self.checkpoints.items()
            for key in set(self.anatomy.keys[name].values())
        )

    def written_keys(self, slot: Slot) -> list[str]:
        """The keys of the VLM parent's files that hold a slot: two if a tied head repeats the embeddings."""
        repeated = self.anatomy.repeated_heads.get("vlm") if slot == EMBEDDINGS else None
        return [self.anatomy.keys["vlm"][slot], *([repeated] if repeated else [])]


def make_plan(recipe: Recipe, *, has_weights: bool = True, trusts_code: bool = False) -> Plan:
    """Open the parents (headers only), pair their slots and lay out the search space.

    Args:
        recipe: The recipe.
        has_weights: Whether the weights of parents on the hub are fetched; without them nothing can be blended.
        trusts_code: Whether code that comes with the VLM may run.

    Raises:
        EvalsetError: There is no such split, it has too few samples, or search and held-out data share pictures.
        CheckpointError: A parent cannot be opened.
        ParentsError: The parents do not fit.
        VlmMergeError: The recipe's depth or ratios do not fit the language tower.
    """
    if recipe.evalset:
        for seen in filter(None, (recipe.evalset.search, recipe.evalset.finals)):
            check_apart(seen, recipe.evalset.held_out)
    places = {"vlm": recipe.parents.vlm, "base": recipe.parents.base, **recipe.parents.llms}
    open_parent = open_checkpoint if has_weights else open_headers
    checkpoints = {name: open_parent(where) for name, where in places.items()}
    anatomy = study(
        {name: checkpoint.shapes for name, checkpoint in checkpoints.items()},
        {name: checkpoint.says_tied for name, checkpoint in checkpoints.items()},
        blends_embeddings=recipe.blend.embeddings == "blend",
    )
    for name, checkpoint in checkpoints.items():
        for key in anatomy.keys[name].values():
            checkpoint.dtype(key)
    space, blended = make_space(recipe, anatomy.slots), ["vlm", *recipe.parents.llms]
    written = {name: ratio.model_dump() for name, ratio in (recipe.blend.ratios or {}).items()}
    fixed = fixed_ratios(anatomy.slots, blended, written) if written else None
    return Plan(recipe, checkpoints, anatomy, space, study_vocabulary(checkpoints, anatomy), fixed, trusts_code)


def make_space(recipe: Recipe, slots: Sequence[Slot]) -> SearchSpace:
    """Lay out the genes that the recipe's `blend` asks for.

    Raises:
        VlmMergeError: The recipe's depth does not fit the language tower.
    """
    blend, parents = recipe.blend, ["vlm", *recipe.parents.llms]
    parameters = METHODS[blend.method].parameters
    return build_space(slots, parents, blend.depth, blend.split, blend.ranges.model_dump(), parameters)


def check_apart(search: EvalsetChoice, held_out: EvalsetChoice) -> None:
    """Check that both splits are there and share no picture.

    Raises:
        EvalsetError: They are not, or they do.
    """
    for choice in (search, held_out):
        find_split(choice.name, choice.split, choice.samples)
    if origin(search.name, search.split) == origin(held_out.name, held_out.split):
        names = f"{search.name}:{search.split} and {held_out.name}:{held_out.split}"
        hint = "hold out a split that the search never sees"
        raise EvalsetError(f"search and held-out data share their pictures: {names}", hint=hint)


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


def make_blender(plan: Plan, model: Any) -> LiveBlender:
    """Read the parents' language towers to where the model runs, or to host memory, as the recipe's residency says.

    Args:
        plan: The parents and how they pair.
        model: The VLM parent as transformers loaded it, untouched.

    Raises:
        ParentsError: The live model has other parameters than the parent's files, or a tied head differs from its
            embeddings.
        VlmMergeError: The device is to hold the parents, and is too small.
    """
    check_repeated_heads(plan)
    live, device = pair_live(plan, model), model.device
    residency = choose_residency(plan.recipe.blend.residency, plan.tower_bytes, free_bytes(device))
    towers = {name: _resident_tower(plan, name, device, residency) for name in plan.checkpoints}
    check_live(plan, live, towers["vlm"])
    rows = plan.vocabulary.rows_of("vlm", EMBEDDINGS)
    return LiveBlender(
        method=plan.recipe.blend.method,
        seed=plan.recipe.blend.seed,
        base=towers.pop("base"),
        parents=towers,
        live=live,
        store_dtypes={
            slot: plan.checkpoints["vlm"].dtype(plan.anatomy.keys["vlm"][slot]) for slot in plan.anatomy.slots
        },
        options=plan.options,
        token_rows=None if rows is None else rows.to(device),
    )


def pair_live(plan: Plan, model: Any) -> dict[Slot, torch.nn.Parameter]:
    """Find the live parameter of each slot, by the names that the slots have under whatever prefix most are found.

    Raises:
        ParentsError: Some have none, or a head that the files tie has one of its own.
    """
    live, slots = dict(model.named_parameters()), plan.anatomy.slots
    shapes = {slot: plan.checkpoints["vlm"].shapes[plan.anatomy.keys["vlm"][slot]] for slot in slots}
    keys = pair([*slots, HEAD], live, lambda slot, key: shapes.get(slot) == tuple(live[key].shape))
    if missing := [slot for slot in slots if slot not in keys]:
        is_fused = all(".experts." in slot.role for slot in missing)
        raise ParentsError(
            f"the loaded VLM lacks {len(missing)} of {len(slots)} language slots",
            details=[str(slot) for slot in missing[:6]],
            hint=FUSED
            if is_fused
            else "`parents.vlm` loads otherwise than its files say; a config.json of other weights may be to blame",
        )
    if EMBEDDINGS in slots and HEAD in keys and HEAD not in slots:
        raise ParentsError(
            "the loaded VLM has a head of its own, which its files tie to the embeddings",
            hint=f"mend `tie_word_embeddings` in its config.json; or {KEEP_EMBEDDINGS}",
        )
    return {slot: live[keys[slot]] for slot in slots}


def check_live(plan: Plan, live: Mapping[Slot, torch.nn.Parameter], resident: Mapping[Slot, Tensor]) -> None:
    """Check that each live parameter holds what the VLM parent's file holds for its slot, bit for bit.

    Names alone do not tell: transformers transposes, permutes or fuses some tensors as it loads them, and what is
    blended into one of those would not be what is exported.

    Args:
        plan: The parents and how they pair.
        live: The loaded model's parameters, which nobody has written to yet.
        resident: What of the VLM parent's files is blended.

    Raises:
        ParentsError: Some hold something else.
    """
    told = []
    for slot, parameter in live.items():
        rows = plan.vocabulary.rows_of("vlm", slot)
        there, file = parameter.detach(), resident[slot]
        if rows is not None:
            there = there[rows[rows < len(there)].to(there.device)]
        if slot.has_token_rows:  # transformers may pad the rows, or cut them
            there, file = there[: len(file)], file[: len(there)]
        if not torch.equal(there, file.to(there)):
            told.append(f"{slot}  {tuple(file.shape)} in the file   {tuple(there.shape)} in memory")
    if told:
        raise ParentsError(
            f"the loaded VLM holds other values than its files in {len(told)} of {len(live)} language slots",
            details=told[:6],
            hint=CONVERTED,
        )


def _resident_tower(plan: Plan, parent: str, device: torch.device, residency: str) -> dict[Slot, Tensor]:
    """Read one parent's tower; slots of one key (a tied head) share one tensor."""
    keys = plan.anatomy.keys[parent]
    slot_of = {key: slot for slot, key in keys.items()}
    tensors = {key: place(plan.read(parent, slot), device, residency) for key, slot in slot_of.items()}
    return {slot: tensors[keys[slot]] for slot in plan.anatomy.slots}


def check_repeated_heads(plan: Plan) -> None:
    """Check that a head which a config ties, but the file holds all the same, is what the embeddings are.

    Raises:
        ParentsError: It is not: then nobody can tell which of the two the model uses.
    """
    for name, key in plan.anatomy.repeated_heads.items():
        embeddings = plan.anatomy.keys[name][EMBEDDINGS]
        if not torch.equal(plan.checkpoints[name].read(key), plan.checkpoints[name].read(embeddings)):
            raise ParentsError(
                f"the config of `{name}` ties its head to its embeddings, but `{key}` differs from `{embeddings}`",
                hint=f"mend `tie_word_embeddings` in its config.json; or {KEEP_EMBEDDINGS}",
            )


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
