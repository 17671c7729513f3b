"""A projector for new eyes, in closed form: ridge regression from their features to the old eyes' projected ones.

Pictures are looked at once, by both; sums of products are kept, and rows of features as far as they fit in `ROOM`.
Knows maps of features. Does not know files, nor models.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from PIL.Image import Image, Transpose
from torch import Tensor

from vlmmerge.backbone.encoder import Encoder
from vlmmerge.backbone.grid import resample
from vlmmerge.backbone.pictures import Pictures, read_square
from vlmmerge.backbone.processes import add_up, collect, is_shared, share
from vlmmerge.backbone.projector import Pairs, Projector, bent_projector, linear_projector, measure
from vlmmerge.backbone.ridge import Fit, Sums, fit
from vlmmerge.backbone.targets import OldEyes

AT_ONCE = 16  # pictures
ROOM = 2**30  # bytes of rows that are kept
WIDEST = 4096  # inputs that are tried unasked: their sums are taken apart in a minute or so

# What else a square picture shows when it is mirrored or turned: the old eyes tell what is right for that, too.
TURNS = (Transpose.FLIP_LEFT_RIGHT, Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_90)
FEW_VIEWS, ALL_VIEWS = 2, 1 + len(TURNS)

Layers = tuple[int, ...]  # as hidden states are counted: -1 is the last


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of pictures by both eyes.

    Args:
        sums: Of all rows.
        rows: Of the rows that were kept.
    """

    sums: Sums
    rows: Pairs


@dataclass(frozen=True, eq=False)
class Closed:
    """The projector in closed form.

    Args:
        layers: Whose features it takes, side by side.
        projector: The nearest one on held-out pictures.
        penalty: Of the ridge regression whose inputs these features are.
        train, held_out: Kept rows of these layers.
        centre: The targets' mean over training rows: (outputs,).
    """

    layers: Layers
    projector: Projector
    penalty: float
    train: Pairs
    held_out: Pairs
    centre: Tensor


def fit_closed(
    old: OldEyes,
    encoder: Encoder,
    pictures: Pictures,
    layers: Layers | None = None,
    num_views: int = FEW_VIEWS,
    watch: Callable[[Sequence[Path], str], Iterable[Path]] = lambda files, label: files,
) -> Closed:
    """Fit the projector to the old eyes' features, resampled to the encoder's map.

    Args:
        old, encoder: Both eyes.
        pictures: What they look at.
        layers: Whose features are taken; None for those of `candidates` that serve held-out pictures best.
        num_views: Of each picture, 1 to `ALL_VIEWS`. What is in closed form has learnt enough of few; what goes on by
            gradient learns pictures by heart.
        watch: Passes files through, and shows how far it is.
    """
    tried = [layers] if layers else candidates(encoder.num_alike - 1, encoder.width)
    union = tuple(dict.fromkeys(chain.from_iterable(tried)))
    room = ROOM // (num_views * len(pictures.train) + len(pictures.held_out))

    def seen_by_all(files: Sequence[Path], label: str, num_views: int) -> Looked:
        views = views_of(map(read_square, watch(share(files), label)), num_views)
        looked = look_at(old, encoder, views, union, room)
        return joined(looked) if is_shared(files) else looked

    train = seen_by_all(pictures.train, "looking", num_views)
    held_out = seen_by_all(pictures.held_out, "held-out pictures", 1)

    def fit_to(outputs: slice, each: Layers) -> Fit:
        inputs = columns(union, each, encoder.width)
        return fit(train.sums.part(inputs, outputs), held_out.sums.part(inputs, outputs))

    fits = {each: fit_to(old.hidden or old.features, each) for each in tried}
    best = min(fits, key=lambda each: fits[each].error)
    inputs = columns(union, best, encoder.width)
    rows = [(looked.rows[0][:, inputs], looked.rows[1][:, old.features]) for looked in (train, held_out)]
    centre = (train.sums.y[old.features] / train.sums.count).cpu()
    projectors = [linear_projector(fit_to(old.features, best))]
    if old.activation:
        projectors.append(bent_projector(fits[best], old.activation, rows[0], rows[1]))
    nearest = min(projectors, key=lambda projector: measure(projector, rows[1], centre).relative_error)
    return Closed(best, nearest, fits[best].penalty, rows[0], rows[1], centre)


