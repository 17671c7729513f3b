"""Every evaluation set by its name: its samples, its checksum, and what it says of itself."""

import hashlib
import itertools
import json
from dataclasses import asdict
from typing import Any

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.bundled import bundled_rows
from vlmmerge.evalsets.hub import hub_rows
from vlmmerge.evalsets.manifest import Evalset, Split, find_evalsets
from vlmmerge.evalsets.rows import make_samples
from vlmmerge.evalsets.sample import Sample


def find_split(name: str, split: str, samples: int | None = None) -> tuple[Evalset, Split]:
    """An evalset and one of its splits, which has at least `samples` samples.

    Raises:
        EvalsetError: There is no such evalset or split, or it has fewer samples.
    """
    found = find_evalsets()
    if name not in found:
        raise EvalsetError(f'no evalset "{name}"; there are {", ".join(found)}', hint="`vlmmerge evalsets` lists them")
    if split not in found[name].splits:
        there_are = ", ".join(found[name].splits)
        raise EvalsetError(f'no split "{split}" in {name}; there are {there_are}', hint=f"`vlmmerge evalsets {name}`")
    chosen = found[name].splits[split]
    if chosen.num_samples is not None:
        _check_number(f"{name}:{split}", chosen.num_samples, samples)
    return found[name], chosen


def _check_number(name: str, number: int, samples: int | None) -> None:
    if samples is not None and samples > number:
        hint = f"ask for {number} or fewer; no number asks for all"
        raise EvalsetError(f"{name} has {number} samples, {samples} were asked for", hint=hint)


def load(name: str, split: str, samples: int | None = None) -> list[Sample]:
    """Read the first `samples` samples of a split (all by default), in the set's own order.

    Raises:
        EvalsetError: There is no such evalset or split, its file is missing or not the one that the manifest names, the
            hub's set cannot be fetched, or it has fewer samples.
    """
    evalset, chosen = find_split(name, split, samples)
    rows = hub_rows(evalset, chosen) if chosen.hub_split else bundled_rows(evalset, chosen, f"{name}:{split}")
    found = list(itertools.islice(make_samples(rows, chosen), samples))
    _check_number(f"{name}:{split}", len(found), samples)
    return found


def checksum(name: str, split: str) -> str:
    """A sha256 that no other content has: a bundled split's is known, that of a set on the hub is computed.

    Raises:
        EvalsetError: As `load`.
    """
    _, chosen = find_split(name, split)
    if chosen.sha256:
        return chosen.sha256
    total = hashlib.sha256()
    for sample in load(name, split):
        images = [hashlib.sha256(image).hexdigest() for image in sample.images]
        total.update(json.dumps([sample.id, *images, sample.question, *sample.references]).encode())
    return total.hexdigest()


def origin(name: str, split: str) -> str:
    """What two splits of the same pictures have in common: the bundled file's checksum, or the hub's id and split.

    Raises:
        EvalsetError: There is no such evalset or split.
    """
    evalset, chosen = find_split(name, split)
    return chosen.sha256 or f"{evalset.hub}:{chosen.hub_split}"


def describe(name: str | None = None) -> dict[str, dict[str, Any]]:
    """What there is, as plain values: all evalsets, or the one of that name.

    Raises:
        EvalsetError: There is no such evalset.
    """
    found = find_evalsets()
    if name is not None and name not in found:
        raise EvalsetError(f'no evalset "{name}"; there are {", ".join(found)}', hint="`vlmmerge evalsets` lists them")
    return {
        evalset.name: {
            "about": evalset.about,
            "source": evalset.source,
            "licence": evalset.licence,
            "splits": {key: asdict(split) for key, split in evalset.splits.items()},
        }
        for evalset in found.values()
        if name in (None, evalset.name)
    }
