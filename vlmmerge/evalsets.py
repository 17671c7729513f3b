"""Evaluation sets: samples with a picture, a question and references; splits, checksums, and who may see what.

Knows the folders under evalsets/ and their manifests: of bundled sets with parquet files beside them, and of sets on
the hub, which `datasets` fetches when they are first read. Knows nothing of models.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmmerge.errors import EvalsetError

PACKAGE = Path(__file__).parent
# Bundled in the wheel; in a checkout they lie beside the package.
BUNDLED = PACKAGE / "bundled_evalsets" if (PACKAGE / "bundled_evalsets").is_dir() else PACKAGE.parent / "evalsets"


@dataclass(frozen=True)
class Sample:
    """One thing to ask.

    Args:
        id: Names the sample within its split.
        images: Each picture's encoded file, as bytes; one of them in most sets.
        question: What is asked.
        references: The right answers, one or more.
        facts: Phrases that a right answer contains; empty where the set states none.
        options: What a multiple-choice question lets choose from, in the order of its letters; empty for others.
    """

    id: str
    images: tuple[bytes, ...]
    question: str
    references: tuple[str, ...]
    facts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """One split of an evalset, as its manifest tells.

    Args:
        references: The column of the references; `qas` gives one sample a question instead of one a picture.
        language: Of the questions and references: `ja` or `en`.
        num_samples: How many samples there are; None where only the hub knows.
        question: What is asked where the rows have no question of their own.
        file: The parquet file of a bundled split, one row a picture.
        sha256: Of the file.
        hub_split: The split's name on the hub, for a set that is there.
        id: The column that names a picture; None for the row's number.
        question_id: The field that names a question within a picture's.
        only_first: Whether only each picture's first question is asked.
    """

    references: str
    language: str
    num_samples: int | None = None
    question: str | None = None
    file: str | None = None
    sha256: str | None = None
    hub_split: str | None = None
    id: str | None = "id"
    question_id: str = "kind"
    only_first: bool = False

    def __post_init__(self) -> None:
        if (self.file is None or self.sha256 is None) == (self.hub_split is None):
            raise ValueError("a split has either file and sha256, or hub_split")


@dataclass(frozen=True)
class Evalset:
    """An evaluation set; reading it is left to `load`.

    Args:
        folder: Where its manifest lies.
        name: Its name.
        about: One line on it.
        source: Where it is from.
        licence: Of pictures and texts.
        fact_vocabulary: All facts that its samples may state.
        splits: Its splits by name.
        hub: Its id on the hub; None for a bundled one.
        revision: The hub's revision; None for the newest.
    """

    folder: Path
    name: str
    about: str
    source: str
    licence: str
    fact_vocabulary: tuple[str, ...]
    splits: dict[str, Split]
    hub: str | None = None
    revision: str | None = None

    @cached_property
    def document_frequency(self) -> str | None:
        """The frozen document frequencies for CIDEr-D as JSON text, if the set has them."""
        file = self.folder / "document_frequency.json"
        return file.read_text(encoding="utf-8") if file.exists() else None


def find_evalsets(folder: Path = BUNDLED) -> dict[str, Evalset]:
    """All evalsets by name.

    Raises:
        EvalsetError: A manifest that cannot be read.
    """
    return {path.parent.name: _read_manifest(path) for path in sorted(folder.glob("*/manifest.json"))}


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
    rows = _hub_rows(evalset, chosen) if chosen.hub_split else _bundled_rows(evalset, chosen, f"{name}:{split}")
    found = list(
        itertools.islice((sample for number, row in rows for sample in _samples(row, chosen, number)), samples)
    )
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


def _bundled_rows(evalset: Evalset, split: Split, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import datasets  # slow to import: seconds

    file = evalset.folder / str(split.file)
    if not file.exists() or _sha256(file) != split.sha256:
        what = "is not the file that its manifest names" if file.exists() else "is missing"
        raise EvalsetError(f"{name}: {file} {what}", hint="restore the folder from the repository")
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
    yield from enumerate(rows.cast_column("image", datasets.Image(decode=False)))


def _hub_rows(evalset: Evalset, split: Split) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = _fetch(evalset, split)
    wanted = {"image", split.references, *([split.id] if split.id else [])}
    if missing := sorted(wanted - set(rows.column_names)):
        raise EvalsetError(
            f"{evalset.name}: no column {', '.join(missing)} in {evalset.hub}, split {split.hub_split}",
            details=[f"found {', '.join(rows.column_names)}"],
            hint="it has changed since its manifest was written",
        )
    yield from enumerate(rows)


def _fetch(evalset: Evalset, split: Split) -> Any:
    import datasets

    try:
        rows = datasets.load_dataset(evalset.hub, split=split.hub_split, revision=evalset.revision)
        return rows.cast_column("image", datasets.Image(decode=False)) if "image" in rows.column_names else rows
    except Exception as error:  # `datasets` raises its own, the hub's, the network's and the system's errors
        reason = next(iter(str(error).strip().splitlines()), "")
        raise EvalsetError(
            f"{evalset.name} cannot be read from the hub ({evalset.hub}, split {split.hub_split})",
            details=[f"{type(error).__name__}: {reason}"],
            hint="its first use needs the network, and a login (`hf auth login`) if it is gated; then it is kept",
        ) from None


def _samples(row: dict[str, Any], split: Split, number: int) -> Iterator[Sample]:
    images, facts = (_image_bytes(row["image"]),), tuple(row.get("facts") or ())
    name = str(row[split.id] if split.id else number)
    if split.references == "qas":
        for qa in row["qas"][:1] if split.only_first else row["qas"]:
            yield Sample(f"{name}/{qa[split.question_id]}", images, qa["question"], (qa["answer"],))
        return
    references, question = row[split.references], split.question or row.get("question")
    assert question, "a split of captions has one question"
    japanese_facts = facts if split.language == "ja" else ()
    yield Sample(
        name, images, question, (references,) if isinstance(references, str) else tuple(references), japanese_facts
    )


def _image_bytes(image: dict[str, Any]) -> bytes:
    """The encoded picture: within the row, or in a file that the row names."""
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def _read_manifest(path: Path) -> Evalset:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        splits = {name: Split(**fields) for name, fields in manifest["splits"].items()}
        name, about, source, licence = (str(manifest[key]) for key in ("name", "about", "source", "licence"))
        facts = tuple(manifest.get("fact_vocabulary", ()))
        hub, revision = manifest.get("hub"), manifest.get("revision")
        if hub is None and any(split.hub_split for split in splits.values()):
            raise ValueError("`hub` is missing")
        return Evalset(path.parent, name, about, source, licence, facts, splits, hub, revision)
    except (ValueError, KeyError, TypeError) as error:
        raise EvalsetError(f"{path}: not a manifest: {error}", hint="restore the folder from the repository") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
