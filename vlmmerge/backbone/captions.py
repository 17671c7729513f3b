"""A projector that learns from captions: the language tower is to say what a person said of a picture.

Both towers stay as they are. What the vision tower makes of the pictures is computed once; the loss is that of the
caption's tokens behind the question, through the model's own chat template. What is best on captions held out is kept,
the beginning among it. Accelerate places batches, on as many GPUs as it was launched on. Knows a live model and
samples. Does not know how the projector was fitted before.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from vlmmerge.apart import check_both_apart
from vlmmerge.backbone.polish import SEEN, Whitening
from vlmmerge.backbone.projector import Projector
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import Sample, find_split
from vlmmerge.generate.chat import chat, conversation, template_arguments
from vlmmerge.generate.features import Prompt, Seen, join, look
from vlmmerge.generate.placement import best_device
from vlmmerge.recipe import EvalsetChoice, Generate

HELD_OUT_EVERY = 10
FEWEST = 20  # pictures: of fewer not two are held out
UNSAID = -100  # what the loss leaves out


@dataclass(frozen=True)
class Schooling:
    """How long and how fast.

    Args:
        epochs: At most.
        patience: Epochs without a better held-out loss that end it.
        rows: Captions in a batch, on each device.
        rate: The highest learning rate; it falls to a hundredth along a cosine.
    """

    epochs: int = 12
    patience: int = 2
    rows: int = 16
    rate: float = 1e-4


DEFAULT = Schooling()


@dataclass(frozen=True, eq=False)
class Lesson:
    """One caption of a sample's pictures.

    Args:
        token_ids: The rendered chat, and at its end the caption: (length,).
        num_said: Tokens of the caption, with the one that ends it.
        features: What the projector is given: (pictures, tokens, inputs).
        pictures: The sha256 of their bytes.
        is_listed: Whether the model takes each picture's features in a tensor of its own.
    """

    token_ids: Tensor
    num_said: int
    features: Tensor
    pictures: str
    is_listed: bool


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


@torch.no_grad()
def read_lessons(llava: Any, processor: Any, samples: Iterable[Sample], settings: Generate) -> list[Lesson]:
    """Look at the samples' pictures, and render each of their references as what is to be said.

    Args:
        llava: The model with the new eyes, as `folder.make_llava` makes it.
        processor: Its own.
        samples: With at least one picture each.
        settings: How the model is asked.

    Raises:
        EvalsetError: There are too few pictures.
    """
    given: list[Tensor] = []
    hook = llava.model.multi_modal_projector.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    lessons: list[Lesson] = []
    for sample in samples:
        inputs = chat(processor, sample, settings)
        is_listed = isinstance(look(llava, inputs.to(llava.device)).pooler_output, list)
        features, pictures = given.pop().cpu(), hashlib.sha256(b"".join(sample.images)).hexdigest()
        for reference in sample.references:
            said = _said(processor, sample, reference, settings)
            token_ids = torch.cat([inputs["input_ids"][0].cpu(), said])
            lessons.append(Lesson(token_ids, len(said), features, pictures, is_listed))
    hook.remove()
    if (found := len({lesson.pictures for lesson in lessons})) < FEWEST:
        raise EvalsetError(f"captions of {found} pictures are too few to hold some out", hint=f"give {FEWEST} or more")
    return lessons


def divide(lessons: Sequence[Lesson]) -> tuple[list[Lesson], list[Lesson]]:
    """Lessons to learn from, and those held out: all of every tenth picture, whatever the order they come in."""
    held_out = set(sorted({lesson.pictures for lesson in lessons})[::HELD_OUT_EVERY])
    return (
        [lesson for lesson in lessons if lesson.pictures not in held_out],
        [lesson for lesson in lessons if lesson.pictures in held_out],
    )


def school(
    llava: Any,
    start: Projector,
    lessons: Sequence[Lesson],
    settings: Schooling = DEFAULT,
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
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=best_device() == "cpu")
    llava.requires_grad_(False)
    train, held_out = divide(lessons)
    whitening = _whitening(train)
    pupil = _Pupil(whitening, whitening.moved_behind(start)).to(llava.device)
    chance, rows = torch.Generator().manual_seed(0), cast(Any, train)
    batches: Any = DataLoader(rows, settings.rows, shuffle=True, generator=chance, collate_fn=list)
    optimiser: Any = torch.optim.AdamW(pupil.parameters(), settings.rate, weight_decay=0.0)
    live, optimiser, batches = accelerator.prepare(pupil, optimiser, batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs * len(batches), eta_min=settings.rate / 100
    )
    before = best_loss = held_out_loss(llava, start, held_out, settings.rows)
    best, num_worse = start, 0
    for _ in watch(range(settings.epochs), "captions"):
        for batch in batches:
            total, count = _loss(llava, live, batch)
            optimiser.zero_grad()
            accelerator.backward(total / count)
            optimiser.step()
            schedule.step()
        found = whitening.taken_in(accelerator.unwrap_model(live).projector)
        loss = held_out_loss(llava, found, held_out, settings.rows)
        num_worse = 0 if loss < best_loss else num_worse + 1
        if loss < best_loss:
            best, best_loss = found, loss
        if num_worse >= settings.patience:
            break
    return Schooled(copy.deepcopy(best).cpu(), before, best_loss, len(train), len(held_out))


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
    return Whitening(torch.cat([rows[::step] for rows in of_picture.values()]).float())


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


def _said(processor: Any, sample: Sample, reference: str, settings: Generate) -> Tensor:
    """The tokens of an answer as the chat template writes one, up to the token that ends it."""
    tokenizer, arguments = processor.tokenizer, template_arguments(processor)
    asked = conversation(sample, settings, [Image.new("RGB", (1, 1))] * len(sample.images))
    answered = [*asked, {"role": "assistant", "content": [{"type": "text", "text": reference}]}]
    before = processor.apply_chat_template(asked, **arguments)
    whole = processor.apply_chat_template(answered, **{**arguments, "add_generation_prompt": False})
    end = tokenizer.eos_token or ""
    text = whole.removeprefix(before) if whole.startswith(before) and reference in whole else reference + end
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    ends = (ids == tokenizer.eos_token_id).nonzero().flatten()
    return ids[: int(ends[0]) + 1] if len(ends) else torch.cat([ids, ids.new_tensor([tokenizer.eos_token_id])])
