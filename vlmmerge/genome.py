"""The search space: what each gene means, its range and its name; and the ratios that a genome stands for.

A genome is a list of numbers without bounds; each is folded into [0, 1] and stretched over its gene's range. Knows
slots and parents by name. Does not know models, files, or how ratios are used.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

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


Depth = str | Mapping[str, int]
"""`global`, `per_layer`, `{"groups": N}` or `{"curve": K}`."""

Shares = Mapping[Slot, float]
"""The slots of one place, each with the share, in (0, 1], that the place's gene has in it."""


@dataclass(frozen=True)
class Gene:
    """One number of the genome: one parameter of one parent in one place.

    Args:
        parent: The parent's name.
        parameter: A field of `Ratio`, such as `weight`.
        place: Such as `layers.0-2.attention` or `curve.0`; empty for the whole tower.
        shares: The place's slots. A share is below 1 only where a curve passes between two control points.
        low: The value at 0.
        high: The value at 1; above `low`.
    """

    parent: str
    parameter: str
    place: str
    shares: Shares
    low: float
    high: float

    @property
    def name(self) -> str:
        """For example `weight.vlm.layers.0-2.attention`."""
        return ".".join(filter(None, (self.parameter, self.parent, self.place)))

    def to_value(self, number: float) -> float:
        """Stretch the genome's `number` (any finite float, folded into [0, 1] first) over the gene's range."""
        return min(self.low + fold(number) * (self.high - self.low), self.high)

    def to_number(self, value: float) -> float:
        """Where `value` lies in the gene's range: 0 at `low` or below, 1 at `high` or above."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class SearchSpace:
    """All genes in the order of the genome, and the slots and parents that they rule.

    For each parent and parameter a slot has one gene with share 1, or two neighbours on a curve with shares that sum to
    1; a parameter without genes keeps `Ratio`'s default.
    """

    genes: tuple[Gene, ...]
    slots: tuple[Slot, ...]
    parents: tuple[str, ...]

    def decode(self, values: Sequence[float]) -> Ratios:
        """Turn a genome into ratios: a slot's one gene gives its value exactly, and so do two genes of equal values.

        Args:
            values: One finite number a gene, without bounds; values outside [0, 1] are reflected at the bounds.

        Raises:
            ValueError: Another number of values than genes, or a value that is not finite.
        """
        if len(values) != len(self.genes):
            raise ValueError(f"wanted {len(self.genes)} values, one a gene, got {len(values)}")
        fields: dict[Slot, dict[str, dict[str, float]]] = {slot: {p: {} for p in self.parents} for slot in self.slots}
        for gene, number in zip(self.genes, values, strict=True):
            value = gene.to_value(float(number))
            for slot, share in gene.shares.items():
                field = fields[slot][gene.parent]
                before = field.get(gene.parameter)
                field[gene.parameter] = value if before is None else between(before, value, share)
        return {slot: {p: Ratio(**fields[slot][p]) for p in self.parents} for slot in self.slots}

    def center(self, start: float) -> list[float]:
        """The genome that has `start`, in [0, 1], for every gene. `encode` gives the genome of known ratios instead."""
        return [start] * len(self.genes)

    def describe(self) -> str:
        """One line for people: how many genes, of what, where."""
        ranges = dict.fromkeys(f"{gene.parameter} {gene.low:g} to {gene.high:g}" for gene in self.genes)
        places = list(dict.fromkeys(gene.place for gene in self.genes if gene.place))
        where = f"{len(places)} places, {places[0]} to {places[-1]}" if places else "the whole language tower"
        return f"{len(self.genes)} genes: {', '.join(ranges)}; for each of {', '.join(self.parents)}; in {where}"


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
    depth: Depth,
    split: str | Sequence[str] | None,
    ranges: Mapping[str, Sequence[float]],
    method_parameters: Sequence[str],
) -> SearchSpace:
    """Lay out the genes: for each parameter and parent, one gene a place.

    Args:
        slots: Every slot of the language tower that is blended.
        parents: `vlm` and the LLMs, by name.
        depth: From coarse to fine: `global`; `{"groups": N}`, N >= 1; `{"curve": K}`, K >= 2 control points over depth
            with straight lines between, the first at layer 0 and the last at the last layer; `per_layer`.
        split: `["attention", "mlp"]` gives each its own genes in the layers; `roles` each role (`Slot.short_role`);
            None or empty nothing.
        ranges: The (low, high) of each parameter, low < high.
        method_parameters: The fields of `Ratio` that the blend's method uses.

    Returns:
        A space in which `global` without `split` is one place, the whole tower. Otherwise each layer, group of layers
        or control point is a place (or several, when split), the embeddings are one, and the final norm with the head
        is one.

    Raises:
        VlmMergeError: More groups or control points than layers.
    """
    slots = tuple(slots)
    places = _places(slots, depth, split or ())
    genes = tuple(
        Gene(parent, parameter, place, shares, low, high)
        for parameter in method_parameters
        for low, high in [ranges[parameter]]
        for parent in parents
        for place, shares in places.items()
    )
    return SearchSpace(genes, slots, tuple(parents))


def encode(space: SearchSpace, ratios: Ratios) -> list[float]:
    """Find the genome nearest to `ratios`: least squares over the slots, clipped to each gene's range.

    A gene that shares no slot takes the mean over its slots. Reading a curve off at its control points would be
    simpler, but these lie between layers, where ratios say nothing, so even ratios that are a curve would not come
    back. By least squares they do: through as many layers as control points, or more, goes no other curve.

    Returns:
        One number in [0, 1] a gene. For ratios that a genome decodes to, these are its folded numbers, to within
        rounding.
    """
    families = groupby(space.genes, lambda gene: (gene.parent, gene.parameter))
    return [number for _, genes in families for number in _fit(list(genes), ratios)]


def _fit(genes: Sequence[Gene], ratios: Ratios) -> list[float]:
    """As `encode`, for all genes of one parent and parameter."""
    parent, parameter = genes[0].parent, genes[0].parameter
    wanted = {slot: getattr(ratios[slot][parent], parameter) for gene in genes for slot in gene.shares}
    values = [math.fsum(wanted[slot] for slot in gene.shares) / len(gene.shares) for gene in genes]
    curved = [index for index, gene in enumerate(genes) if set(gene.shares.values()) != {1.0}]
    if curved:
        slots = list(dict.fromkeys(slot for index in curved for slot in genes[index].shares))
        shares = np.array([[genes[index].shares.get(slot, 0.0) for index in curved] for slot in slots])
        solved = np.linalg.lstsq(shares, np.array([wanted[slot] for slot in slots]), rcond=None)[0]
        for index, value in zip(curved, solved.tolist(), strict=True):
            values[index] = value
    return [gene.to_number(value) for gene, value in zip(genes, values, strict=True)]


def _places(slots: tuple[Slot, ...], depth: Depth, split: str | Sequence[str]) -> dict[str, Shares]:
    """Name the places that get genes of their own; places without any slot are left out."""
    if depth == "global" and not split:
        return {"": dict.fromkeys(slots, 1.0)}
    places: dict[str, Shares] = {"embeddings": {slot: 1.0 for slot in slots if slot.part == "embeddings"}}
    for name, shares in _over_depth(count_layers(slots), depth).items():
        for suffix, members in _split_layers(slots, split).items():
            places[name + suffix] = {slot: shares[slot.layer] for slot in members if slot.layer in shares}
    places["head"] = {slot: 1.0 for slot in slots if slot.part == "head"}
    return {name: shares for name, shares in places.items() if shares}


def _split_layers(slots: Iterable[Slot], split: str | Sequence[str]) -> dict[str, list[Slot]]:
    """Sort the slots in the layers by what goes apart; the keys are the ends of the places' names."""
    in_layers = [slot for slot in slots if slot.layer is not None]
    if split == "roles":
        return {f".{role}": [slot for slot in in_layers if slot.short_role == role] for role in short_roles(in_layers)}
    return {f".{part}": [slot for slot in in_layers if slot.part == part] for part in split} or {"": in_layers}


