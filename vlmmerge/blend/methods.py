"""The blending formulas, one pure function each: the plain truth that any faster kernel must equal.

Each takes one slot's `(base, parents, ratios, draws, options)`: the base's tensor; the parents' tensors, of the base's
shape and any float dtype; for each of these a ratio and a draw, which makes a random mask where the method needs one;
and what holds for the whole blend. Each returns a new float32 tensor of that shape. Below, delta_i = parent_i - base is
parent i's task vector and w_i its weight.

Products and sums stay separate operations, element by element: a fused multiply-add rounds once where a CPU's loop tail
rounds twice, and then the bits would depend on threads, chunks and the device. What tensors are divided by is a tensor:
by a number torch divides on a CPU, but on CUDA multiplies by its reciprocal, which may be a bit off. Sums over a slot
are those of `sums`.

mergekit 0.1.5 is the oracle of the tests. It computes in the files' dtype unless told otherwise; here it is always
float32. Its epsilons (1e-8 to 1e-6, for norms, sums and divisors) are left out: the squares of real task vectors are
of that size. Further differences stand with each function. These options give its defaults:

| here | mergekit | options |
|---|---|---|
| linear, slerp, task_arithmetic, model_stock | the same | none; slerp's t is the second parent's share of the weights |
| ties | ties | normalize: true, majority_sign_tie: positive |
| dare, della | dare_linear, della_linear | rescale: l1 (and its own random numbers) |
| dare_ties | dare_ties | rescale: l1, majority_sign_tie: positive |
| breadcrumbs, breadcrumbs_ties | the same | none; majority_sign_tie: positive |
| della_ties | della | normalize: true, rescale: l1, majority_sign_tie: positive |
| sce | sce | majority_sign_tie: positive |
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from vlmmerge.blend.deltas import (
    Draw,
    add_agreeing,
    add_all,
    add_mean_of_agreeing,
    crumbs,
    drop_at_random,
    magnitude_prune,
    sparse,
    task_vector,
)
from vlmmerge.blend.elect import add_up
from vlmmerge.blend.options import DEFAULTS, Options
from vlmmerge.blend.shares import shares_of_energy, shares_of_weights, shares_on_arc, step_to_mean, sum_of_weights
from vlmmerge.blend.sparsify import keep_most_varied, trim
from vlmmerge.blend.sums import dot, dot_rows
from vlmmerge.genome import Ratio

BlendFunction = Callable[[Tensor, Sequence[Tensor], Sequence[Ratio], Sequence[Draw], Options], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to blend.

    Args:
        name: Its name.
        function: Its formula.
        parameters: The parameters of a `Ratio` that it uses; none of them: there is nothing to evolve.
        options: The options that it uses, as a recipe calls them.
        uses_base: Whether the base takes part; where it does, the base comes back when no parent takes part.
        is_mean: Whether a parent that takes part alone comes back, whatever its weight.
        is_elementwise: Whether each element of the blend comes from that element of base, parents and masks alone,
            unless `rescale: l1` wants norms of whole slots. Others are blended in chunks by a plan (`plans.py`).
        least_parents: How many parents it needs.
        most_parents: How many it can take.
    """

    name: str
    function: BlendFunction
    parameters: tuple[str, ...]
    options: tuple[str, ...] = ()
    uses_base: bool = True
    is_mean: bool = False
    is_elementwise: bool = False
    least_parents: int = 1
    most_parents: float = math.inf


