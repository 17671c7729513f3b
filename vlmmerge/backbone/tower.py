"""A vision tower and its image processor from a folder, and both for pictures of another size.

Knows transformers' files. Does not know what a tower's features look like.
"""

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlmmerge.backbone.grid import resample
from vlmmerge.checkpoint.loading import load_part
from vlmmerge.errors import CheckpointError, VlmMergeError

UNUSED = ("pooler", "head", "classifier")  # what features of hidden layers need none


def load_tower(folder: Path, dtype: torch.dtype) -> Any:
    """Load a vision encoder, or of a checkpoint that has a text tower beside it the vision tower.

    Raises:
        CheckpointError: It does not load, or weights are missing.
    """
    from transformers import AutoConfig, AutoModel

    config = _told(folder, AutoConfig.from_pretrained)
    config = getattr(config, "vision_config", None) or config
    load = partial(
        AutoModel.from_pretrained, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    with torch.random.fork_rng():  # what is missing and unused is drawn, the same each time
        torch.manual_seed(0)
        tower, info = _told(folder, load)
    if missing := sorted(key for key in info["missing_keys"] if not any(name in key for name in UNUSED)):
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors of its vision tower are missing, the first is `{missing[0]}`",
            hint="give a vision encoder of its own; another VLM's eyes are taken over by --donor",
        )
    return tower


def with_side(tower: Any, side: int, folder: Path) -> Any:
    """The same tower for pictures of another size: position embeddings are resampled, all else is as it was.

    Raises:
        VlmMergeError: Another tensor depends on the size, too.
    """
    from transformers import AutoModel

    config = copy.deepcopy(tower.config)
    is_pair = isinstance(getattr(config, "image_size", side), (list, tuple))
    config.image_size = [side, side] if is_pair else side
    resized, state = AutoModel.from_config(config), tower.state_dict()
    for name, wanted in resized.state_dict().items():
        if name in state and state[name].shape != wanted.shape:
            if "position" not in name:
                raise no_such_grid(folder, f"`{name}` depends on the size of pictures")
            state[name] = _resize_positions(state[name], wanted.shape)
    resized.load_state_dict(state)
    return resized


def no_such_grid(folder: Path, why: str) -> VlmMergeError:
    """What to say where a map cannot have another number of tokens."""
    return VlmMergeError(f"{folder}: this encoder cannot have the old grid: {why}", hint="--grid new keeps its own")


def load_processor(folder: Path, side: int | None = None) -> Any:
    """Load an image processor.

    Args:
        folder: The encoder's.
        side: Of the pictures that it shall make; then nothing is cut off a square one. None for its own.

    Raises:
        CheckpointError: It does not load.
    """
    from transformers import AutoImageProcessor

    own = _told(folder, AutoImageProcessor.from_pretrained)
    if side is None:
        return own
    square, cut, share = {"height": side, "width": side}, "crop_size", "crop_pct"
    is_cut = bool(getattr(own, "do_center_crop", False) or getattr(own, share, None))
    by_shorter = is_cut and "shortest_edge" in dict(own.size)
    changes: dict[str, Any] = {"size": {"shortest_edge": side} if by_shorter else square}
    changes |= {cut: square} if is_cut and getattr(own, cut, None) else {}
    changes |= {share: 1.0} if getattr(own, share, None) else {}
    return _told(folder, partial(AutoImageProcessor.from_pretrained, **changes, do_resize=True))


def made_pixels(processor: Any, side: int = 64) -> Tensor | None:
    """What a processor makes of a blank square picture; None where it makes no pixels."""
    return processor(images=[Image.new("RGB", (side, side))], return_tensors="pt").get("pixel_values")


def _told(folder: Path, load: Any) -> Any:
    try:
        return load_part(folder, load, trusts_code=False)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder}: transformers does not load it as a vision encoder",
            details=[error.message, *error.details] if "wants code" in error.message else error.details,
            hint="--encoder wants a folder or hub id with config.json, model.safetensors and preprocessor_config.json "
            "of a class in transformers",
        ) from None


def _resize_positions(positions: Tensor, wanted: torch.Size) -> Tensor:
    """Resample the position embeddings of a square map, (..., tokens, width); those before the map stay.

    Args:
        positions: Of a map, with at most one token before it.
        wanted: The new shape.
    """
    rows = positions.reshape(-1, positions.shape[-1])
    num_before = len(rows) - math.isqrt(len(rows)) ** 2
    old, new = math.isqrt(len(rows) - num_before), math.isqrt(wanted.numel() // wanted[-1] - num_before)
    laid = resample(rows[num_before:], (old, old), (new, new))
    return torch.cat([rows[:num_before], laid]).reshape(wanted)
