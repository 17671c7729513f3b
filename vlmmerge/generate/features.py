"""A picture's projected features, computed once, and batches of prompts that carry them.

Knows what a processor gives and what `generate` takes, by shapes alone: features come as the model's own
`get_image_features` makes them and go back in as `mm_encoder_outputs`, so tiles, newline tokens, deep-stacked features
and positions from grids stay the model's own. Does not know questions, answers, nor a model family's name.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from vlmmerge.errors import CheckpointError

Pooled = Tensor | list[Tensor]  # all pictures in one tensor, or each in one of its own


@dataclass(eq=False)
class Seen:
    """Projected features of one or more pictures: all that models and `generate` read of them.

    Args:
        pooler_output: As the model's `get_image_features` gives it.
        deepstack_features: Deep-stacked ones, the same for each layer; None for a model without.
    """

    pooler_output: Pooled
    deepstack_features: list[Pooled] | None = None


@dataclass(frozen=True, eq=False)
class Prompt:
    """One sample, ready to be answered.

    Args:
        token_ids: The rendered chat with the image token repeated once for each feature: (length,).
        seen: The pictures' projected features.
        of_tokens: What else the model takes a token: (length,) each.
        of_picture: What else it takes a picture, such as the grid of its patches: (1, ...) each.
    """

    token_ids: Tensor
    seen: Seen
    of_tokens: Mapping[str, Tensor]
    of_picture: Mapping[str, Tensor]


def check_takes_features(model: Any, where: object) -> None:
    """Check that a loaded model takes precomputed features.

    Raises:
        CheckpointError: It does not.
    """
    has_features = hasattr(model, "get_image_features")
    if not has_features or "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
        raise CheckpointError(
            f"{where}: {type(model).__name__} takes no precomputed picture features",
            hint="its language tower can be blended by `vlmmerge blend`, but not searched or asked here",
        )


def move(seen: Seen, device: torch.device | str) -> Seen:
    """The same features on a device; those that are there are shared."""
    return _join_seen([seen], torch.device(device))


def look(model: Any, inputs: Mapping[str, Tensor]) -> Seen:
    """Compute the projected features of one sample's pictures; they are new."""
    wanted = set(inspect.signature(model.get_image_features).parameters) - {"input_ids", "kwargs"}
    eyes = {name: value for name, value in inputs.items() if name in wanted}
    eyes["pixel_values"] = eyes["pixel_values"].to(model.dtype)
    seen = model.get_image_features(**eyes, return_dict=True)
    deep = seen.get("deepstack_features")
    return Seen(_pooled(seen.pooler_output), None if deep is None else [_pooled(layer) for layer in deep])


def _pooled(features: Any) -> Pooled:
    return features if isinstance(features, Tensor) else list(features)


def make_prompt(inputs: Mapping[str, Tensor], seen: Seen) -> Prompt:
    """Keep what a processor gave for one sample, but for the pixels."""
    beside = {
        name: value
        for name, value in inputs.items()
        if name not in ("input_ids", "attention_mask") and not name.startswith("pixel_")
    }
    is_of_tokens = {name: value.shape == inputs["input_ids"].shape for name, value in beside.items()}
    return Prompt(
        token_ids=inputs["input_ids"][0],
        seen=seen,
        of_tokens={name: value[0] for name, value in beside.items() if is_of_tokens[name]},
        of_picture={name: value for name, value in beside.items() if not is_of_tokens[name]},
    )


def join(prompts: Sequence[Prompt], cuts: Sequence[int] = (), seen: Sequence[Seen] = ()) -> dict[str, Any]:
    """Make a batch for `generate`, padded on the left.

    A row is filled up with its own last token, which nothing attends to. A padding token would be one more that a
    repetition penalty counts as said: answers would depend on the batch, and where the padding is the token that ends
    answers, they would not end.

    Args:
        prompts: At least one, of one model and processor.
        cuts: Tokens of each prompt's first part, if these shall end in one column: both parts are padded on the left.
        seen: The features, if not all of them are needed; each prompt's by default.

    Returns:
        `input_ids` and `attention_mask` of shape (prompts, longest), `mm_encoder_outputs`, and what else the model
        takes.
    """
    cuts = cuts or [0] * len(prompts)
    rows = [prompt.token_ids for prompt in prompts]
    batch: dict[str, Any] = {
        "input_ids": _padded(rows, cuts, [row[-1] for row in rows]),
        "attention_mask": _padded([torch.ones_like(row) for row in rows], cuts),
        "mm_encoder_outputs": {"image": _join_seen(seen or [prompt.seen for prompt in prompts], rows[0].device)},
    }
    for name in prompts[0].of_tokens:
        batch[name] = _padded([prompt.of_tokens[name] for prompt in prompts], cuts)
    for name in prompts[0].of_picture:
        batch[name] = torch.cat([prompt.of_picture[name] for prompt in prompts])
    return batch


def _padded(rows: Sequence[Tensor], cuts: Sequence[int], fillers: Sequence[Any] | None = None) -> Tensor:
    """Rows in one tensor, each part at the right of its columns; at their left zeros, or each row's own filler."""
    width = max(cuts)
    padded = rows[0].new_zeros((len(rows), width + max(len(row) - cut for row, cut in zip(rows, cuts, strict=True))))
    for number, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        padded[number] = fillers[number] if fillers else 0
        padded[number, width - cut : width] = row[:cut]
        padded[number, padded.shape[1] - len(row) + cut :] = row[cut:]
    return padded


def _join_seen(seen: Sequence[Seen], device: torch.device) -> Seen:
    """Pictures after one another, on the model's device; features that found no room there are in host memory."""
    deep = [each.deepstack_features for each in seen if each.deepstack_features is not None]
    return Seen(
        _join_pooled([each.pooler_output for each in seen], device),
        [_join_pooled(layers, device) for layers in zip(*deep, strict=True)] if deep else None,
    )


def _join_pooled(pooled: Sequence[Pooled], device: torch.device) -> Pooled:
    tensors = [features for features in pooled if isinstance(features, Tensor)]
    if len(tensors) == 1:  # perhaps a file's, mapped: a copy would take memory
        return tensors[0].to(device, non_blocking=True)
    if tensors:
        return torch.cat([features.to(device, non_blocking=True) for features in tensors])
    return [features.to(device, non_blocking=True) for features in chain.from_iterable(pooled)]
