"""What people see in the terminal: progress, tables, samples. Results go to stdout, everything else to stderr.

Knows records and plans by their fields. Computes nothing but the text.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from vlmmerge.evaluate import Plan
from vlmmerge.journal import Record
from vlmmerge.run import Watcher

OUT, ERR = Console(highlight=False), Console(stderr=True, highlight=False)
GIB = 2**30


@contextmanager
def watch() -> Iterator[Watcher]:
    """Show a bar a stage on stderr, with the best score so far."""
    columns = (
        TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[best]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=ERR) as progress:
        yield _Bars(progress).watcher()


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None
        self.best: float | None = None
        self.failed = 0

    def watcher(self) -> Watcher:
        return Watcher(self.stage, self.record)

    def stage(self, name: str, total: int) -> None:
        if total:
            self.task, self.best, self.failed = self.progress.add_task(name, total=total, best=""), None, 0
        else:
            self.progress.console.print(f"{name} ...")

    def record(self, record: Record) -> None:
        assert self.task is not None
        score = record.get("score")
        if score is not None and (self.best is None or score > self.best):
            self.best = score
        self.failed += record.get("status") == "failed"
        best = "" if self.best is None else f"best {self.best:.3f}"
        failed = f"  {self.failed} failed" if self.failed else ""
        self.progress.update(self.task, advance=0 if record.get("centre") else 1, best=best + failed)


def show_table(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> None:
    """Held-out scores with 95 % intervals, one row a blend."""
    table = Table(title="held-out scores, 95 % intervals", title_justify="left")
    table.add_column("blend")
    for metric in metrics:
        table.add_column(metric, justify="right")
    table.add_column(f"best is better by ({metrics[0]})", justify="right")
    for row in rows:
        cells = [
            f"{s['value']:.2f} [dim]{s['low']:.2f}..{s['high']:.2f}[/]" for s in (row["scores"][m] for m in metrics)
        ]
        difference = row.get("difference")
        text = f"{difference[0]:+.2f} [dim]{difference[1]:+.2f}..{difference[2]:+.2f}[/]" if difference else ""
        table.add_row(row["name"], *cells, text)
    OUT.print(table)
    for metric in metrics:
        OUT.print(f"[dim]{rows[-1]['scores'][metric]['signature']}[/]", soft_wrap=True)


def show_samples(samples: Sequence[dict[str, Any]]) -> None:
    """A few pictures' answers before and after, beside a reference."""
    table = Table(title="held-out pictures, before and after", title_justify="left", show_lines=True)
    for column in ("picture", "reference", "vlm", "best"):
        table.add_column(column, overflow="fold")
    for sample in samples:
        table.add_row(sample["id"], sample["reference"], sample["vlm"], sample["best"])
    OUT.print(table)


def show_scores(title: str, scores: dict[str, dict[str, Any]]) -> None:
    """Scores of one set of answers, one row a metric."""
    table = Table(title=title, title_justify="left")
    for column in ("metric", "value", "95 % interval", "samples"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, score in scores.items():
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        table.add_row(metric, f"{score['value']:.3f}", interval, str(score["num_samples"]))
    OUT.print(table)
    for score in scores.values():
        OUT.print(f"[dim]{score['signature']}[/]", soft_wrap=True)


def show_evalsets(described: dict[str, dict[str, Any]]) -> None:
    """Evaluation sets and their splits."""
    table = Table(title_justify="left")
    for column in ("evalset", "split", "samples", "language", "sha256"):
        table.add_column(column, justify="right" if column == "samples" else "left")
    for name, evalset in described.items():
        OUT.print(f"[bold]{name}[/]: {evalset['about']}\nsource: {evalset['source']}; licence: {evalset['licence']}")
        for split, fields in evalset["splits"].items():
            table.add_row(name, split, str(fields["num_samples"]), fields["language"], fields["sha256"][:12])
    OUT.print(table)


def show_plan(described: dict[str, Any]) -> None:
    """What a dry run found."""
    table = Table(title="dry run: no weights were read", title_justify="left", show_header=False)
    for key, value in described.items():
        table.add_row(key, "\n".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
    OUT.print(table)


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Parents, genes, candidates, and an estimate of memory: what `--dry-run` tells."""
    recipe = plan.recipe
    assert recipe.evalset and recipe.score
    tower_bytes = {
        name: sum(checkpoint.tensors[key].num_bytes for key in plan.anatomy.keys[name].values())
        for name, checkpoint in plan.checkpoints.items()
    }
    memory = plan.checkpoints["vlm"].num_bytes + sum(tower_bytes.values())
    grid = recipe.search.grid ** len(plan.blended_parents) if recipe.search.grid else 0
    return {
        "parents": {
            name: f"{checkpoint.folder} ({checkpoint.num_bytes / 1e6:,.1f} MB)"
            for name, checkpoint in plan.checkpoints.items()
        },
        "blend": f"{recipe.blend.method}, {len(plan.anatomy.slots)} slots in {plan.anatomy.num_layers} layers",
        "search space": plan.space.describe(),
        "search": f"{recipe.search.algorithm}, {recipe.search.evaluations} candidates and the centre, {grid} on the grid",
        "evalset": {
            key: f"{choice.name}:{choice.split}, {choice.samples or 'all'} samples" for key, choice in recipe.evalset
        },
        "memory": f"about {memory / GIB:.2f} GiB for weights: the live model and {len(tower_bytes)} resident language towers",
    }


def say(text: str) -> None:
    """A message to the person, on stderr."""
    ERR.print(text, soft_wrap=True)


def show_written(paths: Sequence[Path]) -> None:
    """The paths of what was written."""
    for path in paths:
        say(f"wrote {path}")
