"""A projector that learns from captions: the language tower is to say what a person said of a picture.

Both towers stay as they are; the loss is that of the caption's tokens behind the question. What is best on captions
held out is kept, the beginning among it. Knows a live model and lessons. Does not know how the projector was fitted
before.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vlmmerge.apart import check_both_apart
from vlmmerge.backbone.descent import Descent, descend, keep_best
from vlmmerge.backbone.lessons import Lesson, divide
from vlmmerge.backbone.polish import SEEN, Whitening
from vlmmerge.backbone.projector import Projector
from vlmmerge.evalsets import find_split
from vlmmerge.generate.features import Prompt, Seen, join
from vlmmerge.recipe import EvalsetChoice

# Of the mean variance. There are few captions: what hardly ever moves in the features is learnt by heart if it is blown
# up. Loss on held-out captions of the demo world with 1e-6 at a rate of 1e-4, and with 1 at 3e-4 (2026-11):
# EfficientNet-Lite0 0.857 and 0.781, the demo's first other eyes 0.408 and 0.407, a ViT-S 0.364 and 0.373.
FLOOR = 1.0
TOKENS_AT_ONCE = 2048  # on each device: what a language tower keeps of a token for the way back is large
UNSAID = -100  # what the loss leaves out


DEFAULT = Descent(epochs=12, patience=2, rows=16, rate=3e-4)


@dataclass(frozen=True, eq=False)
class Schooled:
    """What captions came to.

    Args:
        projector: The best one on held-out captions, on the CPU.
        before, after: Its mean loss a token on them at first and in the end, in nats.
        num_train, num_held_out: Captions.
    """

    projector: Projector
    before: float
    after: float
    num_train: int
    num_held_out: int

    @property
    def told(self) -> dict[str, Any]:
        """What is told of it, as plain values."""
        return {
            "loss_before": self.before, "loss_after": self.after, "is_kept": self.after < self.before,
            "num_train": self.num_train, "num_held_out": self.num_held_out,
        }  # fmt: skip


def check_captions(captions: EvalsetChoice, scored: EvalsetChoice | None) -> None:
    """Check, before any work, that there are such captions, and that their pictures are not those that are scored.

    Raises:
        EvalsetError: There are not, they or they share pictures or have like ones.
    """
    find_split(captions.name, captions.split, captions.samples)
    if scored:
        hint = "give captions of other pictures, or another --evalset (or none)"
        check_both_apart(captions, scored, "captions and the evalset that eyes are scored on", hint)


def school(
    llava: Any,
    start: Projector,
    lessons: Sequence[Lesson],
    settings: Descent = DEFAULT,
    watch: Callable[[Sequence[int], str], Iterable[int]] = lambda epochs, label: epochs,
) -> Schooled:
    """Train a projector by AdamW on the next token of captions.

    Args:
        llava: Whose language tower reads its features; it stays as it is.
        start: Where it begins; it stays as it is, too.
        lessons: Of 20 pictures or more.
        watch: Passes epochs through, and shows how far it is.

    Source: Liu 2023, Visual Instruction Tuning, section 4.2 stage 1, https://arxiv.org/abs/2304.08485
    """
    llava.requires_grad_(False)
    train, held_out = divide(lessons)
    rows = max(1, min(settings.rows, TOKENS_AT_ONCE // max(len(lesson.token_ids) for lesson in lessons)))
    whitening = _whitening(train)
    pupil = _Pupil(whitening, whitening.moved_behind(start)).to(llava.device)
    chance, every = torch.Generator().manual_seed(0), cast(Any, train)
    batches = DataLoader(every, rows, shuffle=True, generator=chance, collate_fn=list)

    def loss(live: Any, batch: Sequence[Lesson]) -> Tensor:
        total, count = _loss(llava, live, batch)
        return total / count

    epochs = watch(range(settings.epochs), "captions")
    pupils = descend(pupil, batches, loss, settings, epochs)
    best, before, after = keep_best(
        start,
        (whitening.taken_in(each.projector) for each in pupils),
        lambda each: held_out_loss(llava, each, held_out, rows),
        settings.patience,
    )
    return Schooled(copy.deepcopy(best).cpu(), before, after, len(train), len(held_out))


@torch.no_grad()
def held_out_loss(llava: Any, projector: Projector, lessons: Sequence[Lesson], rows: int) -> float:
    """The mean loss a token, in nats."""
    placed, total, count = copy.deepcopy(projector).to(llava.device), 0.0, 0
    for first in range(0, len(lessons), rows):
        some, num_some = _loss(llava, placed, lessons[first : first + rows])
        total, count = total + float(some), count + num_some
    return total / count


class _Pupil(torch.nn.Module):
    """A projector behind inputs that are whitened, as steps by gradient need them."""

    def __init__(self, whitening: Whitening, projector: Projector) -> None:
        super().__init__()
        self.projector = projector
        self.mean, self.forth = (torch.nn.Buffer(each.float()) for each in (whitening.mean, whitening.forth))

    def forward(self, features: Tensor) -> Tensor:
        return self.projector((features - self.mean) @ self.forth)


def _whitening(lessons: Sequence[Lesson]) -> Whitening:
    """Of some rows of each picture."""
    of_picture = {lesson.pictures: lesson.features.flatten(0, 1) for lesson in lessons}
    step = max(1, sum(map(len, of_picture.values())) // SEEN)
    return Whitening(torch.cat([rows[::step] for rows in of_picture.values()]).float(), FLOOR)


def _loss(llava: Any, projector: Any, lessons: Sequence[Lesson]) -> tuple[Tensor, int]:
    """The summed loss of the captions' tokens, and how many there are."""
    inputs = torch.cat([lesson.features for lesson in lessons])
    projected = projector(inputs.to(llava.device).float()).to(llava.dtype)
    each = projected.split([len(lesson.features) for lesson in lessons])
    prompts = [
        Prompt(lesson.token_ids.to(llava.device), Seen(list(one) if lesson.is_listed else one), {}, {})
        for lesson, one in zip(lessons, each, strict=True)
    ]
    batch = join(prompts)  # padded on the left: captions end in one column
    longest = max(lesson.num_said for lesson in lessons)
    wanted = batch["input_ids"][:, -longest:].clone()
    for row, lesson in zip(wanted, lessons, strict=True):
        row[: longest - lesson.num_said] = UNSAID
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    logits = llava(**batch, position_ids=positions, logits_to_keep=longest + 1).logits[:, :-1]
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=UNSAID, reduction="sum"
    )
    return total, int((wanted != UNSAID).sum())
