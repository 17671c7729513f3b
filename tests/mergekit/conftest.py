"""Models of a few layers and a few bytes, and mergekit's own planner as the oracle of what it reads from a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mergekit.architecture import arch_info_for_config
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import _model_out_config
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from safetensors.torch import save_file

from vlmmerge.anatomy import language_tower
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.genome import Ratios
from vlmmerge.ratios import fixed_ratios
from vlmmerge.recipe import Recipe

ROLES = (
    "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "post_attention_layernorm", "mlp.up_proj", "mlp.gate_proj", "mlp.down_proj",
)  # fmt: skip

Read = dict[str, tuple[dict[str, dict[str, float]], dict[str, Any]]]
"""For each tensor, each model's parameters and the parameters of the whole blend."""


def tensor_names(num_layers: int) -> list[str]:
    layers = [f"model.layers.{layer}.{role}.weight" for layer in range(num_layers) for role in ROLES]
    return ["model.embed_tokens.weight", *layers, "model.norm.weight", "lm_head.weight"]


def write_language_model(folder: Path, num_layers: int) -> None:
    folder.mkdir(parents=True)
    config = {
        "model_type": "mistral", "architectures": ["MistralForCausalLM"], "num_hidden_layers": num_layers,
        "hidden_size": 2, "intermediate_size": 2, "num_attention_heads": 1, "vocab_size": 4,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: torch.ones(2, dtype=torch.bfloat16) for name in tensor_names(num_layers)}
    save_file(tensors, folder / "model.safetensors")


def write_vlm(folder: Path, num_layers: int) -> None:
    folder.mkdir(parents=True)
    config = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {f"language_model.{name}": torch.ones(2, dtype=torch.bfloat16) for name in tensor_names(num_layers)}
    tensors["vision_tower.patches.weight"] = torch.ones(2)
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture(scope="session")
def make_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes a folder with `ours` (base, a, b and the VLM `vlm`) and `theirs`: the same, with a language model as `vlm`,
    since mergekit blends nothing but language models."""
    made: dict[int, Path] = {}

    def make(num_layers: int) -> Path:
        if num_layers not in made:
            folder = made[num_layers] = tmp_path_factory.mktemp(f"models-{num_layers}")
            for name in ("base", "a", "b"):
                for side in ("ours", "theirs"):
                    write_language_model(folder / side / name, num_layers)
            write_language_model(folder / "theirs" / "vlm", num_layers)
            write_vlm(folder / "ours" / "vlm", num_layers)
        return made[num_layers]

    return make


@pytest.fixture
def as_mergekit_reads(make_models: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Read]:
    """Lets mergekit plan a file's text, and gives the parameters with which it would blend each tensor."""

    def read(text: str, num_layers: int) -> Read:
        monkeypatch.chdir(make_models(num_layers) / "theirs")
        LoaderCache.loaders.clear()  # by name, which is the same in every folder
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
        info = arch_info_for_config(config.referenced_models()[0].config())
        planner = MergePlanner(config, info, MergeOptions(), _model_out_config(config, info))
        tasks = [task for task in planner.plan_to_disk("out") if hasattr(task, "tensor_name")]
        return {
            task.tensor_name: (
                {str(model): dict(values) for model, values in task.tensor_task.input_parameters.items()},
                dict(task.tensor_task.parameters),
            )
            for task in tasks
        }

    return read


@pytest.fixture
def ratios_of() -> Callable[[Recipe], Ratios]:
    """Spreads the ratios that a recipe fixes over the slots of its base."""

    def spread(recipe: Recipe) -> Ratios:
        assert recipe.blend.ratios is not None
        written = {name: ratio.model_dump() for name, ratio in recipe.blend.ratios.items()}
        slots = language_tower(open_checkpoint(recipe.parents.base).shapes)
        return fixed_ratios(slots, ["vlm", *recipe.parents.llms], written)

    return spread
