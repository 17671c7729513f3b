"""Where a model's towers stand among its keys, in a file or live, with no table of model families.

A tower's layers are the modules of one *stack*: `model.layers.0`, `model.layers.1`, ... of the stack `model.layers`.
The language tower is the stack under which most slots of the base are found, with what stands beside it (embeddings,
final norm) and the head. Layers in it that are of another kind than all of the base's (they have tensors that no layer
of the base has, and lack some that each has: cross-attention to a picture) are no language layers: they are left out,
and the others count from 0 without them. With no base to compare, it is the stack beside the embeddings.

What is not language is vision or projector. Vision is every module beside the language tower that holds both a stack
of layers and a patch embedding (a key that says `patch`, or a convolution), but for those of its parts whose names say
that they connect (`merger`, `projector`, ...), outside layers and patch embedding. All else is projector: connectors
(with layers of their own or without) and loose tensors such as `image_newline`. The rule goes by names and numbers of
dimensions, so it has limits: where nobody finds a patch embedding the largest module with layers is the vision tower;
a connector in the vision tower's midst that no word gives away counts as vision, an audio tower with convolutions does,
too, and one without counts as projector. Nothing but tables depends on it: neither vision nor projector is ever
blended.

Knows names and shapes. Does not know the numbers in a tensor.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vlmmerge.anatomy.slots import HEAD, Slot
from vlmmerge.errors import ParentsError

Shapes = Mapping[str, tuple[int, ...]]
Tower = Literal["vision", "projector", "language"]

CONNECTOR = re.compile(r"merge|project|connect|resampl|perceiver|adapt|align|downsampl")
# A transformer's layer has norms, attention and an MLP; the numbered parts of a projector have a weight and a bias.
FEWEST_KEYS_OF_A_LAYER = 4
_NUMBERED = re.compile(r"(.*?)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Frame:
    """Where a language tower stands.

    Args:
        stack: The module that holds the layers, such as `model.language_model.layers`.
        layers: For each number that a layer of the tower has in the keys, its number among the base's layers.

    >>> frame = Frame("text.model.layers", {0: 0, 2: 1})
    >>> str(frame.slot("text.model.layers.2.mlp.up_proj.weight")), str(frame.slot("text.model.norm.weight"))
    ('layers.1.mlp.up_proj.weight', 'norm.weight')
    >>> frame.slot("text.model.layers.1.cross_attn.q_proj.weight"), frame.slot("vision.layers.0.mlp.fc1.weight")
    (None, None)
    """

    stack: str
    layers: Mapping[int, int]

    @cached_property
    def prefix(self) -> str:
        """What stands before the names of embeddings and final norm, beside the layers."""
        above = _parent(self.stack)
        return f"{above}." if above else ""

    def slot(self, key: str) -> Slot | None:
        """The slot that a key under the prefix would be; None elsewhere, and in a layer that is no language layer."""
        if not key.startswith(self.prefix):
            return None
        if (found := _NUMBERED.fullmatch(key)) and found[1] == self.stack:
            number = self.layers.get(int(found[2]))
            return None if number is None else Slot(number, found[3])
        return Slot(None, key.removeprefix(self.prefix))

    def holds(self, key: str) -> bool:
        """Whether a key is one of the stack's, in whatever layer."""
        return key.startswith(f"{self.stack}.")


def language_tower(shapes: Shapes) -> dict[Slot, str]:
    """Find the language tower of a checkpoint by itself: its key for each slot.

    All that stands under the tower's prefix is taken, but for eyes and what connects them, if there are any.

    Raises:
        ParentsError: There are no keys of the form `...layers.N...`.
    """
    frame = lone_frame(shapes)
    if frame is None:
        raise ParentsError(
            "`base` has no language tower: no key of the form `layers.0.self_attn.q_proj.weight`",
            details=[f"found {', '.join(list(shapes)[:3])} ..."],
            hint="`parents.base` must be a decoder-only language model",
        )
    has_eyes = any(_is_patch(key, shape) for key, shape in shapes.items())
    own = [key for key, tower in towers(shapes).items() if tower == "language"] if has_eyes else shapes
    slots = {frame.slot(key): key for key in own if not is_head(key) and not is_computed(key)}
    heads = [key for key in shapes if is_head(key)]
    return {slot: key for slot, key in slots.items() if slot} | ({HEAD: heads[-1]} if heads else {})


