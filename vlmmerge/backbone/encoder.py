"""Any vision encoder that transformers loads, as the eyes of a VLM: its pixels, tokens, layers and map.

What it gives is found out by looking at a blank picture: how many tokens, how many of them stand before the map (a
class token, registers); or channels of a map, as convolutions make them. Knows encoders by shapes. Does not know a
model family's name, nor what its features are for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlmmerge.backbone.grid import Grid
from vlmmerge.backbone.tower import load_processor, load_tower, made_pixels, no_such_grid, with_side
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
        num_layers: Layers after the embeddings; 0 where only the last one's features can be had.
        width: Of a layer's features.
        first_layer: From this one on features have one shape: towers of several stages halve maps on the way.
        has_channels: Whether its features are (pictures, channels, rows, columns), not (pictures, tokens, width).
    """

    tower: Any
    processor: Any
    grid: Grid
    num_before: int
    side: int
    num_layers: int
    width: int
    first_layer: int = 0
    has_channels: bool = False

    def check_layers(self, layers: Sequence[int]) -> None:
        """Check that there are such layers: 0 is the embeddings, -1 the last layer.

        Raises:
            VlmMergeError: There is one missing.
        """
        for layer in layers:
            if not self.first_layer <= layer + (self.num_layers + 1) * (layer < 0) <= self.num_layers:
                ends = f"{self.first_layer} to {self.num_layers}, or -1 to {-self.num_alike} from the last one"
                wanted = ends if self.num_layers else "-1 alone where features come as channels"
                raise VlmMergeError(f"this encoder has no layer {layer}", hint=f"--layer takes {wanted}")

    @property
    def num_alike(self) -> int:
        """Layers whose features can be taken: the embeddings count as one."""
        return self.num_layers - self.first_layer + 1

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
        hidden, _ = _features(self.tower, pixels)
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
    tower = load_tower(folder, dtype).to(device).eval()
    side = _pixel_side(load_processor(folder), folder)
    found = _study(folder, tower, side)
    if grid is None or grid == found.grid:
        return found
    side = found.patch_side * grid[0]
    found = _study(folder, with_side(tower, side, folder).to(device=device, dtype=dtype).eval(), side)
    if found.grid != grid:
        raise no_such_grid(folder, f"pictures of {side} pixels give {found.grid[0]} x {found.grid[1]} tokens")
    return found


def _pixel_side(processor: Any, folder: Path) -> int:
    """The side of the pictures that a processor makes of a square one."""
    pixels = made_pixels(processor)
    if pixels is None or pixels.ndim != 4 or pixels.shape[-1] != pixels.shape[-2]:
        shape = "none" if pixels is None else tuple(pixels.shape)
        raise _no_map(folder, f"of a square picture its processor makes pixels of shape {shape}")
    return int(pixels.shape[-1])


def _study(folder: Path, tower: Any, side: int) -> Encoder:
    """Look at a blank picture of `side` pixels to find the map among the features."""
    processor = load_processor(folder, side)
    pixels = made_pixels(processor, side)
    if pixels is None or pixels.shape[-1] != side:
        raise _no_map(folder, f"its processor makes no pictures of {side} x {side} pixels")
    try:
        hidden, has_channels = _features(tower, pixels)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise _no_map(folder, f"it does not look at {side} x {side} pixels: {reason}") from None
    shape = tuple(hidden[-1].shape)
    if len(shape) != 3:
        wanted = "(1, tokens, width), or (1, channels, rows, columns) with as many rows as columns"
        raise _no_map(folder, f"its last layer gives features of shape {shape}, wanted {wanted}")
    columns = _columns(shape[1], getattr(tower.config, "patch_size", None), side)
    if columns is None or side % columns:
        raise _no_map(folder, f"it gives {shape[1]} tokens of {side} x {side} pixels, which are no square map")
    width = getattr(tower.config, "hidden_size", shape[2])
    if width != shape[2]:
        raise _no_map(folder, f"its features are {shape[2]} wide where its config says {width}")
    others = [number for number, each in enumerate(hidden) if each.shape != hidden[-1].shape]
    return Encoder(
        tower, processor, (columns, columns), shape[1] - columns * columns, side, len(hidden) - 1, shape[2],
        first_layer=max(others, default=-1) + 1, has_channels=has_channels,
    )  # fmt: skip


def _columns(num_tokens: int, patch_side: Any, side: int) -> int | None:
    """How many columns the map has, with a few tokens before it; None where there is none."""
    by_patches = side // patch_side if isinstance(patch_side, int) and patch_side else 0
    for columns in (by_patches, math.isqrt(num_tokens)):
        if columns > 1 and 0 <= num_tokens - columns * columns <= MOST_BEFORE:
            return columns
    return None


@torch.inference_mode()
def _features(tower: Any, pixels: Tensor) -> tuple[Sequence[Tensor], bool]:
    """What a VLM takes of its tower: the embeddings and each layer's features; or, of channels, the last ones alone.

    Returns:
        Features of shape (pictures, tokens, width), and whether they came as channels.
    """
    seen = tower(pixels.to(tower.device, tower.dtype), output_hidden_states=True, return_dict=True)
    last = seen.last_hidden_state
    if last.ndim == 4 and last.shape[2] == last.shape[3]:
        return [last.flatten(2).mT], True
    return list(seen.hidden_states), False


def _no_map(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: this encoder gives no map of features that a VLM can take",
        details=[why],
        hint="give a vision transformer (CLIP, SigLIP, DINO, ViT, AIM ...), or a convolutional encoder of a class in "
        "transformers (EfficientNet, ResNet, ConvNeXt ...)",
    )
