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
from functools import cache

import torch
from torch import Tensor

from vlmmerge.anatomy import Slot
from vlmmerge.blend import DEFAULTS, Options
from vlmmerge.blend.launch import Launch

# For each dtype the bits of the smallest float32 that rounds to infinity in it.
LIMITS = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F7F8000, torch.float16: 0x477FF000}
# Rows of so many numbers begin at multiples of 16 bytes, for which Triton compiles once and not for each alignment.
ALIGNED = 4


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
