"""Which tensor is which: the slots of a language tower, and how the parents' tensors pair.

Knows names and shapes of tensors. Does not know the numbers in a tensor. The language tower is found by pairing keys,
with no table of model families.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import total_ordering

from vlmmerge.errors import ParentsError

Shapes = Mapping[str, tuple[int, ...]]


@total_ordering
@dataclass(frozen=True)
class Slot:
    """One tensor's place in the language tower. Slots sort by depth: embeddings, layers, final norm and head.

    Args:
        layer: The decoder layer, from 0; None for what lies outside the layers.
        role: The tensor's name within its layer or tower, for example `self_attn.q_proj.weight` or `lm_head.weight`.

    >>> str(Slot(3, "mlp.gate_proj.weight")), Slot(3, "mlp.gate_proj.weight").part
    ('layers.3.mlp.gate_proj.weight', 'mlp')
    >>> str(Slot(None, "lm_head.weight")), Slot(None, "lm_head.weight").part
    ('lm_head.weight', 'head')
    """

    layer: int | None
    role: str

    @property
    def part(self) -> str:
        """The part of the tower it belongs to: `attention`, `mlp`, `embeddings` or `head`."""
        if self.layer is None:
            return "embeddings" if self.role.startswith("embed_tokens.") else "head"
        return "attention" if self.role.startswith(("input_layernorm.", "self_attn.")) else "mlp"

    def __str__(self) -> str:
        return self.role if self.layer is None else f"layers.{self.layer}.{self.role}"

    def __lt__(self, other: "Slot") -> bool:
        return self._depth < other._depth

    @property
    def _depth(self) -> tuple[int, int, str]:
        stage = {"embeddings": 0, "attention": 1, "mlp": 1, "head": 2}[self.part]
        return stage, self.layer or 0, self.role


@dataclass(frozen=True)
class Anatomy:
    """How the parents pair.

    Args:
        slots: The slots that are blended, from the embeddings to the head.
        keys: For each parent (`vlm`, `base` and each LLM), the file key of each slot.
    """

    slots: tuple[Slot, ...]
    keys: dict[str, dict[Slot, str]]

    @property
    def num_layers(self) -> int:
        return 1 + max(slot.layer for slot in self.slots if slot.layer is not None)


def study(parents: Mapping[str, Shapes]) -> Anatomy:
    """Find the language tower in each parent and pair the slots.

    Args:
        parents: For each parent by name, with `vlm` and `base` among them, the shape of each tensor by file key.

    Raises:
        ParentsError: A parent without a language tower, or parents that do not fit; all misfits are told.
    """
    slots = language_tower(parents["base"])
    keys = {name: {} if name == "base" else pair(slots, shapes) for name, shapes in parents.items()}
    keys["base"] = slots
    misfit_slots, lines = _misfits(parents, keys)
    if misfit_slots:
        raise ParentsError(
            f"parents do not fit: {len(misfit_slots)} of {len(misfit_slots | slots.keys())} language slots differ",
            details=lines,
            hint="all language towers must come from one base model, with equal shapes",
        )
    return Anatomy(tuple(sorted(slots)), keys)


def language_tower(shapes: Shapes) -> dict[Slot, str]:
    """Find the language tower of a checkpoint that has no other: its key for each slot.

    Raises:
        ParentsError: There are no keys of the form `...layers.N...`.
    """
    prefixes = Counter(found[1] for key in shapes if (found := _LAYER.match(key)))
    if not prefixes:
        raise ParentsError(
            "base has no language tower: no key of the form `layers.0.self_attn.q_proj.weight`",
            details=[f"found {', '.join(list(shapes)[:3])} ..."],
            hint="`parents.base` must be a decoder-only language model",
        )
    prefix = prefixes.most_common(1)[0][0]
    # Old checkpoints carry rotary frequencies, which are computed and never loaded.
    own = [
        key
        for key in shapes
        if key.startswith(prefix) and not key.endswith("rotary_emb.inv_freq") and not _is_head(key)
    ]
    slots = {_slot(key.removeprefix(prefix)): key for key in own}
    return slots | {Slot(None, "lm_head.weight"): key for key in shapes if _is_head(key)}


def pair(slots: Iterable[Slot], keys: Iterable[str]) -> dict[Slot, str]:
    """Find the keys of a language tower within a larger model, in a file or live: for each slot found, its key.

    The tower stands under the one prefix (`language_model.model.`, `model.language_model.`, ...) under which most slots
    are found; a vision tower has layers too, but not those roles.
    """
    slots, keys = list(slots), list(keys)
    prefixes = {found[1] for key in keys if (found := _LAYER.match(key))}
    there = set(keys)
    towers = [
        {slot: prefix + str(slot) for slot in slots if prefix + str(slot) in there} for prefix in sorted(prefixes)
    ]
    tower = max(towers, key=len, default={})
    heads = [key for key in keys if _is_head(key)]
    return tower | {slot: heads[0] for slot in slots if slot.role == "lm_head.weight" and len(heads) == 1}


_LAYER = re.compile(r"(|.*?\.)layers\.\d+\.")


def _is_head(key: str) -> bool:
    return key == "lm_head.weight" or key.endswith(".lm_head.weight")


def _slot(name: str) -> Slot:
    found = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    return Slot(int(found[1]), found[2]) if found else Slot(None, name)


def _misfits(parents: Mapping[str, Shapes], keys: Mapping[str, Mapping[Slot, str]]) -> tuple[set[Slot], list[str]]:
    """The slots that misfit, and a line for each parent and role, with the first slot and both shapes."""
    misfit_slots: set[Slot] = set()
    first: dict[tuple[str, str], tuple[Slot, str]] = {}
    for name, shapes in parents.items():
        own = {**keys[name], **_beyond(keys[name], shapes)}
        for slot in sorted(keys["base"].keys() | own.keys()):
            found = shapes[own[slot]] if slot in own else "missing"
            wanted = parents["base"][keys["base"][slot]] if slot in keys["base"] else "missing"
            if found != wanted:
                misfit_slots.add(slot)
                text = f"{slot}  {found} in `{name}`   {wanted} in `base`"
                first.setdefault((name, slot.role), (slot, text))
    lines = [text for _, text in sorted(first.values())]
    more = [f"... and {len(lines) - 6} more kinds of slots"] if len(lines) > 6 else []
    return misfit_slots, lines[:6] + more


def _beyond(tower: Mapping[Slot, str], shapes: Shapes) -> dict[Slot, str]:
    """What a parent's tower has in its layers, or as its head, that is no slot of the base: it would not be blended."""
    prefixes = {key.removesuffix(str(slot)) for slot, key in tower.items() if slot.layer is not None}
    more = {
        _slot(key.removeprefix(prefix)): key
        for prefix in prefixes
        for key in shapes
        if key.startswith(f"{prefix}layers.") and not key.endswith("rotary_emb.inv_freq")
    }
    more |= {Slot(None, "lm_head.weight"): key for key in shapes if _is_head(key)}
    return {slot: key for slot, key in more.items() if slot not in tower}
