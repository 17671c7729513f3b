"""Scores as people read them in the terminal: models side by side, and the worst answers. Results go to stdout.

Knows what `compare` tells. Computes nothing but the text.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vlmmerge.compare import worst
from vlmmerge.console import OUT
from vlmmerge.exam import told_notes
from vlmmerge.score import METRICS

Numbers = Mapping[str, float]

# What is told of answers beside their scores: none is better for being higher.
TRAITS = {
    "length": ("characters", "{:.1f}"),
    "length_ratio": ("length, of the reference's", "{:.2f}"),
    "repetition": ("repeated", "{:.2f}"),
    "distinct": ("different answers", "{:.2f}"),
}
NUM_WORST = 3
LONGEST_SHOWN = 100  # characters of an answer; `--out` has all of it


def show_comparison(title: str, result: Mapping[str, Any]) -> None:
    """Scores with 95 % intervals, a row a metric, a column a model; below each but the first, its lead over that."""
    models = result["models"]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("metric")
    for name in models:
        table.add_column(escape(name), justify="right", no_wrap=True)
        table.add_column("95 % interval", no_wrap=True, style="dim")
    first = next(iter(models.values()))
    for metric in first["scores"]:
        differences = {name: of[metric] for name, of in result["differences"].items()}
        cells = (_cells(metric, model["scores"][metric], differences.get(name)) for name, model in models.items())
        table.add_row(metric, *chain.from_iterable(cells), end_section=len(models) > 1)
    table.add_section()
    for label, values in _beside(models.values()):
        table.add_row(f"[dim]{label}[/]", *chain.from_iterable(values))
    OUT.print(table)
    if result["differences"]:
        OUT.print("+ and -: against the first model, with the interval of a paired bootstrap")
    asked = [f"{name}: {model['asked']}" for name, model in models.items() if "asked" in model]
    for signature in [*(score["signature"] for score in first["scores"].values()), *asked]:
        OUT.print(f"[dim]{escape(signature)}[/]", soft_wrap=True)
    for note in told_notes({name: model["scores"] for name, model in models.items()}):
        OUT.print(note, soft_wrap=True, markup=False)


def _cells(metric: str, score: Numbers, difference: Numbers | None) -> tuple[str, str]:
    """A value and its interval; below them the difference and its own."""
    digits = 1 if METRICS[metric].best == 100.0 else 2
    lines = [(score, "")] + ([(difference, "+")] if difference else [])
    values = [f"{numbers['value']:{sign}.{digits}f}" for numbers, sign in lines]
    intervals = [f"{numbers['low']:{sign}.{digits}f} to {numbers['high']:{sign}.{digits}f}" for numbers, sign in lines]
    return "\n".join(values), "\n".join(intervals)


def _beside(models: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What is told beside the scores, a row each: what answers look like, and how much of the score needs pictures."""
    models = list(models)
    for trait, (label, form) in TRAITS.items():
        if all(trait in model["traits"] for model in models):
            yield label, [(form.format(model["traits"][trait]), "") for model in models]
    for kind in ("blank", "other"):
        found = [model["grounding"][kind] for model in models if "grounding" in model]
        if found:
            cells = [(f"{each['value']:.2f}", f"{each['low']:.2f} to {each['high']:.2f}") for each in found]
            yield f"needs the pictures ({kind})", cells


def show_worst(result: Mapping[str, Any]) -> None:
    """Each model's worst answers by the first metric."""
    for name, model in result["models"].items():
        metric = next(iter(model["scores"]))
        table = Table(
            title=f"{escape(name)}: worst answers by {metric}", title_justify="left", box=SIMPLE_HEAD, show_lines=True
        )
        for column in ("sample", "question", "reference", "answer", metric):
            table.add_column(column, overflow="fold", justify="right" if column == metric else "left")
        for row in worst(model["answers"], metric, NUM_WORST):
            texts = (row["id"], row["question"], row["references"][0], row["answer"])
            table.add_row(*(escape(shorten(text)) for text in texts), f"{row['scores'][metric]:.2f}")
        OUT.print(table)


def shorten(text: str) -> str:
    """At most `LONGEST_SHOWN` characters of a text on one line.

    >>> shorten("赤い" * 60)[-4:]
    '赤い赤…'
    """
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else line[: LONGEST_SHOWN - 1] + "…"
