"""Scores as people read them in the terminal: models side by side, and the worst answers. Results go to stdout.

Knows what `compare` tells, and the guards and the retention of what `summary` tells. Computes nothing but the text.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vlmmerge.backbone.alignment import alignment_line, captions_line
from vlmmerge.compare import worst
from vlmmerge.console import OUT
from vlmmerge.exam import told_notes
from vlmmerge.score import METRICS

Numbers = Mapping[str, float]

# What is told of answers beside their scores: none is better for being higher.
TRAITS = {
    "japanese": ("Japanese, %", "{:.1f}"),
    "length": ("characters", "{:.1f}"),
    "length_ratio": ("length ratio", "{:.2f}"),
    "repetition": ("repetition", "{:.2f}"),
    "distinct": ("distinct", "{:.2f}"),
}
NUM_WORST = 3
LONGEST_SHOWN = 100  # characters of an answer; `--out` has all of it


def show_comparison(title: str, result: Mapping[str, Any]) -> None:
    """Scores with 95 % intervals; of several models a line each, and by how much the others lead the first."""
    models = result["models"]
    # Narrow, so that six columns fit into 80 characters beside a model's name.
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    is_alone = len(models) == 1
    for column in list(models) if is_alone else ["model", "score"]:
        table.add_column(escape(column), justify="left" if column == "model" else "right", overflow="fold", min_width=5)
    for column in ["95 % interval"] if is_alone else ["95 % interval", "lead", "95 % interval"]:
        table.add_column(column, justify="right" if column == "lead" else "left", no_wrap=True)
    for label, lines in chain(_scored(result), _beside(list(models.values()))):
        for number, (name, line) in enumerate(zip(models, lines, strict=True)):
            named = () if is_alone else (escape(name),)
            table.add_row("" if number else label, *named, *line, end_section=not is_alone and name == list(models)[-1])
    OUT.print(table)
    if not is_alone:
        told = "lead: by how much a model is above the first, with the interval of a paired bootstrap"
        OUT.print(told, soft_wrap=True)
    _show_signatures(models)


def _show_signatures(models: Mapping[str, Any]) -> None:
    first = next(iter(models.values()))
    asked = [f"{name}: {model['asked']}" for name, model in models.items() if "asked" in model]
    for signature in [*(score["signature"] for score in first["scores"].values()), *asked]:
        OUT.print(f"[dim]{escape(signature)}[/]", soft_wrap=True)
    for note in told_notes({name: model["scores"] for name, model in models.items()}):
        OUT.print(note, soft_wrap=True, markup=False)


def _scored(result: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """For each metric the models' values with their intervals, and their leads."""
    for metric in next(iter(result["models"].values()))["scores"]:
        leads = {name: _numbers(metric, of[metric], "+") for name, of in result["differences"].items()}
        yield (
            metric,
            [_numbers(metric, m["scores"][metric]) + leads.get(name, ()) for name, m in result["models"].items()],
        )


def _numbers(metric: str, numbers: Numbers, sign: str = "") -> tuple[str, ...]:
    return _digits(numbers, 1 if METRICS[metric].best == 100.0 else 2, sign)


def _digits(numbers: Numbers, digits: int, sign: str = "") -> tuple[str, ...]:
    """A value and its interval."""
    value, low, high = (f"{numbers[key]:{sign}.{digits}f}" for key in ("value", "low", "high"))
    return value, f"[dim]{low} to {high}[/]"


def _beside(models: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """What is told beside the scores: what answers look like, and how much of the score needs pictures."""
    scored = models[0]["scores"]
    for trait, (label, form) in TRAITS.items():
        if trait not in scored and all(trait in model["traits"] for model in models):
            yield f"[dim]{label}[/]", [(form.format(model["traits"][trait]),) for model in models]
    if all("grounding" in model for model in models):
        for kind in ("blank", "other"):
            yield f"[dim]grounding ({kind})[/]", [_digits(model["grounding"][kind], 2) for model in models]


def show_swap(told: Mapping[str, Any]) -> None:
    """What a swap came to: the alignment of fitted eyes, and old and new ones side by side."""
    if "alignment" in told:
        OUT.print(alignment_line(told["alignment"]))
    if "captions" in told:
        OUT.print(captions_line(told["captions"]), soft_wrap=True)
    if "gate" in told:
        show_comparison(told["gate"]["evalset"], told["gate"]["result"])
        OUT.print(f"the new eyes keep {told['gate']['kept']:.1%} of the old ones' {told['gate']['metric']}")


def show_worst(result: Mapping[str, Any]) -> None:
    """Each model's worst answers by the first metric; none that is fully right."""
    for name, model in result["models"].items():
        metric = next(iter(model["scores"]))
        found = worst(model["answers"], metric, NUM_WORST)
        if rows := [row for row in found if row["scores"][metric] != METRICS[metric].best]:
            OUT.print(_table_of_worst(f"{escape(name)}: worst answers by {metric}", metric, rows))


def _table_of_worst(title: str, metric: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_lines=True)
    for column in ("sample", "question", "reference", "answer", metric):
        table.add_column(column, overflow="fold", justify="right" if column == metric else "left")
    for row in rows:
        texts = (row["id"], row["question"], row["references"][0], row["answer"])
        table.add_row(*(escape(shorten(text)) for text in texts), f"{row['scores'][metric]:.2f}")
    return table


def show_guards(rows: Sequence[Mapping[str, Any]]) -> None:
    """What the guards of a run found in each blend's held-out answers, and what they leave; nothing without guards."""
    guarded = {row["name"]: row["guarded"] for row in rows if row.get("guarded", {}).get("guards")}
    if not guarded:
        return
    guards = list(next(iter(guarded.values()))["guards"])
    title = "what the guards found, and the share of the objective that they keep"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_lines=True)
    for column in ("blend", "score", "objective", *guards):
        table.add_column(column, justify="left" if column == "blend" else "right", overflow="fold")
    for name, told in guarded.items():
        found = (f"{guard['value']:.2f}\n[dim]{guard['kept']:.0%}[/]" for guard in map(told["guards"].get, guards))
        table.add_row(escape(name), f"{told['score']:.2f}", f"{told['objective']:.2f}", *found)
    OUT.print(table)


def show_retention(rows: Sequence[Mapping[str, Any]]) -> None:
    """What each blend of a run has kept of the VLM parent's own language; nothing without a retention."""
    retained = {row["name"]: row["retention"] for row in rows if "retention" in row}
    if not retained:
        return
    first = next(iter(retained.values()))
    title = f"retention: the VLM parent's own language, on {first['name']}"
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("", "blend", "score", "95 % interval", "change", "95 % interval"):
        is_number = column in ("score", "change")
        table.add_column(column, justify="right" if is_number else "left", no_wrap=column != "blend")
    for metric in first["scores"]:
        for name, told in retained.items():
            change = (
                dict(zip(("value", "low", "high"), told["change"][metric], strict=True)) if told["change"] else None
            )
            cells = _numbers(metric, told["scores"][metric]) + (_numbers(metric, change, "+") if change else ())
            table.add_row(metric, escape(name), *cells, end_section=name == list(retained)[-1])
    OUT.print(table)
    for signature in (*(score["signature"] for score in first["scores"].values()), first["asked"]):
        OUT.print(f"[dim]{escape(signature)}[/]", soft_wrap=True, end="\n" if signature else "")
    OUT.print("change: from the VLM parent, with the interval of a paired bootstrap", soft_wrap=True)


def shorten(text: str) -> str:
    """At most `LONGEST_SHOWN` characters of a text on one line.

    >>> shorten("赤い" * 60)[-4:]
    '赤い赤…'
    """
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else line[: LONGEST_SHOWN - 1] + "…"
