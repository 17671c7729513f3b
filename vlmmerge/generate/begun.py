"""Prompts that a model has worked on, part by part, and how the parts' rows come together.

Knows caches of keys and values. Does not know what decodes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass
class Begun:
    """Rows whose prompts a model has worked on: what its loop goes on from.

    Args:
        input_ids: (rows, length).
        logits: Of the next token: (rows, 1, vocabulary).
        model_kwargs: Of rows and tokens, the cache among them.
        logits_processor, stopping_criteria: As transformers prepared them; for all rows the same.
    """

    input_ids: Tensor
    logits: Tensor
    model_kwargs: dict[str, Any]
    logits_processor: Any
    stopping_criteria: Callable[[Tensor, Any], Tensor]


def can_join(model: Any) -> bool:
    """Whether rows of a model's caches can be put under one another: not where a layer keeps a running state."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def join_begun(parts: Sequence[Begun]) -> Begun:
    """Put the rows of parts under one another, shorter ones at the right. The parts are used up, their memory free."""
    widest = max(parts, key=lambda part: part.input_ids.shape[1])
    if len(parts) == 1:
        return widest
    columns = widest.input_ids.shape[1]
    joined = dict(widest.model_kwargs)
    is_padded = any(part.input_ids.shape[1] < columns for part in parts)  # though none alone may be, and have a mask
    for name in joined:
        is_mask = is_padded and name == "attention_mask"
        if is_mask or any(isinstance(part.model_kwargs[name], Tensor) for part in parts):
            joined[name] = torch.cat([_of_rows(part, name, columns) for part in parts], dim=-2)
    cache = joined["past_key_values"]
    for number, layer in enumerate(cache.layers):
        layers = [part.model_kwargs["past_key_values"].layers[number] for part in parts]
        for name in ("keys", "values") if layer.is_initialized else ():
            _join_states(layers, layer, name)
    fillers = [part.input_ids[:, -1:].expand(-1, columns - part.input_ids.shape[1]) for part in parts]
    rows = [torch.cat([filler, part.input_ids], 1) for filler, part in zip(fillers, parts, strict=True)]
    logits = torch.cat([part.logits for part in parts])
    return replace(widest, input_ids=torch.cat(rows), logits=logits, model_kwargs=joined)


def _join_states(layers: Sequence[Any], target: Any, name: str) -> None:
    """Put what layers of a cache have, (rows, heads, length, width), under one another, into one of them."""
    states = [getattr(layer, name) for layer in layers]
    longest = max(each.shape[-2] for each in states)
    for layer in layers:
        setattr(layer, name, None)
    setattr(target, name, torch.cat([pad(each, (0, 0, longest - each.shape[-2], 0)) for each in states]))


def _of_rows(part: Begun, name: str, columns: int) -> Tensor:
    """What is of tokens, (..., rows, columns + 1), with zeros in front; what is one set for all rows is repeated."""
    rows, length = part.input_ids.shape
    value = part.model_kwargs[name]
    if value is None:  # an attention mask, which transformers leaves out where nothing is padded
        value = part.input_ids.new_ones((rows, length + 1))
    return pad(value.expand(*value.shape[:-2], rows, -1), (columns - length, 0))
