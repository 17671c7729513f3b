"""The blending formulas, one pure function each: the plain truth that any faster kernel must equal.

Each takes one slot's `(base, parents, ratios, draws, options)`: the base's tensor; the parents' tensors, of the base's
shape and any float dtype; for each of these a ratio and a draw, which makes a random mask where the method needs one;
and what holds for the whole blend. Each returns a new float32 tensor of that shape. Below, delta_i = parent_i - base is
parent i's task vector and w_i its weight.

Products and sums stay separate operations, element by element: a fused multiply-add rounds once where a CPU's loop tail
rounds twice, and then the bits would depend on threads, chunks and the device. Sums over a slot are those of `sums`.

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
from typing import Literal

from torch import Tensor

from vlmmerge.blend.elect import add_up, elected_sign, sum_of_sign, weight_of_sign
from vlmmerge.blend.sparsify import drop, keep_band, keep_most_varied, keep_probability, trim, with_l1_norm_of
from vlmmerge.blend.sums import dot, dot_rows
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio


@dataclass(frozen=True)
class Options:
    """What holds for the whole blend, by the field's names; each method uses those that its line in `METHODS` names.

    Args:
        normalize: Divide the blended task vectors by the sum of the weights (after an election: of those that agree).
            None is the method's own: `linear` divides, no other does.
        rescale: Make up for what was made zero. True: DARE and DELLA divide by the probability of being kept, TIES and
            Breadcrumbs keep each task vector's L1 norm. `l1`: all of them keep that norm. None is the method's own:
            True for DARE and DELLA, False for the others.
        lambda_: Factor on the blended task vectors; `lambda` in a recipe.
        majority_sign_method: `total` elects the sign of the sum, `frequency` the sign that more parents have.
        majority_sign_tie: Where neither sign wins, `drop` adds nothing, `positive` adds what is positive.
        select_topk: Fraction of the elements in which the parents vary that `sce` blends, in (0, 1].
        filter_wise: Let `model_stock` interpolate each row by itself, not the slot as one.

    Raises:
        VlmMergeError: A value out of range.
    """

    normalize: bool | None = None
    rescale: bool | Literal["l1"] | None = None
    lambda_: float = 1.0
    majority_sign_method: Literal["total", "frequency"] = "total"
    majority_sign_tie: Literal["drop", "positive"] = "drop"
    select_topk: float = 1.0
    filter_wise: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lambda_) and 0.0 < self.select_topk <= 1.0):
            raise VlmMergeError(
                f"no such options: lambda {self.lambda_}, select_topk {self.select_topk}",
                hint="lambda is a finite number; select_topk is above 0 and at most 1",
            )


DEFAULTS = Options()

Draw = Callable[[float | Tensor], Tensor | None]
"""Draws which elements are kept, each by itself with the given probability: a new mask, or None to keep all."""

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
            unless `rescale: l1` wants norms of whole slots.
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
    return add_up([parent.float() * (ratio.weight / total) for parent, ratio in zip(parents, ratios, strict=True)])


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
    total = sum_of_weights("slerp", ratios)
    one, other = (parent.float() for parent in parents)
    shares = [ratio.weight / total for ratio in ratios]
    norms = math.sqrt(dot(one, one)) * math.sqrt(dot(other, other))
    cosine = float(dot(one, other)) / norms if norms else 1.0
    if abs(cosine) <= 0.9995:  # false for NaN, which then shows where it is
        angle = math.acos(cosine)
        shares = [math.sin(share * angle) / math.sin(angle) for share in shares]
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
    rows = [delta.reshape(len(delta) if by_row else 1, -1) for delta in deltas]
    product = dot_rows if by_row else dot
    norms = [product(row, row).sqrt_() for row in rows]
    cosines = []
    for i, j in combinations(range(len(rows)), 2):
        scale = norms[i] * norms[j]
        cosines.append((product(rows[i], rows[j]) / scale.masked_fill(scale == 0.0, 1.0)).clamp_(-1.0, 1.0))
    cosine, count = add_up(cosines) / len(cosines), len(rows)
    denominator = cosine * (count - 1) + 1.0
    t = (cosine * count / denominator).masked_fill_(denominator.abs() < 1e-6, 0.0)
    mean = add_up(rows).div_(count)
    return mean.mul_(t.float().view(-1, 1)).view(base.shape).add_(base)


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
    if min(ratio.weight for ratio in ratios) < 0.0:
        raise VlmMergeError(
            f"sce takes no weight below 0, found {', '.join(f'{ratio.weight:g}' for ratio in ratios)}",
            hint="use weights of 0 or more, or `ties`",
        )
    base = base.float()
    deltas = [task_vector(parent, base) for parent in parents]
    keep_most_varied(deltas, options.select_topk)
    energies = [ratio.weight * float(dot(delta, delta)) for delta, ratio in zip(deltas, ratios, strict=True)]
    total = math.fsum(energies) or 1.0  # 0: nothing is selected, and nothing added
    coefficients = [energy / total for energy in energies]
    sign = elected_sign(deltas, tie=options.majority_sign_tie)
    divisor = weight_of_sign(deltas, coefficients, sign)
    weighted = [delta.mul_(coefficient) for delta, coefficient in zip(deltas, coefficients, strict=True)]
    return sum_of_sign(weighted, sign).div_(divisor).add_(base)


def task_vector(parent: Tensor, base: Tensor) -> Tensor:
    """parent - base, of a float32 `base`: a new float32 tensor."""
    return parent.float() - base


def sum_of_weights(method: str, ratios: Sequence[Ratio]) -> float:
    """The sum to divide by.

    Raises:
        VlmMergeError: It is 0.
    """
    total = math.fsum(ratio.weight for ratio in ratios)
    if total == 0.0:
        raise VlmMergeError(
            f"{method} divides by the sum of the weights, and they sum to 0",
            hint="use positive weights",
        )
    return total


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
        total.div_(sum_of_weights("normalize", ratios))
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


def _times_lambda(total: Tensor, options: Options) -> Tensor:
    return total if options.lambda_ == 1.0 else total.mul_(options.lambda_)


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
