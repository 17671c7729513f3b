"""Every evaluation set by its name: its samples, its checksum, and what it says of itself."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.bundled import read_bundled
from vlmmerge.evalsets.describing import describe_evalset
from vlmmerge.evalsets.hub import read_hub
from vlmmerge.evalsets.manifest import Evalset, find_evalsets
from vlmmerge.evalsets.own import ALL, read_own
from vlmmerge.evalsets.rows import make_samples
from vlmmerge.evalsets.sample import Sample, digest
from vlmmerge.evalsets.split import Split
from vlmmerge.recipe.values import is_path


def find_split(name: str, split: str, samples: int | None = None) -> tuple[Evalset, Split]:
    """An evalset and one of its splits, which has at least `samples` samples.

    Raises:
        EvalsetError: There is no such evalset or split, or it has fewer samples.
    """
    evalset = _find_evalset(name)
    chosen = evalset.find(split)
    if chosen is None:
        there_are = ", ".join(evalset.splits)
        raise EvalsetError(f'no split "{split}" in {name}; there are {there_are}', hint=f"`vlmmerge evalsets {name}`")
    if chosen.num_samples is not None:
        _check_number(f"{name}:{split}", chosen.num_samples, samples)
    return evalset, chosen


def parse_choice(text: str) -> tuple[str, str]:
    """An evalset's name and split from `NAME:SPLIT`: the split held out by default, of a path all of it.

    >>> parse_choice("jmmmu:held_out/Music"), parse_choice("ja-photos"), parse_choice("./mine")
    (('jmmmu', 'held_out/Music'), ('ja-photos', 'held_out'), ('./mine', 'all'))
    """
    if is_path(text.partition(":")[0]):
        name, colon, split = text.rpartition(":")
        return (name, split) if colon and not Path(text).exists() else (text, ALL)
    name, _, split = text.partition(":")
    return name, split or "held_out"


def known_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """The splits of every evalset, with those of own sets that are named by their paths.

    Raises:
        EvalsetError: An own set has faults.
    """
    found = find_evalsets() | {name: read_own(name).evalset for name in names if is_path(name)}
    parts = {name: [f"{key}/{c}" for key, s in found[name].splits.items() for c in s.configs] for name in found}
    return {name: [*evalset.splits, *parts[name]] for name, evalset in found.items()}


def _find_evalset(name: str) -> Evalset:
    if is_path(name):
        return read_own(name).evalset
    found = find_evalsets()
    if name not in found:
        raise EvalsetError(f'no evalset "{name}"; there are {", ".join(found)}', hint=_hint(name))
    return found[name]


def _hint(name: str) -> str:
    own = f"; the folder here is ./{name}" if Path(name).is_dir() else ""
    return f"`vlmmerge evalsets` lists them{own}"


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
    if evalset.is_own:
        return read_own(name).samples[split][:samples]
    table = read_hub(evalset, chosen) if chosen.hub_split else read_bundled(evalset, chosen, f"{name}:{split}")
    found = list(itertools.islice(make_samples(table, chosen, f"{name}:{split}"), samples))
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
    return digest(load(name, split))


def origin(name: str, split: str) -> str:
    """What two splits of the same pictures have in common: the bundled file's checksum, or the hub's id and split.

    Raises:
        EvalsetError: There is no such evalset or split.
    """
    evalset, chosen = find_split(name, split)
    return chosen.sha256 or f"{evalset.hub}:{chosen.hub_split}"


def describe(name: str | None = None) -> dict[str, dict[str, Any]]:
    """What there is, as plain values (see `describe_evalset`): all evalsets, or with its card the one of that name.

    Raises:
        EvalsetError: There is no such evalset.
    """
    if name is not None:
        return {name: describe_evalset(_find_evalset(name), has_card=True)}
    return {key: describe_evalset(evalset) for key, evalset in find_evalsets().items()}
