"""The search space: what each gene means, its range and its name; and the ratios that a genome stands for.

A genome is a list of numbers without bounds; each is folded into [0, 1] and stretched over its gene's range. Knows
slots and parents by name. Does not know models, files, or how ratios are used.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from vlmmerge.anatomy import Slot
from vlmmerge.errors import VlmMergeError


@dataclass(frozen=True)
class Ratio:
    """How much of one parent goes into one slot.

    Args:
        weight: Factor on the parent, any finite number; 0 leaves the parent out. A method without weights goes by 1.
        density: Fraction of the parent's task vector that is used, in (0, 1].
        gamma: Fraction of it, the largest magnitudes, that Breadcrumbs drops, in [0, 1]; none of it at density 1.
        epsilon: Half the spread of DELLA's probabilities around the density, in [0, 0.5]; none of it at density 1.

    Raises:
        VlmMergeError: A value out of range.
    """

    weight: float = 1.0
    density: float = 1.0
    gamma: float = 0.0
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        is_sparsity = 0.0 < self.density <= 1.0 and 0.0 <= self.gamma <= 1.0 and 0.0 <= self.epsilon <= 0.5
        if not (math.isfinite(self.weight) and is_sparsity):
            raise VlmMergeError(
                f"no such ratio: weight {self.weight}, density {self.density}, gamma {self.gamma}, "
                f"epsilon {self.epsilon}",
                hint="a weight is a finite number; a density is above 0 and at most 1, a gamma from 0 to 1, an epsilon "
                "from 0 to 0.5; weight 0 leaves a parent out",
            )

    def __str__(self) -> str:
        fields = {"weight": self.weight, "density": self.density}
        fields |= {name: value for name, value in (("gamma", self.gamma), ("epsilon", self.epsilon)) if value}
        return ", ".join(f"{name} {value:g}" for name, value in fields.items())


Ratios = dict[Slot, dict[str, Ratio]]
"""For each slot, the ratio of each parent by name: `vlm` and each LLM."""


@dataclass(frozen=True)
class Gene:
    """One number of the genome: one parameter of one parent in some slots.

    Args:
        name: For example `weight.vlm.layers.0-2.attention`.
        parent: The parent's name.
        parameter: The name of a field of `Ratio`.
        layers: The layers that it rules; None for slots at any depth.
        parts: The parts of the tower that it rules (see `Slot.part`).
        low: The value at 0.
        high: The value at 1; above `low`.
    """

    name: str
    parent: str
    parameter: str
    layers: tuple[int, ...] | None
    parts: tuple[str, ...]
    low: float
    high: float

    def rules(self, slot: Slot) -> bool:
        """Whether the gene sets its parameter in `slot`."""
        return slot.part in self.parts and (self.layers is None or slot.layer in self.layers)

    def to_value(self, number: float) -> float:
        """Stretch the genome's `number` (any finite float, folded into [0, 1] first) over the gene's range."""
        return min(self.low + fold(number) * (self.high - self.low), self.high)

    def to_number(self, value: float) -> float:
        """Where `value` lies in the gene's range: 0 at `low` or below, 1 at `high` or above."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class SearchSpace:
    """All genes in the order of the genome, and the slots and parents that they rule.

    Every slot has exactly one gene for each parent and parameter; a parameter without genes keeps `Ratio`'s default.
    """

    genes: tuple[Gene, ...]
    slots: tuple[Slot, ...]
    parents: tuple[str, ...]

    def decode(self, values: Sequence[float]) -> Ratios:
        """Turn a genome into ratios.

        Args:
            values: One finite number a gene, without bounds; values outside [0, 1] are reflected at the bounds.

        Raises:
            ValueError: Another number of values than genes, or a value that is not finite.
        """
        if len(values) != len(self.genes):
            raise ValueError(f"wanted {len(self.genes)} values, one a gene, got {len(values)}")
        fields: dict[Slot, dict[str, dict[str, float]]] = {slot: {p: {} for p in self.parents} for slot in self.slots}
        for gene, number, slots in zip(self.genes, values, self._slots_by_gene, strict=True):
            value = gene.to_value(float(number))
            for slot in slots:
                fields[slot][gene.parent][gene.parameter] = value
        return {slot: {p: Ratio(**fields[slot][p]) for p in self.parents} for slot in self.slots}

    def center(self, start: float) -> list[float]:
        """The genome that has `start`, in [0, 1], for every gene. `encode` gives the genome of known ratios instead."""
        return [start] * len(self.genes)

    def describe(self) -> str:
        """One line for people: how many genes, of what, where."""
        ranges = dict.fromkeys(f"{gene.parameter} {gene.low:g} to {gene.high:g}" for gene in self.genes)
        places = list(dict.fromkeys(gene.name.split(".", 2)[2] for gene in self.genes if gene.name.count(".") > 1))
        where = f"{len(places)} places, {places[0]} to {places[-1]}" if places else "the whole language tower"
        return f"{len(self.genes)} genes: {', '.join(ranges)}; for each of {', '.join(self.parents)}; in {where}"

    @cached_property
    def _slots_by_gene(self) -> list[list[Slot]]:
        return [[slot for slot in self.slots if gene.rules(slot)] for gene in self.genes]


