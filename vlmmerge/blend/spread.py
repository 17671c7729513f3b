"""Blending in place into a live model whose layers lie on several devices: each device blends its own.

Knows the blenders of the devices. Does not know who chose where a layer lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from vlmmerge.blend.live import LiveBlender, Tower, tower_distances
from vlmmerge.genome import Ratios


@dataclass(frozen=True, eq=False)
class SpreadBlender:
    """The blenders of all devices, as one. A slot's bits are the same on every device.

    Args:
        parts: Each has the slots that live on one device, and the parents for them; all have the same parents.
    """

    parts: Sequence[LiveBlender]

    def write(self, ratios: Ratios) -> None:
        """Blend all slots into the live parameters, in place: see `LiveBlender.write`.

        Raises:
            VlmMergeError: A blended value is not finite. The live model is then part old, part new: write another
                candidate before using it.
        """
        for part in self.parts:
            part.write(ratios)

    @cached_property
    def distances(self) -> dict[str, float]:
        """How far each parent is from the base, in lengths of the base."""
        parents: dict[str, Tower] = {
            name: {slot: tensor for part in self.parts for slot, tensor in part.parents[name].items()}
            for name in self.parts[0].parents
        }
        return tower_distances({slot: tensor for part in self.parts for slot, tensor in part.base.items()}, parents)
