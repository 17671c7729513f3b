"""The search: EvoTorch proposes genomes, somebody else scores them, the journal keeps every one.

Knows EvoTorch's problem and algorithm, and Ray, which starts only when two or more actors are asked for. It is the
only importer of evotorch; the import takes seconds (it brings Ray), so import this module only where a search begins.
Does not know what a genome means or how a candidate gets its score.

The same seed gives the same genomes bit for bit, whatever the number of actors or threads. A resumed search goes
through the same steps with the journalled scores in place of evaluations.
"""

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

# EvoTorch configures a logger of its own at import unless told not to.
os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "-1")
# Ray reads these at import. No statistics are sent, and actors that ask for no GPU keep seeing what this process sees.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from evotorch import Problem, SolutionBatch
from evotorch.algorithms import CMAES
from ray.util import ActorPool

from vlmmerge.errors import RunError, VlmMergeError
from vlmmerge.journal import Journal, Record

if TYPE_CHECKING:
    from vlmmerge.recipe import Search

logging.getLogger("evotorch").setLevel(logging.WARNING)

Genome = list[float]
Evaluate = Callable[[Genome], Record]

# Standard deviations of a gene, in units of its range, outside of which a search distribution finds nothing more: genes
# are reflected into [0, 1], so far above 1 every sample is uniform noise; far below, every sample is one candidate.
SPENT_BELOW, SPENT_ABOVE = 1e-12, 1e3


def population_size(num_genes: int) -> int:
    """Return the usual number of candidates in a generation.

    Source: Hansen 2016, The CMA Evolution Strategy: A Tutorial, table 1, https://arxiv.org/abs/1604.00772

    >>> population_size(6)
    9
    """
    return 4 + math.floor(3 * math.log(num_genes))


def run_search(
    *,
    num_genes: int,
    center: Sequence[float],
    settings: "Search",
    journal: Journal,
    evaluate: Evaluate | None = None,
    make_evaluate: Callable[[], Evaluate] | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
    gpus_each: float | None = None,
) -> None:
    """Score `settings.evaluations` candidates, and last the centre of the search distribution, into the journal.

    Candidates that the journal has already are not evaluated again. A journal with more candidates than asked for is
    only finished: its centre is scored. A longer search goes on after that centre as if it had not been there.

    Args:
        num_genes: Length of a genome, at least 2.
        center: Where the search starts, `num_genes` values in units of a gene's range.
        settings: The recipe's `search` section.
        journal: An open journal; a candidate is appended as `{"kind": "candidate", "index", "genome", ...}` with what
            `evaluate` returned, the centre with `"centre": true` as well.
        evaluate: Scores a genome in this process; returns at least `score` (None: it failed). Genomes are unbounded.
        make_evaluate: Builds `evaluate`, once and only when a candidate needs it: in each Ray actor where
            `settings.actors` is 2 or more (Ray pickles it), else in this process where `evaluate` is not given.
        on_record: Called with each new record after it is on disk; not with those that the journal had.
        gpus_each: The GPUs that each actor gets, or its share of one; None: actors see what this process sees.

    Raises:
        VlmMergeError: Fewer than 2 genes.
        RunError: The journal does not follow from these settings, or a Ray actor died.
        BaseException: Whatever `evaluate` raises, KeyboardInterrupt too; the journal is whole and can be resumed.

    Source: Hansen 2016, https://arxiv.org/abs/1604.00772, as implemented by evotorch.algorithms.CMAES. As in EvoTorch,
    one actor is none: it would only be another process to wait for.
    """
    assert len(center) == num_genes, f"center has {len(center)} values, wanted {num_genes}"
    has_actors = settings.actors >= 2
    assert make_evaluate or (evaluate and not has_actors), "actors need make_evaluate, and no actors one of the two"
    if num_genes < 2:
        raise VlmMergeError("a search needs at least 2 genes", hint="choose a finer `blend.depth`, or add a parent")
    problem = CandidateProblem(num_genes, settings.seed, settings.actors if has_actors else 0, gpus_each)
    problem.evaluate_candidate, problem.make_evaluate = evaluate, make_evaluate
    problem.replay = Replay(journal, problem.results_of, on_record)
    try:
        with _threads(1):
            _run_generations(problem, settings, center)
    finally:
        problem.stop_actors()


