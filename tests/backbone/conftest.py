"""Tiny vision encoders of every kind, and pictures to fit projectors to."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

SHAPE: dict[str, Any] = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=24, patch_size=6)
MLP = {**SHAPE, "intermediate_size": 24}
SQUARE = SiglipImageProcessorPil(size={"height": 24, "width": 24})
CROPPING = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 24, "width": 24})

# What an encoder is made of, and its processor.
ENCODERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "siglip": (lambda: transformers.SiglipVisionConfig(**MLP), SQUARE),
    "clip": (lambda: transformers.CLIPVisionConfig(**MLP), CROPPING),
    "vit": (lambda: transformers.ViTConfig(**MLP), SQUARE),
    "dinov2": (lambda: transformers.Dinov2Config(**SHAPE), CROPPING),
    "dinov2 with registers": (
        lambda: transformers.Dinov2WithRegistersConfig(**SHAPE, num_register_tokens=4), CROPPING,
    ),
    "dinov3": (lambda: transformers.DINOv3ViTConfig(**MLP, num_register_tokens=4), SQUARE),
    "vit of one patch": (lambda: transformers.ViTConfig(**{**MLP, "patch_size": 24}), SQUARE),
    "aimv2": (lambda: transformers.Aimv2VisionConfig(**MLP, use_head=False), SQUARE),
    "swin, in stages": (
        lambda: transformers.SwinConfig(
            embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2, image_size=24, patch_size=3
        ), SQUARE,
    ),
    "convnext, convolutional": (
        lambda: transformers.ConvNextConfig(patch_size=3, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
        transformers.ConvNextImageProcessorPil(size={"shortest_edge": 24}, crop_pct=0.5),
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def encoder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an encoder with random weights, written once. Never write in it."""

    @cache
    def written(kind: str) -> Path:
        folder, (make, processor) = tmp_path_factory.mktemp("encoder"), ENCODERS[kind]
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = transformers.AutoModel.from_config(make())
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder

    return written


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 pictures, and one file that is none. Never write in it."""
    folder, chance = tmp_path_factory.mktemp("images"), np.random.default_rng(5)
    for number in range(24):
        coarse = Image.fromarray(chance.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize((50, 40), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder
