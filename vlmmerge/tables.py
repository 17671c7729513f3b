"""What `vlmmerge inspect` shows: towers, what differs, graded findings, and how far parents moved over depth.

Knows what was found by its fields. Computes nothing but the text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from vlmmerge.console import GIB, OUT
from vlmmerge.inspection.misfits import FAILS, FINE, MIND, as_text

BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {FAILS: "bold red", MIND: "yellow", FINE: "green"}
NOT_SAID = "not said"
ROLES = {"vlm": "vlm", "base": "base", "llm": "LLM"}


def show_inspection(described: Mapping[str, Any]) -> None:
    """Each checkpoint's towers; then, of several, what differs and what was found."""
    parents = described["parents"]
    _show_towers(parents)
    (first, *more) = parents.values()
    _show_settings(parents, described["differs"] if more else first["traits"])
    for grade, findings in groupby(described["findings"], key=lambda finding: str(finding["grade"])):
        OUT.print(f"[{COLOURS[grade]}]{grade}[/]")
        for finding in findings:
            _show_finding(finding)


def show_deltas(deltas: Mapping[str, Any]) -> None:
    """How far each parent is from the base over depth and by role, as a picture, tables and a verdict."""
    OUT.print(
        f"\ntask vectors of the layers, first to last, in lengths of {escape(deltas['compared_with'])}", soft_wrap=True
    )
    for name in deltas["whole"]["norm"]:
        norms = [layer["norm"][name] or 0.0 for layer in deltas["layers"]]
        OUT.print(f"  {_blocks(norms)}  {min(norms):.3f} to {max(norms):.3f}  {escape(name)}", soft_wrap=True)
    ends = {part: {part: deltas[part]} if part in deltas else {} for part in ("embeddings", "head")}
    layers = {f"layer {number}": measure for number, measure in enumerate(deltas["layers"])}
    _show_measures(ends["embeddings"] | layers | ends["head"] | deltas["roles"] | {"all": deltas["whole"]})
    for sentence in deltas["verdict"]:
        OUT.print(f"- {escape(sentence)}", soft_wrap=True)


def show_conclusion(described: Mapping[str, Any]) -> None:
    """The last lines: whether the parents fit, and what to do next."""
    if len(described["parents"]) > 1:
        numbers = Counter(finding["grade"] for finding in described["findings"])
        fits = "do not fit" if numbers[FAILS] else "fit"
        told = {FAILS: "will fail", MIND: "to mind"}
        counts = [f"{numbers[grade]} {text}" for grade, text in told.items() if numbers[grade]]
        OUT.print(f"[{COLOURS[described['grade']]}]the parents {fits}[/]{': ' if counts else ''}{', '.join(counts)}")
    if described["next"]:
        OUT.print(f"next: {escape(described['next'])}", soft_wrap=True)


def _show_towers(parents: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for column in ("parent", "tower", "tensors", "parameters", "size", "dtype"):
        table.add_column(column, justify="left" if column in ("parent", "tower", "dtype") else "right", overflow="fold")
    for name, parent in parents.items():
        head = f"{escape(name)}" + (f" ({ROLES[parent['role']]})" if len(parents) > 1 else "")
        for tower, tensors in parent["towers"].items():
            cells = [f"{tensors['tensors']:,}", f"{tensors['parameters'] / 1e6:,.1f} M", _size(tensors["bytes"])]
            table.add_row(head, tower, *cells, ", ".join(tensors["dtypes"]))
            head = ""
    OUT.print(table)


def _show_settings(parents: Mapping[str, Mapping[str, Any]], traits: Iterable[str]) -> None:
    """Layers and rows, and some traits of each parent."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in parents:
        table.add_column(escape(name), justify="right", overflow="fold")
    table.add_row("layers", *(f"{parent['layers']}" for parent in parents.values()))
    for what, row in (("rows of embeddings", "embed_tokens"), ("rows of the head", "lm_head")):
        rows = [parent["rows"].get(row) for parent in parents.values()]
        table.add_row(what, *(f"{number:,}" if number else "tied" if row == "lm_head" else "none" for number in rows))
    for trait in traits:
        said = [parent["traits"].get(trait, NOT_SAID) for parent in parents.values()]
        table.add_row(trait.replace("_", " "), *(escape(as_text(value)) for value in said))
    OUT.print(table)


def _show_finding(finding: Mapping[str, Any]) -> None:
    OUT.print(f"  [bold]{finding['about']}[/]: {escape(finding['message'])}", soft_wrap=True)
    for line in finding["details"]:
        OUT.print(f"    {escape(line)}", soft_wrap=True)
    if finding["hint"]:
        OUT.print(f"    [dim]hint: {escape(finding['hint'])}[/]", soft_wrap=True)


def _show_measures(measures: Mapping[str, Mapping[str, Any]]) -> None:
    """A row a measure: each parent's length and cosine to the base, and the cosines between task vectors."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    (first, *_) = measures.values()
    titles = [f"{name}\n{what}" for what in ("length", "cos to base") for name in first["norm"]]
    titles += [f"{one}\n{other}\ncos" for one, cosines in first["cosine"].items() for other in cosines]
    for title in titles:
        table.add_column(escape(title), justify="right", overflow="fold")
    for what, measure in measures.items():
        between = [cosine for cosines in measure["cosine"].values() for cosine in cosines.values()]
        cells = [*measure["norm"].values(), *measure["cosine_to_base"].values(), *between]
        table.add_row(what, *("–" if cell is None else f"{cell:.3f}" for cell in cells))
    OUT.print(table)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:,.2f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 2**20:,.1f} MiB"


def _blocks(values: Sequence[float]) -> str:
    """One block a value, the largest full.

    >>> _blocks([0.0, 0.5, 1.0])
    '▁▅█'
    """
    highest = max(values, default=0.0) or 1.0
    return "".join(BLOCKS[round(value / highest * (len(BLOCKS) - 1))] for value in values)