def _run_generations(problem: "CandidateProblem", settings: "Search", center: Sequence[float]) -> None:
    num_genes = len(center)
    num_in_generation = population_size(num_genes) if settings.population == "auto" else int(settings.population)
    searcher = ALGORITHMS[settings.algorithm](problem, num_in_generation, center, settings.sigma)
    num_wanted = max(settings.evaluations, problem.replay.num_known)
    num_generations, num_left = divmod(num_wanted, num_in_generation)
    for _ in range(num_generations):
        searcher.step()
    if num_left:
        # A whole generation is drawn, as a longer search would, and its end is left out: part of one teaches nothing.
        _, _, samples = searcher.sample_distribution()
        problem.replay.records_of(samples[:num_left].tolist())
    problem.replay.record_of_centre(searcher.m.tolist())


class Replay:
    """Gives every candidate its record: the journal's if it has one, otherwise a new one."""

    def __init__(
        self,
        journal: Journal,
        results_of: Callable[[list[Genome]], Iterator[Record]],
        on_record: Callable[[Record], None],
    ) -> None:
        self._journal, self._results_of, self._on_record = journal, results_of, on_record
        self._known: list[Record] = []
        self._centres: dict[int, Record] = {}  # by the number of candidates before it: a prolonged run has several
        candidates = [record for record in journal.records if record["kind"] == "candidate"]
        self._num_candidates = len(candidates)
        for record in candidates:
            if record.get("centre"):
                self._centres[len(self._known)] = record
            else:
                self._known.append(record)
        self.num_known = len(self._known)
        self._num_given = 0

    def records_of(self, genomes: list[Genome]) -> list[Record]:
        """Return the records of the next candidates of the search, in order.

        Raises:
            RunError: The journal has another genome there.
        """
        known = self._known[self._num_given : self._num_given + len(genomes)]
        for record, genome in zip(known, genomes, strict=False):
            _check_same_genome(record, genome)
        self._num_given += len(genomes)
        return known + self._evaluate(genomes[len(known) :])

    def record_of_centre(self, genome: Genome) -> Record:
        """Return the record of the search distribution's centre after all candidates.

        Raises:
            RunError: The journal has another genome there.
        """
        known = self._centres.get(self._num_given)
        if known is None:
            return self._evaluate([genome], centre=True)[0]
        _check_same_genome(known, genome)
        return known

    def _evaluate(self, genomes: list[Genome], **marks: bool) -> list[Record]:
        records = []
        # An empty list starts nothing: no model is loaded, and no actor, for a journal that is complete.
        for genome, result in zip(genomes, self._results_of(genomes) if genomes else (), strict=True):
            record = {"kind": "candidate", "index": self._num_candidates, "genome": genome, **marks, **result}
            self._num_candidates += 1
            records.append(self._journal.append(record))
            self._on_record(records[-1])
        return records


def _check_same_genome(record: Record, genome: Genome) -> None:
    if record.get("genome") != genome:
        details = [f"candidate {record.get('index')} has another genome than this seed and these scores lead to"]
        hint = "it was made by other versions of torch or EvoTorch, or on another processor; start a new run with --run"
        raise RunError("the journal does not follow from the recipe", details=details, hint=hint)