def linear(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Average the parents: sum_i w_i parent_i / sum_i w_i. The base takes no part. `normalize: false` does not divide.

    Raises:
        VlmMergeError: The weights sum to 0.

    Source: Wortsman 2022, Model soups, section 2, https://arxiv.org/abs/2203.05482
    """
    total = 1.0 if options.normalize is False and ratios else sum_of_weights("linear", ratios)
    copies = [parent.to(torch.float32, copy=True) for parent in parents]
    return add_up([copy.mul_(ratio.weight / total) for copy, ratio in zip(copies, ratios, strict=True)])


def slerp(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Go along the arc from one parent to the other: (sin((1-t) a) one + sin(t a) other) / sin(a), a the angle between.

    t = w_other / (w_one + w_other). The base takes no part. On a line, where a tensor is 0 or the angle's cosine is
    beyond +-0.9995 (as in mergekit; parents of one ancestor often are so near), the plain average is taken.
    mergekit takes a tensor of norm up to 1e-8 for one at a right angle to the other.

    Raises:
        VlmMergeError: The weights sum to 0.

    Source: Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325165.325242
    """
    shares = shares_of_weights("slerp", ratios)
    one, other = (parent.float() for parent in parents)
    shares = shares_on_arc(shares, dot(one, one), dot(other, other), dot(one, other))
    return (one * shares[0]).add_(other * shares[1])


def task_arithmetic(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Add the weighted task vectors: base + sum_i w_i delta_i.

    Source: Ilharco 2023, Editing models with task arithmetic, section 2, https://arxiv.org/abs/2212.04089
    """
    base = base.float()
    deltas = [task_vector(parent, base).mul_(ratio.weight) for parent, ratio in zip(parents, ratios, strict=True)]
    return add_all(base, deltas, ratios, options)


def ties(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Trim each task vector to its density, elect a sign for each element, and add what agrees: base + elected sum.

    The sum is not divided by the weights that agree (the paper's mean) unless `normalize` says so: the weights say how
    much of each is wanted. Trimming may leave nothing of a small tensor, where mergekit keeps one element.

    Source: Yadav 2023, TIES-Merging, algorithm 1, https://arxiv.org/abs/2306.01708
    """
    base = base.float()
    deltas = [
        sparse(task_vector(parent, base), partial(trim, density=ratio.density), ratio.weight, bool(options.rescale))
        for parent, ratio in zip(parents, ratios, strict=True)
    ]
    return add_agreeing(base, deltas, ratios, options)


def dare(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Drop elements of each task vector at random, rescale the rest by 1 / density, and add: the expected sum stays.

    mergekit's `rescale` keeps the L1 norm instead (`rescale: l1` here), and its masks come from a generator.

    Source: Yu 2024, Language models are super Mario, section 3.2, https://arxiv.org/abs/2311.03099
    """
    base = base.float()
    deltas = [
        drop_at_random(task_vector(parent, base), ratio.density, ratio.weight, draw, options)
        for parent, ratio, draw in zip(parents, ratios, draws, strict=True)
    ]
    return add_all(base, deltas, ratios, options)


def dare_ties(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Drop and rescale as `dare`, then elect and add as `ties`.

    Source: Yu 2024, Language models are super Mario, section 3.2, https://arxiv.org/abs/2311.03099
    """
    base = base.float()
    deltas = [
        drop_at_random(task_vector(parent, base), ratio.density, ratio.weight, draw, options)
        for parent, ratio, draw in zip(parents, ratios, draws, strict=True)
    ]
    return add_agreeing(base, deltas, ratios, options)


def breadcrumbs(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Drop the largest gamma of each task vector and all that is smaller than the density's share after it, and add.

    Source: Davari 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795
    """
    base = base.float()
    deltas = [crumbs(task_vector(parent, base), ratio, options) for parent, ratio in zip(parents, ratios, strict=True)]
    return add_all(base, deltas, ratios, options)


def breadcrumbs_ties(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Drop outliers and small elements as `breadcrumbs`, then elect and add as `ties`.

    Source: Davari 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795, with the election of TIES
    """
    base = base.float()
    deltas = [crumbs(task_vector(parent, base), ratio, options) for parent, ratio in zip(parents, ratios, strict=True)]
    return add_agreeing(base, deltas, ratios, options)


def della(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Drop at random, the smaller of a row the more often, rescale each by 1 / its probability, and add.

    mergekit calls this `della_linear`; its `rescale` keeps the L1 norm instead (`rescale: l1` here). It refuses an
    epsilon that takes a probability out of (0, 1), where here the spread narrows.

    Source: Deep 2024, DELLA-Merging (its step MagPrune), https://arxiv.org/abs/2406.11617
    """
    base = base.float()
    deltas = magnitude_prune(base, parents, ratios, draws, options)
    return add_all(base, deltas, ratios, options)


def della_ties(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Drop and rescale as `della`, then elect and add as `ties`. mergekit calls this `della`.

    Source: Deep 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617
    """
    base = base.float()
    deltas = magnitude_prune(base, parents, ratios, draws, options)
    return add_agreeing(base, deltas, ratios, options)


def model_stock(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Go from the base towards the parents' mean by t = k c / (1 + (k - 1) c), c the mean cosine between task vectors.

    It has no ratios: k parents and their angles say all. With `filter_wise` each row has its own t. A task vector of 0
    has cosine 0 to all; where the denominator is below 1e-6 (task vectors that cancel out) t is 0, as in mergekit.

    Source: Jang 2024, Model Stock, https://arxiv.org/abs/2403.19522
    """
    base = base.float()
    deltas = [task_vector(parent, base) for parent in parents]
    by_row = base.dim() > 1 and options.filter_wise
    rows = [delta.flatten(1) if by_row else delta.view(1, -1) for delta in deltas]
    product = dot_rows if by_row else dot
    step = step_to_mean([product(row, row) for row in rows], [product(*pair) for pair in combinations(rows, 2)])
    return add_up(rows).div_(base.new_tensor(len(rows))).mul_(step.float().view(-1, 1)).view(base.shape).add_(base)


def sce(
    base: Tensor, parents: Sequence[Tensor], ratios: Sequence[Ratio], draws: Sequence[Draw], options: Options = DEFAULTS
) -> Tensor:
    """Select the elements in which the parents vary most, calculate a coefficient a parent, erase minority signs, add.

    base + sum_i c_i delta_i / sum_i c_i over the parents that agree, element by element; c_i is w_i times the squares
    of what is selected of delta_i, added up over the slot. Weights of 1 are the paper's and mergekit's.

    Raises:
        VlmMergeError: A weight below 0.

    Source: Wan 2024, FuseChat (its SCE), https://arxiv.org/abs/2408.07990
    """
    base = base.float()
    deltas = [task_vector(parent, base) for parent in parents]
    keep_most_varied(deltas, options.select_topk)
    coefficients = shares_of_energy(ratios, [dot(delta, delta) for delta in deltas])
    return add_mean_of_agreeing(base, deltas, coefficients, options)


_SUM = ("normalize", "lambda")
_ELECTION = ("majority_sign_method", "majority_sign_tie")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("linear", linear, ("weight",), ("normalize",), uses_base=False, is_mean=True, is_elementwise=True),
        Method("slerp", slerp, ("weight",), uses_base=False, is_mean=True, least_parents=2, most_parents=2),
        Method("task_arithmetic", task_arithmetic, ("weight",), _SUM, is_elementwise=True),
        Method("ties", ties, ("weight", "density"), (*_SUM, "rescale", *_ELECTION)),
        Method("dare", dare, ("weight", "density"), (*_SUM, "rescale"), is_elementwise=True),
        Method("dare_ties", dare_ties, ("weight", "density"), (*_SUM, "rescale", *_ELECTION), is_elementwise=True),
        Method("breadcrumbs", breadcrumbs, ("weight", "density", "gamma"), (*_SUM, "rescale")),
        Method("breadcrumbs_ties", breadcrumbs_ties, ("weight", "density", "gamma"), (*_SUM, "rescale", *_ELECTION)),
        Method("della", della, ("weight", "density", "epsilon"), (*_SUM, "rescale")),
        Method("della_ties", della_ties, ("weight", "density", "epsilon"), (*_SUM, "rescale", *_ELECTION)),
        Method("model_stock", model_stock, (), ("filter_wise",), is_mean=True, least_parents=2),
        Method("sce", sce, ("weight",), ("select_topk", "majority_sign_tie"), is_mean=True),
    )
}