def _over_depth(num_layers: int, depth: Depth) -> dict[str, dict[int | None, float]]:
    """Name the places over depth, each with its share in each of its layers."""
    named: dict[str, Mapping[str, int]] = {"global": {"groups": 1}, "per_layer": {"groups": num_layers}}
    ((kind, number),) = (named[depth] if isinstance(depth, str) else depth).items()
    if number > num_layers:
        what = "control points" if kind == "curve" else kind
        raise VlmMergeError(
            f"blend.depth: wanted {number} {what}, but the language tower has {num_layers} layers",
            hint=f"at most `{kind}: {num_layers}`, which is `per_layer`",
        )
    return _curve(num_layers, number) if kind == "curve" else _groups(num_layers, number)


def _groups(num_layers: int, num_groups: int) -> dict[str, dict[int | None, float]]:
    """Cut the layers into contiguous groups whose sizes differ by at most one."""
    bounds = [group * num_layers // num_groups for group in range(num_groups + 1)]
    groups = [range(first, end) for first, end in pairwise(bounds)]
    return {f"layers.{_span(layers)}": dict.fromkeys(layers, 1.0) for layers in groups}


def _curve(num_layers: int, num_points: int) -> dict[str, dict[int | None, float]]:
    """Spread control points evenly over the layers; the two around a layer share it."""
    points: list[dict[int | None, float]] = [{} for _ in range(num_points)]
    for layer in range(num_layers):
        index, fraction = position(layer, num_layers, num_points)
        points[index][layer] = 1.0 - fraction
        if fraction:
            points[index + 1][layer] = fraction
    return {f"curve.{index}": layers for index, layers in enumerate(points)}


def position(layer: int, num_layers: int, num_points: int) -> tuple[int, float]:
    """The control point at or before a layer, and how far the layer is from there to the next, in [0, 1).

    Counted in integers: with as many points as layers each layer is met exactly, which `layer / last_layer` would miss.

    >>> position(3, 7, 3), position(4, 7, 3), position(6, 7, 3)
    ((1, 0.0), (1, 0.3333333333333333), (2, 0.0))
    """
    last_layer = max(num_layers - 1, 1)
    index, rest = divmod(layer * (num_points - 1), last_layer)
    return index, rest / last_layer


def between(before: float, after: float, fraction: float) -> float:
    """The number `fraction`, in [0, 1), of the way; between two equal numbers it is that number exactly."""
    return before + fraction * (after - before)


def count_layers(slots: Iterable[Slot]) -> int:
    """The number of layers that the slots lie in."""
    return 1 + max((slot.layer for slot in slots if slot.layer is not None), default=-1)


def short_roles(slots: Iterable[Slot]) -> list[str]:
    """The roles as recipes name them, each once."""
    return list(dict.fromkeys(slot.short_role for slot in slots))


def _span(layers: range) -> str:
    return str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"
