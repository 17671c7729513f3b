"""What one pass over a slot does to it, by the CPU's loops (`loops.py`) or a GPU's kernel (`kernels.py`) alike.

`linear`, `task_arithmetic`, `dare`, `dare_ties`, `ties`, `breadcrumbs` and `breadcrumbs_ties` are blended in one pass,
but for what needs a slot's norms (`rescale: l1`, and any `rescale` of the last three). Knows methods, ratios and
numbers. Does not know tensors.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from vlmmerge.blend import METHODS, Options, is_whole
from vlmmerge.blend.masks import stream_key
from vlmmerge.blend.shares import sum_of_weights
from vlmmerge.blend.sparsify import numbers_in_band
from vlmmerge.genome import Ratio

# How each method that takes one pass makes task vectors sparse, and whether it then elects a sign.
ONE_PASS = {
    "linear": ("none", False),
    "task_arithmetic": ("none", False),
    "dare": ("mask", False),
    "dare_ties": ("mask", True),
    "ties": ("cut", True),
    "breadcrumbs": ("band", False),
    "breadcrumbs_ties": ("band", True),
}


@dataclass(frozen=True)
class Launch:
    """What one pass does to a slot.

    Args:
        sources: Which tensors are added up, by the parents' names; `base` where nothing else takes part.
        factors: Of each.
        weights: Of each, to divide by those that agree.
        divisor: For the whole sum; None: it is not divided.
        sparsity: `none`, `mask`, `cut` or `band`.
        keys: For masks, each source's place in the sequence of random numbers.
        lasts: For masks, the last of each source's numbers that keeps an element.
        num_kept: For cuts, how many elements each keeps; for bands, then how many outliers each has.
        elects: Whether a sign is elected.
        uses_base: Whether the base is taken away from each and added to the sum.
    """

    sources: tuple[str, ...]
    factors: tuple[float, ...]
    weights: tuple[float, ...] = ()
    divisor: float | None = None
    sparsity: str = "none"
    keys: tuple[int, ...] = ()
    lasts: tuple[int, ...] = ()
    num_kept: tuple[int, ...] = ()
    elects: bool = False
    uses_base: bool = True


def has_launch(method: str, options: Options) -> bool:
    """Whether a method with these options takes one pass."""
    sparsity, _ = ONE_PASS.get(method, (None, False))
    if sparsity == "mask":
        return options.rescale != "l1"
    return sparsity is not None and (sparsity == "none" or not options.rescale)


def plan_launch(
    method: str, seed: int, options: Options, slot: str, num_elements: int, ratios: Mapping[str, Ratio]
) -> Launch | None:
    """Say what one pass does to a slot; None: it is the plain formula's, for a cut leaves nothing of a parent.

    Raises:
        VlmMergeError: The weights sum to 0, and the method divides by their sum.
    """
    chosen, (sparsity, elects) = METHODS[method], ONE_PASS[method]
    taking_part = {name: ratio for name, ratio in ratios.items() if ratio.weight != 0.0}
    names, of_parents = tuple(taking_part), list(taking_part.values())
    weights = tuple(ratio.weight for ratio in of_parents)
    if not names and chosen.uses_base:
        return Launch(("base",), (1.0,), uses_base=False)
    if len(names) == 1 and is_whole(chosen, of_parents[0], options):
        return Launch(names, (1.0,), uses_base=False)
    if not chosen.uses_base:
        total = 1.0 if options.normalize is False and names else sum_of_weights(method, of_parents)
        return Launch(names, tuple(weight / total for weight in weights), uses_base=False)
    divisor = sum_of_weights("normalize", of_parents) if options.normalize and not elects else None
    keys: tuple[int, ...] = ()
    lasts: tuple[int, ...] = ()
    num_kept: tuple[int, ...] = ()
    factors = weights
    if sparsity == "mask":
        keys = tuple(_key(seed, name, slot) for name in names)
        lasts = tuple(min(math.ceil(ratio.density * 2**32), 2**32) - 2**31 - 1 for ratio in of_parents)
        if options.rescale is not False:
            factors = tuple(ratio.weight / ratio.density for ratio in of_parents)
    elif sparsity != "none":
        num_kept = _numbers_kept(sparsity, num_elements, of_parents)
        if 0 in num_kept[: len(names)]:
            return None
        if num_kept[: len(names)] == (num_elements,) * len(names) and not any(num_kept[len(names) :]):
            sparsity, num_kept = "none", ()
    return Launch(names, factors, weights, divisor, sparsity, keys, lasts, num_kept, elects)


def _numbers_kept(sparsity: str, num_elements: int, ratios: Iterable[Ratio]) -> tuple[int, ...]:
    """`Launch.num_kept`, as `sparsify.trim` and `sparsify.keep_band` have it."""
    if sparsity == "cut":
        return tuple(int(ratio.density * num_elements) for ratio in ratios)
    bands = [numbers_in_band(num_elements, ratio.density, ratio.gamma) for ratio in ratios]
    return (*(outliers + kept for outliers, kept in bands), *(outliers for outliers, _ in bands))


@lru_cache(maxsize=2**14)  # the same for every candidate
def _key(seed: int, parent: str, slot: str) -> int:
    key = stream_key(seed, parent, slot)
    return key - 2**64 if key >= 2**63 else key
