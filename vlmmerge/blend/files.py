"""Blending file to file: the VLM parent's weight files anew, every byte the same but for the language tensors'.

Several workers read, blend and write a chunk at a time, so the memory needed is that of a few chunks. Knows checkpoints
and byte ranges. Does not know what else belongs into the folder, nor how it gets its name.
"""

import math
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vlmmerge.anatomy import VISION, Slot, layout_of
from vlmmerge.anatomy.vocabulary import Vocabulary
from vlmmerge.blend import Options
from vlmmerge.blend.chunks import blend_in_chunks
from vlmmerge.blend.distance import DistanceMeter
from vlmmerge.blend.rows import spans
from vlmmerge.blend.work import Read, SlotWork
from vlmmerge.blend.workers import Workers
from vlmmerge.checkpoint import Checkpoint
from vlmmerge.checkpoint.dtypes import DTYPES
from vlmmerge.checkpoint.header import TensorInfo
from vlmmerge.checkpoint.shards import read_bytes
from vlmmerge.genome import Ratios

COPIED_AT_ONCE = 2**22
FLUSHED_EVERY = 0.1  # seconds

Descriptors = Mapping[Path, int]


@dataclass(frozen=True)
class PairedTowers:
    """Language towers in files, paired.

    Args:
        checkpoints: The parents: `vlm`, `base`, the LLMs, and perhaps `vision`, whose layout then is the export's.
        keys: For each parent, the file key of each slot.
        vocabulary: How the rows of embeddings and heads pair.
    """

    checkpoints: Mapping[str, Checkpoint]
    keys: Mapping[str, Mapping[Slot, str]]
    vocabulary: Vocabulary

    @property
    def layout(self) -> str:
        """The parent whose files are written anew."""
        return layout_of(self.checkpoints)

    @property
    def blended(self) -> list[str]:
        """The parents whose language towers take part: all but `vision`."""
        return [name for name in self.checkpoints if name != VISION]

    def info(self, parent: str, slot: Slot) -> TensorInfo:
        """Where a parent's tensor lies."""
        return self.checkpoints[parent].tensors[self.keys[parent][slot]]

    def shape(self, slot: Slot) -> torch.Size:
        """The shape of what is paired: where vocabularies differ, of the shared tokens' rows alone."""
        rows, shape = self.vocabulary.rows_of(self.layout, slot), self.info(self.layout, slot).shape
        return torch.Size(shape if rows is None else (len(rows), *shape[1:]))


@dataclass(frozen=True)
class FileBlend(PairedTowers):
    """What is blended.

    Args:
        method: A name in `METHODS`.
        seed: For the masks of methods that draw them.
        options: What holds for the whole blend.
        written_keys: The keys of the layout's files that hold a slot: two if a tied head repeats the embeddings.
        ratios: For each slot, the ratio of each parent but the base.
    """

    method: str
    seed: int
    options: Options
    written_keys: Mapping[Slot, Sequence[str]]
    ratios: Ratios

    def places(self, slot: Slot) -> list[TensorInfo]:
        """Where the layout's files hold a slot."""
        return [self.checkpoints[self.layout].tensors[key] for key in self.written_keys[slot]]


def blend_files(blend: FileBlend, folder: Path) -> Iterator[int]:
    """Write the layout's weight files into `folder`, with blended slots: the same bits as in the live model.

    Yields:
        How many more bytes are written, as it goes on; the files are whole when it ends.

    Raises:
        CheckpointError: A weight that takes part is NaN or infinite, or a parent's file cannot be read.
        VlmMergeError: A blended value is not finite.
        OSError: The folder cannot be written.
    """
    with ExitStack() as stack:
        workers = stack.enter_context(closing(Workers()))
        sources = open_sources(blend, stack)
        targets = {
            file: _open(folder / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stack)
            for file in blend.checkpoints[blend.layout].weight_files
        }
        works = _works(blend, sources, targets)
        stack.enter_context(flushing(targets.values()))
        yield from workers.map(_copies(blend, sources, targets))
        yield from blend_in_chunks(blend.method, blend.seed, blend.options, works, workers)


@contextmanager
def flushing(descriptors: Collection[int]) -> Iterator[None]:
    """Send what is written to the disk as it comes, so that little is left to wait for at the end.

    Raises:
        OSError: The disk failed.
    """
    is_over, faults = threading.Event(), list[OSError]()

    def flush() -> None:
        try:
            while not is_over.wait(FLUSHED_EVERY):
                for descriptor in descriptors:
                    os.fsync(descriptor)
        except OSError as error:
            faults.append(error)

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if faults:
        raise faults[0]


