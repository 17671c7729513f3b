"""What people see in the terminal: progress, tables, samples. Results go to stdout, everything else to stderr.

Knows records and plans by their fields. Computes nothing but the text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)
from rich.table import Table

if TYPE_CHECKING:
    from vlmmerge.backbone.swap import Watcher as SwapWatcher
    from vlmmerge.export import ExportWatcher
    from vlmmerge.journal import Record
    from vlmmerge.run import Watcher

GIB = 2**30
OUT, ERR = Console(highlight=False), Console(stderr=True, highlight=False)


@contextmanager
def watch() -> Iterator["Watcher"]:
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

    def watcher(self) -> "Watcher":
        from vlmmerge.run import Watcher

        return Watcher(self.stage, self.record, warn)

    def stage(self, name: str, total: int) -> None:
        if total:
            self.task, self.best, self.failed = self.progress.add_task(name, total=total, best=""), None, 0
        else:
            self.progress.console.print(f"{name} ...")

    def record(self, record: "Record") -> None:
        assert self.task is not None
        score = record.get("score")
        if score is not None and (self.best is None or score > self.best):
            self.best = score
        self.failed += record.get("status") == "failed"
        best = "" if self.best is None else f"best {self.best:.3f}"
        failed = f"  {self.failed} failed" if self.failed else ""
        self.progress.update(self.task, advance=0 if record.get("centre") else 1, best=best + failed)


@contextmanager
def watch_export(name: str, total: int) -> Iterator["ExportWatcher"]:
    """As `watch_bytes`, and warnings on stderr."""
    from vlmmerge.export import ExportWatcher

    with watch_bytes(name, total) as advance:
        yield ExportWatcher(advance, warn)


@contextmanager
def watch_bytes(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr with GiB a second and the time left, from when it is first told of some more bytes.

    Args:
        name: What is done.
        total: How many bytes there will be.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[size]}"),
        TextColumn("{task.fields[speed]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=ERR) as progress:

        def advance(num_bytes: int) -> None:
            if not progress.tasks:
                progress.add_task(name, total=total, size="", speed="")
            (task,) = progress.tasks
            completed, seconds = task.completed + num_bytes, task.elapsed or 0.0
            speed = f"{completed / GIB / seconds:.2f} GiB/s" if seconds else ""
            size = f"{completed / GIB:.2f}/{total / GIB:.2f} GiB"
            progress.update(task.id, completed=completed, size=size, speed=speed)

        yield advance


def watch_swap(is_shown: bool = True) -> "SwapWatcher":
    """Show bars on stderr while eyes are swapped, and warnings; or nothing, where another process does."""
    from vlmmerge.backbone.swap import Watcher as SwapWatcher

    def pass_through(things: Sequence[Any], label: str) -> Iterable[Any]:
        return track(things, label, transient=True, console=ERR, disable=not is_shown or not ERR.is_terminal)

    return SwapWatcher(warn if is_shown else lambda text: None, pass_through, watch_bytes)


def show_table(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> None:
    """Held-out scores with 95 % intervals, one row a blend, and by how much the best leads it."""
    from vlmmerge.exam import told_notes

    # No frame and two lines a row, so that five columns of numbers fit into 80 characters.
    table = Table(title="held-out scores with 95 % intervals", title_justify="left", box=SIMPLE_HEAD, show_lines=True)
    table.add_column("blend", min_width=12)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    table.add_column(f"lead ({metrics[0]})", justify="right", no_wrap=True)
    for row in rows:
        cells = [_cell(metric, [row["scores"][metric][key] for key in ("value", "low", "high")]) for metric in metrics]
        table.add_row(row["name"], *cells, _cell(metrics[0], row["difference"], "+") if row["difference"] else "")
    OUT.print(table)
    for signature in (*(rows[-1]["scores"][metric]["signature"] for metric in metrics), rows[-1]["asked"]):
        OUT.print(f"[dim]{escape(signature)}[/]", soft_wrap=True, end="\n" if signature else "")
    for note in told_notes({row["name"]: row["scores"] for row in rows}):
        OUT.print(note, soft_wrap=True, markup=False)
    OUT.print(f"lead: by how much `best` is better in {metrics[0]}, with the interval of a paired bootstrap")


def _cell(metric: str, numbers: Sequence[float], sign: str = "") -> str:
    """A value with its interval below it."""
    from vlmmerge.score import METRICS

    digits = 1 if METRICS[metric].best == 100.0 else 2
    value, low, high = (f"{number:{sign}.{digits}f}" for number in numbers)
    return f"{value}\n[dim]{low}–{high}[/]"


def show_samples(samples: Sequence[dict[str, Any]]) -> None:
    """A few pictures' answers before and after, beside a reference."""
    table = Table(title="held-out pictures, before and after", title_justify="left", show_lines=True)
    for column in ("picture", "reference", "vlm", "best"):
        table.add_column(column, overflow="fold")
    for sample in samples:
        table.add_row(sample["id"], sample["reference"], sample["vlm"], sample["best"])
    OUT.print(table)


