"""What an evaluation set says of itself, as plain values for a table or JSON. Reads no samples."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlmmerge.evalsets.hub import download_command
from vlmmerge.evalsets.manifest import Evalset
from vlmmerge.evalsets.split import Split


def describe_evalset(evalset: Evalset, *, has_card: bool = False) -> dict[str, Any]:
    """A set as plain values.

    Args:
        evalset: The set.
        has_card: Whether the text of its card is given too.

    Returns:
        A new dict: `about`, `source`, `licence`, `kind` (of its first split), `where` (`bundled`, `on the hub` or
        `own`), `num_bytes` on this disk (None on the hub), `hub`, `revision`, `is_gated`, `card` (path or
        None), `splits` (with `fetch`, the command that gets one from the hub), and `card_text` if it is wanted.
    """
    files = {evalset.folder / split.file for split in evalset.splits.values() if split.file}
    card = evalset.folder / "README.md"
    described = {
        "about": evalset.about,
        "source": evalset.source,
        "licence": evalset.licence,
        "kind": next(iter(evalset.splits.values())).kind,
        "where": "on the hub" if evalset.hub else "own" if evalset.is_own else "bundled",
        "num_bytes": None if evalset.hub else sum(_num_bytes(file) for file in files),
        "hub": evalset.hub,
        "revision": evalset.revision,
        "is_gated": evalset.is_gated,
        "card": str(card) if card.exists() else None,
        "splits": {name: _describe_split(evalset, split) for name, split in evalset.splits.items()},
    }
    return described | ({"card_text": evalset.card} if has_card else {})


def _describe_split(evalset: Evalset, split: Split) -> dict[str, Any]:
    fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(split).items()}
    fields["where"] = {column: list(wanted) for column, wanted in split.where.items()}
    del fields["stated_kind"], fields["stated_metrics"]
    fetch = download_command(evalset, split) if evalset.hub else None
    return fields | {"kind": split.kind, "metrics": list(split.metrics), "fetch": fetch}


def _num_bytes(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
