"""Which checkpoint is which parent: the VLM, the ancestor or what stands in for it, and the LLMs.

Knows what was typed, in which order, and which checkpoints see. Does not know whether they fit.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmmerge.checkpoint import Checkpoint

VLM, BASE = "vlm", "base"


@dataclass(frozen=True, eq=False)
class Opened:
    """A checkpoint as it came in.

    Args:
        where: The folder or hub id, as it was typed.
        sees: Whether it has a vision tower.
    """

    where: str
    checkpoint: Checkpoint
    sees: bool


@dataclass(frozen=True, eq=False)
class Lineup:
    """Some checkpoints as parents.

    Args:
        opened: By label: `vlm` first; then `base`, with which all are compared, unless the VLM is alone; then the LLMs.
        names: For each label, what people call the checkpoint.
        has_ancestor: Whether `base` is the common ancestor; else another parent stands in for it.
    """

    opened: Mapping[str, Opened]
    names: Mapping[str, str]
    has_ancestor: bool

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        return {label: each.checkpoint for label, each in self.opened.items()}

    def role(self, label: str) -> str:
        """`vlm`, `base` or `llm`."""
        return VLM if label == VLM else BASE if label == BASE and self.has_ancestor else "llm"

    def named(self, text: str) -> str:
        """A text with the checkpoints' names in place of their labels, wherever these stand between backticks."""
        return re.sub(r"`([^`\n]+)`", lambda found: f"`{self.names.get(found[1], found[1])}`", text)


def line_up(opened: Sequence[Opened], ancestor: Opened | None = None) -> Lineup:
    """Give each checkpoint its role.

    The first that sees is the VLM; where none does, the first. The ancestor is the one that was named, else of three or
    more the last if it sees nothing. Without one, the first LLM stands in for it.

    Args:
        opened: At least one, in the order in which they were typed.
        ancestor: Named as such; it may have been typed among the others, too.
    """
    vlm = next((each for each in opened if each.sees), opened[0])
    others = [each for each in opened if each is not vlm and not (ancestor and each.where == ancestor.where)]
    if not ancestor and len(others) > 1 and others[-1] is opened[-1] and not opened[-1].sees:
        ancestor = others.pop()
    has_ancestor = ancestor is not None
    if not ancestor and others:
        ancestor = next((each for each in others if not each.sees), others[0])
        others.remove(ancestor)
    ordered = [vlm, *([ancestor] if ancestor else []), *others]
    names = list(_unique(_name(each.where) for each in ordered))
    # No LLM may be labelled as the VLM and the base are.
    labels = [VLM, BASE, *(f"llm {name}" if name in (VLM, BASE) else name for name in names[2:])][: len(names)]
    return Lineup(
        dict(zip(labels, ordered, strict=True)), dict(zip(labels, names, strict=True)), has_ancestor=has_ancestor
    )


def _name(where: str) -> str:
    """The last part of a folder or hub id.

    >>> _name("models/tiny/"), _name("org/name@main")
    ('tiny', 'name')
    """
    folder = Path(where).expanduser()
    return folder.resolve().name if folder.is_dir() else where.rstrip("/").rpartition("/")[2].partition("@")[0]


def _unique(names: Iterable[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"
