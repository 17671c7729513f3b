"""One live vision-language model: each picture's features once, then answers in batches.

Knows how to open a VLM with transformers, ask it, and hand precomputed picture features back to it. Does not know
metrics, nor where its weights came from.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from vlmmerge.checkpoint.loading import load_part
from vlmmerge.checkpoint.tokenizer import TRIAL, check_tokens
from vlmmerge.errors import CheckpointError
from vlmmerge.evalsets import Sample
from vlmmerge.generate.features import Prompt, check_takes_features, join, look, make_prompt
from vlmmerge.generate.limits import try_out
from vlmmerge.generate.pictures import read_images
from vlmmerge.generate.processor import complete
from vlmmerge.recipe import Generate

# No template makes so much of one question: it is what a million tokens may have.
LONGEST_CHAT = 4_000_000  # characters


class LiveVlm:
    """A VLM in memory whose language tower may be overwritten in place; its eyes never change.

    Args:
        folder: A local checkpoint that transformers loads.
        settings: The recipe's `generate` section.
        trusts_code: Whether code that comes with the checkpoint may run.

    Raises:
        CheckpointError: It does not load, or wants code to be run that is not trusted.
    """

    def __init__(self, folder: Path, settings: Generate, *, trusts_code: bool = False) -> None:
        from transformers import AutoModelForImageTextToText  # seconds, and a blend of files needs none

        device = settings.device if settings.device != "auto" else best_device()
        self.folder = folder
        self.processor = load_processor(folder, trusts_code=trusts_code)
        load = functools.partial(
            AutoModelForImageTextToText.from_pretrained, dtype=settings.dtype, use_safetensors=True
        )
        model: Any = load_part(folder, load, trusts_code)
        check_takes_features(model, folder)
        complete(self.processor, model.config.to_dict(), dict(model.named_parameters()))
        self.model = model.to(device).eval()
        self.settings = settings

    @property
    def attention(self) -> str:
        """The attention implementation that transformers took; it is part of a score's signature."""
        return str(self.model.config._attn_implementation)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The live parameters by name; those that share storage come once, under their first name."""
        return dict(self.model.named_parameters())

    @torch.inference_mode()
    def prepare(self, samples: Sequence[Sample], label: str = "") -> list[Prompt]:
        """Render the questions and compute the pictures' features, one picture at a time: no answer depends on a batch.

        Args:
            samples: What to ask; the recipe's `generate.question` takes the place of their own questions.
            label: Shown before a progress bar; none is shown without.

        Raises:
            EvalsetError: A picture cannot be read.
            CheckpointError: The chat template fails, or does not end.
        """
        check_template(self.processor, samples, self.settings, self.folder)
        known: dict[tuple[bytes, ...], Any] = {}
        shown = track(samples, label, transient=True, console=Console(stderr=True)) if label else samples
        return [self._prepare_one(sample, known) for sample in shown]

    def answer(self, prompts: Sequence[Prompt]) -> list[str]:
        """Answer greedily, in batches of like length.

        Returns:
            One answer a prompt, in the prompts' order, stripped of special tokens and outer white space.
        """
        answers = [""] * len(prompts)
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index].token_ids))
        for start in range(0, len(by_length), self.settings.batch_size):
            batch = by_length[start : start + self.settings.batch_size]
            for index, answer in zip(batch, self._answer_batch([prompts[index] for index in batch]), strict=True):
                answers[index] = answer
        return answers

    def _prepare_one(self, sample: Sample, known: dict[tuple[bytes, ...], Any]) -> Prompt:
        inputs = chat(self.processor, sample, self.settings).to(self.model.device)
        if sample.images not in known:
            known[sample.images] = look(self.model, inputs)
        return make_prompt(inputs, known[sample.images])

    @torch.inference_mode()
    def _answer_batch(self, prompts: list[Prompt]) -> list[str]:
        tokenizer = self.processor.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        batch = join(prompts, pad)
        max_new_tokens = self.settings.max_new_tokens
        generated = self.model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad)
        answers = generated[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def chat(processor: Any, sample: Sample, settings: Generate) -> Any:
    """Render one sample by the processor's chat template: pictures, then question.

    Returns:
        The processor's inputs for a batch of one: `input_ids`, `pixel_values` and whatever else the model takes.
    """
    return processor.apply_chat_template(
        conversation(sample, settings, read_images(sample)),
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip


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
    """Check that a chat template comes to an end for whatever will be asked, where it can do no harm.

    The sandbox that templates run in keeps them from files and modules, but neither from looping nor from filling the
    memory, be it for one question only.

    Raises:
        CheckpointError: It does not, or fails.
    """
    blank = Image.new("RGB", (1, 1))
    asked = {(settings.question or sample.question, len(sample.images)): sample for sample in samples}

    def render_all() -> None:
        for sample in asked.values():
            text = processor.apply_chat_template(
                conversation(sample, settings, [blank] * len(sample.images)), add_generation_prompt=True, tokenize=False
            )
            if len(text) > LONGEST_CHAT:
                raise ValueError(f"it makes {len(text):,} characters of a question")

    if reason := try_out(render_all):
        raise CheckpointError(
            f"{folder}: its chat template cannot be used",
            details=[reason],
            hint="mend chat_template.jinja (or chat_template in the processor's or tokenizer's config), or take it "
            "from the model's page",
        )


def best_device() -> str:
    """The kind of device that models run on by default."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