def pair(
    slots: Iterable[Slot], keys: Iterable[str], fits: Callable[[Slot, str], bool] = lambda slot, key: True
) -> dict[Slot, str]:
    """Find the keys of a language tower within a larger model, in a file or live: for each slot found, its key.

    Args:
        slots: What is looked for: the base's slots, and perhaps a head.
        keys: The larger model's.
        fits: Whether a key's tensor has the shape of the slot's. It decides between two towers with as many slots.
    """
    slots, keys = set(slots), list(keys)
    frame = find_frame(slots, keys, fits)
    own = {slot: key for key in keys if (slot := frame.slot(key)) in slots} if frame else {}
    tower = {slot: key for slot, key in own.items() if slot}
    heads = [key for key in keys if is_head(key)]
    return tower | ({HEAD: heads[0]} if HEAD in slots and len(heads) == 1 else {})


def find_frame(
    slots: Collection[Slot], keys: Iterable[str], fits: Callable[[Slot, str], bool] = lambda slot, key: True
) -> Frame | None:
    """Find where most of the slots are; None where no key has a number."""
    keys = list(keys)
    frames = [Frame(stack, _language_layers(slots, layers)) for stack, layers in sorted(_stacks(keys).items())]

    def rank(frame: Frame) -> tuple[int, int]:
        found = {slot: key for key in keys if (slot := frame.slot(key)) in slots}
        return len(found), sum(fits(slot, key) for slot, key in found.items() if slot)

    return max(frames, key=rank, default=None)


def lone_frame(shapes: Shapes) -> Frame | None:
    """Where the language tower stands, with no base to compare: beside the embeddings, which have the most rows.

    Where no stack has a matrix beside it, it is the largest; layers that look at a picture do not count.
    """
    stacks = _stacks(shapes)
    beside = Counter({_parent(stack): 0 for stack in stacks})
    for key, shape in shapes.items():
        if (place := _parent(_parent(key))) in beside and len(shape) == 2:
            beside[place] = max(beside[place], shape[0])

    def rank(stack: str) -> tuple[int, int]:
        own = [roles for roles in stacks[stack].values() if _has_no_cross(roles)]
        return bool(own) * beside[_parent(stack)], sum(map(len, own))

    stack = max(sorted(stacks), key=rank, default=None)
    return None if stack is None else Frame(stack, _numbered_anew(stacks[stack], _has_no_cross))


def towers(shapes: Shapes, slots: Collection[Slot] | None = None) -> dict[str, Tower]:
    """Say of each key of a model which tower it belongs to.

    Args:
        shapes: The model's, in a file or live.
        slots: The base's; None to take the model's own word for what is its language tower.

    >>> shapes = {
    ...     "language_model.model.embed_tokens.weight": (40, 8),
    ...     **{f"language_model.model.layers.0.mlp.{name}.weight": (8, 8) for name in "abcd"},
    ...     "vision_tower.patch_conv.weight": (6, 3, 2, 2),
    ...     **{f"vision_tower.layers.0.{name}.weight": (6, 6) for name in "abcd"},
    ...     "multi_modal_projector.0.weight": (8, 6),
    ... }
    >>> Counter(towers(shapes).values())
    Counter({'language': 5, 'vision': 5, 'projector': 1})
    """
    frame = lone_frame(shapes) if slots is None else find_frame(slots, shapes)
    paired = set(pair(slots, shapes).values()) if slots is not None else set()
    found: dict[str, Tower] = {}
    for key in shapes:
        if frame and frame.holds(key):
            found[key] = "language" if frame.slot(key) else "vision"
        elif key in paired or is_head(key) or (frame and _stands_beside(frame, key)):
            found[key] = "language"
    beside = [key for key in shapes if key not in found]
    return found | _split(shapes, beside, found)