def measure_distances(blend: FileBlend) -> dict[str, float]:
    """How far each parent is from the base, in lengths of the base; one that is damaged where it is looked at is left
    to the blend.

    Raises:
        CheckpointError: A parent's file cannot be read.
    """
    meter = DistanceMeter()
    with ExitStack() as stack:
        sources = open_sources(blend, stack)
        for slot in blend.keys[blend.layout]:
            reads = {name: read_slot(blend, name, slot, sources, is_checked=False) for name in blend.blended}
            meter.add(blend.shape(slot), reads.pop("base"), reads)
    return {name: distance for name, distance in meter.distances().items() if not math.isnan(distance)}


def open_sources(towers: PairedTowers, stack: ExitStack) -> Descriptors:
    """Open all weight files of the parents, until the stack is closed."""
    return {
        file: _open(file, os.O_RDONLY, stack)
        for checkpoint in towers.checkpoints.values()
        for file in checkpoint.weight_files
    }


def _open(file: Path, flags: int, stack: ExitStack) -> int:
    descriptor = os.open(file, flags, 0o666)
    stack.callback(os.close, descriptor)
    return descriptor


def _copies(blend: FileBlend, sources: Descriptors, targets: Descriptors) -> Iterator[Callable[[], int]]:
    """The tasks that copy whatever lies between what is blended."""
    written = [span for slot in blend.keys[blend.layout] for span in _written_spans(blend, slot)]
    for file, target in targets.items():
        bounds = [0, *sorted(bound for where, *span in written if where == file for bound in span)]
        bounds.append(os.fstat(sources[file]).st_size)
        for start, end in zip(bounds[::2], bounds[1::2], strict=True):
            for offset in range(start, end, COPIED_AT_ONCE):
                yield partial(_copy, file, sources[file], target, offset, min(offset + COPIED_AT_ONCE, end))


def _written_spans(blend: FileBlend, slot: Slot) -> Iterator[tuple[Path, int, int]]:
    """The byte ranges of the layout's files that the blend of a slot overwrites, as (file, start, end)."""
    shape, rows = blend.shape(slot), blend.vocabulary.rows_of(blend.layout, slot)
    for info in blend.places(slot):
        itemsize = DTYPES[info.dtype].itemsize
        for first, end, place in spans(rows, shape[1:].numel(), 0, shape.numel()):
            start = info.start + place * itemsize
            yield info.file, start, start + (end - first) * itemsize


def _copy(file: Path, source: int, target: int, start: int, end: int) -> int:
    offset = start
    while offset < end:
        offset += _write_all(target, read_bytes(file, source, offset, end), offset)
    return end - start


def _works(blend: FileBlend, sources: Descriptors, targets: Descriptors) -> Iterator[SlotWork]:
    """The slots in the order in which the layout's files hold them, so that each file grows from its beginning."""
    places = {slot: blend.info(blend.layout, slot) for slot in blend.keys[blend.layout]}
    for slot, place in sorted(places.items(), key=lambda item: (item[1].file, item[1].start)):
        reads = {name: read_slot(blend, name, slot, sources, is_checked=True) for name in blend.blended}
        rows = blend.vocabulary.rows_of(blend.layout, slot)
        yield SlotWork(
            slot=str(slot),
            shape=blend.shape(slot),
            dtype=DTYPES[place.dtype],
            base=reads.pop("base"),
            parents=reads,
            ratios=blend.ratios[slot],
            write=partial(_write, targets, blend.places(slot), rows),
        )


def read_slot(towers: PairedTowers, parent: str, slot: Slot, sources: Descriptors, *, is_checked: bool) -> Read:
    """What reads a parent's elements of a slot, in the dtype of its file; `is_checked` refuses what is not finite."""
    checkpoint, info, key = towers.checkpoints[parent], towers.info(parent, slot), towers.keys[parent][slot]
    rows, width = towers.vocabulary.rows_of(parent, slot), towers.shape(slot)[1:].numel()
    read_part = checkpoint.read_part if is_checked else checkpoint.read_unchecked

    def read(start: int, stop: int) -> Tensor:
        parts = [
            read_part(key, sources[info.file], place, place + end - first)
            for first, end, place in spans(rows, width, start, stop)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return read


def _write(targets: Descriptors, places: Sequence[TensorInfo], rows: Tensor | None, start: int, chunk: Tensor) -> int:
    """Write a chunk of a slot wherever the files hold it, and say how many bytes were written."""
    num_bytes = 0
    for info in places:
        stored = chunk.to(DTYPES[info.dtype]).contiguous()
        raw, itemsize = memoryview(stored.view(torch.uint8).numpy().data), stored.element_size()
        for first, end, place in spans(rows, math.prod(info.shape[1:]), start, start + chunk.numel()):
            part = raw[(first - start) * itemsize : (end - start) * itemsize]
            num_bytes += _write_all(targets[info.file], part, info.start + place * itemsize)
    return num_bytes


def _write_all(target: int, raw: memoryview | bytearray, offset: int) -> int:
    left = memoryview(raw)
    while left:
        num_written = os.pwrite(target, left, offset)
        left, offset = left[num_written:], offset + num_written
    return len(raw)