def fold(number: float) -> float:
    """Reflect a number at 0 and 1 until it lies between: a triangle wave of period 2. In [0, 1] nothing changes.

    Why not clip: beyond a bound clipping makes the score flat, and an evolution strategy drifts away on a plateau.

    Raises:
        ValueError: The number is not finite.

    >>> [fold(number) for number in (0.25, 1.25, -0.25, 2.25)]
    [0.25, 0.75, 0.25, 0.25]
    """
    if not math.isfinite(number):
        raise ValueError(f"a genome holds finite numbers only, got {number}")
    wave = number % 2.0
    return wave if wave <= 1.0 else 2.0 - wave


def build_space(
    slots: Iterable[Slot],
    parents: Sequence[str],
    depth: str | Mapping[str, int],
    split: Sequence[str] | None,
    ranges: Mapping[str, Sequence[float]],
    method_parameters: Sequence[str],
) -> SearchSpace:
    """Lay out the genes: for each parameter and parent, one gene a place.

    Args:
        slots: Every slot of the language tower that is blended.
        parents: `vlm` and the LLMs, by name.
        depth: `global`, `per_layer`, or `{"groups": N}` with N >= 1.
        split: `["attention", "mlp"]` gives each its own genes in the layers; None or empty does not.
        ranges: The (low, high) of each parameter, low < high.
        method_parameters: The fields of `Ratio` that the blend's method uses.

    Returns:
        A space in which `global` without `split` is one place, the whole tower. Otherwise each group of layers is a
        place (or two, when split), the embeddings are one, and the final norm with the head is one.

    Raises:
        VlmMergeError: More groups than layers.
    """
    slots = tuple(slots)
    genes = tuple(
        Gene(".".join(filter(None, (parameter, parent, place))), parent, parameter, layers, parts, low, high)
        for parameter in method_parameters
        for low, high in [ranges[parameter]]
        for parent in parents
        for place, layers, parts in _places(slots, depth, tuple(split or ()))
    )
    return SearchSpace(genes, slots, tuple(parents))


def fixed_ratios(
    slots: Iterable[Slot],
    parents: Sequence[str],
    ratios: Mapping[str, Mapping[str, float | Sequence[float]]],
) -> Ratios:
    """Spread the ratios that a recipe fixes over the slots.

    Args:
        slots: Every slot of the language tower that is blended.
        parents: `vlm` and the LLMs, by name.
        ratios: For each parent, `weight` and maybe other fields of `Ratio`: a number, or control points over depth
            with straight lines between, the first for layer 0 and the last for the last layer. The embeddings take
            the first point, the final norm and the head take the last.

    Raises:
        VlmMergeError: A parent without a weight, or a value out of range.
    """
    slots = tuple(slots)
    if missing := [
        f"blend.ratios.{parent}.weight: missing" for parent in parents if "weight" not in ratios.get(parent, {})
    ]:
        raise VlmMergeError("fixed ratios need a weight for each parent", details=missing, hint="0 leaves a parent out")
    last_layer = _num_layers(slots) - 1
    at_depth = {
        where: {parent: Ratio(**{k: _interpolate(v, where) for k, v in ratios[parent].items()}) for parent in parents}
        for where in {_relative_depth(slot, last_layer) for slot in slots}
    }
    return {slot: at_depth[_relative_depth(slot, last_layer)] for slot in slots}


