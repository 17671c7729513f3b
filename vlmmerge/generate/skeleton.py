"""A model without weights: its modules, shapes and dtypes, made in a second however large it is.

Knows configs. Does not know devices, nor a model family's name.
"""

from pathlib import Path
from typing import Any

import torch

from vlmmerge.checkpoint.jsonfile import read_object
from vlmmerge.checkpoint.loading import load_part
from vlmmerge.recipe import Generate


def make_skeleton(folder: Path, settings: Generate, attention: str | None = None, *, trusts_code: bool = False) -> Any:
    """Build a VLM of a checkpoint's config on torch's meta device.

    Args:
        folder: A local checkpoint; only its config is read.
        settings: The recipe's `generate` section.
        attention: Its name in transformers; None for transformers' own choice.
        trusts_code: Whether code that comes with the checkpoint may run.

    Raises:
        CheckpointError: transformers does not know the model, or the model does not support the attention.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    def load(*arguments: Any, **options: Any) -> Any:
        config = AutoConfig.from_pretrained(*arguments, **options)
        options.pop("local_files_only", None)
        dtype = getattr(torch, dtype_of(folder, settings), torch.float32)
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(
                config, dtype=dtype, attn_implementation=attention, **options
            )

    return load_part(folder, load, trusts_code)


def dtype_of(folder: Path, settings: Generate) -> str:
    """The dtype that a model will have, as far as its config tells."""
    if settings.dtype != "auto":
        return settings.dtype
    config = read_object(folder / "config.json")
    inner = config.get("text_config")
    texts = [config, inner if isinstance(inner, dict) else {}]
    return str(next((each[key] for each in texts for key in ("dtype", "torch_dtype") if each.get(key)), "float32"))


def parameter_bytes(model: Any) -> dict[str, int]:
    """The bytes of each parameter, by name; those that are tied come once."""
    return {name: parameter.nbytes for name, parameter in model.named_parameters()}
