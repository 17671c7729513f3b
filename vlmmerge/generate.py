"""One live vision-language model: each picture's features once, then answers in batches.

Knows how to open a VLM with transformers, ask it, and hand precomputed picture features back to it. Does not know
metrics, nor where its weights came from.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from vlmmerge.errors import CheckpointError, EvalsetError
from vlmmerge.evalsets import Sample
from vlmmerge.features import Prompt, check_takes_features, join, look, make_prompt
from vlmmerge.recipe import Generate

# A picture of more pixels than this is refused before it is decoded (about 1 GiB as float32 RGB).
MAX_PIXELS = 90_000_000


class LiveVlm:
    """A VLM in memory whose language tower may be overwritten in place; its eyes never change.

    Args:
        folder: A local checkpoint that transformers loads.
        settings: The recipe's `generate` section.
    """

    def __init__(self, folder: Path, settings: Generate) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor  # seconds, and a blend of files needs none

        device = settings.device if settings.device != "auto" else best_device()
        try:
            self.processor = AutoProcessor.from_pretrained(folder)
            model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=settings.dtype)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{folder}: transformers does not load it as an image-text-to-text model",
                details=[str(error).strip().splitlines()[0]],
                hint="`parents.vlm` and MODEL must be vision-language models with a processor",
            ) from None
        check_takes_features(model, folder)
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
        """
        known: dict[bytes, Any] = {}
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

    def _prepare_one(self, sample: Sample, known: dict[bytes, Any]) -> Prompt:
        inputs = chat(self.processor, sample, self.settings).to(self.model.device)
        if sample.image not in known:
            known[sample.image] = look(self.model, inputs)
        return make_prompt(inputs, known[sample.image])

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
    """Render one sample by the processor's chat template: picture, then question.

    Returns:
        The processor's inputs for a batch of one: `input_ids`, `pixel_values` and whatever else the model takes.
    """
    content: list[dict[str, Any]] = [
        {"type": "image", "image": read_image(sample)},
        {"type": "text", "text": settings.question or sample.question},
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if settings.system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": settings.system}]})
    return processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


def read_image(sample: Sample) -> Image.Image:
    """Decode a sample's picture as RGB.

    Raises:
        EvalsetError: Not a picture that Pillow reads, or a huge one.
    """
    try:
        with Image.open(io.BytesIO(sample.image)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise EvalsetError(
                    f"picture of sample {sample.id} has {image.width} x {image.height} pixels",
                    hint=f"at most {MAX_PIXELS} pixels are read: make it smaller first",
                )
            return image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow's own words for this name an object in memory, which tells nobody anything.
        reason = "no kind of picture that Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error)
        hint = "give a whole JPEG, PNG or WebP file"
        raise EvalsetError(f"picture of sample {sample.id} cannot be read: {reason}", hint=hint) from None


def best_device() -> str:
    """The kind of device that models run on by default."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
