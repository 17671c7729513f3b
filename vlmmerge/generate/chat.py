"""What a model is asked, through its own chat template, and what of its words is the answer.

Knows processors and samples. Does not know models.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from vlmmerge.checkpoint.loading import load_part
from vlmmerge.checkpoint.tokenizer import TRIAL, check_tokens
from vlmmerge.errors import CheckpointError
from vlmmerge.evalsets import Sample
from vlmmerge.evalsets.pictures import read_images
from vlmmerge.generate.limits import try_out
from vlmmerge.recipe import Generate

# No template makes so much of one question: it is what a million tokens may have.
LONGEST_CHAT = 4_000_000  # characters
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"


def chat(processor: Any, sample: Sample, settings: Generate) -> Any:
    """Render one sample by the processor's chat template: pictures, then question.

    Returns:
        The processor's inputs for a batch of one: `input_ids`, `pixel_values` and whatever else the model takes.
    """
    return processor.apply_chat_template(
        conversation(sample, settings, read_images(sample)), **template_arguments(processor),
        tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip


def template_arguments(processor: Any) -> dict[str, bool]:
    """What the chat template is given beside the messages: where it knows thinking, none is asked for."""
    template = getattr(processor, "chat_template", None)
    texts = template.values() if isinstance(template, dict) else [template]
    knows_thinking = any(isinstance(text, str) and "enable_thinking" in text for text in texts)
    return {"add_generation_prompt": True} | ({"enable_thinking": False} if knows_thinking else {})


def conversation(sample: Sample, settings: Generate, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """What is asked, as chat templates take it: pictures, then question."""
    content: list[dict[str, Any]] = [
        *({"type": "image", "image": image} for image in images),
        {"type": "text", "text": settings.question or sample.question},
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if settings.system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": settings.system}]})
    return messages


def load_processor(folder: Path, *, trusts_code: bool = False) -> Any:
    """Load a checkpoint's processor: tokenizer, pictures' preprocessing, chat template.

    Raises:
        CheckpointError: There is none, it does not load, or it wants code to be run that is not trusted.
    """
    from transformers import AutoProcessor

    def load(*arguments: Any, **settings: Any) -> Any:
        processor = AutoProcessor.from_pretrained(*arguments, **settings)
        if (tokenizer := getattr(processor, "tokenizer", None)) is None:
            raise ValueError("it has no processor, or one without a tokenizer")
        tokenizer(TRIAL)  # some files only fail when they are used
        return processor

    processor = load_part(folder, load, trusts_code)
    check_tokens(processor.tokenizer.get_vocab(), folder)
    return processor


def check_template(processor: Any, samples: Sequence[Sample], settings: Generate, folder: Path) -> None:
    """Check that a chat template has a place for pictures, and comes to an end for whatever will be asked.

    It is tried where it can do no harm.

    The sandbox that templates run in keeps them from files and modules, but neither from looping nor from filling the
    memory, be it for one question only.

    Raises:
        CheckpointError: It has not, does not, or fails.
    """
    blank = Image.new("RGB", (1, 1))
    asked = {(settings.question or sample.question, len(sample.images)): sample for sample in samples if sample.images}

    def render_all() -> None:
        blind = []
        for sample in asked.values():
            text = processor.apply_chat_template(
                conversation(sample, settings, [blank] * len(sample.images)), **template_arguments(processor)
            )
            if len(text) > LONGEST_CHAT:
                raise ValueError(f"it makes {len(text):,} characters of a question")
            with suppress(Exception):  # it looked for the picture, so it has a place for it
                without = conversation(sample, settings, [])
                if text == processor.apply_chat_template(without, **template_arguments(processor)):
                    blind.append(sample)
        if blind:
            raise ValueError("it has no place for a picture")

    if reason := try_out(render_all):
        raise CheckpointError(
            f"{folder}: its chat template cannot be used",
            details=[reason],
            hint="mend chat_template.jinja (or chat_template in the processor's or tokenizer's config), or take it "
            "from the model's page",
        )


def as_answer(text: str, settings: Generate) -> str:
    """What counts of a text that a model said: no thoughts, nothing from a stop string on, no outer white space.

    A thought that has not ended leaves no answer.

    >>> as_answer("<think>red? or ...</think> 赤です。\\n質問:", Generate(stop=("\\n",)))
    '赤です。'
    >>> as_answer("<think>red? or ...", Generate())
    ''
    """
    said = text.rsplit(THOUGHT_ENDS, 1)[-1].lstrip()
    said = "" if said.startswith(THOUGHT_BEGINS) else said
    for stop in settings.stop:
        said = said.split(stop, 1)[0]
    return said.strip()
