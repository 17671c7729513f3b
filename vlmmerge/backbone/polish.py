"""A projector fitted further by gradient: to the same targets as the closed form, from there on.

What is best on held-out pictures is kept, the beginning among it: the end is never worse. Knows features and targets.
Does not know pictures.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vlmmerge.backbone.descent import Descent, descend, keep_best
from vlmmerge.backbone.projector import Pairs, Projector, measure

SEEN = 2**16
FLOOR = 1e-6  # of the mean variance: directions with less are not blown up


DEFAULT = Descent(epochs=8, patience=4, rows=2048, rate=1e-3)


class Whitening:
    """Inputs turned and scaled to be uncorrelated, as steps by gradient need them, and a first layer that undoes it.

    Args:
        inputs: Of shape (rows, inputs); not more than `SEEN` of them are looked at.
        floor: A share of the mean variance, which is added to each: directions with less are not blown up.
    """

    def __init__(self, inputs: Tensor, floor: float = FLOOR) -> None:
        some = inputs[:: max(1, len(inputs) // SEEN)].double()
        self.mean = some.mean(0)
        values, vectors = torch.linalg.eigh((some - self.mean).T @ (some - self.mean) / len(some))
        spread = (values.clamp(min=0) + floor * values.mean() + 1e-12).sqrt()
        self.forth, self.back = vectors / spread, (vectors * spread).T

    def __call__(self, inputs: Tensor) -> Tensor:
        """Whiten rows, new, float32."""
        return ((inputs - self.mean.float()) @ self.forth.float()).float()

    @torch.no_grad()
    def moved_behind(self, projector: Projector) -> Projector:
        """A new projector that gives of whitened rows what `projector` gives of rows."""
        moved, weight = copy.deepcopy(projector), projector.linear_1.weight.double()
        moved.linear_1.weight.copy_(weight @ self.back.T)
        moved.linear_1.bias.add_(weight @ self.mean)
        return moved

    @torch.no_grad()
    def taken_in(self, projector: Projector) -> Projector:
        """What undoes `moved_behind`: a new projector, on the CPU."""
        taken = copy.deepcopy(projector).cpu()
        weight = taken.linear_1.weight.double() @ self.forth.T
        taken.linear_1.weight.copy_(weight)
        taken.linear_1.bias.sub_(weight @ self.mean)
        return taken


def polish(
    start: Projector,
    train: Pairs,
    held_out: Pairs,
    centre: Tensor,
    settings: Descent = DEFAULT,
    watch: Callable[[Sequence[int], str], Iterable[int]] = lambda epochs, label: epochs,
) -> Projector:
    """Fit a two-layer projector by AdamW on the squared error.

    Args:
        start: Where it begins; it stays as it is.
        train, held_out: Features and targets.
        centre: The targets' mean: (outputs,).
        watch: Passes epochs through, and shows how far it is.

    Returns:
        A new projector on the CPU, on held-out pairs no worse than `start`.
    """
    chance, whitening = torch.Generator().manual_seed(0), Whitening(train[0])
    rows = TensorDataset(whitening(train[0]), train[1])
    batches = DataLoader(rows, settings.rows, shuffle=True, generator=chance)
    spread = (train[1] - centre.to(train[1])).square().mean().clamp(min=1e-12)

    def loss(live: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (live(x) - y).square().mean() / spread.to(y.device)

    epochs = watch(range(settings.epochs), "fitting")
    found = map(whitening.taken_in, descend(whitening.moved_behind(start), batches, loss, settings, epochs))
    best, _, _ = keep_best(start, found, lambda each: measure(each, held_out, centre).relative_error, settings.patience)
    return copy.deepcopy(best)