class CandidateProblem(Problem):
    """The EvoTorch problem: ranks a generation's candidates; in a Ray actor it only evaluates.

    CMA-ES goes by ranks, so ranks are what it is told: failed candidates, equal scores and scores of any size are then
    ordered the same everywhere (EvoTorch's own sort is not stable). Failed candidates come last, and of equals the
    first drawn comes first.
    """

    replay: Replay

    def __init__(self, num_genes: int, seed: int, num_actors: int = 0, gpus_each: float | None = None) -> None:
        super().__init__(
            "max",
            solution_length=num_genes,
            initial_bounds=(0.0, 1.0),  # CMAES fills a first population with these and never evaluates it
            dtype=torch.float64,
            eval_dtype=torch.float64,
            seed=seed,
            num_actors=num_actors,
            num_gpus_per_actor=gpus_each if num_actors else None,
            store_solution_stats=False,
        )
        self.evaluate_candidate: Evaluate | None = None
        self.make_evaluate: Callable[[], Evaluate] | None = None
        self._num_threads = torch.get_num_threads()
        self._owns_ray = False

    def results_of(self, genomes: list[Genome]) -> Iterator[Record]:
        """Evaluate genomes here or in the actors, and yield their results in order, each as soon as it can be."""
        if not self.num_actors:
            yield from map(self.result_of, genomes)
            return
        if self.actors is None:
            self._start_actors()
        try:
            yield from ActorPool(self.actors).map(
                lambda actor, genome: actor.call.remote("result_of", [genome], {}), genomes
            )
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # what `evaluate` raised there, as it would be raised here
        except ray.exceptions.RayActorError as error:
            hint = "it ran out of memory, perhaps: go on with --resume and fewer `search.actors`"
            details = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise RunError("a Ray actor died", details=details, hint=hint) from error

    def result_of(self, genome: Genome) -> Record:
        """Evaluate one genome in this process, with the threads that the main process has."""
        with _threads(self._num_threads):
            if self.evaluate_candidate is None:
                assert self.make_evaluate is not None, "nothing here can evaluate"
                self.evaluate_candidate = self.make_evaluate()
            return self.evaluate_candidate(genome)

    def stop_actors(self) -> None:
        """End the actors, and Ray if it was started here."""
        if self.actors is not None:
            self.kill_actors()
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False

    def _evaluate_all(self, batch: SolutionBatch) -> None:
        """Give each solution of a generation its rank, n - 1 for the best to 0 for the worst."""
        records = self.replay.records_of(batch.values.tolist())
        scores = [record["score"] for record in records]
        best_first = sorted(range(len(scores)), key=lambda i: (scores[i] is None, -(scores[i] or 0.0), i))
        ranks = torch.empty(len(scores), dtype=torch.float64)
        ranks[best_first] = torch.arange(len(scores), dtype=torch.float64).flip(0)
        batch.set_evals(ranks)

    def _parallelize(self) -> None:
        """Do nothing where EvoTorch would start the actors: they start when a candidate needs them."""

    def _start_actors(self) -> None:
        if not ray.is_initialized():
            _start_ray(self.num_actors)
            self._owns_ray = True
        # EvoTorch draws the actors' seeds from the generator that the genomes come from: put it back as it was.
        state = self.generator.get_state()
        super()._parallelize()
        self.generator.set_state(state)

    @property
    def _nonserialized_attribs(self) -> list[str]:
        """What stays in the main process. Given a generator, EvoTorch's actor would call a `Problem.seed` it lacks."""
        return ["_generator", "replay", "evaluate_candidate"]


class RestartingCMAES(CMAES):
    """CMA-ES that starts again from its centre, with its first sigma, once its distribution is spent.

    After thousands of candidates EvoTorch's covariance can lose its positive definiteness, and its Cholesky
    decomposition then raises (seen 2026-11: 2 genes, 9 candidates a generation, generation 1172 on a sphere).
    """

    C: torch.Tensor
    sigma: torch.Tensor
    first_sigma: float

    def decompose_C(self) -> None:
        """Decompose the covariance, or start again where that is impossible or pointless."""
        stdevs = self.sigma * self.C.diagonal().sqrt()
        is_alive = bool((stdevs > SPENT_BELOW).all() and (stdevs < SPENT_ABOVE).all())  # NaN is not alive
        self.A, failed = torch.linalg.cholesky_ex(self.C)
        if not is_alive or bool(failed):
            self.C = self.problem.make_I(len(self.m))
            self.A = self.C.clone()
            self.sigma = self.problem.make_tensor(self.first_sigma)
            self.p_sigma = self.p_c = 0.0


def _cmaes(problem: Problem, num_in_generation: int, center: Sequence[float], sigma: float) -> CMAES:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EvoTorch's own, about its use of torch and numpy: two at every start
        searcher = RestartingCMAES(problem, popsize=num_in_generation, center_init=list(center), stdev_init=sigma)
    searcher.first_sigma = sigma
    return searcher


def _start_ray(num_actors: int) -> None:
    """Start a Ray of our own on this machine: quiet, no dashboard, no network beyond localhost, little memory."""
    ray.init(
        address="local",  # never join a cluster that happens to run
        num_cpus=num_actors,
        num_gpus=torch.cuda.device_count(),
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 * 2**20,  # only genomes and results pass through it; Ray's least is 75 MiB
    )


@contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    """Set torch's threads for a while: with 400 genes, 1 and 2 threads gave genomes that differ in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


ALGORITHMS: dict[str, Callable[[Problem, int, Sequence[float], float], Any]] = {"cmaes": _cmaes}
