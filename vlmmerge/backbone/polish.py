"""A projector fitted further by gradient: to the same targets as the closed form, from there on.

What is best on held-out pictures is kept, the beginning among it: the end is never worse. Accelerate places model and
batches, on as many GPUs as it was launched on. Knows features and targets. Does not know pictures.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vlmmerge.backbone.projector import Pairs, Projector, measure

SEEN = 2**16
FLOOR = 1e-6  # of the mean variance: directions with less are not blown up


@dataclass(frozen=True)
class Polish:
    """How long and how fast.

    Args:
        epochs: At most.
        patience: Epochs without a better held-out error that end it.
        rows: In a batch, on each device.
        rate: The highest learning rate; it falls to a hundredth along a cosine.
    """

    epochs: int = 8
    patience: int = 4
    rows: int = 2048
    rate: float = 1e-3


DEFAULT = Polish()


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
    settings: Polish = DEFAULT,
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

    Source: Loshchilov 2019, Decoupled Weight Decay Regularization, https://arxiv.org/abs/1711.05101
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    chance, whitening = torch.Generator().manual_seed(0), Whitening(train[0])
    projector = whitening.moved_behind(start)
    best, best_error, num_worse = start, measure(start, held_out, centre).relative_error, 0
    rows = TensorDataset(whitening(train[0]), train[1])
    batches: Any = DataLoader(rows, settings.rows, shuffle=True, generator=chance)
    optimiser: Any = torch.optim.AdamW(projector.parameters(), settings.rate, weight_decay=0.0)
    live, optimiser, batches = accelerator.prepare(projector, optimiser, batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs * len(batches), eta_min=settings.rate / 100
    )
    spread = (train[1] - centre.to(train[1])).square().mean().clamp(min=1e-12)
    for _ in watch(range(settings.epochs), "fitting"):
        for x, y in batches:
            loss = (live(x) - y).square().mean() / spread.to(y.device)
            optimiser.zero_grad()
            accelerator.backward(loss)
            optimiser.step()
            schedule.step()
        found = whitening.taken_in(accelerator.unwrap_model(live))
        error = measure(found, held_out, centre).relative_error
        num_worse = 0 if error < best_error else num_worse + 1
        if error < best_error:
            best, best_error = found, error
        if num_worse >= settings.patience:
            break
    return copy.deepcopy(best)
