"""What an evaluation set says of itself: its manifest, and every manifest under evalsets/.

Knows folders and their manifest.json. Does not read samples.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vlmmerge.errors import EvalsetError

PACKAGE = Path(__file__).parents[1]
# Bundled in the wheel; in a checkout they lie beside the package.
BUNDLED = PACKAGE / "bundled_evalsets" if (PACKAGE / "bundled_evalsets").is_dir() else PACKAGE.parent / "evalsets"


@dataclass(frozen=True)
class Split:
    """One split of an evalset, as its manifest tells.

    Args:
        references: The column of the references: a text, a list of texts, or a list of questions {question, answer or
            answers, ...}, which gives one sample a question instead of one a row.
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

    @property
    def kind(self) -> str:
        """`captions` where every sample is asked the same, else `questions`."""
        return "captions" if self.question else "questions"


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
