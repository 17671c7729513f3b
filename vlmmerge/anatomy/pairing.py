"""How the parents' tensors pair, slot by slot, and every misfit between them.

Knows names and shapes of tensors. Does not know the numbers in a tensor, nor which token has which row
(`vocabulary.py`). Where a tower stands among a checkpoint's keys is found in `towers.py`.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vlmmerge.anatomy.slots import EMBEDDINGS, HEAD, Slot
from vlmmerge.anatomy.towers import Shapes, find_frame, is_computed, is_head, language_tower, lone_frame, pair
from vlmmerge.errors import ParentsError

VISION = "vision"  # the parent that gives the eyes, where it is not the `vlm`
KEEP_EMBEDDINGS = "`--set blend.embeddings=vlm` keeps the VLM's embeddings and head as they are, and blends the rest"


@dataclass(frozen=True)
class Anatomy:
    """How the parents pair.

    Args:
        slots: The slots that are blended, from the embeddings to the head.
        keys: For each parent (`vlm`, `base`, each LLM, and `vision` if there is one), the file key of each slot. Where
            the layout has a head of its own and another parent's is tied, the key of that parent's embeddings stands
            for its head, too.
        repeated_heads: Where the layout's head is tied: for each parent whose file holds the embeddings once more as
            its head, that key.
    """

    slots: tuple[Slot, ...]
    keys: dict[str, dict[Slot, str]]
    repeated_heads: dict[str, str] = field(default_factory=dict)

    @property
    def num_layers(self) -> int:
        return 1 + max(slot.layer for slot in self.slots if slot.layer is not None)


def layout_of(parents: Container[str]) -> str:
    """Which parent's files, eyes and vocabulary an export has: the `vision` parent's, or where there is none the VLM's.

    >>> layout_of(["vlm", "base", "ja"]), layout_of(["vlm", "base", "ja", "vision"])
    ('vlm', 'vision')
    """
    return VISION if VISION in parents else "vlm"


def study(
    parents: Mapping[str, Shapes],
    says_tied: Mapping[str, bool | None] = MappingProxyType({}),
    *,
    blends_embeddings: bool = True,
) -> Anatomy:
    """Find the language tower in each parent and pair the slots.

    Args:
        parents: For each parent by name, with `vlm` and `base` among them, the shape of each tensor by file key.
        says_tied: For each parent, whether its config ties the head to the embeddings; None where it does not say.
        blends_embeddings: False leaves embeddings and head out: they stay the VLM's.

    Raises:
        ParentsError: A parent without a language tower, or parents that do not fit; all misfits are told.
    """
    tower = language_tower(parents["base"])
    keys = {name: tower if name == "base" else _pair_with(tower, parents, name) for name in parents}
    repeated_heads: dict[str, str] = {}
    heads_apart: list[str] = []
    if blends_embeddings:
        keys, repeated_heads, heads_apart = _pair_heads(parents, keys, says_tied)
    beyond = {name: _beyond(keys[name], shapes, has_eyes=name in ("vlm", VISION)) for name, shapes in parents.items()}
    if not blends_embeddings:
        keys, beyond = _without_token_rows(keys), _without_token_rows(beyond)
    misfit_slots, lines = _misfits(parents, keys, beyond)
    misfit_slots |= {HEAD} if heads_apart else set()
    if misfit_slots:
        hint = "all language towers must come from one base model, with equal shapes"
        if all(".experts." in slot.role for slot in misfit_slots):
            hint = (
                "one parent may hold each expert by itself, and another all in one tensor: such two cannot be blended"
            )
        num_slots = len(misfit_slots | keys["base"].keys())
        raise ParentsError(
            f"parents do not fit: {len(misfit_slots)} of {num_slots} language slots differ",
            details=_matches(parents, keys) + lines + heads_apart,
            hint=KEEP_EMBEDDINGS if all(slot.has_token_rows for slot in misfit_slots) else hint,
        )
    return Anatomy(tuple(sorted(keys[layout_of(keys)])), keys, repeated_heads)


def _pair_with(tower: Mapping[Slot, str], parents: Mapping[str, Shapes], name: str) -> dict[Slot, str]:
    """Pair one parent's keys with the base's tower, and a head."""
    base, own = parents["base"], parents[name]
    return pair([*tower, HEAD], own, lambda slot, key: slot not in tower or own[key] == base[tower[slot]])


def _pair_heads(
    parents: Mapping[str, Shapes], keys: Mapping[str, dict[Slot, str]], says_tied: Mapping[str, bool | None]
) -> tuple[dict[str, dict[Slot, str]], dict[str, str], list[str]]:
    """Give every parent the head that the export's layout has: one of its own, or none beside the embeddings.

    A head is tied if the config says so, or if the file holds none and the config does not deny it: then it is missing.

    Returns:
        The keys with heads paired, the heads that repeat tied embeddings, and a line for each parent with a head of its
        own beside a layout whose one tensor cannot become both.
    """
    has_head = {name: any(map(is_head, shapes)) for name, shapes in parents.items()}
    is_tied = {
        name: bool(says_tied.get(name)) or (not has_head[name] and says_tied.get(name) is None) for name in parents
    }
    layout = layout_of(parents)
    if not is_tied[layout]:
        paired = {
            name: {HEAD: own[EMBEDDINGS]} | own if is_tied[name] and EMBEDDINGS in own else own
            for name, own in keys.items()
        }
        return paired, {}, []
    repeated = {name: own[HEAD] for name, own in keys.items() if HEAD in own and is_tied[name]}
    untied = {name: parents[name][own[HEAD]] if HEAD in own else "missing" for name, own in keys.items()}
    apart = [
        f"{HEAD}  {found} in `{name}`   tied to the embeddings in `{layout}`"
        for name, found in untied.items()
        if not is_tied[name]
    ]
    without = {name: {slot: key for slot, key in own.items() if slot != HEAD} for name, own in keys.items()}
    return without, repeated, apart


def _without_token_rows(keys: Mapping[str, Mapping[Slot, str]]) -> dict[str, dict[Slot, str]]:
    return {name: {slot: key for slot, key in own.items() if not slot.has_token_rows} for name, own in keys.items()}


def _misfits(
    parents: Mapping[str, Shapes], keys: Mapping[str, Mapping[Slot, str]], beyond: Mapping[str, Mapping[Slot, str]]
) -> tuple[set[Slot], list[str]]:
    """The slots that misfit, and a line for each parent and role, with the first slot and both shapes."""
    misfit_slots: set[Slot] = set()
    first: dict[tuple[str, str], tuple[Slot, str]] = {}
    for name, shapes in parents.items():
        own = {**keys[name], **beyond[name]}
        for slot in sorted(keys["base"].keys() | own.keys()):
            found = shapes[own[slot]] if slot in own else "missing"
            wanted = parents["base"][keys["base"][slot]] if slot in keys["base"] else "missing"
            if _fitting(slot, found) != _fitting(slot, wanted):
                misfit_slots.add(slot)
                text = f"{slot}  {found} in `{name}`   {wanted} in `base`"
                first.setdefault((name, slot.role), (slot, text))
    lines = [text for _, text in sorted(first.values())]
    more = [f"... and {len(lines) - 6} more kinds of slots"] if len(lines) > 6 else []
    return misfit_slots, lines[:6] + more


def _matches(parents: Mapping[str, Shapes], keys: Mapping[str, Mapping[Slot, str]]) -> list[str]:
    """A line for each parent that lacks slots: where it was looked at, and its first keys that are no slot there."""
    lines = []
    for name, shapes in parents.items():
        own, wanted = keys[name], keys["base"]
        if missing := wanted.keys() - own.keys():
            frame = find_frame(own, shapes) if own.keys() - {HEAD} else lone_frame(shapes)
            there = {*own.values(), *filter(is_computed, shapes)}
            slots = {key: frame.slot(key) for key in shapes if key not in there} if frame else {}
            left = [key for key, slot in slots.items() if slot and not slot.has_token_rows]
            found = f"`{name}`: {len(wanted) - len(missing)} of {len(wanted)} slots found"
            place = f" under `{frame.prefix}`" if frame else ""
            lines.append(f"{found}{place}{'; no slot: ' + ', '.join(left[:3]) if left else ''}")
    return lines


def _fitting(slot: Slot, shape: tuple[int, ...] | str) -> tuple[int, ...] | str:
    """What of a slot's shape must be equal in all parents: rows of tokens may differ in number."""
    return shape[1:] if slot.has_token_rows and not isinstance(shape, str) else shape


def _beyond(tower: Mapping[Slot, str], shapes: Shapes, *, has_eyes: bool) -> dict[Slot, str]:
    """What a parent's tower has that is no slot of the base, and so would not be blended: in its layers and, unless the
    parent has eyes, whose projector may stand under the same prefix, beside them."""
    frame = find_frame(tower, shapes) if any(slot.layer is not None for slot in tower) else None
    beside = r"(?!)" if has_eyes else r"(?!lm_head\.)\w+\.(weight|bias)"
    there = {slot: key for key in shapes if frame and not is_computed(key) and (slot := frame.slot(key))}
    more = {slot for slot in there if slot.layer is not None or re.fullmatch(beside, slot.role)}
    return {slot: there[slot] for slot in more if slot not in tower}
