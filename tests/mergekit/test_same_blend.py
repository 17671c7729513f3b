"""The same file blended by mergekit and by vlmmerge gives the same language tower."""

from pathlib import Path

import pytest
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

from vlmmerge.anatomy import Slot
from vlmmerge.blend import blend_slot
from vlmmerge.mergekit import read_mergekit
from vlmmerge.mergekit.methods import COUNTERPARTS
from vlmmerge.plan import Plan, make_plan

DETERMINISTIC = [name for name in COUNTERPARTS if not name.startswith(("dare", "della"))]
MODELS = """
models:
  - model: VLM
    parameters:
      weight: [{filter: mlp, value: [0.3, 0.9]}, {filter: lm_head, value: 0.1}, {value: 0.6}]
      density: {filter: self_attn, value: 0.5}
  - model: JA
    parameters: {weight: [0.8, 0.4]}
parameters: {density: 0.7, t: [0.1, 0.9]}
"""
SLICES = """
slices:
  - sources:
      - {model: VLM, layer_range: [0, 1], parameters: {weight: 0.25}}
      - {model: JA, layer_range: [0, 1]}
      - {model: BASE, layer_range: [0, 1]}
    parameters: {t: 0.2}
  - sources:
      - {model: VLM, layer_range: [1, 2]}
      - {model: JA, layer_range: [1, 2], parameters: {weight: {filter: mlp, value: 0.5}}}
      - {model: BASE, layer_range: [1, 2]}
parameters: {weight: 0.75, density: 0.6, t: 0.4}
"""


@pytest.fixture(scope="session")
def tower_of_vlm(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The VLM's language tower as a model of its own, since mergekit blends nothing else."""
    folder = tmp_path_factory.mktemp("tower")
    (folder / "config.json").write_bytes((parents / "base" / "config.json").read_bytes())
    tensors = load_file(parents / "vlm" / "model.safetensors")
    prefix = "language_model."
    tower = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    save_file(tower, folder / "model.safetensors")
    return folder


def blended(plan: Plan) -> dict[Slot, torch.Tensor]:
    """Every slot blended by the plan's own ratios, of which model_stock has none and needs none."""
    ratios = plan.fixed or plan.uniform(dict.fromkeys(plan.blended_parents, 1.0))
    tensors = {
        slot: {name: checkpoint.read(plan.anatomy.keys[name][slot]) for name, checkpoint in plan.checkpoints.items()}
        for slot in plan.anatomy.slots
    }
    return {
        slot: blend_slot(
            plan.recipe.blend.method, of_names.pop("base"), of_names, ratios[slot],
            seed=0, slot=str(slot), options=plan.options,
        )
        for slot, of_names in tensors.items()
    }  # fmt: skip


@pytest.mark.parametrize("layout", [MODELS, SLICES], ids=["models", "slices"])
@pytest.mark.parametrize("method", DETERMINISTIC)
def test_a_file_comes_to_the_same_language_tower(
    method: str, layout: str, parents: Path, tower_of_vlm: Path, tmp_path: Path
) -> None:
    needs_base = COUNTERPARTS[method].needs_base
    base = {"slerp": "base_model: JA", "linear": ""}.get(method, "base_model: BASE")
    text = f"merge_method: {method}\n{base}{layout}"
    if not needs_base:
        text = "\n".join(line for line in text.splitlines() if "model: BASE" not in line) + "\n"
    text = text.replace("BASE", str(parents / "base")).replace("JA", str(parents / "ja-llm"))
    (tmp_path / "file.yaml").write_text(text.replace("VLM", str(parents / "vlm")))
    plan = make_plan(read_mergekit(tmp_path / "file.yaml"))
    ours = blended(plan)

    LoaderCache.loaders.clear()
    theirs = yaml.safe_load(text.replace("VLM", str(tower_of_vlm))) | {"dtype": "float32"}
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    run_merge(MergeConfiguration.model_validate(theirs), str(tmp_path / "out"), options)
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert len(merged) == len(ours) == 21
    is_close = [
        torch.isclose(ours[slot], merged[key], rtol=1e-5, atol=1e-6).flatten()
        for slot, key in plan.anatomy.keys["base"].items()
    ]
    # Of equal magnitudes at the threshold, which bfloat16 has many of, each trims others.
    least = 0.99 if method.startswith(("ties", "breadcrumbs")) else 1.0
    assert torch.cat(is_close).float().mean() >= least
