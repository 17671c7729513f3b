"""What licence a checkpoint states, and which of several parents' licences restricts a merge the most.

Knows the front matter of a model card and the hub's names for licences. Does not know checkpoints, and is no lawyer: it
tells what the parents' own cards say.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from vlmmerge.checkpoint import MODEL_CARD

LONGEST_CARD = 2**20  # bytes that are read of a card

# From the freest to the strictest; the first pattern that is found in a licence's name decides. The hub's names:
# https://huggingface.co/docs/hub/repositories-licenses
KINDS = {
    "no derivatives": r"-nd\b",
    "non-commercial": r"-nc\b|non-?commercial|research|\bnc\b",
    "not stated": r"^(unknown|not stated)$",
    "share alike": r"-sa\b|gpl|mpl|epl|eupl|osl|odbl",
    "free": r"^(apache|mit|bsd|isc|cc0|cc-by-\d|unlicense|wtfpl|zlib|bsl|artistic|ms-pl|pddl|afl|ncsa|postgresql)",
}
TERMS = "terms of use"  # all others: llama3.1, gemma, openrail, ...
STRICTNESS = ("free", "share alike", TERMS, "not stated", "non-commercial", "no derivatives")
LOUD = {
    "non-commercial": "forbids commercial use",
    "no derivatives": "forbids derivatives, and a merge is one",
}


@dataclass(frozen=True)
class Licence:
    """The licence that a model card states.

    Args:
        name: The hub's name for it, such as `apache-2.0`; the card's own for one that the hub has no name for;
            `not stated` where there is no card, or none in it.
        link: Where its text is, if the card says so.
    """

    name: str
    link: str | None = None

    @property
    def kind(self) -> str:
        """One of `STRICTNESS`.

        >>> [Licence(name).kind for name in ("mit", "cc-by-sa-4.0", "llama3.1", "cc-by-nc-4.0", "cc-by-nc-nd-4.0")]
        ['free', 'share alike', 'terms of use', 'non-commercial', 'no derivatives']
        """
        found = [kind for kind, pattern in KINDS.items() if re.search(pattern, self.name.lower())]
        return found[0] if found else TERMS


NOT_STATED = Licence("not stated")


def read_licence(folder: Path) -> Licence:
    """Read what licence the model card in a checkpoint's folder states."""
    try:
        with (folder / MODEL_CARD).open(encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_CARD)
    except OSError:
        return NOT_STATED
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        fields = yaml.safe_load(found[1]) if found else None
    except (yaml.YAMLError, RecursionError):
        return NOT_STATED
    if not isinstance(fields, dict) or not fields.get("license"):
        return NOT_STATED
    stated = fields["license"]
    name = str(stated[0] if isinstance(stated, list) else stated).strip().lower()
    if name == "other":
        name = str(fields.get("license_name") or "other").strip()
    link = fields.get("license_link")
    return Licence(name, str(link) if link else None)


def strictest(licences: Mapping[str, Licence]) -> Licence:
    """The licence that restricts the most; of equally strict ones the first parent's."""
    return max(licences.values(), key=lambda licence: STRICTNESS.index(licence.kind))


def warnings(licences: Mapping[str, Licence]) -> list[str]:
    """What must be said loudly: one line for each parent that forbids commercial use, or derivatives."""
    return [
        f"`{name}` {LOUD[licence.kind]}: its licence is {licence.name}"
        for name, licence in licences.items()
        if licence.kind in LOUD
    ]
