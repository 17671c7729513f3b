"""Any vision encoder that transformers loads, as the eyes of a LLaVA: its pixels, tokens, layers and map.

What it gives is found out by looking at a blank picture: how many tokens, how many of them stand before the map (a
class token, registers). Knows encoders by shapes. Does not know a model family's name, nor what its features are for.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlmmerge.backbone.grid import Grid, resample
from vlmmerge.checkpoint.loading import load_part
from vlmmerge.errors import CheckpointError, VlmMergeError

MOST_BEFORE = 16  # tokens before a map; more than these are no class token and registers
UNUSED = ("pooler", "head", "classifier")  # what features of hidden layers need none of


@dataclass(frozen=True, eq=False)
class Encoder:
    """A vision tower and how it is looked through.

    Args:
        tower: The module, in evaluation mode.
        processor: Its image processor, set so that a square picture is seen whole.
        grid: The map's rows and columns.
        num_before: Tokens before the map.
        side: Of the pictures that go in, in pixels.
        num_layers: Layers after the embeddings.
        width: Of a layer's features.
    """

    tower: Any
    processor: Any
    grid: Grid
    num_before: int
    side: int
    num_layers: int
    width: int

    def check_layers(self, layers: Sequence[int]) -> None:
        """Check that there are such layers: 0 is the embeddings, -1 the last layer.

        Raises:
            VlmMergeError: There is one missing.
        """
        for layer in layers:
            if not -self.num_layers - 1 <= layer <= self.num_layers:
                ends = f"0 to {self.num_layers}, or -1 to {-self.num_layers - 1} from the last one"
                raise VlmMergeError(f"this encoder has no layer {layer}", hint=f"--layer takes {ends}")

    @property
    def drops_first(self) -> bool:
        """Whether the first token is left out, as LLaVA leaves out a class token."""
        return self.num_before > 0

    @property
    def num_kept(self) -> int:
        """Tokens before the map that the language tower gets: LLaVA leaves out one, and no more."""
        return max(0, self.num_before - 1)

    @property
    def num_tokens(self) -> int:
        """Tokens of a picture that the language tower gets."""
        return self.num_kept + self.grid[0] * self.grid[1]

    @property
    def patch_side(self) -> int:
        """Of a token of the map, in pixels."""
        return self.side // self.grid[0]

    @torch.inference_mode()
    def look(self, pictures: Sequence[Image.Image], layers: Sequence[int]) -> Tensor:
        """Features of square pictures: (pictures, kept tokens + map, layers * width), side by side by layer."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        hidden = _hidden_states(self.tower, pixels)
        return torch.cat([hidden[layer][:, int(self.drops_first) :] for layer in layers], dim=-1)


def load_encoder(folder: Path, dtype: torch.dtype, device: torch.device, grid: Grid | None = None) -> Encoder:
    """Load a vision encoder; of one that has a text tower beside it, the vision tower.

    Args:
        folder: A local checkpoint with an image processor.
        dtype: Of its weights.
        device: Where it runs.
        grid: The map that is wanted; None for its own. Another one is had by pictures of another size, with position
            embeddings resampled.

    Raises:
        CheckpointError: It does not load, or its features are no map.
        VlmMergeError: It cannot have that map.
    """
    tower = _load_tower(folder, dtype).to(device).eval()
    processor = _load_processor(folder, {})
    side = _pixel_side(processor, folder)
    found = _study(folder, tower, _seeing_all(folder, processor, side), side)
    if grid is None or grid == found.grid:
        return found
    side = found.patch_side * grid[0]
    resized = _with_side(tower, side, folder).to(device=device, dtype=dtype).eval()
    found = _study(folder, resized, _seeing_all(folder, processor, side), side)
    if found.grid != grid:
        raise _no_such_grid(folder, f"pictures of {side} pixels give {found.grid[0]} x {found.grid[1]} tokens")
    return found


def _load_tower(folder: Path, dtype: torch.dtype) -> Any:
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