def show_evalsets(described: dict[str, dict[str, Any]]) -> None:
    """All evaluation sets, those at hand first."""
    bundled = {name: evalset for name, evalset in described.items() if not evalset["hub"]}
    for heading, sets in (
        ("bundled", bundled),
        ("on the Hugging Face hub, fetched when first asked for", described.keys() - bundled.keys()),
    ):
        OUT.print(f"[bold underline]{heading}[/]\n")
        for name in sorted(sets):
            _show_evalset(name, *_whence(described[name]), *_samples(described[name]["splits"]))
    OUT.print("?: known once it is fetched. `vlmmerge evalsets NAME` tells more of one.", soft_wrap=True)


def show_one_evalset(name: str, evalset: dict[str, Any]) -> None:
    """One evaluation set with its splits and its card."""
    _show_evalset(name, *_whence(evalset), *_published(evalset["splits"]))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("split", "samples", "language", "kind", "metrics"):
        table.add_column(column, justify="right" if column == "samples" else "left", no_wrap=column != "metrics")
    for split, told in evalset["splits"].items():
        table.add_row(split, _number(told), told["language"], told["kind"], ", ".join(told["metrics"]))
    OUT.print(table)
    for command in dict.fromkeys(split["fetch"] for split in evalset["splits"].values() if split["fetch"]):
        OUT.print(f"fetch: {command}", markup=False, soft_wrap=True)  # on one line, to be copied
    if evalset["card_text"]:
        OUT.print(evalset["card_text"], markup=False, soft_wrap=True)


def _show_evalset(name: str, *rows: tuple[str, str]) -> None:
    OUT.print(f"[bold]{escape(name)}[/]")
    grid = Table.grid(padding=(0, 1, 0, 2), pad_edge=True)
    for label, text in rows:
        grid.add_row(f"[dim]{label}[/]", escape(text))
    OUT.print(grid)
    OUT.print()


def _whence(evalset: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a set is, from where, and who may have it."""
    yield "about", evalset["about"]
    yield "licence", evalset["licence"]
    yield "source", evalset["source"]
    if evalset["hub"]:
        gated = "; gated: ask for access on its page, then run `hf auth login`" if evalset["is_gated"] else ""
        yield "hub", f"{evalset['hub']}{gated}"
    elif evalset["where"] == "bundled":
        yield "size", f"{evalset['num_bytes'] / 1e6:.1f} MB"


def _samples(splits: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """How many samples there are, and what they are scored by."""
    metrics = {split["kind"]: ", ".join(split["metrics"]) for split in splits.values()}
    yield "samples", ", ".join(f"{name} {_number(split)}" for name, split in splits.items())
    yield "metrics", "; ".join(f"{kind} by {names}" for kind, names in metrics.items())


def _published(splits: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """How samples were asked for published scores."""
    if published := [
        f"{name} by --protocol {split['protocol']}" for name, split in splits.items() if split["protocol"]
    ]:
        yield "published", ", ".join(published)


def _number(split: dict[str, Any]) -> str:
    return str(split["num_samples"] or "?")


def show_plan(described: dict[str, Any]) -> None:
    """What a dry run found."""
    table = Table(title="dry run: no weights were read", title_justify="left", show_header=False)
    for key, value in described.items():
        text = "\n".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(key, escape(text))  # a token may read like markup: [/INST]
    OUT.print(table)


def say(text: str) -> None:
    """A message to the person, on stderr."""
    ERR.print(text, soft_wrap=True)


def warn(text: str) -> None:
    """A warning to the person, on stderr."""
    ERR.print(f"warning: {text}", soft_wrap=True, markup=False)


def show_written(paths: Sequence[Path]) -> None:
    """The paths of what was written."""
    for path in paths:
        say(f"wrote {path}")
