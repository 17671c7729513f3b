"""Task vectors, float32: made, sparse and weighted, and added to their base again.

Knows a slot, or a chunk of one. Does not know what the methods are called, nor how they combine these steps.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from vlmmerge.blend.elect import add_up, elected_sign, sum_of_sign, weight_of_sign
from vlmmerge.blend.masks import keep_mask
from vlmmerge.blend.options import Options
from vlmmerge.blend.shares import sum_of_weights
from vlmmerge.blend.sparsify import drop, keep_band, keep_probability, with_l1_norm_of
from vlmmerge.genome import Ratio

Draw = Callable[[float | Tensor], Tensor | None]
"""Draws which elements are kept, each by itself with the given probability: a new mask, or None to keep all."""


def make_draw(seed: int, parent: str, slot: str, like: Tensor, start: int) -> Draw:
    """What draws a parent's masks for a slot, or for a chunk of one from element `start` on, of the shape of `like`."""

    def draw(probability: float | Tensor) -> Tensor | None:
        if isinstance(probability, float) and probability == 1.0:
            return None
        dtype = torch.float32 if like.device.type == "cpu" else torch.bool
        return keep_mask(seed, parent, slot, like.shape, probability, start=start, dtype=dtype, device=like.device)

    return draw


def task_vector(parent: Tensor, base: Tensor) -> Tensor:
    """parent - base, of a float32 `base`: a new float32 tensor."""
    return parent.to(torch.float32, copy=True).sub_(base)


def sparse(delta: Tensor, keep: Callable[[Tensor], Tensor], weight: float, keeps_l1_norm: bool) -> Tensor:
    """weight * keep(delta), in place, scaled to the L1 norm that `delta` had if so wanted."""
    kept, factor = with_l1_norm_of(keep, delta) if keeps_l1_norm else (keep(delta), 1.0)
    return kept.mul_(weight * factor)


def crumbs(delta: Tensor, ratio: Ratio, options: Options) -> Tensor:
    """weight * the band of magnitudes that `ratio` keeps of `delta`, in place, rescaled as the options say."""
    keep = partial(keep_band, density=ratio.density, gamma=ratio.gamma)
    return sparse(delta, keep, ratio.weight, bool(options.rescale))


def drop_at_random(delta: Tensor, probability: float | Tensor, weight: float, draw: Draw, options: Options) -> Tensor:
    """weight * what is kept of `delta`, each element with its probability, in place, rescaled as the options say."""
    if options.rescale in ("l1", False):
        return sparse(delta, lambda whole: drop(whole, draw(probability)), weight, options.rescale == "l1")
    kept = drop(delta, draw(probability))
    if isinstance(probability, Tensor):
        return kept.div_(probability).mul_(weight)
    return kept.mul_(weight / probability)


def magnitude_prune(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options
) -> list[Tensor]:
    """The weighted task vectors from a float32 `base`, dropped at random by magnitude and rescaled: new tensors."""
    deltas = []
    for parent, ratio, draw in zip(parents, ratios, draws, strict=True):
        delta = task_vector(parent, base)
        probability = keep_probability(delta, ratio.density, ratio.epsilon)
        deltas.append(drop_at_random(delta, probability, ratio.weight, draw, options))
    return deltas


def add_all(base: Tensor, deltas: Sequence[Tensor], ratios: Sequence[Ratio], options: Options) -> Tensor:
    """base + lambda * the sum of the weighted task vectors, over the sum of the weights if `normalize`."""
    total = add_up(deltas)
    if options.normalize:
        total.div_(total.new_tensor(sum_of_weights("normalize", ratios)))  # a tensor: see `methods.py`
    return _times_lambda(total, options).add_(base)


def add_agreeing(base: Tensor, deltas: Sequence[Tensor], ratios: Sequence[Ratio], options: Options) -> Tensor:
    """base + lambda * the sum of the weighted task vectors that have the elected sign.

    With `normalize` it is divided by the weights of those that have it. Two that cancel out exactly add nothing, where
    mergekit and PEFT add the positive one (`majority_sign_tie: positive` here).
    """
    if len(deltas) == 1 and not options.normalize:
        return _times_lambda(deltas[0], options).add_(base)
    sign = elected_sign(deltas, options.majority_sign_method, options.majority_sign_tie)
    total = sum_of_sign(deltas, sign)
    if options.normalize:
        total.div_(weight_of_sign(deltas, [ratio.weight for ratio in ratios], sign))
    return _times_lambda(total, options).add_(base)


def add_mean_of_agreeing(base: Tensor, deltas: Sequence[Tensor], weights: Sequence[float], options: Options) -> Tensor:
    """base + the weighted mean of the task vectors that have the elected sign, which the weights have no part in."""
    sign = elected_sign(deltas, tie=options.majority_sign_tie)
    divisor = weight_of_sign(deltas, weights, sign)
    weighted = [delta.mul_(weight) for delta, weight in zip(deltas, weights, strict=True)]
    return sum_of_sign(weighted, sign).div_(divisor).add_(base)


def _times_lambda(total: Tensor, options: Options) -> Tensor:
    return total if options.lambda_ == 1.0 else total.mul_(options.lambda_)
