"""Blending in place into a live model, and the same bits for the export.

Knows resident parents and live parameters by slot. Does not know the model that they belong to, nor files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain

import torch
from torch import Tensor

from vlmmerge.anatomy import Slot
from vlmmerge.blend import DEFAULTS, METHODS, Options, blend_slot
from vlmmerge.blend.chunks import blend_in_chunks, check_finite
from vlmmerge.blend.distance import DistanceMeter
from vlmmerge.blend.fused import LIMITS, FusedBlender, Target, can_launch
from vlmmerge.blend.launch import has_launch, plan_launch
from vlmmerge.blend.residency import send_ahead
from vlmmerge.blend.rows import spans
from vlmmerge.blend.work import Read, SlotWork, not_finite
from vlmmerge.blend.workers import Workers
from vlmmerge.genome import Ratio, Ratios

Tower = Mapping[Slot, Tensor]

# Elements that a plain formula takes at once on a GPU: enough to fill it, and no more than the largest slots have.
PIECE = 2**24


@dataclass(frozen=True, eq=False)
class LiveBlender:
    """Parents' language towers in memory, and the live parameters that candidates are written to.

    Args:
        method: A name in `METHODS`.
        seed: For the masks of methods that draw them.
        base: The base's language tower, any float dtypes, where the model runs or in host memory, as all parents.
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
    live: Tower
    store_dtypes: Mapping[Slot, torch.dtype]
    options: Options = DEFAULTS
    token_rows: Tensor | None = None
    _written: dict[Slot, tuple[dict[str, Ratio], int]] = field(default_factory=dict, init=False, repr=False)

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

        Slots that hold what these ratios make of them, since they were written last, are left alone.

        Raises:
            VlmMergeError: A blended value is not finite. The live model is then part old, part new: write another
                candidate before using it.
        """
        changed = [slot for slot in self.live if self._written.get(slot) != self._state(slot, ratios)]
        for slot in changed:
            self._written.pop(slot, None)  # nobody knows what it holds until all is written
        with torch.no_grad():
            self._write(changed, ratios)
        for slot in changed:
            self._written[slot] = self._state(slot, ratios)

    def _state(self, slot: Slot, ratios: Ratios) -> tuple[dict[str, Ratio], int]:
        """What a live parameter's values follow from: the ratios, and how often torch has changed it in place."""
        return dict(ratios[slot]), self.live[slot]._version

    def _write(self, slots: Sequence[Slot], ratios: Ratios) -> None:
        if not self._is_contiguous:
            self._write_plainly(slots, ratios)
        elif self._device.type == "cpu":
            works = (self._work(slot, ratios) for slot in slots)
            for _ in blend_in_chunks(self.method, self.seed, self.options, works, self._workers):
                pass
        elif self.has_kernel:
            self._write_fused(slots, ratios)
        else:
            self._write_plainly(slots, ratios)

    def _write_fused(self, slots: Sequence[Slot], ratios: Ratios) -> None:
        """By kernels; what they leave to the plain formulas comes last."""
        launches, left = {}, []
        for slot in slots:
            num_elements = self.base[slot].numel()
            launch = plan_launch(self.method, self.seed, self.options, str(slot), num_elements, ratios[slot])
            if launch:
                launches[slot] = launch
            else:
                left.append(slot)
        sources = {slot: self._taking_part(slot, ratios, launch.uses_base) for slot, launch in launches.items()}
        targets = {
            slot: Target(self.live[slot].detach(), self.store_dtypes[slot], self._rows(slot)) for slot in launches
        }
        faulty = self._fused.write(launches, self._on_device(sources), targets)
        if faulty:
            raise not_finite(self.store_dtypes[faulty], self.method, str(faulty), ratios[faulty])
        self._write_plainly(left, ratios)

    def _write_plainly(self, slots: Sequence[Slot], ratios: Ratios) -> None:
        """By the plain formulas: in pieces of whole rows where they are elementwise, else slot by slot."""
        chosen = METHODS[self.method]
        in_pieces = chosen.is_elementwise and self.options.rescale != "l1"
        sources = {slot: self._taking_part(slot, ratios, chosen.uses_base) for slot in slots}
        for slot, tensors in self._on_device(sources):
            first = next(iter(tensors.values()))
            width = first[:1].numel()
            at_once = max(PIECE // max(width, 1), 1) if in_pieces else max(len(first), 1)
            for start in range(0, len(first), at_once):
                part = {name: tensor[start : start + at_once] for name, tensor in tensors.items()}
                base = part.get("base", first[start : start + at_once])
                parents = {name: part.get(name, base) for name in self.parents}  # what has weight 0 is not looked at
                blended = blend_slot(
                    self.method, base, parents, ratios[slot],
                    seed=self.seed, slot=str(slot), options=self.options, start=start * width,
                ).to(self.store_dtypes[slot])  # fmt: skip
                check_finite(blended, self.method, str(slot), ratios[slot])
                write_rows(self.live[slot], blended, self._rows(slot), start)

    def _taking_part(self, slot: Slot, ratios: Ratios, uses_base: bool) -> dict[str, Tensor]:
        """The tensors that a slot's blend reads."""
        parents = {name: tower[slot] for name, tower in self.parents.items() if ratios[slot][name].weight != 0.0}
        return parents if parents and not uses_base else {"base": self.base[slot], **parents}

    def _on_device(self, sources: Mapping[Slot, Mapping[str, Tensor]]) -> Iterable[tuple[Slot, Mapping[str, Tensor]]]:
        """The slots one by one, where the model runs."""
        return sources.items() if self._is_here else send_ahead(list(sources.items()), self._device)

    def _rows(self, slot: Slot) -> Tensor | None:
        return self.token_rows if slot.has_token_rows else None

    @cached_property
    def _device(self) -> torch.device:
        return next(iter(self.live.values())).device

    @cached_property
    def _is_here(self) -> bool:
        """Whether the parents are where the model runs."""
        return all(tensor.device == self._device for tower in self._towers() for tensor in tower.values())

    @cached_property
    def _is_contiguous(self) -> bool:
        return all(parameter.is_contiguous() for parameter in self.live.values())

    @cached_property
    def has_kernel(self) -> bool:
        """Whether kernels blend, where the model does not run on a CPU."""
        dtypes = {tensor.dtype for tower in (*self._towers(), self.live) for tensor in tower.values()}
        is_known = dtypes | set(self.store_dtypes.values()) <= set(LIMITS)
        return is_known and has_launch(self.method, self.options) and can_launch(self._device)

    @cached_property
    def _fused(self) -> FusedBlender:
        return FusedBlender(self.options, self._device)

    def tensors(self, ratios: Ratios) -> Iterator[tuple[Slot, Tensor]]:
        """Blend slot by slot: see `blend_tower`."""
        return blend_tower(
            self.method, self.base, self.parents, ratios, self.store_dtypes, seed=self.seed, options=self.options
        )

    @cached_property
    def distances(self) -> dict[str, float]:
        """How far each parent is from the base, in lengths of the base."""
        return tower_distances(self.base, self.parents)

    @cached_property
    def _workers(self) -> Workers:
        return Workers()

    @cached_property
    def _tables(self) -> dict[Slot, dict[str, Tensor]]:
        """What has been found of the resident parents' slots on a CPU: it holds for every candidate."""
        return {}

    def _work(self, slot: Slot, ratios: Ratios) -> SlotWork:
        return SlotWork(
            slot=str(slot),
            shape=self.base[slot].shape,
            dtype=self.store_dtypes[slot],
            base=_reader(self.base[slot]),
            parents={name: _reader(tower[slot]) for name, tower in self.parents.items()},
            ratios=ratios[slot],
            write=partial(write_chunk, self.live[slot].detach(), self._rows(slot)),
            tables=self._tables.setdefault(slot, {}),
            memory=self._memory(slot),
        )

    def _memory(self, slot: Slot) -> Tensor | None:
        """A live parameter that holds just what is blended, as it is stored: flat."""
        live = self.live[slot].detach()
        is_same = live.dtype == self.store_dtypes[slot] and live.shape == self.base[slot].shape
        return live.view(-1) if is_same and self._rows(slot) is None else None

    def _towers(self) -> Iterator[Tower]:
        return chain([self.base], self.parents.values())


def write_rows(live: Tensor, blended: Tensor, rows: Tensor | None, start: int = 0) -> None:
    """Write the rows of a blended tensor, from row `start` on, to `rows` of a live one, ascending, in place.

    None: to rows of the same numbers. Rows that the live tensor does not have are left out; rows of it that are not
    named stay, bit for bit.
    """
    if rows is None:
        there = live[start : start + len(blended)]
        there.copy_(blended[: len(there)])
    else:
        rows = rows[start : start + len(blended)]
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


def tower_distances(base: Tower, parents: Mapping[str, Tower]) -> dict[str, float]:
    """How far each parent is from the base, in lengths of the base; on whatever devices they lie."""
    meter = DistanceMeter()
    for slot, tensor in base.items():
        meter.add(tensor.shape, _reader(tensor), {name: _reader(tower[slot]) for name, tower in parents.items()})
    return meter.distances()


def _reader(tensor: Tensor) -> Read:
    flat = tensor.detach().reshape(-1)
    return lambda start, stop: flat[start:stop]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
