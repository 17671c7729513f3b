"""search.py: the same genomes from the same seed, whatever interrupts, fails, or runs beside it."""

import math
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from evotorch import Problem, SolutionBatch
from evotorch.algorithms import CMAES

from vlmmerge import search
from vlmmerge.errors import ParentsError, RunError, VlmMergeError
from vlmmerge.journal import Journal, best, make_header, read_journal
from vlmmerge.recipe import Search
from vlmmerge.search import population_size, run_search

HEADER = make_header({"search": "synthetic"})
NUM_GENES = 4
GENERATION = population_size(NUM_GENES)
SETTINGS = Search(evaluations=3 * GENERATION + 3, seed=7)


def score_sphere(genome: list[float]) -> dict[str, Any]:
    """Best at 0.3 in every gene; a part of the space fails, for a reason in Japanese."""
    if sum(genome) > 2.4:
        return {"score": None, "status": "failed", "reason": "重みが大きすぎる"}
    return {"score": -sum((gene - 0.3) ** 2 for gene in genome), "status": "ok", "reason": None}


def after(note: Callable[[list[float]], object]) -> Callable[[list[float]], dict[str, Any]]:
    """Score a genome after something was noted about it."""

    def evaluate(genome: list[float]) -> dict[str, Any]:
        note(genome)
        return score_sphere(genome)

    return evaluate


def make_score_sphere(marks: Path | None = None) -> Callable[[list[float]], dict[str, Any]]:
    if marks is not None:
        (marks / str(os.getpid())).touch()
    return score_sphere


def score_sphere_slowly(genome: list[float]) -> dict[str, Any]:
    time.sleep(0.005)
    return score_sphere(genome)


def run(path: Path, settings: Search = SETTINGS, num_genes: int = NUM_GENES, **how: Any) -> bytes:
    """Start a search, or resume the one that is there; return the journal's bytes."""
    if not how.keys() & {"evaluate", "make_evaluate"}:
        how["evaluate"] = score_sphere
    is_there = path.exists()
    with Journal(path) as journal:
        (journal.open_resume if is_there else journal.open_new)(HEADER)
        run_search(num_genes=num_genes, center=[settings.start] * num_genes, settings=settings, journal=journal, **how)
    return path.read_bytes()


