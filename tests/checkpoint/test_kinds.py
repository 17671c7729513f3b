"""kinds.py: what cannot be blended is refused before any weight is read, with what to do instead."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import CheckpointError

UNQUANTIZED = "hint: use the checkpoint that it was made from, in bfloat16, float16 or float32; its page names it"


def message_of(where: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(where)
    return str(caught.value)


def folder_with(folder: Path, config: Any, *names: str, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    for name in names:
        (folder / name).write_bytes(b"\x80\x04")
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")
    return folder


W = {"w": torch.zeros(4, 4)}


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"quantization_config": {"bits": 4}}, "so"),
        ({"text_config": {"quantization_config": {"quant_method": "gptq"}}}, "gptq"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    ],
)
def test_a_quantized_config_is_refused(tmp_path: Path, config: Any, method: str) -> None:
    assert message_of(folder_with(tmp_path, config, tensors=W)) == (
        f"{tmp_path / 'config.json'}: the weights are quantized, and cannot be blended\n"
        f"  its quantization_config says {method}\n{UNQUANTIZED}"
    )


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("layers.0.q_proj.weight", torch.zeros(4, 4, dtype=torch.uint8)),
        ("layers.0.q_proj.weight", torch.zeros(4, 4, dtype=torch.int8)),
        ("layers.0.q_proj.weight", torch.zeros(4, 4).to(torch.float8_e4m3fn)),
        ("layers.0.q_proj.qweight", torch.zeros(4, 4, dtype=torch.int32)),
        ("layers.0.q_proj.weight_scale", torch.zeros(1)),
    ],
)
def test_packed_weights_are_refused_whatever_the_config_says(tmp_path: Path, key: str, tensor: torch.Tensor) -> None:
    message = message_of(folder_with(tmp_path, {}, tensors={key: tensor}))
    assert message.startswith(f"{tmp_path}: the weights are quantized, and cannot be blended\n  `{key}` is stored as ")
    assert message.endswith(UNQUANTIZED)


def test_what_is_no_quantization_passes(tmp_path: Path) -> None:
    tensors = W | {"position_ids": torch.zeros(1, 4, dtype=torch.int64), "mask": torch.zeros(4, 4, dtype=torch.bool)}
    config = {"quantization_config": None, "text_config": {"quantization_config": {}}}
    assert set(open_checkpoint(folder_with(tmp_path, config, tensors=tensors)).tensors) == set(tensors)


def test_gguf_is_refused_as_a_folder_and_as_a_file(tmp_path: Path) -> None:
    names = [f"model-Q{bits}.gguf" for bits in range(2, 7)]
    assert message_of(folder_with(tmp_path, {}, *names)) == (
        f"{tmp_path} holds GGUF, of llama.cpp: model-Q2.gguf, model-Q3.gguf, model-Q4.gguf and 2 more\n{UNQUANTIZED}"
    )
    (tmp_path / "config.json").unlink()
    assert "holds GGUF" in message_of(tmp_path)
    file = tmp_path / names[0]
    assert message_of(file) == (
        f"{file} is a GGUF file, of llama.cpp; wanted the folder of a Hugging Face checkpoint\n{UNQUANTIZED}"
    )


def test_a_file_in_place_of_its_folder_is_told(parents: Path) -> None:
    file = parents / "base" / "model.safetensors"
    assert message_of(file) == (
        f"{file} is a file; wanted the folder of a Hugging Face checkpoint\n"
        "hint: give the folder that holds it and its config.json"
    )


def test_an_adapter_is_refused_alone_and_beside_weights(parents: Path, tmp_path: Path) -> None:
    """With peft installed, transformers would load the adapter's base in place of the weights that lie there."""
    hint = "hint: merge it into its base: peft's `merge_and_unload`, then `save_pretrained` to a new folder"
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    save_file(W, tmp_path / "adapter_model.safetensors")
    wanted = f"{tmp_path} is an adapter for org/base, no whole model: it has an adapter_config.json\n{hint}"
    assert message_of(tmp_path) == wanted
    whole = shutil.copytree(parents / "base", tmp_path / "whole")
    (whole / "adapter_config.json").write_text("{}")
    assert message_of(whole) == f"{whole} is an adapter, no whole model: it has an adapter_config.json\n{hint}"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "last.ckpt"])
def test_pickles_alone_are_refused_and_beside_safetensors_ignored(tmp_path: Path, name: str) -> None:
    assert message_of(folder_with(tmp_path, {}, name)).splitlines()[0] == (
        f"{tmp_path} holds pickled weights only, which may run any code when they are read: {name}"
    )
    save_file(W, tmp_path / "model.safetensors")
    assert set(open_checkpoint(tmp_path).tensors) == {"w"}


def test_safetensors_of_another_name_are_named(tmp_path: Path) -> None:
    save_file(W, tmp_path / "consolidated.safetensors")
    assert message_of(folder_with(tmp_path, {})) == (
        f"{tmp_path}: no model.safetensors and no model.safetensors.index.json\n"
        "  found only consolidated.safetensors\n"
        "hint: save it with transformers' `save_pretrained`, which writes them"
    )


def test_a_config_of_wrong_kinds_tells_all_of_them(tmp_path: Path) -> None:
    config = {
        "model_type": 3, "text_config": {"hidden_size": "4096", "vocab_size": True}, "vision_config": [],
        "tie_word_embeddings": "yes", "num_hidden_layers": 2.0, "architectures": None,
    }  # fmt: skip
    assert message_of(folder_with(tmp_path, config, tensors=W)) == (
        f"{tmp_path / 'config.json'} is no config of a model\n"
        "  model_type: wanted a text, found '3'\n"
        "  vision_config: wanted a mapping, found '[]'\n"
        "  tie_word_embeddings: wanted true or false, found 'yes'\n"
        "  num_hidden_layers: wanted a whole number, found '2.0'\n"
        "  text_config.vocab_size: wanted a whole number, found 'True'\n"
        "  text_config.hidden_size: wanted a whole number, found '4096'\n"
        "hint: fetch the checkpoint again"
    )