def _load_processor(folder: Path, changes: dict[str, Any]) -> Any:
    from transformers import AutoImageProcessor

    return _told(folder, partial(AutoImageProcessor.from_pretrained, **changes))


def _pixel_side(processor: Any, folder: Path) -> int:
    """The side of the pictures that a processor makes of a square one."""
    pixels = processor(images=[Image.new("RGB", (64, 64))], return_tensors="pt").get("pixel_values")
    if pixels is None or pixels.ndim != 4 or pixels.shape[-1] != pixels.shape[-2]:
        shape = "none" if pixels is None else tuple(pixels.shape)
        raise _no_map(folder, f"of a square picture its processor makes pixels of shape {shape}")
    return int(pixels.shape[-1])


def _seeing_all(folder: Path, processor: Any, side: int) -> Any:
    """The same processor for pictures of another side, of whose shorter side nothing is cut off."""
    is_cropped = bool(getattr(processor, "do_center_crop", False))
    square = {"height": side, "width": side}
    changes = {"size": {"shortest_edge": side}, "crop_size": square} if is_cropped else {"size": square}
    return _load_processor(folder, changes | {"do_resize": True})


def _study(folder: Path, tower: Any, processor: Any, side: int) -> Encoder:
    """Look at a blank picture to find the map among the tokens."""
    pixels = processor(images=[Image.new("RGB", (side, side))], return_tensors="pt")["pixel_values"]
    try:
        hidden = _hidden_states(tower, pixels)
        last = hidden[-1]
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise _no_map(folder, f"it does not look at {side} x {side} pixels: {reason}") from None
    if last.ndim != 3:
        raise _no_map(folder, f"its last layer gives features of shape {tuple(last.shape)}, wanted (1, tokens, width)")
    columns = _columns(last.shape[1], getattr(tower.config, "patch_size", None), side)
    if columns is None or side % columns:
        raise _no_map(folder, f"it gives {last.shape[1]} tokens of {side} x {side} pixels, which are no square map")
    num_before = last.shape[1] - columns * columns
    return Encoder(tower, processor, (columns, columns), num_before, side, len(hidden) - 1, int(last.shape[2]))


def _columns(num_tokens: int, patch_side: Any, side: int) -> int | None:
    """How many columns the map has, with a few tokens before it; None where there is none."""
    by_patches = side // patch_side if isinstance(patch_side, int) and patch_side else 0
    for columns in (by_patches, math.isqrt(num_tokens)):
        if columns > 1 and 0 <= num_tokens - columns * columns <= MOST_BEFORE:
            return columns
    return None


@torch.inference_mode()
def _hidden_states(tower: Any, pixels: Tensor) -> Sequence[Tensor]:
    """The embeddings and each layer's features, as LLaVA calls its tower."""
    pixels = pixels.to(tower.device, tower.dtype)
    return list(tower(pixels, output_hidden_states=True, return_dict=True).hidden_states)


def _with_side(tower: Any, side: int, folder: Path) -> Any:
    """The same tower for pictures of another size: position embeddings are resampled, all else is as it was."""
    from transformers import AutoModel

    config = copy.deepcopy(tower.config)
    config.image_size = side
    resized, state = AutoModel.from_config(config), tower.state_dict()
    for name, wanted in resized.state_dict().items():
        if name in state and state[name].shape != wanted.shape:
            if "position" not in name:
                raise _no_such_grid(folder, f"`{name}` depends on the size of pictures")
            state[name] = _resize_positions(state[name], wanted.shape)
    resized.load_state_dict(state)
    return resized


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


def _no_map(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: this encoder gives no map of features that a LLaVA can take",
        details=[why],
        hint="give a vision transformer (CLIP, SigLIP, DINO, ViT, AIM ...); convolutional and pooled encoders do not "
        "load as a LLaVA's eyes without code of their own",
    )


def _no_such_grid(folder: Path, why: str) -> VlmMergeError:
    return VlmMergeError(f"{folder}: this encoder cannot have the old grid: {why}", hint="--grid new keeps its own")