def run_in_child(path: Path, settings: Search) -> None:
    run(path, settings, evaluate=score_sphere_slowly)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of an uninterrupted run."""
    return run(tmp_path_factory.mktemp("whole") / "journal.jsonl")


@pytest.mark.parametrize("evaluations", [1, GENERATION - 1, GENERATION, GENERATION + 1, 2 * GENERATION])
def test_exactly_the_wanted_candidates_are_evaluated_and_then_the_centre(tmp_path: Path, evaluations: int) -> None:
    called: list[list[float]] = []
    run(tmp_path / "j", Search(evaluations=evaluations, seed=7), evaluate=after(called.append))
    _, records = read_journal(tmp_path / "j")
    assert [record["index"] for record in records] == list(range(evaluations + 1))
    assert [record.get("centre", False) for record in records] == [False] * evaluations + [True]
    assert [record["genome"] for record in records] == called
    assert {record["kind"] for record in records} == {"candidate"}
    assert all(record.items() >= score_sphere(record["genome"]).items() for record in records)


def test_a_shorter_search_is_the_beginning_of_a_longer_one(tmp_path: Path, whole: bytes) -> None:
    for evaluations in range(1, SETTINGS.evaluations):
        part = run(tmp_path / str(evaluations), Search(evaluations=evaluations, seed=7))
        assert part.split(b"\n")[: evaluations + 1] == whole.split(b"\n")[: evaluations + 1]


def test_before_anything_is_learnt_the_centre_is_where_the_search_started(tmp_path: Path) -> None:
    run(tmp_path / "j", Search(evaluations=GENERATION - 1, seed=7, start=0.25))
    assert read_journal(tmp_path / "j")[1][-1]["genome"] == [0.25] * NUM_GENES


def test_the_search_finds_the_optimum(tmp_path: Path) -> None:
    def evaluate(genome: list[float]) -> dict[str, Any]:
        return {"score": -sum((gene - 0.3) ** 2 for gene in genome), "status": "ok", "reason": None}

    run(tmp_path / "j", Search(evaluations=400, seed=1), num_genes=6, evaluate=evaluate)
    _, records = read_journal(tmp_path / "j")
    winner = best(records)
    assert winner is not None
    assert winner["score"] > -1e-4
    assert records[-1]["score"] > -1e-3, "the centre is near the optimum too"


def test_the_same_seed_gives_the_same_journal_in_another_process_with_other_threads(tmp_path: Path) -> None:
    """With one thread here and two there, 400 genes once differed in their last bits. The other process is silent."""
    program = (
        "import sys; sys.path[:0] = ['tests', '.']\n"
        "import torch, pathlib, test_search; torch.set_num_threads(2); torch.manual_seed(99)\n"
        "test_search.run(pathlib.Path(sys.argv[1]), test_search.Search(evaluations=70, seed=5), 400)"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", program, str(tmp_path / "there")]
    there = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (there.returncode, there.stdout, there.stderr) == (0, "", "")
    with search._threads(1):
        here = run(tmp_path / "here", Search(evaluations=70, seed=5), 400)
    assert (tmp_path / "there").read_bytes() == here


def test_the_global_random_state_does_not_matter(tmp_path: Path, whole: bytes) -> None:
    def evaluate(genome: list[float]) -> dict[str, Any]:
        torch.rand(3)
        return score_sphere(genome)

    torch.manual_seed(1)
    assert run(tmp_path / "j", evaluate=evaluate) == whole


def test_candidates_are_evaluated_with_the_threads_that_were_set_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen: set[int] = set()
    with search._threads(2):
        run(tmp_path / "j", evaluate=after(lambda genome: seen.add(torch.get_num_threads())))
        assert torch.get_num_threads() == 2
    assert seen == {2}
    assert torch.get_num_threads() == before


def test_another_seed_gives_other_genomes(tmp_path: Path, whole: bytes) -> None:
    other = run(tmp_path / "j", Search(evaluations=SETTINGS.evaluations, seed=8))
    assert other.split(b"\n")[1] != whole.split(b"\n")[1]


def test_a_journal_cut_anywhere_and_resumed_ends_as_if_never_cut(tmp_path: Path, whole: bytes) -> None:
    lines = whole.splitlines(keepends=True)
    for num_lines in range(len(lines) + 1):
        torn_line = lines[num_lines] if num_lines < len(lines) else b'{"genome": [0.5'
        for torn in (b"", torn_line[: len(torn_line) // 2], torn_line[:-1]):
            path = tmp_path / "journal.jsonl"
            path.write_bytes(b"".join(lines[:num_lines]) + torn)
            fresh: list[dict[str, Any]] = []
            assert run(path, on_record=fresh.append) == whole
            assert [record["index"] for record in fresh] == list(range(max(num_lines - 1, 0), len(lines) - 1))


def test_a_complete_journal_needs_nothing_to_evaluate_with(tmp_path: Path, whole: bytes) -> None:
    def make_evaluate() -> Callable[[list[float]], dict[str, Any]]:
        raise AssertionError("nothing is left to evaluate")

    path = tmp_path / "journal.jsonl"
    path.write_bytes(whole)
    assert run(path, make_evaluate=make_evaluate) == whole
    assert run(path, SETTINGS.model_copy(update={"actors": 2}), make_evaluate=make_evaluate) == whole
    assert not ray.is_initialized()


def test_a_search_killed_at_random_moments_ends_as_if_never_killed(tmp_path: Path) -> None:
    settings = Search(evaluations=60, seed=3)
    expected = run(tmp_path / "whole", settings)
    path = tmp_path / "journal.jsonl"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vlmmerge.search"])  # its import takes seconds; once is enough
    moments = random.Random(0)
    sizes = [0]
    for _ in range(5):
        child = context.Process(target=run_in_child, args=(path, settings))
        child.start()
        while child.is_alive() and (not path.exists() or path.stat().st_size <= sizes[-1]):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.06))
        child.kill()
        child.join()
        sizes.append(path.stat().st_size)
        assert child.exitcode == -9, "the child must still have been at work"
    assert sizes == sorted(set(sizes)), "each child wrote something"
    assert sizes[-1] < len(expected)
    assert run(path, settings) == expected


def test_an_interrupt_leaves_a_journal_that_can_be_resumed(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    for num_before_interrupt in (0, 1, GENERATION, GENERATION + 2):
        remaining = iter(range(num_before_interrupt))

        def evaluate(genome: list[float], remaining: Any = remaining) -> dict[str, Any]:
            if next(remaining, None) is None:
                raise KeyboardInterrupt
            return score_sphere(genome)

        num_records = len(read_journal(path)[1]) if path.exists() else 0
        with pytest.raises(KeyboardInterrupt):
            run(path, evaluate=evaluate)
        assert whole.startswith(path.read_bytes())
        assert len(read_journal(path)[1]) == num_records + num_before_interrupt
    assert run(path) == whole


@pytest.mark.usefixtures("importable")
def test_0_1_and_2_actors_give_the_same_journal(
    tmp_path: Path, whole: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """EvoTorch draws its actors' seeds from the problem's generator: two actors once had other genomes than none."""
    started: list[bool] = []
    run(tmp_path / "0", evaluate=after(lambda genome: started.append(ray.is_initialized())))
    assert (tmp_path / "0").read_bytes() == whole
    marks = [tmp_path / "marks 1", tmp_path / "marks 2"]
    for mark in marks:
        mark.mkdir()
    one, two = (SETTINGS.model_copy(update={"actors": actors}) for actors in (1, 2))
    assert run(tmp_path / "1", one, make_evaluate=partial(make_score_sphere, marks[0])) == whole
    assert {path.name for path in marks[0].iterdir()} == {str(os.getpid())}
    assert not any(started) and not ray.is_initialized(), "Ray starts only for two actors"

    seen: list[dict[str, Any]] = []
    path = tmp_path / "2"
    assert run(path, two, make_evaluate=partial(make_score_sphere, marks[1]), on_record=seen.append) == whole
    assert [record["index"] for record in seen] == list(range(SETTINGS.evaluations + 1))
    processes = {path.name for path in marks[1].iterdir()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert not ray.is_initialized(), "Ray ends with the search"
    assert capfd.readouterr() == ("", ""), "Ray and EvoTorch are quiet"


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Ray's processes import this file."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{Path(search.__file__).parent.parent}")


def make_by_kind(kind: str) -> Callable[[list[float]], dict[str, Any]]:
    """Built in an actor: fails while it is built, or dies while it evaluates."""
    if kind == "make":
        raise ParentsError("parents do not fit", details=["layer 0"], hint="look")

    def evaluate(genome: list[float]) -> dict[str, Any]:
        if genome[0] < 0.5:
            return {**score_sphere(genome), "threads": torch.get_num_threads()}
        os._exit(1)

    return evaluate


@pytest.mark.usefixtures("importable")
def test_what_goes_wrong_in_an_actor_is_told_as_if_it_went_wrong_here(tmp_path: Path) -> None:
    settings = Search(evaluations=3 * GENERATION, seed=7, actors=2)
    search._start_ray(2)
    try:
        with pytest.raises(ParentsError) as caught:
            run(tmp_path / "make", settings, make_evaluate=partial(make_by_kind, "make"))
        assert str(caught.value) == "parents do not fit\n  layer 0\nhint: look"
        with (
            search._threads(2),
            pytest.raises(RunError, match=r"a Ray actor died\n(  .*\n)+hint: .* fewer `search\.actors`"),
        ):
            run(tmp_path / "die", settings, make_evaluate=partial(make_by_kind, "die"))
        assert ray.is_initialized(), "a Ray that was there before the search stays"
    finally:
        ray.shutdown()
    _, records = read_journal(tmp_path / "die")
    assert {record["threads"] for record in records} == {2}, "actors use as many threads as this process"
    fixed = run(tmp_path / "die", settings.model_copy(update={"actors": 0}))
    assert len(fixed.splitlines()) == 1 + settings.evaluations + 1


@pytest.mark.parametrize(
    "fails",
    [
        lambda index: True,
        lambda index: index < GENERATION,
        lambda index: index % GENERATION != 3,
        lambda index: index % 2,
    ],
    ids=["all", "a whole generation", "all but one of each", "half"],
)
def test_failed_candidates_never_break_the_search(tmp_path: Path, fails: Callable[[int], bool]) -> None:
    count = iter(range(10**6))

    def evaluate(genome: list[float]) -> dict[str, Any]:
        if fails(next(count)):
            return {"score": None if genome[0] < 0.5 else math.nan, "status": "failed", "reason": "out of memory"}
        return {"score": genome[1], "status": "ok", "reason": None}

    cut = run(tmp_path / "j", Search(evaluations=10 * GENERATION, seed=7), evaluate=evaluate)
    _, records = read_journal(tmp_path / "j")
    assert len(records) == 10 * GENERATION + 1
    assert all(math.isfinite(gene) for record in records for gene in record["genome"])
    assert [record["score"] is None for record in records] == [record["status"] == "failed" for record in records]
    assert run(tmp_path / "j", Search(evaluations=10 * GENERATION, seed=7)) == cut, "and it can be resumed"


def test_a_failed_candidate_counts_less_than_any_score(tmp_path: Path) -> None:
    """Failing half the space must push the search into the other half, even where every score there is far below 0."""

    def evaluate(genome: list[float]) -> dict[str, Any]:
        score = None if genome[0] > 0.4 else -1e6 - genome[1]
        return {"score": score, "status": "ok", "reason": None}

    run(tmp_path / "j", Search(evaluations=15 * GENERATION, seed=7), evaluate=evaluate)
    assert read_journal(tmp_path / "j")[1][-1]["genome"][0] < 0.4


def test_only_the_order_of_scores_matters(tmp_path: Path, whole: bytes) -> None:
    def evaluate(genome: list[float]) -> dict[str, Any]:
        result = score_sphere(genome)
        return result if result["score"] is None else {**result, "score": 1e300 * result["score"] - 5}

    run(tmp_path / "j", evaluate=evaluate)
    (tmp_path / "whole").write_bytes(whole)
    genomes, expected = ([record["genome"] for record in read_journal(tmp_path / name)[1]] for name in ("j", "whole"))
    assert genomes == expected


def test_a_finished_search_can_be_prolonged(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    run(path, Search(evaluations=GENERATION + 2, seed=7))
    assert run(path) == run(path), "once prolonged, nothing is left to do"
    (tmp_path / "whole").write_bytes(whole)
    _, records = read_journal(path)
    _, expected = read_journal(tmp_path / "whole")
    assert [record["index"] for record in records] == list(range(len(expected) + 1))
    assert [record["index"] for record in records if record.get("centre")] == [GENERATION + 2, len(expected)]
    del records[GENERATION + 2]
    assert [record["genome"] for record in records] == [record["genome"] for record in expected]


def test_a_search_asked_for_less_than_it_has_is_finished_with_its_centre(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[: 1 + GENERATION]))
    run(path, Search(evaluations=2, seed=7))
    assert [record.get("centre", False) for record in read_journal(path)[1]] == [False] * GENERATION + [True]


@pytest.mark.parametrize("changed", [{"seed": 8}, {"sigma": 0.2}, {"start": 0.4}, {"population": 5}])
def test_a_journal_that_does_not_follow_from_the_settings_is_refused(
    tmp_path: Path, whole: bytes, changed: dict[str, Any]
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(whole)
    with pytest.raises(
        RunError, match=r"the journal does not follow from the recipe\n  candidate \d+ has another genome"
    ):
        run(path, SETTINGS.model_copy(update=changed))
    assert path.read_bytes() == whole


def test_a_score_changed_by_hand_is_noticed(tmp_path: Path, whole: bytes) -> None:
    lines = whole.splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"score": -', b'"score": 1')
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(lines))
    with pytest.raises(RunError, match=f"candidate {GENERATION} has another genome"):
        run(path)


@pytest.mark.parametrize("population", [2, 3, 50])
@pytest.mark.parametrize("num_genes", [2, 30])
def test_any_population_works(tmp_path: Path, population: int, num_genes: int) -> None:
    run(tmp_path / "j", Search(evaluations=101, population=population), num_genes)
    assert len(read_journal(tmp_path / "j")[1]) == 102


def test_one_gene_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(VlmMergeError) as caught:
        run(tmp_path / "j", num_genes=1)
    assert str(caught.value) == ("a search needs at least 2 genes\nhint: choose a finer `blend.depth`, or add a parent")


def test_the_population_is_the_tutorial_s() -> None:
    """Hansen 2016, table 1: 4 + floor(3 ln n)."""
    assert [population_size(n) for n in (2, 3, 4, 6, 10, 100, 448)] == [6, 7, 8, 9, 10, 17, 22]


class Landscape(Problem):
    """A problem of 2 genes whose scores are all equal, or fall steadily."""

    def __init__(self, kind: str) -> None:
        numbers = {"dtype": torch.float64, "eval_dtype": torch.float64}
        super().__init__("max", solution_length=2, initial_bounds=(0, 1), seed=0, store_solution_stats=False, **numbers)
        self.kind = kind

    def _evaluate_batch(self, batch: SolutionBatch) -> None:
        values = batch.values
        kinds = {"flat": values[:, 0] * 0, "slope": values[:, 0], "sphere": -(values - 0.3).pow(2).sum(-1)}
        batch.set_evals(kinds[self.kind].clone())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["flat", "slope", "sphere"])
def test_a_long_search_outlives_its_distribution(kind: str) -> None:
    """EvoTorch's CMA-ES once ended long searches with `linalg.cholesky: ... not positive-definite`."""
    num_in_generation, num_generations = 50, 1000
    plain = CMAES(Landscape(kind), popsize=num_in_generation, center_init=[0.5, 0.5], stdev_init=1 / 6)
    with pytest.raises(torch.linalg.LinAlgError):
        plain.run(num_generations)
    searcher = search.ALGORITHMS["cmaes"](Landscape(kind), num_in_generation, [0.5, 0.5], 1 / 6)
    searcher.run(num_generations)
    stdevs = searcher.sigma * searcher.C.diagonal().sqrt()
    assert bool(((stdevs > 1e-13) & (stdevs < 1e4)).all())
    if kind == "sphere":
        assert torch.allclose(searcher.m, torch.full((2,), 0.3, dtype=torch.float64), atol=0.1)
