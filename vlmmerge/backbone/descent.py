"""Steps by gradient, as many as serve: AdamW along a cosine, and the best that came of it on what was held out.

Accelerate places module and batches, on as many GPUs as it was launched on. Knows a loss. Does not know of what.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vlmmerge.backbone.projector import Projector
from vlmmerge.generate.placement import best_device


@dataclass(frozen=True)
class Descent:
    """How long and how fast.

    Args:
        epochs: At most.
        patience: Epochs without a better held-out error that end it.
        rows: Examples in a batch at most, on each device.
        rate: The highest learning rate; it falls to a hundredth along a cosine.
    """

    epochs: int
    patience: int
    rows: int
    rate: float


def descend(
    pupil: torch.nn.Module,
    batches: "DataLoader[Any]",
    loss: Callable[[Any, Any], Tensor],
    settings: Descent,
    epochs: Iterable[int],
) -> Iterator[Any]:
    """Train a module in place, for as long as somebody asks for one more epoch.

    Args:
        pupil: All of its parameters learn.
        batches: What it learns from.
        loss: Given the module and a batch.
        settings: `rows` has shaped the batches.
        epochs: As many as `settings` says, perhaps watched.

    Yields:
        The module after each epoch.

    Source: Loshchilov 2019, Decoupled Weight Decay Regularization, https://arxiv.org/abs/1711.05101
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=best_device() == "cpu")
    optimiser: Any = torch.optim.AdamW(pupil.parameters(), settings.rate, weight_decay=0.0)
    live, optimiser, placed = accelerator.prepare(pupil, optimiser, batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs * len(placed), eta_min=settings.rate / 100
    )
    for _ in epochs:
        for batch in placed:
            found = loss(live, batch)
            optimiser.zero_grad()
            accelerator.backward(found)
            optimiser.step()
            schedule.step()
        yield accelerator.unwrap_model(live)


def keep_best(
    start: Projector, found: Iterable[Projector], error: Callable[[Projector], float], patience: int
) -> tuple[Projector, float, float]:
    """The projector with the least error, `start` among them, and the errors of `start` and of that one.

    Args:
        start: What there is already.
        found: Others, asked for until `patience` in a row are no better.
        error: On what was held out.
    """
    best, num_worse = start, 0
    before = best_error = error(start)
    for each in found:
        now = error(each)
        num_worse = 0 if now < best_error else num_worse + 1
        if now < best_error:
            best, best_error = each, now
        if num_worse >= patience:
            break
    return best, before, best_error