def is_head(key: str) -> bool:
    return key == "lm_head.weight" or key.endswith(".lm_head.weight")


def is_computed(key: str) -> bool:
    """Whether it is a rotary frequency: old checkpoints carry them, which are computed and never loaded."""
    return key.endswith("rotary_emb.inv_freq")


def _stands_beside(frame: Frame, key: str) -> bool:
    """Whether a key stands right beside the layers: embeddings, final norm and rotary frequencies."""
    name = key.removeprefix(frame.prefix)
    is_own = is_computed(name) or re.fullmatch(r"(?!vis|image|mm_)\w*(embed|norm)\w*\.\w+", name)
    return key.startswith(frame.prefix) and bool(is_own)


def _parent(name: str) -> str:
    """The module that a module or tensor is part of; empty for the whole."""
    return name.rpartition(".")[0]


def _stacks(keys: Iterable[str]) -> dict[str, dict[int, set[str]]]:
    """The roles in each layer of each stack; a key belongs to its outermost stack."""
    stacks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for key in keys:
        if found := _NUMBERED.fullmatch(key):
            stacks[found[1]][int(found[2])].add(found[3])
    return stacks


def _language_layers(slots: Iterable[Slot], layers: Mapping[int, set[str]]) -> dict[int, int]:
    """Number the layers that are of the base's kinds; all of them, as they are, if none is."""
    of_base: dict[int, set[str]] = defaultdict(set)
    for slot in slots:
        if slot.layer is not None:
            of_base[slot.layer].add(slot.role)
    in_any, in_all = set().union(*of_base.values()), set.intersection(*of_base.values()) if of_base else set()
    return _numbered_anew(layers, lambda roles: roles <= in_any or roles >= in_all)


def _has_no_cross(roles: Iterable[str]) -> bool:
    """Whether a layer is a plain decoder's, as far as names tell."""
    return not any("cross_att" in role for role in roles)


def _numbered_anew(layers: Mapping[int, set[str]], is_own: Callable[[set[str]], bool]) -> dict[int, int]:
    """Number the layers of a stack that are the tower's own from 0; all as they are, if each is or none."""
    own = [number for number in sorted(layers) if is_own(layers[number])]
    is_whole = len(own) in (0, len(layers))
    return {number: number for number in layers} if is_whole else {number: place for place, number in enumerate(own)}


def _split(shapes: Shapes, keys: Collection[str], language: Collection[str]) -> dict[str, Tower]:
    """Say of the keys beside a language tower which are vision and which are projector."""
    above = {key[:end] for key in language for end in _ends(key)}
    modules: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        modules[next((key[:end] for end in _ends(key) if key[:end] not in above), key)].append(key)
    with_layers = [module for module, own in modules.items() if _has_layers(own)]
    eyes = [module for module in with_layers if any(_is_patch(key, shapes[key]) for key in modules[module])]
    if not eyes and with_layers:
        eyes = [max(with_layers, key=lambda module: len(modules[module]))]
    return {
        key: "vision" if module in eyes and not _connects(key.removeprefix(module)) else "projector"
        for module, own in modules.items()
        for key in own
    }


def _ends(key: str) -> list[int]:
    """Where the names of the modules above a tensor end, outermost first."""
    return [place for place, letter in enumerate(key) if letter == "."]


def _has_layers(keys: Iterable[str]) -> bool:
    return any(len(roles) >= FEWEST_KEYS_OF_A_LAYER for layers in _stacks(keys).values() for roles in layers.values())


def _is_patch(key: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor outside layers is a patch embedding's."""
    outside = not _NUMBERED.fullmatch(key)
    return outside and ("patch" in key or len(shape) >= 3)


def _connects(name: str) -> bool:
    """Whether a name says that it connects, before it comes to a layer or a patch embedding."""
    for part in name.split(".")[:-1]:
        if part.isdigit() or "patch" in part:
            return "merge" in part
        if CONNECTOR.search(part):
            return True
    return False
