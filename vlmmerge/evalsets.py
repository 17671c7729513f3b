"""Evaluation sets: samples with a picture, a question and references; splits, checksums, and who may see what.

Knows the folders under evalsets/, their manifests and parquet files. Knows nothing of models.
"""

import hashlib
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
        image: The encoded picture file's bytes.
        question: What is asked.
        references: The right answers, one or more.
        facts: Phrases that a right answer contains; empty where the set states none.
    """

    id: str
    image: bytes
    question: str
    references: tuple[str, ...]
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """One split of an evalset, as its manifest tells.

    Args:
        file: The parquet file, one row a picture.
        sha256: Of the file.
        references: The column of the references; `qas` gives one sample a question instead of one a picture.
        question: What is asked where the rows have no question of their own.
        language: Of the questions and references: `ja` or `en`.
        num_samples: How many samples there are.
    """

    file: str
    sha256: str
    references: str
    question: str | None
    language: str
    num_samples: int


@dataclass(frozen=True)
class Evalset:
    """A bundled evaluation set; reading it is left to `load`."""

    folder: Path
    name: str
    about: str
    source: str
    licence: str
    fact_vocabulary: tuple[str, ...]
    splits: dict[str, Split]

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
    if samples is not None and samples > chosen.num_samples:
        hint = f"ask for {chosen.num_samples} or fewer; no number asks for all"
        raise EvalsetError(f"{name}:{split} has {chosen.num_samples} samples, {samples} were asked for", hint=hint)
    return found[name], chosen


def load(name: str, split: str, samples: int | None = None) -> list[Sample]:
    """Read the first `samples` samples of a split (all by default), in the set's own order.

    Raises:
        EvalsetError: There is no such evalset or split, its file is missing or not the one that the manifest names, or
            it has fewer samples.
    """
    evalset, chosen = find_split(name, split, samples)
    file = evalset.folder / chosen.file
    if not file.exists() or _sha256(file) != chosen.sha256:
        what = "is not the file that its manifest names" if file.exists() else "is missing"
        raise EvalsetError(f"{name}:{split}: {file} {what}", hint="restore the folder from the repository")
    found = [sample for row in _rows(file) for sample in _samples(row, chosen)]
    return found[:samples]


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


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    import datasets  # slow to import: seconds

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
    yield from rows.cast_column("image", datasets.Image(decode=False))


def _samples(row: dict[str, Any], split: Split) -> Iterator[Sample]:
    image, facts = row["image"]["bytes"], tuple(row.get("facts") or ())
    if split.references == "qas":
        for qa in row["qas"]:
            yield Sample(f"{row['id']}/{qa['kind']}", image, qa["question"], (qa["answer"],))
    else:
        assert split.question, "a split of captions has one question"
        japanese_facts = facts if split.language == "ja" else ()
        yield Sample(str(row["id"]), image, split.question, tuple(row[split.references]), japanese_facts)


def _read_manifest(path: Path) -> Evalset:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        splits = {name: Split(**fields) for name, fields in manifest["splits"].items()}
        name, about, source, licence = (str(manifest[key]) for key in ("name", "about", "source", "licence"))
        return Evalset(path.parent, name, about, source, licence, tuple(manifest.get("fact_vocabulary", ())), splits)
    except (ValueError, KeyError, TypeError) as error:
        raise EvalsetError(f"{path}: not a manifest: {error}", hint="restore the folder from the repository") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
