"""A model's eyes: all of it but the language model. They make features, and answers from features need none of them.

Knows modules. Does not know a model family's name.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vlmmerge import __version__
from vlmmerge.generate.parameters import live_parameters

SKIPPED = ("_name_or_path", "transformers_version")  # they change no feature


def eye_modules(model: Any) -> list[str]:
    """The names of the modules beside the language model: vision tower and projector."""
    own = set(map(id, model.get_decoder().modules()))
    return [name for name, module in model.base_model.named_children() if own.isdisjoint(map(id, module.modules()))]


def put_eyes(model: Any, device: torch.device | str) -> None:
    """Move the eyes to a device, in place; the language model stays where it is.

    They are put behind the language model, for transformers takes a model's first parameter to tell its device.
    """
    base = model.base_model
    for name in eye_modules(model):
        eyes = base._modules.pop(name)
        base._modules[name] = eyes.to(device)


def eye_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The eyes' parameters and buffers by name, those among them that stand alone, such as the token of a new line."""
    eyes = tuple(f"{name}." for name in eye_modules(model))
    base = model.base_model
    for name, tensor in (*live_parameters(base).items(), *base.named_buffers()):
        if name.startswith(eyes) or "." not in name:
            yield name, tensor


def digest(model: Any, processor: Any, device: str) -> str:
    """A sha256 of everything that makes features of a picture's bytes: two that are equal make equal features.

    The eyes' bytes are hashed, about a gigabyte in a second: less than reading them took.

    Args:
        model: Its language model counts by its settings only.
        processor: The model's.
        device: The kind of device that it looks with.
    """
    import PIL
    import transformers

    config = {name: value for name, value in model.config.to_dict().items() if name not in SKIPPED}
    described = [
        config, processor.to_dict(), str(model.dtype), device, model.config._attn_implementation,
        __version__, transformers.__version__, torch.__version__, PIL.__version__,
    ]  # fmt: skip
    total = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(eye_tensors(model), key=lambda each: each[0]):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor_bytes(tensor))
    return total.hexdigest()


def tensor_bytes(tensor: Tensor) -> Any:
    """A tensor's bytes, of any dtype, in host memory: a buffer, which shares memory with a tensor that is there."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
