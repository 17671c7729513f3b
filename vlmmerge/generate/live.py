"""One live vision-language model: each picture's features once, then answers in batches.

Knows how to open a VLM with transformers, ask it, and hand precomputed picture features back to it. Does not know
metrics, nor where its weights came from.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, track

from vlmmerge.checkpoint.loading import load_part
from vlmmerge.errors import EvalsetError, VlmMergeError
from vlmmerge.evalsets import Sample
from vlmmerge.evalsets.pictures import raise_faults
from vlmmerge.generate.answering import Answerer
from vlmmerge.generate.attention import choose_attention
from vlmmerge.generate.chat import chat, check_template, load_processor
from vlmmerge.generate.eyes import digest, put_eyes
from vlmmerge.generate.features import Prompt, Seen, check_takes_features, look, make_prompt, move
from vlmmerge.generate.parameters import live_parameters
from vlmmerge.generate.placement import place_model
from vlmmerge.generate.processor import complete
from vlmmerge.generate.store import entry, read_seen, write_seen
from vlmmerge.recipe import Generate

ROOM_LEFT = 0.25  # of a device's memory


class LiveVlm:
    """A VLM in memory whose language tower may be overwritten in place; its eyes never change.

    Args:
        folder: A local checkpoint that transformers loads.
        settings: The recipe's `generate` section.
        trusts_code: Whether code that comes with the checkpoint may run.

    Raises:
        CheckpointError: It does not load, or wants code to be run that is not trusted.
        VlmMergeError: There is no room for it, or not the attention that is wanted.
    """

    def __init__(self, folder: Path, settings: Generate, *, trusts_code: bool = False) -> None:
        from transformers import AutoModelForImageTextToText  # seconds, and a blend of files needs none

        self.folder = folder
        self.processor = load_processor(folder, trusts_code=trusts_code)
        self.placement = place_model(folder, settings, trusts_code=trusts_code)
        self.device = self.placement.device
        # On a CPU transformers' own choice is the fastest there is, and nothing is built twice.
        is_plain = settings.attention == "auto" and self.device.type != "cuda"
        attention = None if is_plain else choose_attention(folder, settings, self.device, trusts_code=trusts_code)
        load = functools.partial(
            AutoModelForImageTextToText.from_pretrained, dtype=settings.dtype, attn_implementation=attention,
            use_safetensors=True, device_map=dict(self.placement.device_map) or None,
        )  # fmt: skip
        model: Any = load_part(folder, load, trusts_code)
        check_takes_features(model, folder)
        complete(self.processor, model.config.to_dict(), dict(model.named_parameters()))
        self.model = (model if self.placement.device_map else model.to(self.device)).eval()
        self.settings = settings
        self.answerer = Answerer(self.model, self.processor.tokenizer, settings)

    @property
    def attention(self) -> str:
        """The attention implementation that transformers took."""
        return str(self.model.config._attn_implementation)

    def parameters(self) -> dict[str, torch.Tensor]:
        """The live parameters by name; those that share storage come once, under their first name."""
        return live_parameters(self.model)

    def prepare(self, samples: Sequence[Sample], label: str = "", settings: Generate | None = None) -> list[Prompt]:
        """Render the questions and get the pictures' features, one sample at a time: no answer depends on a batch.

        Features that were computed before are read; only for others the eyes come to the device.

        Args:
            samples: What to ask; the recipe's `generate.question` takes the place of their own questions.
            label: Shown before a progress bar; none is shown without.
            settings: How to ask; the model's own by default.

        Raises:
            EvalsetError: Samples cannot be asked; all of them are told.
            CheckpointError: The chat template fails, or does not end, or has no place for a picture.
        """
        prepared = self._try_prepare(samples, label, settings or self.settings)
        raise_faults([each for each in prepared if isinstance(each, VlmMergeError)], len(samples))
        return [each for each in prepared if isinstance(each, Prompt)]

    def ask(self, samples: Sequence[Sample], label: str = "") -> tuple[list[str], list[VlmMergeError]]:
        """Prepare and answer; a sample that cannot be asked has an empty answer, and the others lose nothing.

        Args:
            samples: What to ask.
            label: Shown before progress bars; none are shown without.

        Returns:
            One answer a sample, and what is wrong with those that could not be asked.

        Raises:
            EvalsetError: None can be asked.
            CheckpointError: As `prepare`.
        """
        prepared = self._try_prepare(samples, label and f"{label}: looking", self.settings)
        faults = [each for each in prepared if isinstance(each, VlmMergeError)]
        if len(faults) == len(samples):
            raise_faults(faults, len(samples))
        prompts = [each for each in prepared if isinstance(each, Prompt)]
        with _shown(label and f"{label}: answering", len(prompts)) as watch:
            answers = iter(self.answerer.answer(prompts, watch))
        return ["" if isinstance(each, VlmMergeError) else next(answers) for each in prepared], faults

    @torch.inference_mode()
    def _try_prepare(self, samples: Sequence[Sample], label: str, settings: Generate) -> list[Prompt | VlmMergeError]:
        check_template(self.processor, samples, settings, self.folder)
        known: dict[tuple[bytes, ...], Seen] = {}
        console = Console(stderr=True)
        shown = track(samples, label, transient=True, console=console, disable=not label or not console.is_terminal)
        try:
            return [self._prepare_one(sample, known, settings) for sample in shown]
        finally:
            self._put_eyes("cpu")

    def answer(self, prompts: Sequence[Prompt]) -> list[str]:
        """Answer without sampling, whatever the batches.

        Returns:
            One answer a prompt, in the prompts' order, stripped of special tokens, thoughts and outer white space.

        Raises:
            VlmMergeError: There is no memory for one prompt alone.
        """
        return self.answerer.answer(prompts)

    def _prepare_one(
        self, sample: Sample, known: dict[tuple[bytes, ...], Seen], settings: Generate
    ) -> Prompt | VlmMergeError:
        """A sample's prompt, or what is wrong with it."""
        try:
            inputs = chat(self.processor, sample, settings)
            if fault := self._length_fault(sample, inputs["input_ids"].shape[1], settings):
                return fault
            inputs = inputs.to(self.device)
            if sample.images not in known:
                known[sample.images] = self._see(sample.images, inputs)
            return make_prompt(inputs, known[sample.images])
        except VlmMergeError as error:
            return error
        except Exception as error:  # processors raise anything of pictures that they do not like
            reason = next(iter(str(error).strip().splitlines()), "")
            return EvalsetError(
                f"sample {sample.id} cannot be asked: {type(error).__name__}: {reason}",
                hint="the model's processor does not take its pictures or its question",
            )

    def _length_fault(self, sample: Sample, num_tokens: int, settings: Generate) -> EvalsetError | None:
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if not context or num_tokens + settings.max_new_tokens <= context:
            return None
        return EvalsetError(
            f"sample {sample.id}: {num_tokens} tokens and an answer of {settings.max_new_tokens} are more than the "
            f"{context} that the model reads",
            hint="a shorter question, smaller or fewer pictures, or fewer `generate.max_new_tokens`",
        )

    def _see(self, images: Sequence[bytes], inputs: Any) -> Seen:
        """The pictures' features: on the device while there is room, else by memory map of the store."""
        file = entry(self._digest, images)
        if (seen := read_seen(file)) is None:
            self._put_eyes(self.device)
            seen = look(self.model, inputs)
            write_seen(file, seen)
            seen = read_seen(file) or seen
        return move(seen, self.device if has_room(self.device) else "cpu")

    def _put_eyes(self, device: torch.device | str) -> None:
        # Elsewhere there is one memory; and of a model over several GPUs all stays where its hooks look for it.
        if self.device.type == "cuda" and not self.placement.is_spread:
            put_eyes(self.model, device)

    @functools.cached_property
    def _digest(self) -> str:
        return digest(self.model, self.processor, self.device.type)


@contextmanager
def _shown(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if there is a label and a person to look; gives what tells it how many are done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not label or not console.is_terminal) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda num_done: progress.update(bar, completed=num_done)


def has_room(device: torch.device) -> bool:
    """Whether a device may hold more features; what is left is for the cache of keys and values, and for the work."""
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    return free > ROOM_LEFT * total
