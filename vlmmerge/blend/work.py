"""One slot to blend: what reads its parents, and what takes the blend.

Knows reads, writes and ratios. Does not know whether files or a live model are behind them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmmerge.blend.sparsify import row_length
from vlmmerge.errors import VlmMergeError
from vlmmerge.genome import Ratio

Read = Callable[[int, int], Tensor]
"""Reads elements start..stop-1 of a slot as a flat tensor."""


@dataclass(frozen=True, eq=False)
class SlotWork:
    """One slot to blend.

    Args:
        slot: Its name.
        shape: Its shape.
        dtype: The dtype in which it is stored.
        base: Reads the base. Like all reads, it may be called from several threads at once.
        parents: Reads each parent, by name.
        ratios: For each parent its ratio.
        write: Takes the place of a chunk's first element, and the chunk, flat and in the stored dtype; returns how
            many bytes it has written. It too is called from several threads.
        tables: Keeps what has been found of the slot that no ratio changes. The same one with the next candidate saves
            a pass over each parent (TIES, Breadcrumbs: 128 KiB a parent) or all sorting (DELLA: 2 bytes an element
            and parent). None keeps nothing.
        memory: All of the slot's memory, flat and in the stored dtype, where it may be blended into as it is: nothing
            is left to write then. None: whatever is blended is written.
    """

    slot: str
    shape: torch.Size
    dtype: torch.dtype
    base: Read
    parents: Mapping[str, Read]
    ratios: Mapping[str, Ratio]
    write: Callable[[int, Tensor], int]
    tables: dict[str, Tensor] | None = None
    memory: Tensor | None = None

    @property
    def taking_part(self) -> list[str]:
        """The parents whose weight is not 0; the others are never read."""
        return [name for name in self.parents if self.ratios[name].weight != 0.0]

    @property
    def num_elements(self) -> int:
        return self.shape.numel()

    @property
    def row_length(self) -> int:
        return row_length(self.shape)


def not_finite(dtype: torch.dtype, method: str, slot: str, ratios: Mapping[str, Ratio]) -> VlmMergeError:
    """The error for a slot with a value that is not finite in the stored dtype."""
    return VlmMergeError(
        f"{slot}: blending by {method} gives values that are not finite in {dtype}",
        details=[f"{name}: {ratio}" for name, ratio in ratios.items()],
        hint="smaller weights or a higher density may do; look for damaged parents",
    )
