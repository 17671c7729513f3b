"""Blend one slot of several parents: the identities that hold bit for bit, and the method's formula for the rest.

Knows tensors and ratios. Does not know files, nor how a model calls its tensors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlmmerge.blend.masks import keep_mask
from vlmmerge.blend.methods import METHODS, Method
from vlmmerge.genome import Ratio

__all__ = ["METHODS", "Method", "blend_slot"]


def blend_slot(
    method: str, base: Tensor, parents: Mapping[str, Tensor], ratios: Mapping[str, Ratio], *, seed: int, slot: str
) -> Tensor:
    """Blend one slot.

    Args:
        method: A name in `METHODS`.
        base: The base's tensor, any shape, any float dtype.
        parents: The parents' tensors by name, of the base's shape and on its device, any float dtype.
        ratios: For each parent its ratio. A parent with weight 0 takes no part.
        seed: For the masks of methods that draw them.
        slot: The slot's name, for the masks.

    Returns:
        A new float32 tensor. All weights 0: `base`, bit for bit. One parent with weight 1 and density 1 (in `linear`,
        with any weight), the others 0: that parent, bit for bit.

    Raises:
        VlmMergeError: `linear` with weights that sum to 0, all of them 0 included: there is nothing to average.
    """
    chosen = METHODS[method]
    names = [name for name in parents if ratios[name].weight != 0.0]
    if (
        source := _copied(chosen, base, [parents[name] for name in names], [ratios[name] for name in names])
    ) is not None:
        return source.to(torch.float32, copy=True)
    masks = [_mask(chosen, seed, name, slot, base, ratios[name]) for name in names]
    return chosen.function(base, [parents[name] for name in names], [ratios[name] for name in names], masks)


def _copied(method: Method, base: Tensor, parents: list[Tensor], ratios: list[Ratio]) -> Tensor | None:
    """The tensor that the blend must equal bit for bit, if there is one: arithmetic would lose -0.0 and low bits."""
    if not parents:
        return None if method.name == "linear" else base
    is_whole = ratios[0].weight == 1.0 and (ratios[0].density == 1.0 or "density" not in method.parameters)
    return parents[0] if len(parents) == 1 and (is_whole or method.name == "linear") else None


def _mask(method: Method, seed: int, parent: str, slot: str, base: Tensor, ratio: Ratio) -> Tensor | None:
    if not method.draws_masks or ratio.density == 1.0:
        return None
    return keep_mask(seed, parent, slot, base.shape, ratio.density, device=base.device)
