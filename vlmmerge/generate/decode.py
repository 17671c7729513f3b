"""From a batch to tokens, as transformers' `generate` gives them, and sooner.

Knows what a model and its `generate` take. Does not know texts, pictures, nor a model family's name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmmerge.generate.begun import Begun, join_begun
from vlmmerge.generate.shared import Shared


@dataclass(frozen=True)
class Stop:
    """Ends a row once its text has a stop string, as a stopping criterion of transformers.

    transformers' own wants a tokenizer that knows the Latin alphabet.

    Args:
        tokenizer: Of the model.
        strings: At least one, not empty.
        num_prompt_tokens: Where the answers begin.
    """

    tokenizer: Any
    strings: tuple[str, ...]
    num_prompt_tokens: int

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.num_prompt_tokens :], skip_special_tokens=True)
        return torch.tensor([any(stop in text for stop in self.strings) for text in texts], device=input_ids.device)


@dataclass(frozen=True)
class EndOneByOne:
    """Ends rows evenly, as if answers had all lengths up to the longest: for trials.

    Args:
        num_rows: At the beginning.
        num_prompt_tokens: Where the answers begin.
        num_tokens: Of the longest answer.
    """

    num_rows: int
    num_prompt_tokens: int
    num_tokens: int

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        said = input_ids.shape[1] - self.num_prompt_tokens
        num_left = self.num_rows - self.num_rows * said // self.num_tokens
        return torch.arange(len(input_ids), device=input_ids.device) >= num_left


def unwatched(num_done: int) -> None:
    """Nobody wants to know how many are done."""


def decode(
    model: Any,
    parts: Sequence[Mapping[str, Any]],
    arguments: Mapping[str, Any],
    shared: Shared | None = None,
    watch: Callable[[int], None] = unwatched,
) -> list[Tensor]:
    """Let a model go on from a batch, without sampling.

    Args:
        model: Takes precomputed features.
        parts: The batch, as `features.join` makes it: (rows, longest), padded on the left. Several parts
            are worked on one after the other, and go on together; with `num_beams` 1 only.
        arguments: Of `generate`, which these are passed to; with `num_beams` 1 rows that are done leave the batch.
        shared: How the batch, one part, was cut, if it was; for `num_beams` 1 only.
        watch: Told how many rows are done; for `num_beams` 1 only.

    Returns:
        Each row's new tokens, (length,), the one that ended it among them; the padding after that may be there, too.
    """
    if arguments.get("num_beams", 1) == 1:
        custom = {"custom_generate": begin, "shared": shared}
        begun = [model.generate(**part, **arguments, **custom, do_sample=False) for part in parts]
        sequences = decode_greedily(model, join_begun(begun), watch)
    else:
        (batch,) = parts
        sequences = model.generate(**batch, **arguments, do_sample=False)
    columns = max(part["input_ids"].shape[1] for part in parts)
    return [row[columns:] for row in sequences]


def begin(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Callable[[Tensor, Any], Tensor],
    generation_config: Any,
    synced_gpus: bool = False,
    shared: Shared | None = None,
    **model_kwargs: Any,
) -> Begun:
    """Work on the prompts: transformers' `generate` calls it with all that it prepared (`custom_generate`)."""
    for processor in logits_processor:
        if isinstance(getattr(processor, "prompt_ignore_length", None), Tensor):
            processor.prompt_ignore_length = None  # of rows that may leave; and padding says nothing new (`join`)
    if shared:
        outputs = _prefill_shared(model, input_ids, shared, model_kwargs)
    else:
        outputs = model._prefill(input_ids, generation_config, model_kwargs)
    model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
    model_kwargs = {name: value for name, value in model_kwargs.items() if _is_needed(name, value, input_ids.shape[1])}
    return Begun(input_ids, outputs.logits[:, -1:].clone(), model_kwargs, logits_processor, stopping_criteria)


def _is_needed(name: str, value: Any, num_prompt_tokens: int) -> bool:
    """Whether the loop needs it: of pictures, the features among it, all is in the cache."""
    is_of_tokens = not isinstance(value, Tensor) or value.shape[-1:] == (num_prompt_tokens + 1,)
    return is_of_tokens and name != "mm_encoder_outputs"


def decode_greedily(model: Any, begun: Begun, watch: Callable[[int], None] = unwatched) -> list[Tensor]:
    """Choose the likeliest token again and again; a row that is done leaves the batch.

    The loop of transformers' `generate`. There, rows that are done are computed to the end of the longest.

    Returns:
        Each row's tokens, the prompt's first.
    """
    input_ids, logits, model_kwargs = begun.input_ids, begun.logits, begun.model_kwargs
    done: list[Tensor] = [input_ids[:0]] * len(input_ids)
    rows = torch.arange(len(input_ids), device=input_ids.device)
    with model._optimize_model_for_decode():
        while True:
            scores = begun.logits_processor(input_ids, logits[:, -1].to(torch.float32, copy=True))
            input_ids = torch.cat([input_ids, scores.argmax(dim=-1, keepdim=True)], dim=1)
            is_done = begun.stopping_criteria(input_ids, None)
            for number in is_done.nonzero()[:, 0].tolist():
                done[rows[number]] = input_ids[number]
            kept = (~is_done).nonzero()[:, 0]
            watch(len(done) - len(kept))
            if not len(kept):
                return done
            if len(kept) < len(rows):
                rows, input_ids, model_kwargs = rows[kept], input_ids[kept], _select(model_kwargs, kept, len(rows))
            inputs = model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **model_kwargs)
            outputs = model(**inputs, return_dict=True)
            model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
            logits = outputs.logits


def _prefill_shared(model: Any, input_ids: Tensor, shared: Shared, model_kwargs: dict[str, Any]) -> Any:
    """Work on each different first part once, give all prompts their own's keys and values, and go on."""
    features = {"mm_encoder_outputs": model_kwargs["mm_encoder_outputs"]}
    rest = {name: value for name, value in model_kwargs.items() if name not in features}
    rows, parts = (torch.tensor(numbers, device=input_ids.device) for numbers in (shared.rows, shared.parts))
    first = {name: _of_part(value, rows, shared.num_columns, input_ids.shape) for name, value in rest.items()}
    start = input_ids[rows, : shared.num_columns]
    seen, unseen = (features, {}) if shared.has_pictures else ({}, features)
    model(**model.prepare_inputs_for_generation(start, is_first_iteration=True, **first, **seen), return_dict=True)
    rest["past_key_values"].reorder_cache(parts)
    num_left = input_ids.shape[1] - shared.num_columns
    inputs = model.prepare_inputs_for_generation(
        input_ids, next_sequence_length=num_left, is_first_iteration=True, **rest, **unseen
    )
    return model(**inputs, return_dict=True)


def _of_part(value: Any, rows: Tensor, num_columns: int, shape: torch.Size) -> Any:
    """What is of tokens, (..., rows, columns), for some rows' first columns; anything else as it is."""
    if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[-1] != shape[1]:
        return value
    return (value.index_select(-2, rows) if value.shape[-2] == shape[0] else value)[..., :num_columns]


def _select(model_kwargs: dict[str, Any], kept: Tensor, num_rows: int) -> dict[str, Any]:
    """What is left for the rows that are kept; one set of positions for all rows, (1, length), stays as it is.

    The cache is changed in place.
    """
    model_kwargs["past_key_values"].reorder_cache(kept)
    return {
        name: value.index_select(-2, kept) if isinstance(value, Tensor) and value.shape[-2] == num_rows else value
        for name, value in model_kwargs.items()
    }
