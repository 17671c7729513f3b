"""One evolution from recipe to table: the order of the steps, and what the run folder holds.

    journal.jsonl   the only state: controls, candidates, finals, held-out scores
    recipe.json     the resolved recipe, for `vlmmerge export`
    best/           the best candidate as a Hugging Face folder

Knows what follows what. Does not know how a candidate is made or scored, nor what a table looks like.
"""

import functools
import gc
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vlmmerge.apart import check_pictures_apart
from vlmmerge.blend.distance import ancestry_warnings
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import RunError
from vlmmerge.evalsets import checksum, load
from vlmmerge.evalsets.pictures import check_pictures
from vlmmerge.evaluate import Evaluator, make_evaluate
from vlmmerge.export import UNWATCHED, ExportWatcher, export
from vlmmerge.export.card import licences_of
from vlmmerge.export.licence import warnings
from vlmmerge.export.selftest import check_export
from vlmmerge.generate import choose_attention, device_of
from vlmmerge.generate.placement import free_gpus
from vlmmerge.generate.sharing import check_shared, fewest_gpus, gpus_for_each
from vlmmerge.generate.skeleton import make_skeleton
from vlmmerge.genome import Ratios, encode
from vlmmerge.journal import Journal, Record, best, make_header, read_journal
from vlmmerge.mergekit import write_mergekit
from vlmmerge.plan import Plan, make_plan, make_space
from vlmmerge.recipe import Recipe, fingerprint_fields

JOURNAL, RECIPE, BEST = "journal.jsonl", "recipe.json", "best"
CONTESTS = ("grid", "candidate")  # the kinds of records that have a winner


@dataclass(frozen=True)
class Watcher:
    """Who is told of progress: called as things happen, on the main thread."""

    on_stage: Callable[[str, int], None] = lambda name, total: None
    on_record: Callable[[Record], None] = lambda record: None
    on_warning: Callable[[str], None] = lambda text: None