def encode(space: SearchSpace, ratios: Ratios) -> list[float]:
    """Find the genome nearest to `ratios`: for each gene the mean over its slots, clipped to the gene's range.

    Returns:
        One number in [0, 1] a gene. A gene's own decoded values come back to within rounding.
    """
    return [
        gene.to_number(math.fsum(getattr(ratios[slot][gene.parent], gene.parameter) for slot in slots) / len(slots))
        for gene, slots in zip(space.genes, space._slots_by_gene, strict=True)
    ]


Place = tuple[str, tuple[int, ...] | None, tuple[str, ...]]


def _places(slots: tuple[Slot, ...], depth: str | Mapping[str, int], split: tuple[str, ...]) -> list[Place]:
    """Name the places that get genes of their own, as (name, layers, parts); places without any slot are left out."""
    if depth == "global" and not split:
        return [("", None, ("embeddings", "attention", "mlp", "head"))]
    parts_apart: list[tuple[str, tuple[str, ...]]] = [(f".{part}", (part,)) for part in split]
    layer_places: list[Place] = [
        (f"layers.{_span(layers)}{suffix}", layers, parts)
        for layers in _group_layers(slots, depth)
        for suffix, parts in parts_apart or [("", ("attention", "mlp"))]
    ]
    places: list[Place] = [("embeddings", None, ("embeddings",)), *layer_places, ("head", None, ("head",))]
    taken = {(slot.layer, slot.part) for slot in slots}
    return [
        (name, layers, parts)
        for name, layers, parts in places
        if any(part in parts and (layers is None or layer in layers) for layer, part in taken)
    ]


def _group_layers(slots: tuple[Slot, ...], depth: str | Mapping[str, int]) -> list[tuple[int, ...]]:
    """Cut the layers into contiguous groups whose sizes differ by at most one."""
    num_layers = _num_layers(slots)
    named = {"global": 1, "per_layer": num_layers}
    num_groups = named[depth] if isinstance(depth, str) else depth["groups"]
    if num_groups > num_layers:
        raise VlmMergeError(
            f"blend.depth: wanted {num_groups} groups, but the language tower has {num_layers} layers",
            hint=f"at most `groups: {num_layers}`, which is `per_layer`",
        )
    bounds = [group * num_layers // num_groups for group in range(num_groups + 1)]
    return [tuple(range(first, end)) for first, end in pairwise(bounds)]


def _num_layers(slots: tuple[Slot, ...]) -> int:
    return 1 + max((slot.layer for slot in slots if slot.layer is not None), default=-1)


def _span(layers: tuple[int, ...]) -> str:
    return str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"


def _relative_depth(slot: Slot, last_layer: int) -> float:
    """Where a slot lies: 0 for the embeddings and layer 0, 1 for the last layer, the final norm and the head."""
    if slot.layer is None:
        return 0.0 if slot.part == "embeddings" else 1.0
    return slot.layer / last_layer if last_layer else 0.0


def _interpolate(points: float | Sequence[float], where: float) -> float:
    """Read a line through `points`, spread evenly over [0, 1], at `where`; at a point, that point exactly."""
    if not isinstance(points, Sequence):
        return float(points)
    position = where * (len(points) - 1)
    index = int(position)
    fraction = position - index
    if fraction == 0.0:
        return float(points[index])
    return points[index] + fraction * (points[index + 1] - points[index])
