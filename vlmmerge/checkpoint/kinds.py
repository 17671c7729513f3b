"""Checkpoints of a kind that cannot be blended: told apart by their files' names and their config, before weights.

Knows quantized, pickled, adapter and GGUF checkpoints, and configs that are none. Does not open weights.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vlmmerge.checkpoint.header import TensorInfo
from vlmmerge.checkpoint.jsonfile import read_object
from vlmmerge.errors import CheckpointError

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# How the weights of quantized layers are spelled and stored where no config says so.
PACKED_NAMES = (".qweight", ".qzeros", ".weight_packed", ".weight_scale", ".weight_scale_inv", ".absmax", ".SCB")
PACKED_DTYPES = ("I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4")
UNQUANTIZED = "use the checkpoint that it was made from, in bfloat16, float16 or float32; its page names it"
KINDS = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", int: "a whole number"}
# What of a config is looked at here; null is as good as nothing.
CONFIG_TYPES: dict[str, type] = {
    "model_type": str, "architectures": list, "text_config": dict, "vision_config": dict, "auto_map": dict,
    "tie_word_embeddings": bool, "quantization_config": dict, "vocab_size": int, "hidden_size": int,
    "num_hidden_layers": int,
}  # fmt: skip


def refuse_file(where: str) -> None:
    """Refuse a path that is a file, where a folder is wanted.

    Raises:
        CheckpointError: It is one.
    """
    if Path(where).expanduser().is_file():
        is_gguf = where.lower().endswith(".gguf")
        hint = UNQUANTIZED if is_gguf else "give the folder that holds it and its config.json"
        what = "a GGUF file, of llama.cpp" if is_gguf else "a file"
        raise CheckpointError(f"{where} is {what}; wanted the folder of a Hugging Face checkpoint", hint=hint)


def refuse_by_names(folder: Path, there: Collection[str], name: str) -> None:
    """Refuse a checkpoint that is no whole one in safetensors, by what files there are.

    Args:
        folder: Where the small files are.
        there: The names of all files that there are, on the hub too.
        name: What to call the checkpoint.

    Raises:
        CheckpointError: It is a LoRA adapter, GGUF, pickled, or has no weights.
    """
    if ADAPTER in there:
        base = read_object(folder / ADAPTER).get("base_model_name_or_path") if (folder / ADAPTER).is_file() else None
        of = f" for {base}" if isinstance(base, str) and base else ""
        hint = "merge it into its base: peft's `merge_and_unload`, then `save_pretrained` to a new folder"
        raise CheckpointError(f"{name} is an adapter{of}, no whole model: it has an {ADAPTER}", hint=hint)
    if INDEX in there or SINGLE in there:
        return
    if found := _ending(there, (".gguf",)):
        raise CheckpointError(f"{name} holds GGUF, of llama.cpp: {found}", hint=UNQUANTIZED)
    if found := _ending(there, PICKLES):
        raise CheckpointError(
            f"{name} holds pickled weights only, which may run any code when they are read: {found}",
            hint="look for safetensors among its pull requests on the hub (`org/name@refs/pr/1`); or, if you trust "
            "it, load it with transformers and `save_pretrained` to a new folder",
        )
    if CONFIG in there:
        others = _ending(there, (".safetensors",))
        details = [f"found only {others}"] if others else []
        hint = "save it with transformers' `save_pretrained`, which writes them"
        raise CheckpointError(f"{name}: no {SINGLE} and no {INDEX}", details=details, hint=hint)


def refuse_by_config(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a config whose values are of the wrong kind, or that says that the weights are quantized.

    Raises:
        CheckpointError: It is.
    """
    faults = list(_wrong_kinds(config, ""))
    text = config.get("text_config")
    faults += list(_wrong_kinds(text, "text_config.")) if isinstance(text, dict) else []
    if faults:
        raise CheckpointError(f"{file} is no config of a model", details=faults, hint="fetch the checkpoint again")
    for part in (config, text):
        if part and (quantized := part.get("quantization_config") or part.get("compression_config")):
            method = quantized.get("quant_method", "") if isinstance(quantized, dict) else ""
            raise _quantized(file, f"its quantization_config says {method or 'so'}")


def refuse_by_tensors(tensors: Mapping[str, TensorInfo], name: str) -> None:
    """Refuse weights that are stored as quantized ones are, whatever the config says.

    Raises:
        CheckpointError: They are.
    """
    for key, info in tensors.items():
        if key.endswith(PACKED_NAMES) or (info.dtype in PACKED_DTYPES and len(info.shape) > 1):
            raise _quantized(name, f"`{key}` is stored as {info.dtype}")


def _quantized(where: object, why: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: the weights are quantized, and cannot be blended", details=[why], hint=UNQUANTIZED
    )


def _ending(names: Collection[str], endings: tuple[str, ...]) -> str:
    """The names with such endings, in words; empty where there are none."""
    found = sorted(name for name in names if "/" not in name and name.lower().endswith(endings))
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _wrong_kinds(config: Mapping[str, Any], prefix: str) -> list[str]:
    return [
        f"{prefix}{key}: wanted {KINDS[kind]}, found {str(config[key])[:60]!r}"
        for key, kind in CONFIG_TYPES.items()
        if config.get(key) is not None and type(config[key]) is not kind
    ]
