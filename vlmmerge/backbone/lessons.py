"""Captions as lessons: what a model is given of a picture, what it is asked, and what it is to say.

What the vision tower makes of the pictures is computed once. Knows a live model, its processor and samples. Does not
know how a projector learns.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import Sample
from vlmmerge.generate.chat import chat, conversation, template_arguments
from vlmmerge.generate.features import look
from vlmmerge.recipe import Generate

HELD_OUT_EVERY = 10
FEWEST = 20  # pictures: of fewer not two are held out


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
    lessons, ends = list[Lesson](), _ends(llava, processor.tokenizer)
    for sample in samples:
        inputs = chat(processor, sample, settings)
        is_listed = isinstance(look(llava, inputs.to(llava.device)).pooler_output, list)
        features, pictures = given.pop().cpu(), hashlib.sha256(b"".join(sample.images)).hexdigest()
        for reference in sample.references:
            said = _said(processor, sample, reference, settings, ends)
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


def _said(processor: Any, sample: Sample, reference: str, settings: Generate, ends: Collection[int]) -> Tensor:
    """The tokens of an answer as the chat template writes one, up to the token that ends it."""
    tokenizer = processor.tokenizer
    text = _written(processor, sample, reference, settings) or reference
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    end = next((place for place, token in enumerate(ids.tolist()) if token in ends), None)
    return torch.cat([ids, ids.new_tensor([tokenizer.eos_token_id])]) if end is None else ids[: end + 1]


def _written(processor: Any, sample: Sample, reference: str, settings: Generate) -> str | None:
    """What the chat template adds for an answer; None where it takes none behind such a question."""
    arguments = template_arguments(processor)
    asked = conversation(sample, settings, [Image.new("RGB", (1, 1))] * len(sample.images))
    before = processor.apply_chat_template(asked, **arguments)
    for content in ([{"type": "text", "text": reference}], reference):  # templates want the one or the other
        answered = [*asked, {"role": "assistant", "content": content}]
        with suppress(Exception):  # a template's own errors, of any kind
            whole = processor.apply_chat_template(answered, **{**arguments, "add_generation_prompt": False})
            if whole.startswith(before) and reference in whole:
                return str(whole.removeprefix(before))
    return None


def _ends(llava: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    told = llava.generation_config.eos_token_id
    return frozenset([tokenizer.eos_token_id, *(told if isinstance(told, list) else [told])])