def candidates(num_layers: int, width: int) -> list[Layers]:
    """Which layers are tried: the last, the last but one, the last beside one halfway; of narrow ones four, too.

    >>> candidates(24, 1024), candidates(4, 4096)
    ([(-1,), (-2,), (-1, -13), (-1, -7, -13, -19)], [(-1,), (-2,), (-1, -3)])
    """
    if num_layers <= 1:
        return [(-1,)]
    four = tuple(-1 - num_layers * quarter // 4 for quarter in range(4))
    wide = [four] if len(set(four)) == 4 and 4 * width <= WIDEST else []
    return [(-1,), (-2,), (-1, -(num_layers // 2 + 1)), *wide]


def look_at(old: OldEyes, encoder: Encoder, squares: Iterable[Image], layers: Layers, room: int) -> Looked:
    """Look at square pictures with both eyes.

    Args:
        squares: At least one.
        layers: Of the encoder.
        room: Bytes of rows to keep of each picture; the rows that are kept are drawn from a seed.
    """
    device = old.vlm.device if old.vlm.device.type == "cuda" else torch.device("cpu")
    sums: Sums | None = None
    kept: list[Pairs] = []
    chance = torch.Generator().manual_seed(0)
    for x, y in pairs_of(old, encoder, squares, layers):
        sums = sums or Sums(x.shape[-1], y.shape[-1], device)
        sums.add(x.flatten(0, 1), y.flatten(0, 1))
        most = room * len(x) // (4 * (x.shape[-1] + y.shape[-1]))
        some = torch.randperm(x.shape[0] * x.shape[1], generator=chance)[: max(1, most)].sort().values
        kept.append((x.flatten(0, 1).cpu()[some], y.flatten(0, 1).cpu()[some]))
    assert sums is not None, "there is a picture"
    return Looked(sums, (torch.cat([x for x, _ in kept]), torch.cat([y for _, y in kept])))


def joined(looked: Looked) -> Looked:
    """What all processes saw, each of its share of the pictures."""
    own, names = looked.sums, ("x", "y", "xx", "xy", "yy")
    sums, rows = Sums(own.num_inputs, own.num_outputs, own.device), collect(looked.rows)
    sums.count = sum(collect(own.count))
    for name, total in zip(names, add_up([getattr(own, name) for name in names]), strict=True):
        setattr(sums, name, total)
    return Looked(sums, (torch.cat([x for x, _ in rows]), torch.cat([y for _, y in rows])))


def views_of(squares: Iterable[Image], number: int) -> Iterator[Image]:
    """Each picture, and what it shows mirrored, then turned: `number` views of it, 1 to `ALL_VIEWS`."""
    for picture in squares:
        yield picture
        yield from map(picture.transpose, TURNS[: number - 1])


def pairs_of(old: OldEyes, encoder: Encoder, squares: Iterable[Image], layers: Layers) -> Iterator[Pairs]:
    """Features and targets of some pictures at a time: (pictures, tokens, inputs) and (pictures, tokens, outputs).

    Tokens that LLaVA keeps before the map (registers) are to say what the whole picture says: the mean of its targets.
    """
    squares = iter(squares)
    while some := list(islice(squares, AT_ONCE)):
        x = encoder.look(some, layers).float()
        y = torch.stack([resample(features, grid, encoder.grid) for features, grid in map(old.look, some)])
        before = y.mean(1, keepdim=True).expand(-1, encoder.num_kept, -1)
        yield x, torch.cat([before, y], 1).to(x.device)


def columns(union: Layers, layers: Layers, width: int) -> Tensor:
    """Where the features of some layers stand among those of all.

    >>> columns((-1, -2, -3), (-1, -3), 2)
    tensor([0, 1, 4, 5])
    """
    starts = torch.tensor([union.index(layer) * width for layer in layers])
    return (starts[:, None] + torch.arange(width)).flatten()
