"""Blend one slot of several parents: the identities that hold bit for bit, and the method's formula for the rest.

Knows tensors and ratios. Does not know files, nor how a model calls its tensors.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vlmmerge.blend.deltas import make_draw
from vlmmerge.blend.methods import METHODS, Method
from vlmmerge.blend.options import DEFAULTS, Options
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

__all__ = ["DEFAULTS", "METHODS", "Method", "Options", "blend_slot", "check_number", "is_whole"]


def blend_slot(
    method: str,
    base: Tensor,
    parents: Mapping[str, Tensor],
    ratios: Mapping[str, Ratio],
    *,
    seed: int,
    slot: str,
    options: Options = DEFAULTS,
    start: int = 0,
) -> Tensor:
    """Blend one slot, or a chunk of one by a method that is elementwise.

    Args:
        method: A name in `METHODS`.
        base: The base's tensor, any shape, any float dtype.
        parents: The parents' tensors by name, of the base's shape and on its device, any float dtype.
        ratios: For each parent its ratio. A parent with weight 0 takes no part.
        seed: For the masks of methods that draw them.
        slot: The slot's name, for the masks.
        options: What holds for the whole blend.
        start: The chunk's first element, counted through the slot, for the masks.

    Returns:
        A new float32 tensor. All weights 0: `base`, bit for bit. One parent with weight 1, density 1 and lambda 1 (in
        methods that average, with any of these), the others 0: that parent, bit for bit.

    Raises:
        VlmMergeError: Fewer or more parents than the method takes; or it divides by the sum of the weights, and they
            sum to 0, all of them 0 included where the base takes no part: there is nothing to average.
    """
    chosen = METHODS[method]
    check_number(chosen, parents)
    names = [name for name in parents if ratios[name].weight != 0.0]
    tensors, of_parents = [parents[name] for name in names], [ratios[name] for name in names]
    if (source := _copied(chosen, base, tensors, of_parents, options)) is not None:
        return source.to(torch.float32, copy=True)
    draws = [make_draw(seed, name, slot, base, start) for name in names]
    return chosen.function(base, tensors, of_parents, draws, options)


def check_number(method: Method, parents: Iterable[str]) -> None:
    """Check that the method takes so many parents.

    Raises:
        VlmMergeError: It takes more, or fewer.
    """
    names = list(parents)
    if not method.least_parents <= len(names) <= method.most_parents:
        at_least = "" if method.least_parents == method.most_parents else "at least "
        raise VlmMergeError(
            f"{method.name} blends {at_least}{method.least_parents} parents, found {len(names)}: {', '.join(names)}",
            hint="`linear` and `task_arithmetic` blend any number",
        )


def _copied(
    method: Method, base: Tensor, parents: list[Tensor], ratios: list[Ratio], options: Options
) -> Tensor | None:
    """The tensor that the blend must equal bit for bit, if there is one: arithmetic would lose -0.0 and low bits."""
    if not parents:
        return base if method.uses_base else None
    return parents[0] if len(parents) == 1 and is_whole(method, ratios[0], options) else None


def is_whole(method: Method, ratio: Ratio, options: Options) -> bool:
    """Whether a parent that takes part alone comes back."""
    if method.is_mean and (options.normalize is not False or "normalize" not in method.options):
        return True
    is_dense = ratio.density == 1.0 or "density" not in method.parameters
    is_one = ratio.weight == 1.0 or options.normalize is True
    return is_dense and is_one and options.lambda_ == 1.0
