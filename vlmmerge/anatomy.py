"""Which tensor is which: the slots of a language tower, and how the parents' tensors pair.

Knows names and shapes of tensors. Does not know the numbers in a tensor, nor which token has which row
(`vocabulary.py`). The language tower is found by pairing keys, with no table of model families.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import total_ordering
from types import MappingProxyType

from vlmmerge.errors import ParentsError

Shapes = Mapping[str, tuple[int, ...]]

KEEP_EMBEDDINGS = "`--set blend.embeddings=vlm` keeps the VLM's embeddings and head as they are, and blends the rest"


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
    >>> Slot(3, "self_attn.q_proj.bias").short_role, Slot(3, "input_layernorm.weight").short_role
    ('q_proj', 'input_layernorm')
    """

    layer: int | None
    role: str

    @property
    def part(self) -> str:
        """The part of the tower it belongs to: `attention`, `mlp`, `embeddings` or `head`."""
        if self.layer is None:
            return "embeddings" if self.role.startswith("embed_tokens.") else "head"
        return "attention" if self.role.startswith(("input_layernorm.", "self_attn.")) else "mlp"

    @property
    def has_token_rows(self) -> bool:
        """Whether its rows are tokens: they pair by token, and their number may differ between parents."""
        return self in (EMBEDDINGS, HEAD)

    @property
    def short_role(self) -> str:
        """The role as a recipe names it: `q_proj` for its weight and its bias, `input_layernorm`, `lm_head`."""
        return self.role.split(".")[-2:][0]

    def __str__(self) -> str:
        return self.role if self.layer is None else f"layers.{self.layer}.{self.role}"

    def __lt__(self, other: "Slot") -> bool:
        return self._depth < other._depth

    @property
    def _depth(self) -> tuple[int, int, str]:
        stage = {"embeddings": 0, "attention": 1, "mlp": 1, "head": 2}[self.part]
        return stage, self.layer or 0, self.role


EMBEDDINGS, HEAD = Slot(None, "embed_tokens.weight"), Slot(None, "lm_head.weight")


@dataclass(frozen=True)
class Anatomy:
    """How the parents pair.

    Args:
        slots: The slots that are blended, from the embeddings to the head.
        keys: For each parent (`vlm`, `base` and each LLM), the file key of each slot. Where the VLM has a head of its
            own and another parent's is tied, the key of that parent's embeddings stands for its head, too.
        repeated_heads: Where the VLM's head is tied: for each parent whose file holds the embeddings once more as its
            head, that key.
    """

    slots: tuple[Slot, ...]
    keys: dict[str, dict[Slot, str]]
    repeated_heads: dict[str, str] = field(default_factory=dict)

    @property
    def num_layers(self) -> int:
        return 1 + max(slot.layer for slot in self.slots if slot.layer is not None)


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
    keys = {name: tower if name == "base" else pair([*tower, HEAD], shapes) for name, shapes in parents.items()}
    repeated_heads: dict[str, str] = {}
    heads_apart: list[str] = []
    if blends_embeddings:
        keys, repeated_heads, heads_apart = _pair_heads(parents, keys, says_tied)
    beyond = {name: _beyond(keys[name], shapes, has_eyes=name == "vlm") for name, shapes in parents.items()}
    if not blends_embeddings:
        keys, beyond = _without_token_rows(keys), _without_token_rows(beyond)
    misfit_slots, lines = _misfits(parents, keys, beyond)
    misfit_slots |= {HEAD} if heads_apart else set()
    if misfit_slots:
        hint = "all language towers must come from one base model, with equal shapes"
        num_slots = len(misfit_slots | keys["base"].keys())
        raise ParentsError(
            f"parents do not fit: {len(misfit_slots)} of {num_slots} language slots differ",
            details=lines + heads_apart,
            hint=KEEP_EMBEDDINGS if all(slot.has_token_rows for slot in misfit_slots) else hint,
        )
    return Anatomy(tuple(sorted(keys["vlm"])), keys, repeated_heads)


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
    heads = [key for key in shapes if _is_head(key)]
    return slots | ({HEAD: heads[-1]} if heads else {})


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
    return tower | {slot: heads[0] for slot in slots if slot == HEAD and len(heads) == 1}


_LAYER = re.compile(r"(|.*?\.)layers\.\d+\.")


def _pair_heads(
    parents: Mapping[str, Shapes], keys: Mapping[str, dict[Slot, str]], says_tied: Mapping[str, bool | None]
) -> tuple[dict[str, dict[Slot, str]], dict[str, str], list[str]]:
    """Give every parent the head that the VLM has: one of its own, or none beside the embeddings.

    A head is tied if the config says so, or if the file holds none and the config does not deny it: then it is missing.

    Returns:
        The keys with heads paired, the heads that repeat tied embeddings, and a line for each parent with a head of its
        own beside a VLM whose one tensor cannot become both.
    """
    has_head = {name: any(map(_is_head, shapes)) for name, shapes in parents.items()}
    is_tied = {
        name: bool(says_tied.get(name)) or (not has_head[name] and says_tied.get(name) is None) for name in parents
    }
    if not is_tied["vlm"]:
        paired = {
            name: {HEAD: own[EMBEDDINGS]} | own if is_tied[name] and EMBEDDINGS in own else own
            for name, own in keys.items()
        }
        return paired, {}, []
    repeated = {name: own[HEAD] for name, own in keys.items() if HEAD in own and is_tied[name]}
    untied = {name: parents[name][own[HEAD]] if HEAD in own else "missing" for name, own in keys.items()}
    apart = [
        f"{HEAD}  {found} in `{name}`   tied to the embeddings in `vlm`"
        for name, found in untied.items()
        if not is_tied[name]
    ]
    without = {name: {slot: key for slot, key in own.items() if slot != HEAD} for name, own in keys.items()}
    return without, repeated, apart


def _is_head(key: str) -> bool:
    return key == "lm_head.weight" or key.endswith(".lm_head.weight")


def _slot(name: str) -> Slot:
    found = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    return Slot(int(found[1]), found[2]) if found else Slot(None, name)


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


def _fitting(slot: Slot, shape: tuple[int, ...] | str) -> tuple[int, ...] | str:
    """What of a slot's shape must be equal in all parents: rows of tokens may differ in number."""
    return shape[1:] if slot.has_token_rows and not isinstance(shape, str) else shape


def _beyond(tower: Mapping[Slot, str], shapes: Shapes, *, has_eyes: bool) -> dict[Slot, str]:
    """What a parent's tower has that is no slot of the base, and so would not be blended: in its layers and, unless the
    parent has eyes, whose projector may stand under the same prefix, beside them."""
    prefixes = {key.removesuffix(str(slot)) for slot, key in tower.items() if slot.layer is not None}
    beside = r"layers\..+" if has_eyes else r"layers\..+|(?!lm_head\.)\w+\.(weight|bias)"
    more = {
        _slot(key.removeprefix(prefix)): key
        for prefix in prefixes
        for key in shapes
        if key.startswith(prefix) and re.fullmatch(beside, key.removeprefix(prefix)) and not key.endswith(".inv_freq")
    }
    return {slot: key for slot, key in more.items() if slot not in tower}
