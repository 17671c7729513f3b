"""Measure the demo: `python tools/bench_demo.py --runs runs/bench --seeds 0 1 2`.

Runs recipes/demo.yaml once a seed (a run that is there already is gone on with), and prints a table of what each came
to on held-out data, beside what was wanted. A figure that was not reached is printed as such.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlmmerge.ask import Questions, evaluate_models
from vlmmerge.console import watch
from vlmmerge.evaluate import Evaluator
from vlmmerge.exam import make_scorer
from vlmmerge.journal import Record
from vlmmerge.plan import Plan, make_plan
from vlmmerge.recipe import EvalsetChoice, Generate, load_recipe
from vlmmerge.run import JOURNAL, Run
from vlmmerge.score import paired_difference
from vlmmerge.summary import held_out_samples, last_held_out

RECIPE = Path(__file__).parent.parent / "recipes" / "demo.yaml"
NUM_TIMED, NUM_SAMPLES_TIMED = 20, 64

Figure = tuple[str, str, str, bool]  # what, wanted, measured, whether it was reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"), help="where the runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    print("| seed | figure | wanted | measured | |\n|---|---|---|---|---|")
    plan = make_plan(load_recipe(RECIPE, [f"evalset.search.samples={NUM_SAMPLES_TIMED}"]))
    for figure in parent_figures(plan):
        show("", figure)
    for seed in arguments.seeds:
        plan = make_plan(load_recipe(RECIPE, [f"search.seed={seed}"]))
        folder = arguments.runs / f"seed-{seed}"
        with watch() as watcher:
            records = Run(plan, folder, watcher).evolve(resume=(folder / JOURNAL).exists())
        for figure in run_figures(plan, records):
            show(str(seed), figure)


def show(seed: str, figure: Figure) -> None:
    what, wanted, measured, is_reached = figure
    print(f"| {seed} | {what} | {wanted} | {measured} | {'reached' if is_reached else '**not reached**'} |", flush=True)


def parent_figures(plan: Plan) -> Iterator[Figure]:
    """What the VLM parent can do in English, and how many candidates a second are scored."""
    choice = EvalsetChoice(name="ja-scenes", split="held_out_english")
    models = {"vlm": plan.checkpoints["vlm"].folder}
    results = evaluate_models(models, Questions([choice], ["exact"], Generate(max_new_tokens=32)))
    result = results["ja-scenes:held_out_english"]["models"]["vlm"]
    right = [words_right(row["answer"], row["references"]) for row in result["answers"]]
    share = 100 * statistics.fmean(right)
    yield "VLM, English: words right", ">= 90 %", f"{share:.1f} %", share >= 90
    exact = result["scores"]["exact"]["value"]
    yield "VLM, English: captions fully right", "", f"{exact:.1f} %", True
    rate = candidates_per_second(plan)
    yield (
        f"candidates a second, {NUM_SAMPLES_TIMED} samples",
        ">= 2",
        f"{rate:.1f}",
        rate >= 2,
    )


def words_right(answer: str, references: Sequence[str]) -> float:
    """The share of words that stand where the nearest reference has them, over the longer of the two."""
    said = answer.split()
    pairs = [(said, reference.split()) for reference in references]
    return max(sum(a == b for a, b in zip(*pair, strict=False)) / max(map(len, pair)) for pair in pairs)


def candidates_per_second(plan: Plan) -> float:
    """Whole candidates (blend, answers, score) a second: the median of NUM_TIMED around the search's start."""
    evaluator = Evaluator(plan)
    genomes = [[0.4 + 0.01 * number] * len(plan.space.genes) for number in range(NUM_TIMED + 1)]
    evaluator.evaluate(genomes.pop())
    seconds = []
    for genome in genomes:
        start = time.perf_counter()
        evaluator.evaluate(genome)
        seconds.append(time.perf_counter() - start)
    return 1 / statistics.median(seconds)


def run_figures(plan: Plan, records: list[Record]) -> Iterator[Figure]:
    """What the issue asked of a run, from its held-out records."""
    held_out = last_held_out(records)
    value = {name: {m: s["value"] for m, s in record["scores"].items()} for name, record in held_out.items()}
    best = value["best"]
    yield "VLM, Japanese: captions fully right", "<= 5 %", f"{value['vlm']['exact']:.1f} %", value["vlm"]["exact"] <= 5
    yield "best: answers in Japanese", ">= 99 %", f"{best['japanese']:.1f} %", best["japanese"] >= 99
    yield "best: every thing's shape and colour right", ">= 80 %", f"{best['facts']:.1f} %", best["facts"] >= 80
    lead = best["exact"] - value["best of the grid"]["exact"]
    measured = f"{best['exact']:.1f} % against {value['best of the grid']['exact']:.1f} %: {lead:+.1f}"
    yield "best: fully right, above the grid's best", ">= 10 points", measured, lead >= 10
    assert plan.recipe.evalset
    scorer = make_scorer(plan.recipe.evalset.held_out, held_out_samples(plan), ["cider"])
    scores = {name: scorer.score(record["answers"], intervals=False)["cider"] for name, record in held_out.items()}
    for name in [name for name in scores if name not in ("best", "centre")]:
        difference, low, high = paired_difference(scores["best"], scores[name])
        values = f"{scores['best'].value:.2f} against {scores[name].value:.2f}"
        measured = f"{values}: {difference:+.2f} ({low:+.2f} to {high:+.2f})"
        yield f"CIDEr-D above {name}", "interval > 0", measured, low > 0
    yield "the centre's CIDEr-D", "", f"{scores['centre'].value:.2f}", True


if __name__ == "__main__":
    main()
