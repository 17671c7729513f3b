"""Blending into live parameters by fused kernels, one launch a slot and no word to the host until all are launched.

The kernels serve `linear`, `task_arithmetic`, `dare`, `dare_ties`, `ties`, `breadcrumbs` and `breadcrumbs_ties`, but
for what needs a slot's norms (`rescale: l1`, and any `rescale` of the last three). `slerp`, `della`, `della_ties`,
`model_stock` and `sce` take the plain formulas on a GPU too. The bits are those of the plain formulas on a CPU. Knows
slots, ratios and tensors. Triton is needed to launch, not to import this.
"""

import importlib.util
import math
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, lru_cache

import torch
from torch import Tensor

from vlmmerge.anatomy import Slot
from vlmmerge.blend import DEFAULTS, METHODS, Options, is_whole
from vlmmerge.blend.masks import stream_key
from vlmmerge.blend.shares import sum_of_weights
from vlmmerge.blend.sparsify import numbers_in_band
from vlmmerge.genome import Ratio

# How each method that has a kernel makes task vectors sparse, and whether it then elects a sign.
KERNELS = {
    "linear": ("none", False),
    "task_arithmetic": ("none", False),
    "dare": ("mask", False),
    "dare_ties": ("mask", True),
    "ties": ("cut", True),
    "breadcrumbs": ("band", False),
    "breadcrumbs_ties": ("band", True),
}
# For each dtype the bits of the smallest float32 that rounds to infinity in it.
LIMITS = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F7F8000, torch.float16: 0x477FF000}
# Rows of so many numbers begin at multiples of 16 bytes, for which Triton compiles once and not for each alignment.
ALIGNED = 4


