"""The attention that a model runs with: the fastest that is installed, and that device, dtype and model take.

Knows which packages transformers takes attention from. Does not know a model family's name.
"""

from pathlib import Path

import torch

from vlmmerge.errors import CheckpointError, VlmMergeError
from vlmmerge.generate.skeleton import dtype_of, make_skeleton
from vlmmerge.recipe import Generate

# What must be installed for each, and the least compute capability that it is made for; the newest first.
INSTALL = {
    "flash_attention_4": "pip install flash-attn-4",
    "flash_attention_3": "pip install ./flash-attention/hopper, from https://github.com/Dao-AILab/flash-attention",
    "flash_attention_2": "pip install flash-attn --no-build-isolation",
}
CAPABILITY = {"flash_attention_4": (9, 0), "flash_attention_3": (9, 0), "flash_attention_2": (8, 0)}
HALVES = ("bfloat16", "float16")


def choose_attention(folder: Path, settings: Generate, device: torch.device, *, trusts_code: bool = False) -> str:
    """Find the attention that a model will have; no weights are read.

    Args:
        folder: A local checkpoint.
        settings: The recipe's `generate` section: `auto` takes the fastest there is, a name takes that or nothing.
        device: Where the model will run.
        trusts_code: Whether code that comes with the checkpoint may run.

    Raises:
        VlmMergeError: The one that is wanted is not installed, or model, device or dtype do not take it.
        CheckpointError: transformers does not know the model.
    """
    if settings.attention != "auto":
        if reason := _hindrance(settings.attention, folder, settings, device):
            raise VlmMergeError(f"generate.attention: {settings.attention} {reason}", hint=_hint(settings.attention))
        if (taken := _taken(folder, settings, settings.attention, trusts_code)) is None:
            raise VlmMergeError(
                f"generate.attention: {folder} does not take {settings.attention}", hint="`auto` finds one that it does"
            )
        return taken
    for name in INSTALL:
        if not _hindrance(name, folder, settings, device) and (taken := _taken(folder, settings, name, trusts_code)):
            return taken
    taken = _taken(
        folder, settings, None, trusts_code
    )  # transformers' own choice: sdpa if the model has it, else eager
    assert taken
    return taken


def _hindrance(name: str, folder: Path, settings: Generate, device: torch.device) -> str:
    """Why device, dtype or this installation do not take an attention; empty if they do."""
    if name not in INSTALL:
        return ""
    if device.type != "cuda":
        return f"runs on CUDA only, and the model on {device.type}"
    if not is_installed(name):
        return "is not installed"
    if (capability := torch.cuda.get_device_capability(device)) < CAPABILITY[name]:
        return f"needs compute capability {CAPABILITY[name]}, found {capability}"
    if (dtype := dtype_of(folder, settings)) not in HALVES:
        return f"runs in {' or '.join(HALVES)} only, and the model in {dtype}"
    return ""


def is_installed(name: str) -> bool:
    from transformers import utils

    return bool(getattr(utils, f"is_flash_attn_{name[-1]}_available", lambda: False)())


def _hint(name: str) -> str:
    return f"{INSTALL[name]}, or `generate.attention: auto`" if name in INSTALL else "take `auto`"


def _taken(folder: Path, settings: Generate, name: str | None, trusts_code: bool) -> str | None:
    """What transformers takes for `name`, found on a model without weights; None if the model does not support it."""
    try:
        model = make_skeleton(folder, settings, name, trusts_code=trusts_code)
        return str(model.config._attn_implementation)
    except CheckpointError:
        if name is None:
            raise
        return None
