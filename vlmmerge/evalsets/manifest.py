"""What an evaluation set says of itself: its manifest, and every manifest under evalsets/.

Knows folders and their manifest.json. Does not read samples.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.split import Split, read_split

PACKAGE = Path(__file__).parents[1]
# Bundled in the wheel; in a checkout they lie beside the package.
BUNDLED = PACKAGE / "bundled_evalsets" if (PACKAGE / "bundled_evalsets").is_dir() else PACKAGE.parent / "evalsets"


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
        is_gated: Whether the hub gives it only to those who have asked for it.
        is_own: Whether it is a person's own, named by its path.
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
    is_gated: bool = False
    is_own: bool = False

    def find(self, name: str) -> Split | None:
        """A split by its name, or by `split/config` the part of it that is one configuration."""
        split, _, config = name.partition("/")
        found = self.splits.get(split)
        if found and config:
            return found.of_config(config) if config in found.configs else None
        return found

    @property
    def card(self) -> str | None:
        """What its README.md tells, if there is one."""
        file = self.folder / "README.md"
        return file.read_text(encoding="utf-8") if file.exists() else None

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
        splits = {name: read_split(fields) for name, fields in manifest["splits"].items()}
        name, about, source, licence = (str(manifest[key]) for key in ("name", "about", "source", "licence"))
        facts = tuple(manifest.get("fact_vocabulary", ()))
        hub, revision, is_gated = manifest.get("hub"), manifest.get("revision"), manifest.get("gated", False)
        if hub is None and any(split.hub_split for split in splits.values()):
            raise ValueError("`hub` is missing")
        return Evalset(path.parent, name, about, source, licence, facts, splits, hub, revision, is_gated)
    except (ValueError, KeyError, TypeError) as error:
        raise EvalsetError(f"{path}: not a manifest: {error}", hint="restore the folder from the repository") from None