@dataclass(frozen=True)
class Launch:
    """What a kernel does to one slot.

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


@dataclass(frozen=True, eq=False)
class Target:
    """Where a blended slot goes.

    Args:
        live: The live parameter, contiguous, without gradient.
        store: The dtype to which the blend is rounded first.
        rows: As `LiveBlender.token_rows`, for this slot.
    """

    live: Tensor
    store: torch.dtype
    rows: Tensor | None = None


def has_kernel(method: str, options: Options) -> bool:
    """Whether there is a kernel for a method with these options."""
    sparsity, _ = KERNELS.get(method, (None, False))
    if sparsity == "mask":
        return options.rescale != "l1"
    return sparsity is not None and (sparsity == "none" or not options.rescale)


def plan_launch(
    method: str, seed: int, options: Options, slot: str, num_elements: int, ratios: Mapping[str, Ratio]
) -> Launch | None:
    """Say what the kernel does to a slot; None: it is the plain formula's, for a cut leaves nothing of a parent.

    Raises:
        VlmMergeError: The weights sum to 0, and the method divides by their sum.
    """
    chosen, (sparsity, elects) = METHODS[method], KERNELS[method]
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


@dataclass(frozen=True, eq=False)
class FusedBlender:
    """Launches the kernels for one blend on one device, and keeps the tables of its cuts.

    Args:
        options: What holds for the whole blend.
        device: Where everything lies.
    """

    options: Options
    device: torch.device
    _tables: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def write(
        self,
        launches: Mapping[Slot, Launch],
        tensors: Iterable[tuple[Slot, Mapping[str, Tensor]]],
        targets: Mapping[Slot, Target],
    ) -> Slot | None:
        """Blend slots into their live parameters, in place.

        Args:
            launches: What to do to each slot.
            tensors: The slots one by one, in the order of `launches`, each with the base and the parents that take part
                on the device, contiguous; they are read before the next ones are drawn, as the device's stream goes.
            targets: Where each goes.

        Returns:
            The first slot with a value that is not finite in its stored dtype, if there is one.
        """
        if not launches:
            return None
        numbers, integers = _pack(launches.values(), self.options, self.device)
        faults = torch.zeros(len(launches), ALIGNED, dtype=torch.int32, device=self.device)
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext(), torch.no_grad():
            rows = zip(numbers.unbind(), integers.unbind(), faults.unbind(), strict=True)
            for (slot, of_slot), of_row in zip(tensors, rows, strict=True):
                self._launch(str(slot), launches[slot], of_slot, targets[slot], of_row)
        faulty = faults[:, 0].nonzero().flatten().tolist()  # waits for the device
        return list(launches)[faulty[0]] if faulty else None

    def _launch(
        self,
        slot: str,
        launch: Launch,
        tensors: Mapping[str, Tensor],
        target: Target,
        of_row: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        from vlmmerge.blend import kernels
        from vlmmerge.blend.device_cuts import BLOCK, IS_INTERPRETED, LAUNCH

        numbers, integers, fault = of_row
        sources = tuple(tensors[name] for name in launch.sources)
        base = tensors["base"] if launch.uses_base else sources[0]
        cuts, places = integers, integers  # not looked at
        if launch.sparsity in ("cut", "band"):
            cuts, places = self._find_cuts(slot, launch, base, sources, integers)
        width = math.prod(target.live.shape[1:])
        kernels.blend[(-(-base.numel() // BLOCK),)](
            target.live, base, sources, numbers, integers, cuts, places,
            target.rows if target.rows is not None else integers, fault,
            base.numel(), target.live.numel(), width,
            USES_BASE=launch.uses_base, SPARSITY=launch.sparsity, ELECTS=launch.elects,
            NORMALIZES=launch.divisor is not None or (launch.elects and bool(self.options.normalize)),
            COUNTS_SIGNS=self.options.majority_sign_method == "frequency",
            TIES_ARE_POSITIVE=self.options.majority_sign_tie == "positive",
            SCALES=launch.uses_base and self.options.lambda_ != 1.0, HAS_ROWS=target.rows is not None,
            STORE=_triton_dtype(target.store), LIMIT=LIMITS[target.store],
            BY_BITS=IS_INTERPRETED, BLOCK=BLOCK, **LAUNCH,
        )  # fmt: skip

    def _find_cuts(
        self, slot: str, launch: Launch, base: Tensor, sources: tuple[Tensor, ...], num_kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        from vlmmerge.blend.device_cuts import find_cuts, make_table

        for name, source in zip(launch.sources, sources, strict=True):
            if (slot, name) not in self._tables:
                self._tables[slot, name] = make_table(base, source)
        tables = [self._tables[slot, name] for name in launch.sources]
        cuts = find_cuts(base, sources, tables, num_kept[: len(launch.num_kept)])
        return cuts.bits, cuts.places


def _pack(launches: Iterable[Launch], options: Options, device: torch.device) -> tuple[Tensor, Tensor]:
    """All launches' numbers in two tensors of one row a launch, so that they reach the device in two copies."""
    rows = [
        (
            [*launch.factors, *(launch.weights or launch.factors), launch.divisor or 1.0, options.lambda_],
            [*launch.keys, *launch.lasts, *launch.num_kept],
        )
        for launch in launches
    ]
    width = -(-max(len(part) for row in rows for part in row) // ALIGNED) * ALIGNED
    padded = [[[*part, *(width - len(part)) * [0]] for part in row] for row in rows]
    numbers = torch.tensor([numbers for numbers, _ in padded], dtype=torch.float64).float()
    integers = torch.tensor([integers for _, integers in padded], dtype=torch.int64)
    return numbers.to(device), integers.to(device)


def _triton_dtype(dtype: torch.dtype) -> object:
    import triton.language as tl

    return {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype]


@cache
def can_launch(device: torch.device) -> bool:
    """Whether kernels run on a device: tried once, with a warning where they should and do not."""
    if device.type != "cuda" or torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    slot, parent, live = Slot(None, "trial"), torch.ones(3, device=device), torch.zeros(3, device=device)
    try:
        target = {slot: Target(live, torch.float32)}
        launch = {slot: Launch(("vlm",), (1.0,), uses_base=False)}
        FusedBlender(DEFAULTS, device).write(launch, [(slot, {"vlm": parent})], target)
    except Exception as error:  # Triton is old, or lacks a C compiler, or does not know the device: any kind of error
        reason = (str(error).splitlines() or [""])[0]
        warnings.warn(
            f"blending takes the slower plain formulas, since Triton's kernels do not run here: "
            f"{type(error).__name__}: {reason}",
            stacklevel=2,
        )
        return False
    return torch.equal(parent, live)
