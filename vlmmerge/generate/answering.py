"""Prompts to answers, in batches that fit the machine.

Knows a live model, its tokenizer and how much the device bears. Does not know pictures, nor where weights came from.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vlmmerge.errors import VlmMergeError
from vlmmerge.generate.batches import (
    LARGEST,
    LARGEST_ON_CPU,
    PART,
    PART_ON_CPU,
    SMALLEST,
    fill,
    find_budget,
    is_out_of_memory,
    recall_budget,
    remember_budget,
)
from vlmmerge.generate.begun import can_join
from vlmmerge.generate.chat import as_answer
from vlmmerge.generate.decode import EndOneByOne, Stop, decode, unwatched
from vlmmerge.generate.features import Prompt, join
from vlmmerge.generate.shared import Shared, can_share, find_shared, join_shared
from vlmmerge.recipe import Generate

TRIAL_TOKENS = 16  # new ones at most, in a trial of a budget
WORTH_A_SEARCH = 4 * SMALLEST  # tokens to answer; fewer take no longer than the search


class Answerer:
    """Asks a live model. How many tokens it does at once is found out once for a model and a machine.

    Args:
        model: Its weights may change between calls.
        tokenizer: The model's.
        settings: The recipe's `generate` section.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: Generate) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self._budget = None if settings.batch_tokens == "auto" else int(settings.batch_tokens)
        self._notes: list[str] = []

    def answer(self, prompts: Sequence[Prompt], watch: Callable[[int], None] = unwatched) -> list[str]:
        """Answer without sampling, in batches of like length; where memory runs out, in smaller ones from there on.

        Args:
            prompts: Any number.
            watch: Told how many have their answers.

        Returns:
            One answer a prompt, in the prompts' order, stripped of special tokens, thoughts and outer white space.

        Raises:
            VlmMergeError: There is no memory for one prompt alone.
        """
        answers = [""] * len(prompts)
        waiting = self._order(prompts)
        budget = self._choose_budget(prompts)
        while waiting:
            batch = waiting[: fill([self._size(prompts[index]) for index in waiting], budget)]
            count = _counting(watch, len(prompts) - len(waiting))
            said = self._try([prompts[index] for index in batch], watch=count)
            if said is None:
                budget = self._budget = self._halve(budget, [self._size(prompts[index]) for index in batch])
                continue
            for index, answer in zip(batch, said, strict=True):
                answers[index] = answer
            waiting = waiting[len(batch) :]
        return answers

    def _order(self, prompts: Sequence[Prompt]) -> list[int]:
        """Shortest first, but those of the same pictures together, for they share most of the work."""
        first: dict[int, int] = {}
        longest: dict[int, int] = {}
        for index, prompt in enumerate(prompts):
            pictures = first.setdefault(id(prompt.seen), index)
            longest[pictures] = max(longest.get(pictures, 0), self._size(prompt))
        keys = [(longest[first[id(each.seen)]], first[id(each.seen)], self._size(each)) for each in prompts]
        return sorted(range(len(prompts)), key=keys.__getitem__)

    def take_notes(self) -> list[str]:
        """What happened since this was last asked, in words for a journal; nothing, as a rule."""
        notes, self._notes = self._notes, []
        return notes

    def _size(self, prompt: Prompt) -> int:
        """Tokens of one row at its fullest."""
        return (len(prompt.token_ids) + self.settings.max_new_tokens) * self.settings.beams

    def _choose_budget(self, prompts: Sequence[Prompt]) -> int:
        if self._budget is None and sum(map(self._size, prompts)) > WORTH_A_SEARCH:
            key = self._key()
            self._budget = recall_budget(key)
            if self._budget is None:
                longest = max(prompts, key=self._size)
                largest = LARGEST_ON_CPU if self.model.device.type == "cpu" else LARGEST
                self._budget = find_budget(lambda tokens: self._seconds(longest, tokens), largest)
                remember_budget(key, self._budget)
        return self._budget or WORTH_A_SEARCH

    def _key(self) -> str:
        """What a budget depends on: the model's shapes and the machine, but not the weights."""
        device = self.model.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} {torch.get_num_threads()}"
        config = {**self.model.config.to_dict(), "_name_or_path": None}
        known = [config, str(self.model.dtype), name, torch.__version__, self.settings.beams]
        return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def _seconds(self, prompt: Prompt, budget: int) -> float | None:
        """How long a batch of one prompt, again and again, takes; None if it does not fit in memory.

        Answers end one by one: in a small batch the last ones cost as much as in a large one.
        """
        rows = [prompt] * max(1, budget // self._size(prompt))
        num_tokens = min(TRIAL_TOKENS, self.settings.max_new_tokens)
        changes: dict[str, Any] = {"max_new_tokens": num_tokens, "eos_token_id": None}
        if self.settings.beams == 1:
            changes["stopping_criteria"] = [EndOneByOne(len(rows), len(prompt.token_ids), num_tokens)]
        start = time.perf_counter()
        fits = self._try(rows, changes) is not None
        return time.perf_counter() - start if fits else None

    def _try(
        self,
        prompts: Sequence[Prompt],
        changes: dict[str, Any] | None = None,
        watch: Callable[[int], None] = unwatched,
    ) -> list[str] | None:
        """Answer one batch; None where memory runs out."""
        try:
            return self._answer_batch(prompts, changes or {}, watch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Here, where the error and all that its traceback held are gone.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _halve(self, budget: int, sizes: Sequence[int]) -> int:
        """A budget for fewer rows than those that did not fit."""
        if len(sizes) == 1:
            raise VlmMergeError(
                f"one prompt and its answer, {sizes[0]} tokens, do not fit in the memory of {self.model.device}",
                hint="smaller pictures, `generate.max_new_tokens` or `beams`, or another `generate.device`",
            )
        halved = min(budget, len(sizes) * max(sizes)) // 2
        self._notes.append(f"out of memory: batches of {halved} tokens from here on")
        return halved

    @torch.inference_mode()
    def _answer_batch(
        self, prompts: Sequence[Prompt], changes: dict[str, Any], watch: Callable[[int], None]
    ) -> list[str]:
        shared = self._shared(prompts)
        is_whole = self.settings.beams > 1 or not can_join(self.model)
        parts = [join_shared(prompts, shared)] if shared else [join(prompts)] if is_whole else self._parts(prompts)
        columns = max(part["input_ids"].shape[1] for part in parts)
        said = decode(self.model, parts, self._arguments(columns) | changes, shared, watch)
        texts = self.tokenizer.batch_decode(said, skip_special_tokens=True)
        return [as_answer(text, self.settings) for text in texts]

    def _parts(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """A batch in parts, each as wide as its own longest prompt: little is padded, and little needed at once."""
        tokens = PART_ON_CPU if self.model.device.type == "cpu" else PART
        sizes, parts = [len(prompt.token_ids) for prompt in prompts], []
        while prompts:
            rows = fill(sizes, tokens)
            parts.append(join(prompts[:rows]))
            prompts, sizes = prompts[rows:], sizes[rows:]
        return parts

    def _shared(self, prompts: Sequence[Prompt]) -> Shared | None:
        num_tokens = 2 * max(map(self._size, prompts))  # one part of each of two prompts may be all of it
        if self.settings.beams > 1 or not can_share(self.model, prompts[0], num_tokens):
            return None
        return find_shared(prompts, self.model.config.image_token_id)

    def _arguments(self, num_prompt_tokens: int) -> dict[str, Any]:
        """Of transformers' `generate`."""
        settings, tokenizer = self.settings, self.tokenizer
        return {
            "stopping_criteria": [Stop(tokenizer, settings.stop, num_prompt_tokens)] if settings.stop else [],
            "max_new_tokens": settings.max_new_tokens,
            "num_beams": settings.beams,
            "repetition_penalty": settings.repetition_penalty,
            "pad_token_id": tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        }


def _counting(watch: Callable[[int], None], start: int) -> Callable[[int], None]:
    return lambda num_done: watch(start + num_done)
