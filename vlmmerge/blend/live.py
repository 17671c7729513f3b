"""Blending in place into a live model, and the same bits for the export.

Knows resident parents and live parameters by slot. Does not know the model that they belong to, nor files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain

import torch
from torch import Tensor

from vlmmerge.anatomy import Slot
from vlmmerge.blend import DEFAULTS, Options, blend_slot
from vlmmerge.blend.chunks import blend_in_chunks, check_finite
from vlmmerge.blend.distance import DistanceMeter
from vlmmerge.blend.rows import spans
from vlmmerge.blend.work import Read, SlotWork
from vlmmerge.blend.workers import Workers
from vlmmerge.genome import Ratios

Tower = Mapping[Slot, Tensor]


@dataclass(frozen=True, eq=False)
class LiveBlender:
    """Parents' language towers that stay where the model runs, and the live parameters that candidates are written to.

    Args:
        method: A name in `METHODS`.
        seed: For the masks of methods that draw them.
        base: The base's language tower, any float dtypes.
        parents: The language towers of `vlm` (a copy, since the live one is overwritten) and of each LLM, by name.
        live: The live model's language tower. Two slots that share one parameter (a tied head) come as one slot.
        store_dtypes: The dtype that each slot has in the exported file.
        options: What holds for the whole blend.
        token_rows: The live rows of embeddings and head that are written, int64, ascending: the resident tensors of
            those slots are compact and hold just these rows. None for all rows of the resident tensors. The live model
            may have fewer rows, or more; rows beyond are left alone.
    """

    method: str
    seed: int
    base: Tower
    parents: Mapping[str, Tower]
    live: Mapping[Slot, torch.nn.Parameter]
    store_dtypes: Mapping[Slot, torch.dtype]
    options: Options = DEFAULTS
    token_rows: Tensor | None = None

    def __post_init__(self) -> None:
        live_storages = [_storage(parameter) for parameter in self.live.values()]
        assert len(set(live_storages)) == len(live_storages), "two slots share one live parameter: leave one slot out"
        resident = {_storage(tensor) for tower in self._towers() for tensor in tower.values()}
        assert resident.isdisjoint(live_storages), "a resident parent shares storage with the live model: copy it first"
        for slot, parameter in self.live.items():
            shapes = [tuple(tower[slot].shape) for tower in self._towers()]
            wanted = tuple(parameter.shape)
            if slot.has_token_rows:
                num_rows = shapes[0][0] if self.token_rows is None else len(self.token_rows)
                wanted = (num_rows, *wanted[1:])
            assert set(shapes) == {wanted}, f"{slot}: live {tuple(parameter.shape)}, resident {shapes}"

    def write(self, ratios: Ratios) -> None:
        """Blend all slots into the live parameters, in place, rounded to the store dtype: what is scored is what ships.

        Raises:
            VlmMergeError: A blended value is not finite. The live model is then part old, part new: write another
                candidate before using it.
        """
        if all(parameter.device.type == "cpu" and parameter.is_contiguous() for parameter in self.live.values()):
            for _ in blend_in_chunks(self.method, self.seed, self.options, self._works(ratios), self._workers):
                pass
            return
        with torch.no_grad():
            for slot, tensor in self.tensors(ratios):
                if slot.has_token_rows:
                    write_rows(self.live[slot], tensor, self.token_rows)
                else:
                    self.live[slot].copy_(tensor)

    def tensors(self, ratios: Ratios) -> Iterator[tuple[Slot, Tensor]]:
        """Blend slot by slot: see `blend_tower`."""
        return blend_tower(
            self.method, self.base, self.parents, ratios, self.store_dtypes, seed=self.seed, options=self.options
        )

    @cached_property
    def distances(self) -> dict[str, float]:
        """How far each parent is from the base, in lengths of the base."""
        meter = DistanceMeter()
        for slot, base in self.base.items():
            meter.add(base.shape, _reader(base), {name: _reader(tower[slot]) for name, tower in self.parents.items()})
        return meter.distances()

    @cached_property
    def _workers(self) -> Workers:
        return Workers()

    def _works(self, ratios: Ratios) -> Iterator[SlotWork]:
        for slot, parameter in self.live.items():
            rows = self.token_rows if slot.has_token_rows else None
            yield SlotWork(
                slot=str(slot),
                shape=self.base[slot].shape,
                dtype=self.store_dtypes[slot],
                base=_reader(self.base[slot]),
                parents={name: _reader(tower[slot]) for name, tower in self.parents.items()},
                ratios=ratios[slot],
                write=partial(write_chunk, parameter.detach(), rows),
            )

    def _towers(self) -> Iterator[Tower]:
        return chain([self.base], self.parents.values())


def write_rows(live: Tensor, blended: Tensor, rows: Tensor | None) -> None:
    """Write the rows of a blended tensor to `rows` of a live one, ascending, in place; None: to the first ones.

    Rows that the live tensor does not have are left out; rows of it that are not named stay, bit for bit.
    """
    if rows is None:
        num_rows = min(len(live), len(blended))
        live[:num_rows].copy_(blended[:num_rows])
    else:
        there = rows[rows < len(live)]
        live.index_copy_(0, there, blended[: len(there)].to(live.dtype))


def write_chunk(live: Tensor, rows: Tensor | None, start: int, chunk: Tensor) -> int:
    """As `write_rows`, of a chunk from element `start` on, flat; `live` is contiguous. Returns the chunk's bytes."""
    flat = live.view(-1)
    for first, end, place in spans(rows, live.shape[1:].numel(), start, start + chunk.numel()):
        there = flat[place : place + end - first]  # shorter, or nothing, where the live tensor has fewer rows
        there.copy_(chunk[first - start :][: there.numel()])
    return chunk.nbytes


def blend_tower(
    method: str,
    base: Tower,
    parents: Mapping[str, Tower],
    ratios: Ratios,
    store_dtypes: Mapping[Slot, torch.dtype],
    *,
    seed: int,
    options: Options = DEFAULTS,
) -> Iterator[tuple[Slot, Tensor]]:
    """Blend the slots of `store_dtypes` one by one, each as a whole: the bits of `blend_in_chunks`, on any device.

    Where the parents' vocabularies differ, embeddings and head come as compact tensors of the shared tokens' rows
    (`vocabulary.py`); masks count the elements of what comes, so they are those of the compact tensor.

    Args:
        method: A name in `METHODS`.
        base: The base's language tower, any float dtypes.
        parents: The language towers of `vlm` and of each LLM, by name.
        ratios: For each slot, the ratio of each parent.
        store_dtypes: The dtype that each slot has in the exported file.
        seed: For the masks of methods that draw them.
        options: What holds for the whole blend.

    Yields:
        Each slot's blended tensor, new, in its store dtype and on the parents' device.

    Raises:
        VlmMergeError: A blended value is not finite, in the store dtype.
    """
    for slot, dtype in store_dtypes.items():
        towers = {name: tower[slot] for name, tower in parents.items()}
        with torch.no_grad():
            blended = blend_slot(
                method, base[slot], towers, ratios[slot], seed=seed, slot=str(slot), options=options
            ).to(dtype)
        check_finite(blended, method, str(slot), ratios[slot])
        yield slot, blended


def _reader(tensor: Tensor) -> Read:
    flat = tensor.detach().reshape(-1)
    return lambda start, stop: flat[start:stop]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