@dataclass
class Run:
    """A run folder and the plan that it carries out.

    Args:
        plan: What is blended, asked and scored.
        folder: The run's folder.
        watcher: Who is told of progress.
        start: Where the search starts (see `start_from`) if the recipe does not say; a resumed run knows it already.
    """

    plan: Plan
    folder: Path
    watcher: Watcher = field(default_factory=Watcher)
    start: Record | None = None

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """The live model; a run that only reads its journal never loads it."""
        self.watcher.on_stage("loading", 0)
        evaluator = Evaluator(self.plan)
        if (placement := evaluator.vlm.placement).has_waiting:
            self.watcher.on_warning(placement.why)
        for text in ancestry_warnings(evaluator.blender.distances):
            self.watcher.on_warning(text)
        return evaluator

    def evolve(self, *, resume: bool) -> list[Record]:
        """Carry out the whole run, or the rest of it; killed at any moment it can be resumed.

        Returns:
            All records of the journal.

        Raises:
            RunError: The folder holds another run or something else, or no candidate could be scored.
            EvalsetError: Pictures cannot be read; it is told before anything is done.
            KeyboardInterrupt: After the best candidate so far was exported.
        """
        if not resume and not (self.folder / JOURNAL).exists() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise RunError(f"{self.folder} is not empty and no run of vlmmerge", hint="choose another --run")
        if resume and self.start is None:
            self.start = journalled_start(self.folder / JOURNAL)
        assert self.plan.recipe.evalset
        check_pictures_apart(self.plan.recipe.evalset)
        for text in warnings(licences_of(self.plan)):
            self.watcher.on_warning(text)
        assert self.plan.recipe.evalset
        for choice in self.plan.recipe.evalset.choices.values():
            check_pictures(load(choice.name, choice.split, choice.samples))
        with Journal(self.folder / JOURNAL) as journal:
            header = make_header(run_fields(self.plan) | ({"start": self.start} if self.start else {}))
            header |= {"parents_commit": self.plan.commits} if self.plan.commits else {}
            header |= self._attention()
            (journal.open_resume if resume else journal.open_new)(header)
            (self.folder / RECIPE).write_text(
                self.plan.pinned_recipe.model_dump_json(indent=2) + "\n", encoding="utf-8"
            )
            try:
                self._score_grid(journal)
                self._search(journal)
                self._score_finalists(journal)
                self._hold_out(journal)
            except KeyboardInterrupt:
                # What is on disk counts: the interrupt may have come after a line was written and before it was kept.
                self._export_best(*read_journal(journal.path))
                raise
            self._export_best(journal.header, journal.records)
            return journal.records

    def _attention(self) -> Record:
        """The attention that is taken where there is a choice, on a GPU; no part of the fingerprint."""
        plan, device = self.plan, device_of(self.plan.recipe.generate)
        if device.type != "cuda":
            return {}
        settings, trusts_code = plan.recipe.generate, plan.trusts_code
        return {"attention": choose_attention(plan.eyes.folder, settings, device, trusts_code=trusts_code)}

    def _score_grid(self, journal: Journal) -> None:
        """Score every pair of uniform weights on a grid: the control that a search must beat."""
        done = sum(record["kind"] == "grid" for record in journal.records)
        points = list(grid_weights(self.plan))
        if points:
            self.watcher.on_stage("grid", len(points))
        for number, weights in enumerate(points):
            if number >= done:
                result = self.evaluator.evaluate_ratios(functools.partial(self.plan.uniform, weights))
                journal.append({"kind": "grid", "index": number, "weights": weights, **result})
            self.watcher.on_record(journal.records[number])

    def _search(self, journal: Journal) -> None:
        from vlmmerge.search import run_search  # seconds: it imports EvoTorch, which imports Ray

        recipe = self.plan.recipe
        if recipe.search.actors >= 2:  # each has a model of its own
            self._unload()
        gpus_each = gpus_of_actor(self.plan)
        self.watcher.on_stage("search", recipe.search.evaluations)
        for record in journal.records:
            if record["kind"] == "candidate":
                self.watcher.on_record(record)
        run_search(
            num_genes=len(self.plan.space.genes),
            center=self.start["genome"] if self.start else start_genome(self.plan),
            settings=recipe.search,
            journal=journal,
            evaluate=None if recipe.search.actors >= 2 else lambda genome: self.evaluator.evaluate(genome),
            make_evaluate=functools.partial(make_evaluate, self.plan.pinned_recipe, trusts_code=self.plan.trusts_code),
            on_record=self.watcher.on_record,
            gpus_each=gpus_each,
        )

    def _score_finalists(self, journal: Journal) -> None:
        """Score the best few again on the samples for it, if the recipe has any: there the best is less of luck."""
        wanted = [(kind, record) for kind in CONTESTS for record in finalists(self.plan, kind, journal.records)]
        done = [(record["of"], record["index"]) for record in journal.records if record["kind"] == "final"]
        if wanted:
            self.watcher.on_stage("finals", len(wanted))
        for kind, record in wanted:
            if (kind, record["index"]) not in done:
                ratios = functools.partial(ratios_of, self.plan, record)
                result = self.evaluator.evaluate_ratios(ratios, self.evaluator.finals_exam)
                journal.append({"kind": "final", "of": kind, "index": record["index"], **result})
            self.watcher.on_record({"kind": "final"})

    def _hold_out(self, journal: Journal) -> None:
        """Score the parents, the fixed ratios, the centre and the best candidate on data that the search never saw."""
        wanted = list(held_out_blends(self.plan, journal.records))
        known = [(record["name"], record["of"]) for record in journal.records if record["kind"] == "held_out"]
        self.watcher.on_stage("held out", len(wanted))
        for name, of, ratios in wanted:
            if (name, of) not in known:
                journal.append({"kind": "held_out", "name": name, "of": of, **self.evaluator.hold_out(ratios)})
            self.watcher.on_record({"kind": "held_out", "name": name})

    def _export_best(self, header: Record, records: list[Record]) -> None:
        if winner := winner_of("candidate", records):
            export_candidate(self.plan, header, records, winner, self.folder / BEST)

    def check_best(self, records: list[Record]) -> int:
        """Ask the exported folder, in a new process, what the best candidate was asked; the live model makes room.

        Returns:
            How many answers were compared; all are equal.

        Raises:
            RunError: The folder does not load, or answers otherwise.
        """
        self._unload()
        winner = winner_of("candidate", records)
        assert winner, "a run without a winner ends before this"
        self.watcher.on_stage(f"asking {self.folder / BEST} in a new process", 0)
        return check_export(self.folder / BEST, self.plan.recipe, winner, trusts_code=self.plan.trusts_code)

    def _unload(self) -> None:
        """Make room: the live model comes back when somebody needs it."""
        self.__dict__.pop("evaluator", None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def gpus_of_actor(plan: Plan) -> float | None:
    """The GPUs that each actor of the search gets, or its share of one; None where they see what this process sees.

    Raises:
        VlmMergeError: There are too few GPUs for so many actors, or too small ones.
    """
    settings, num_actors = plan.recipe.generate, plan.recipe.search.actors
    gpus = free_gpus(settings)
    if num_actors < 2 or not gpus or device_of(settings).index is not None:
        return None
    model = make_skeleton(plan.eyes.folder, settings, trusts_code=plan.trusts_code)
    each = gpus_for_each(len(gpus), num_actors, fewest_gpus(model, gpus))
    check_shared(model, gpus, num_actors)
    return each


def run_fields(plan: Plan) -> dict[str, Any]:
    """Everything that could move a score of the run: the recipe, the checksums of parents, evalsets and CLIP."""
    evalset = plan.recipe.evalset
    assert evalset
    splits = {name: checksum(choice.name, choice.split) for name, choice in evalset.choices.items()}
    parents = {name: checkpoint.checksum for name, checkpoint in plan.checkpoints.items()}
    fields = {"recipe": fingerprint_fields(plan.recipe), "parents_sha256": parents, "evalset_sha256": splits}
    clip = plan.recipe.score and plan.recipe.score.clip
    return fields | ({"clip_sha256": open_checkpoint(clip).checksum} if clip else {})


def start_genome(plan: Plan) -> list[float]:
    """Where the search starts: the recipe's ratios if it has some, else `search.start` for every gene."""
    return encode(plan.space, plan.fixed) if plan.fixed else plan.space.center(plan.recipe.search.start)


def start_from(plan: Plan, folder: Path) -> Record:
    """Start a search at the best candidate of another run, for example a coarser one.

    Returns:
        A new dict: the other run's fingerprint, the candidate's index, and the genome of `plan`'s search space that is
        nearest to its ratios.

    Raises:
        RunError: There is no run in the folder, it has no score yet, or it blends parents of other names.
    """
    recipe, header, records = read_run(folder)
    theirs, ours = (", ".join(sorted(each.parents.llms)) for each in (recipe, plan.recipe))
    if theirs != ours:
        raise RunError(
            f"{folder} cannot be started from: it blends vlm with {theirs}, the recipe vlm with {ours}",
            hint="start from a run of the same parents, by the same names",
        )
    winner = choose_candidate(records, None)
    space = make_space(recipe, plan.anatomy.slots)
    if len(space.genes) != len(winner["genome"]):
        reason = f"its genomes have {len(winner['genome'])} genes, {len(space.genes)} in this language tower"
        raise RunError(f"{folder} cannot be started from: {reason}", hint="start from a run of the same parents")
    genome = encode(plan.space, space.decode(winner["genome"]))
    return {"run": header["fingerprint"], "candidate": winner["index"], "genome": genome}


def journalled_start(journal: Path) -> Record | None:
    """Where a run started, if its journal says so; None where it cannot be read, which resuming it will tell."""
    try:
        header, _ = read_journal(journal)
    except RunError:
        return None
    return header["fields"].get("start")


def grid_weights(plan: Plan) -> Iterator[dict[str, float]]:
    """The grid's weights: `search.grid` values over the weight's range for each parent, all combinations."""
    low, high = plan.recipe.blend.ranges.weight
    steps = plan.recipe.search.grid
    values = [low + (high - low) * step / max(steps - 1, 1) for step in range(steps)]
    for combination in itertools.product(values, repeat=len(plan.blended_parents)) if steps else ():
        yield dict(zip(plan.blended_parents, combination, strict=True))


def finalists(plan: Plan, kind: str, records: list[Record]) -> list[Record]:
    """The best `search.finalists` of a kind, best first, and the search's centre."""
    scored = [record for record in records if record["kind"] == kind and record["score"] is not None]
    assert plan.recipe.evalset
    number = plan.recipe.search.finalists if plan.recipe.evalset.finals else 0
    first = sorted(scored, key=lambda record: (-record["score"], record["index"]))[:number]
    centres = [record for record in scored if record.get("centre")][-1:] if number else []
    return first + [record for record in centres if record not in first]


def winner_of(kind: str, records: list[Record]) -> Record | None:
    """The best of a kind: by its final score where finals were held, else by its first; None where none has a score."""
    contest = [record for record in records if record["kind"] == kind]
    final = best(record for record in records if record["kind"] == "final" and record["of"] == kind)
    return next(record for record in contest if record["index"] == final["index"]) if final else best(contest)


def ratios_of(plan: Plan, record: Record) -> Ratios:
    """The ratios of a candidate or of a grid's point."""
    return plan.uniform(record["weights"]) if record["kind"] == "grid" else plan.space.decode(record["genome"])


def held_out_blends(plan: Plan, records: list[Record]) -> Iterator[tuple[str, Any, Ratios]]:
    """What is scored on held-out data, as (name, what it is, ratios): parents, fixed ratios, centre, best."""
    yield "vlm", {"vlm": 1.0}, plan.uniform({"vlm": 1.0})
    for name in plan.recipe.parents.llms:
        yield f"{name} with the eyes of {plan.layout}", {name: 1.0}, plan.uniform({name: 1.0})
    share = {parent: 1.0 / len(plan.blended_parents) for parent in plan.blended_parents}
    yield "average", share, plan.uniform(share)
    if of_grid := winner_of("grid", records):
        yield "best of the grid", of_grid["weights"], ratios_of(plan, of_grid)
    found = [record for record in records if record["kind"] == "candidate"]
    winner = winner_of("candidate", records)
    if winner is None:
        reasons = sorted({record["reason"] for record in found})
        raise RunError("no candidate could be scored", details=reasons[:5], hint="the journal holds every reason")
    for centre in [record for record in found if record.get("centre") and record["score"] is not None][-1:]:
        yield "centre", centre["index"], ratios_of(plan, centre)
    yield "best", winner["index"], ratios_of(plan, winner)


def export_candidate(
    plan: Plan,
    header: Record,
    records: list[Record],
    candidate: Record,
    out: Path,
    watcher: ExportWatcher = UNWATCHED,
) -> None:
    """Write a candidate as a Hugging Face folder, with all that the journal knows of it as provenance."""
    held_out = [r for r in records if r["kind"] == "held_out"]
    of_it = [r for r in held_out if r["of"] == candidate["index"]]
    others = [r for r in held_out if r["name"] != "best" and r not in of_it]
    beside = {r["name"]: r["scores"] for r in others}
    retained = {r["name"]: r["retention"]["scores"] for r in others if "retention" in r}
    provenance = {
        "vlmmerge": header["version"],
        **header["fields"],
        **({"parents_commit": plan.commits} if plan.commits else {}),
        "candidate": candidate,
        "genes": {
            gene.name: gene.to_value(number) for gene, number in zip(plan.space.genes, candidate["genome"], strict=True)
        },
        "held_out": _with_asked(of_it[-1], beside) if of_it else {},
    }
    if of_it and "guarded" in of_it[-1]:
        provenance["held_out"]["guarded"] = of_it[-1]["guarded"]
    if of_it and "retention" in of_it[-1]:
        provenance["retention"] = _with_asked(of_it[-1]["retention"], retained)
    export(plan, ratios_of(plan, candidate), out, provenance, watcher)


def _with_asked(record: Record, beside: Record) -> Record:
    """A blend's scores with how it was asked, where its line of the journal tells, and those of the blends beside."""
    return {**{key: record[key] for key in ("scores", "asked") if key in record}, "beside": beside}


def as_mergekit_file(plan: Plan, candidate: Record, title: str) -> str:
    """A candidate's ratios as the text of a mergekit file.

    Raises:
        RecipeError: mergekit cannot express the blend.
    """
    keys, vlm = plan.anatomy.keys, plan.checkpoints["vlm"]
    dtypes = Counter(str(vlm.dtype(key)).removeprefix("torch.") for key in keys["vlm"].values())
    ratios = plan.space.decode(candidate["genome"])
    return write_mergekit(plan.recipe, keys["base"], ratios, dtypes.most_common(1)[0][0], title)


def open_run(folder: Path, *, trusts_code: bool = False) -> tuple[Plan, Record, list[Record]]:
    """Open a run folder for reading: its plan, and its journal's header and records.

    Raises:
        RunError: There is no run in the folder, or its parents are no longer what they were.
    """
    recipe, header, records = read_run(folder)
    plan = make_plan(recipe, trusts_code=trusts_code)
    then = header["fields"]["parents_sha256"]
    changed = [f"{name}: {c.folder}" for name, c in plan.checkpoints.items() if c.checksum != then.get(name)]
    if changed:
        hint = "restore them, or start a new run"
        raise RunError(f"the parents of {folder} have changed since it began", details=changed, hint=hint)
    return plan, header, records


def read_run(folder: Path) -> tuple[Recipe, Record, list[Record]]:
    """Read a run folder's recipe, and its journal's header and records, without a look at the parents.

    Raises:
        RunError: There is no run in the folder.
    """
    header, records = read_journal(folder / JOURNAL)
    try:
        recipe = Recipe.model_validate_json((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / RECIPE} cannot be read", hint="resume the run once to write it again") from error
    return recipe, header, records


def choose_candidate(records: list[Record], index: int | None) -> Record:
    """The candidate of that index, or the best.

    Raises:
        RunError: There is no such candidate, or it failed.
    """
    found = [record for record in records if record["kind"] == "candidate"]
    named = next((record for record in found if record["index"] == index), None)
    chosen = winner_of("candidate", records) if index is None else named
    if chosen is None:
        raise RunError(
            "no candidate has a score yet" if index is None else f"no candidate {index}; there are {len(found)}",
            hint="`vlmmerge evolve RECIPE --run RUN --resume` goes on",
        )
    if chosen["score"] is None:
        raise RunError(f"candidate {index} failed: {chosen['reason']}", hint="choose another --candidate")
    return chosen
