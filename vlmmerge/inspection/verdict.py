"""What the products of parents' weights say: measures over depth and by role, and a verdict in plain words.

Knows products by slot. Does not know tensors, files, nor how measures are shown.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from vlmmerge.anatomy.slots import Slot
from vlmmerge.blend.distance import UNRELATED
from vlmmerge.inspection.deltas import Products, add_up
from vlmmerge.inspection.lineup import BASE, Lineup
from vlmmerge.inspection.misfits import listed

T = TypeVar("T")

# Cosines between task vectors: beyond these, parents learned the same or the opposite.
ALIKE, OPPOSED = 0.3, -0.1
ENDS = ("embeddings", "head")
# The factor by which one half of the layers must have moved more than the other to be worth a word.
MUCH_MORE = 1.2


def describe_deltas(lineup: Lineup, products: Mapping[Slot, Products]) -> dict[str, Any]:
    """All that was measured, as values that JSON can hold.

    Args:
        lineup: The parents.
        products: Of each matrix, of all parents but the base in the lineup's order.

    Returns:
        compared_with: The base's name.
        whole, embeddings, head: A measure each, of all matrices or these; what was not compared is missing.
        layers: A measure of each layer's matrices.
        roles: A measure of each role's matrices in all layers.
        verdict: Sentences.

        A measure has for each parent `norm` (its task vector's, in lengths of the base) and `cosine_to_base`, and for
        each two parents the `cosine` between their task vectors; None where one is not defined.
    """

    names = tuple(name for label, name in lineup.names.items() if label != BASE)

    def measure(slots: Iterable[Slot]) -> dict[str, Any]:
        return _measure(names, add_up(products[slot] for slot in slots))

    layers = _grouped(products, lambda slot: slot.layer)
    roles = _grouped(products, lambda slot: _role(slot) if slot.layer is not None else None)
    ends = _grouped(products, lambda slot: slot.part if slot.layer is None else None)
    found: dict[str, Any] = {
        "compared_with": lineup.names[BASE],
        "whole": measure(products),
        **{part: measure(slots) for part, slots in ends.items()},
        "layers": [measure(layers[number]) for number in sorted(layers)],
        "roles": {role: measure(slots) for role, slots in roles.items()},
    }
    return found | {
        "verdict": [
            *_tell_family(found),
            *_tell_moves(found, "moved" if lineup.has_ancestor else "differs"),
            *_tell_angles(found["whole"]),
        ]
    }


def _grouped(slots: Iterable[Slot], key: Callable[[Slot], T | None]) -> dict[T, list[Slot]]:
    """Slots by what `key` says of them; those of which it says nothing are left out."""
    groups: dict[T, list[Slot]] = {}
    for slot in slots:
        if (group := key(slot)) is not None:
            groups.setdefault(group, []).append(slot)
    return groups


def _measure(names: Sequence[str], products: Products) -> dict[str, Any]:
    places = {name: place for place, name in enumerate(names, 1)}
    return {
        "norm": {name: _rounded(products.norm(place)) for name, place in places.items()},
        "cosine_to_base": {name: _rounded(products.cosine_to_base(place)) for name, place in places.items()},
        "cosine": {
            one: {other: _rounded(products.cosine(place, places[other])) for other in names[place:]}
            for one, place in places.items()
            if place < len(names)
        },
    }


def _tell_family(found: Mapping[str, Any]) -> Iterator[str]:
    """Whether the parents are relatives of the base."""
    base, norms = found["compared_with"], found["whole"]["norm"]
    far = [name for name, norm in norms.items() if norm is None or norm >= UNRELATED]
    for name in far:
        yield (
            f"not one family: `{name}` is {_shown(norms[name])} lengths of `{base}` away from it, as unrelated weights "
            f"are ({UNRELATED:g} or more; fine-tuned ones are below 0.3 or so)"
        )
    if not far:
        lengths = listed([_shown(norm) for norm in norms.values()])
        are = "is" if len(norms) == 1 else "are"
        names = listed([f"`{name}`" for name in norms])
        apart = f"{names} {are} {lengths} lengths of `{base}` away from it"
        yield f"one family: {apart}; unrelated weights are {UNRELATED:g} or more"


def _tell_moves(found: Mapping[str, Any], verb: str) -> Iterator[str]:
    """Which parent moved most, and where each did."""
    norms = {name: norm for name, norm in found["whole"]["norm"].items() if norm is not None}
    for rank, name in enumerate(sorted(norms, key=norms.__getitem__, reverse=True)):
        if not norms[name]:
            yield f"`{name}` equals `{found['compared_with']}` in every matrix"
            continue
        layers = [layer["norm"][name] or 0.0 for layer in found["layers"]]
        places = {f"layer {number}": norm for number, norm in enumerate(layers)}
        places |= {f"the {part}": found[part]["norm"][name] or 0.0 for part in ENDS if part in found}
        roles = {role: measure["norm"][name] or 0.0 for role, measure in found["roles"].items()}
        place, role = max(places, key=places.__getitem__), max(roles, key=roles.__getitem__)
        most = f"{verb} furthest: most" if rank == 0 < len(norms) - 1 else f"{verb} most"
        where = f"{place} ({_shown(places[place])}), by role in {role} ({_shown(roles[role])})"
        yield f"`{name}` {most} in {where}, {_trend(layers)}"


def _tell_angles(whole: Mapping[str, Any]) -> Iterator[str]:
    """Whether parents learned the same."""
    for one, cosines in whole["cosine"].items():
        for other, cosine in cosines.items():
            if cosine is not None:
                kind = (
                    "much the same" if cosine >= ALIKE else "the opposite" if cosine <= OPPOSED else "different things"
                )
                yield f"`{one}` and `{other}` learned {kind}: the cosine between their task vectors is {cosine:.2f}"


def _trend(layers: Sequence[float]) -> str:
    """Where over depth a parent moved, as its deeper half's mean against the other's.

    >>> _trend([0.1, 0.1, 0.2, 0.3]), _trend([0.1, 0.1, 0.1]), _trend([0.3, 0.1])
    ('more in deep layers', 'about as much at any depth', 'more in shallow layers')
    """
    half = len(layers) // 2
    shallow, deep = sum(layers[:half]), sum(layers[-half:]) if half else 0.0
    if deep > MUCH_MORE * shallow:
        return "more in deep layers"
    return "more in shallow layers" if shallow > MUCH_MORE * deep else "about as much at any depth"


def _role(slot: Slot) -> str:
    return slot.role.removesuffix(".weight")


def _rounded(number: float | None) -> float | None:
    """To what a person and a file may want of it."""
    return None if number is None else float(f"{number:.5g}")


def _shown(number: float | None) -> str:
    return "infinite" if number is None else f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"
