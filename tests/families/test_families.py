"""Every family of vision-language models goes all the way: opened, blended, loaded again, asked the same question.

A family is a function that makes its configuration, as small as transformers allows, and a line in `FAMILIES`. Each is
tried in every layout of `LAYOUTS` that it has been published in, beside the one that transformers writes.
"""

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlmmerge import cli
from vlmmerge.anatomy.slots import HEAD
from vlmmerge.anatomy.towers import language_tower, towers
from vlmmerge.checkpoint import open_checkpoint
from vlmmerge.errors import CheckpointError, ParentsError
from vlmmerge.generate.begun import can_join
from vlmmerge.generate.decode import decode
from vlmmerge.generate.eyes import eye_tensors, put_eyes
from vlmmerge.generate.features import Seen, check_takes_features, join, look, make_prompt
from vlmmerge.generate.shared import can_share, cut_at, find_shared, join_shared
from vlmmerge.generate.store import read_seen, write_seen
from vlmmerge.inspection import describe, inspect
from vlmmerge.inspection.misfits import FAILS
from vlmmerge.plan import make_plan
from vlmmerge.recipe import load_recipe
from vlmmerge.resident import CONVERTED, FUSED, make_blender

WEIGHTS = "model.safetensors"
NUM_TOKENS, PAD, BOS, EOS, IMAGE, VIDEO, BEGIN, END = 64, 0, 1, 2, 5, 6, 7, 8
QUESTION = [9, 10, 11]
RECIPE = """
parents: {vlm: vlm, base: base, llms: {one: one, two: two}}
blend:
  method: dare_ties
  ratios:
    vlm: {weight: 0.7, density: 0.8}
    one: {weight: [0.3, 0.9], density: 0.5}
    two: {weight: 0.4}
  seed: 3
"""
ONLY_VLM = "blend.ratios={vlm: {weight: 1.0}, one: {weight: 0.0}, two: {weight: 0.0}}"

TEXT: dict[str, Any] = dict(
    vocab_size=NUM_TOKENS, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
    tie_word_embeddings=False,
)  # fmt: skip
TIED = {**TEXT, "tie_word_embeddings": True}
EYES: dict[str, Any] = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8
)
FINE_EYES = {**EYES, "patch_size": 4}  # 16 patches, of which four at a time become one token
ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}


@dataclass(frozen=True)
class Family:
    """A tiny vision-language model, and what it is asked.

    Args:
        config: Of the VLM.
        llm: The config of a language model from which its language tower descends.
        picture: What its processor would make of a picture, but for the tokens.
        num_image_tokens: How many tokens stand for the picture.
        marks: The input that marks those tokens, if it has one.
        make_llm: Makes that language model.
    """

    config: Any
    llm: Any
    picture: dict[str, Tensor]
    num_image_tokens: int = 4
    marks: str | None = None
    make_llm: Callable[[Any], Any] = transformers.AutoModelForCausalLM.from_config

    @property
    def prompt(self) -> dict[str, Tensor]:
        ids = torch.tensor([[BOS, *[IMAGE] * self.num_image_tokens, *QUESTION]])
        marks = {self.marks: (ids == IMAGE).long()} if self.marks else {}
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **marks, **self.picture}


def pixels(*shape: int) -> dict[str, Tensor]:
    """A picture of noise: the same each time."""
    return {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(5))}


def llava() -> Family:
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**EYES), text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=IMAGE, vision_feature_layer=-1, image_seq_length=4,
    )  # fmt: skip
    return Family(config, transformers.LlamaConfig(**TEXT), pixels(1, 3, 16, 16))


def fast_vlm_of_convolutions() -> Family:
    """What a swap writes for a convolutional encoder."""
    eyes = transformers.ConvNextConfig(patch_size=4, hidden_sizes=[8, 32], depths=[1, 1], num_stages=2)
    eyes.hidden_size = 32
    config = transformers.FastVlmConfig(
        vision_config=eyes, text_config=transformers.LlamaConfig(**TEXT), image_token_index=IMAGE, image_seq_length=4
    )
    return Family(config, transformers.LlamaConfig(**TEXT), pixels(1, 3, 16, 16))


def llava_of_tied_llamas() -> Family:
    """The language models' heads are their embeddings, and the VLM has trained one of its own."""
    return replace(llava(), llm=transformers.LlamaConfig(**TIED))


def llava_of_phi() -> Family:
    """Its language model fuses q, k and v, and gate and up."""
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**EYES), text_config=transformers.Phi3Config(**TEXT),
        image_token_index=IMAGE, vision_feature_layer=-1, image_seq_length=4,
    )  # fmt: skip
    return Family(config, transformers.Phi3Config(**TEXT), pixels(1, 3, 16, 16))


def llava_next() -> Family:
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**EYES), text_config=transformers.MistralConfig(**TEXT),
        image_token_index=IMAGE, vision_feature_layer=-1, image_grid_pinpoints=[[16, 16]], image_seq_length=4,
    )  # fmt: skip
    picture = pixels(1, 2, 3, 16, 16) | {"image_sizes": torch.tensor([[16, 16]])}
    return Family(config, transformers.MistralConfig(**TEXT), picture, num_image_tokens=10)


def llava_onevision() -> Family:
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**EYES), text_config=transformers.Qwen2Config(**TEXT),
        image_token_index=IMAGE, video_token_index=VIDEO, vision_feature_layer=-1, image_grid_pinpoints=[[16, 16]],
    )  # fmt: skip
    picture = pixels(1, 2, 3, 16, 16) | {"image_sizes": torch.tensor([[16, 16]])}
    return Family(config, transformers.Qwen2Config(**TEXT), picture, num_image_tokens=10)


def vipllava() -> Family:
    config = transformers.VipLlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**EYES), text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=IMAGE, vision_feature_layers=[-1, -2], image_seq_length=4,
    )  # fmt: skip
    return Family(config, transformers.LlamaConfig(**TEXT), pixels(1, 3, 16, 16))


QWEN_TOKENS = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=BEGIN, vision_end_token_id=END)
QWEN_PICTURE = pixels(16, 3 * 2 * 4 * 4) | {"image_grid_thw": torch.tensor([[1, 4, 4]])}


def qwen2_vl() -> Family:
    eyes = dict(depth=2, embed_dim=32, hidden_size=32, num_heads=4, mlp_ratio=2, patch_size=4)
    text = {**TIED, "rope_parameters": ROTARY}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=True, **QWEN_TOKENS)
    return Family(config, transformers.Qwen2Config(**TIED), QWEN_PICTURE, marks="mm_token_type_ids")


def qwen2_5_vl() -> Family:
    eyes = dict(
        depth=2, hidden_size=32, out_hidden_size=32, intermediate_size=64, num_heads=4, patch_size=4, window_size=16,
        fullatt_block_indexes=[1],
    )  # fmt: skip
    text = {**TEXT, "rope_parameters": ROTARY}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=eyes, **QWEN_TOKENS)
    return Family(config, transformers.Qwen2Config(**TEXT), QWEN_PICTURE, marks="mm_token_type_ids")


QWEN3_EYES = dict(
    depth=2, hidden_size=32, out_hidden_size=32, intermediate_size=64, num_heads=4, patch_size=4,
    num_position_embeddings=16, deepstack_visual_indexes=[0],
)  # fmt: skip


def qwen3_vl() -> Family:
    text = {**TEXT, "head_dim": 8, "rope_parameters": ROTARY}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=QWEN3_EYES, **QWEN_TOKENS)
    llm = transformers.Qwen3Config(**TEXT, head_dim=8)
    return Family(config, llm, QWEN_PICTURE, marks="mm_token_type_ids")


def qwen3_vl_moe() -> Family:
    """All experts of a layer in one tensor, in the file and in memory; no language model alone is written so."""
    moe = {**TIED, "head_dim": 8, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
    config = transformers.Qwen3VLMoeConfig(
        text_config={**moe, "rope_parameters": ROTARY}, vision_config=QWEN3_EYES, tie_word_embeddings=True,
        **QWEN_TOKENS,
    )  # fmt: skip
    tower = transformers.AutoModel.from_config
    return Family(config, config.text_config, QWEN_PICTURE, marks="mm_token_type_ids", make_llm=tower)


def llava_of_qwen3_moe() -> Family:
    """Each expert by itself in the file, and all of a layer in one tensor in memory."""
    moe = {**TEXT, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**EYES), text_config=transformers.Qwen3MoeConfig(**moe),
        image_token_index=IMAGE, vision_feature_layer=-1, image_seq_length=4,
    )  # fmt: skip
    return Family(config, transformers.Qwen3MoeConfig(**moe), pixels(1, 3, 16, 16))


def internvl() -> Family:
    eyes = transformers.InternVLVisionConfig(**{**EYES, "image_size": [16, 16], "patch_size": [4, 4]})
    config = transformers.InternVLConfig(
        vision_config=eyes, text_config=transformers.Qwen2Config(**TEXT), image_token_id=IMAGE, image_seq_length=4,
        vision_feature_layer=-1, tie_word_embeddings=False,
    )  # fmt: skip
    return Family(config, transformers.Qwen2Config(**TEXT), pixels(1, 3, 16, 16))


def idefics2() -> Family:
    perceiver = dict(
        resampler_n_latents=4, resampler_depth=1, resampler_n_heads=4, resampler_head_dim=8, num_key_value_heads=2,
        hidden_size=32,
    )  # fmt: skip
    config = transformers.Idefics2Config(
        vision_config=EYES, text_config=transformers.MistralConfig(**TEXT), perceiver_config=perceiver,
        image_token_id=IMAGE,
    )  # fmt: skip
    return Family(config, transformers.MistralConfig(**TEXT), pixels(1, 1, 3, 16, 16))


def idefics3() -> Family:
    config = transformers.Idefics3Config(
        vision_config=FINE_EYES, text_config=transformers.LlamaConfig(**TEXT), image_token_id=IMAGE, pad_token_id=PAD
    )
    return Family(config, transformers.LlamaConfig(**TEXT), pixels(1, 1, 3, 16, 16))


def smolvlm() -> Family:
    config = transformers.SmolVLMConfig(
        vision_config=FINE_EYES, text_config=transformers.LlamaConfig(**TEXT), image_token_id=IMAGE, pad_token_id=PAD
    )
    return Family(config, transformers.LlamaConfig(**TEXT), pixels(1, 1, 3, 16, 16))


def paligemma() -> Family:
    text = {**TIED, "head_dim": 8}
    eyes = {**EYES, "model_type": "siglip_vision_model", "vision_use_head": False}
    config = transformers.PaliGemmaConfig(
        vision_config=eyes, text_config=transformers.GemmaConfig(**text), image_token_index=IMAGE, projection_dim=32
    )
    return Family(config, transformers.GemmaConfig(**text), pixels(1, 3, 16, 16), marks="token_type_ids")


def gemma3() -> Family:
    text = {**TIED, "head_dim": 8, "query_pre_attn_scalar": 8}
    eyes = {**FINE_EYES, "model_type": "siglip_vision_model", "vision_use_head": False}
    config = transformers.Gemma3Config(
        vision_config=eyes, text_config=text, image_token_index=IMAGE, mm_tokens_per_image=4
    )
    return Family(config, transformers.Gemma3TextConfig(**text), pixels(1, 3, 16, 16), marks="token_type_ids")


def mistral3() -> Family:
    config = transformers.Mistral3Config(
        vision_config=transformers.PixtralVisionConfig(**FINE_EYES), text_config=transformers.MistralConfig(**TEXT),
        image_token_index=IMAGE, vision_feature_layer=-1, spatial_merge_size=2, tie_word_embeddings=False,
    )  # fmt: skip
    picture = pixels(1, 3, 16, 16) | {"image_sizes": torch.tensor([[16, 16]])}
    return Family(config, transformers.MistralConfig(**TEXT), picture)


def aya_vision() -> Family:
    eyes = transformers.SiglipVisionConfig(**FINE_EYES, vision_use_head=False)
    config = transformers.AyaVisionConfig(
        vision_config=eyes, text_config=transformers.Cohere2Config(**TIED), image_token_index=IMAGE,
        downsample_factor=2, vision_feature_layer=-1,
    )  # fmt: skip
    return Family(config, transformers.Cohere2Config(**TIED), pixels(1, 3, 16, 16))


def mllama() -> Family:
    """Pictures enter by cross-attention: two layers of four are the LLM's, and its embeddings have eight rows less."""
    eyes = dict(
        hidden_size=32, attention_heads=4, num_hidden_layers=2, num_global_layers=1, intermediate_size=64,
        vision_output_dim=64, image_size=16, patch_size=8, max_num_tiles=1, intermediate_layers_indices=[1],
        supported_aspect_ratios=[[1, 1]],
    )  # fmt: skip
    text = {**TEXT, "num_hidden_layers": 4, "cross_attention_layers": [0, 2]}
    config = transformers.MllamaConfig(vision_config=eyes, text_config=text, image_token_index=IMAGE)
    picture = pixels(1, 1, 1, 3, 16, 16) | {
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, 1, dtype=torch.long),
        "cross_attention_mask": torch.ones(1, 2 + len(QUESTION), 1, 1, dtype=torch.long),
    }
    return Family(config, transformers.LlamaConfig(**TEXT), picture, num_image_tokens=1)


# Families that nothing here was made for: what the anatomy knows, it knows of them, too.


def paligemma2() -> Family:
    text = {**TIED, "head_dim": 8, "query_pre_attn_scalar": 8}
    eyes = {**EYES, "model_type": "siglip_vision_model", "vision_use_head": False}
    config = transformers.PaliGemmaConfig(
        vision_config=eyes, text_config=transformers.Gemma2Config(**text), image_token_index=IMAGE, projection_dim=32
    )
    return replace(paligemma(), config=config, llm=transformers.Gemma2Config(**text))


def cohere2_vision() -> Family:
    eyes = transformers.SiglipVisionConfig(**FINE_EYES, vision_use_head=False)
    config = transformers.Cohere2VisionConfig(
        vision_config=eyes, text_config=transformers.Cohere2Config(**TIED), image_token_id=IMAGE, downsample_factor=2,
        alignment_intermediate_size=32,
    )  # fmt: skip
    return Family(config, transformers.Cohere2Config(**TIED), pixels(1, 3, 16, 16))


def glm4v() -> Family:
    eyes = dict(
        depth=2, hidden_size=32, out_hidden_size=32, intermediate_size=64, num_heads=4, image_size=16, patch_size=4
    )
    text = {**TEXT, "rope_parameters": {**ROTARY, "partial_rotary_factor": 1.0}}
    tokens = dict(image_start_token_id=BEGIN, image_end_token_id=END, video_start_token_id=14, video_end_token_id=15)
    config = transformers.Glm4vConfig(
        text_config=text, vision_config=eyes, image_token_id=IMAGE, video_token_id=VIDEO, **tokens
    )
    llm = transformers.Glm4Config(**TEXT, head_dim=8)
    return Family(config, llm, QWEN_PICTURE, marks="mm_token_type_ids")


def lfm2_vl() -> Family:
    """Of its language model's two layers one convolves, and the final norm stands under another name."""
    eyes = transformers.Siglip2VisionConfig(**EYES | {"patch_size": 4}, num_patches=16, vision_use_head=False)
    layers = dict(layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False, tie_word_embeddings=True)
    text = transformers.Lfm2Config(**{**TEXT, **layers})
    config = transformers.Lfm2VlConfig(
        text_config=text, vision_config=eyes, image_token_id=IMAGE, downsample_factor=2, projector_hidden_size=32
    )
    picture = pixels(1, 16, 3 * 4 * 4) | {
        "spatial_shapes": torch.tensor([[4, 4]]),
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }
    return Family(config, transformers.Lfm2Config(**{**TEXT, **layers}), picture)


def qwen3_5() -> Family:
    """Of its language model's two layers one attends linearly."""
    linear = dict(
        layer_types=["linear_attention", "full_attention"], linear_key_head_dim=8, linear_value_head_dim=8,
        linear_num_key_heads=2, linear_num_value_heads=4, head_dim=8,
        rope_parameters={**ROTARY, "partial_rotary_factor": 1.0},
    )  # fmt: skip
    eyes = {name: value for name, value in QWEN3_EYES.items() if name != "deepstack_visual_indexes"}
    config = transformers.Qwen3_5Config(text_config={**TEXT, **linear}, vision_config=eyes, **QWEN_TOKENS)
    return Family(config, config.text_config, QWEN_PICTURE, marks="mm_token_type_ids")


FAMILIES: dict[str, Callable[[], Family]] = {
    "LLaVA": llava,
    "FastVLM of convolutions": fast_vlm_of_convolutions,
    "LLaVA of tied Llamas": llava_of_tied_llamas,
    "LLaVA of Phi-3": llava_of_phi,
    "LLaVA-NeXT": llava_next,
    "LLaVA-OneVision": llava_onevision,
    "VipLLaVA": vipllava,
    "Qwen2-VL": qwen2_vl,
    "Qwen2.5-VL": qwen2_5_vl,
    "Qwen3-VL": qwen3_vl,
    "Qwen3-VL-MoE": qwen3_vl_moe,
    "InternVL": internvl,
    "Idefics2": idefics2,
    "Idefics3": idefics3,
    "SmolVLM": smolvlm,
    "PaliGemma": paligemma,
    "Gemma 3": gemma3,
    "Mistral 3": mistral3,
    "Aya Vision": aya_vision,
    "Mllama": mllama,
    "PaliGemma 2": paligemma2,
    "Command A Vision": cohere2_vision,
    "GLM-4.1V": glm4v,
    "LFM2-VL": lfm2_vl,
    "Qwen3.5": qwen3_5,
}

Layout = list[tuple[str, str]]  # patterns in the keys that transformers writes, and what takes their place
CLIP_ON_THE_HUB = (r"^vision_tower\.", "vision_tower.vision_model.")
# Layouts that transformers still reads, by the family that was published in them.
LAYOUTS: dict[str, Layout] = {
    "LLaVA": [CLIP_ON_THE_HUB],
    "LLaVA-NeXT": [CLIP_ON_THE_HUB],
    "LLaVA-OneVision": [CLIP_ON_THE_HUB],
    "VipLLaVA": [CLIP_ON_THE_HUB],
    "PaliGemma": [CLIP_ON_THE_HUB],
    "Gemma 3": [CLIP_ON_THE_HUB],
    "Aya Vision": [CLIP_ON_THE_HUB],
}
# Layouts that transformers cannot load, so that a model in one can only be blended file to file.
FOREIGN_LAYOUTS: dict[str, tuple[str, Layout]] = {
    "original LLaVA": (
        "LLaVA",
        [
            (r"^language_model\.", ""),
            (r"^vision_tower\.", "model.vision_tower.vision_tower.vision_model."),
            (r"^multi_modal_projector\.linear_1", "model.mm_projector.0"),
            (r"^multi_modal_projector\.linear_2", "model.mm_projector.2"),
        ],
    ),
    "original InternVL": (
        "InternVL",
        [
            (r"^vision_tower\.encoder\.layer\.", "vision_model.encoder.layers."),
            (r"^vision_tower\.", "vision_model."),
            (r"^multi_modal_projector\.layer_norm", "mlp1.0"),
            (r"^multi_modal_projector\.linear_1", "mlp1.1"),
            (r"^multi_modal_projector\.linear_2", "mlp1.3"),
        ],
    ),
}
CASES = [(family, layout) for family in FAMILIES for layout in ("as written", "as in memory", "as on the hub")]
CASES = [(family, layout) for family, layout in CASES if layout != "as on the hub" or family in LAYOUTS]


@torch.no_grad()
def draw(model: Any, seed: int, base: Any = None) -> None:
    """Fill a model with noise that makes its answers depend on every weight; or with the base's weights and some."""
    generator = torch.Generator().manual_seed(seed)
    own = dict(base.named_parameters()) if base else {}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name in own:
            parameter.copy_(own[name] + noise * 0.2 * own[name].std())
        elif parameter.ndim > 1:  # small embeddings: a tied head would say the last token over and over
            parameter.copy_(noise * (0.5 if "embed_tokens" in name else 1.2) / parameter[0].numel() ** 0.5)
        else:
            parameter.add_(noise * 0.3)


def write_parents(folder: Path, family: Family) -> None:
    """Write `vlm`, `base`, `one` and `two`, all with one tokenizer, and a recipe; the same each time."""
    base = family.make_llm(family.llm)
    draw(base, 1)
    base.save_pretrained(folder / "base")
    for seed, name in enumerate(("one", "two"), 2):
        child = family.make_llm(family.llm)
        draw(child, seed, base)
        child.save_pretrained(folder / name)
    vlm = transformers.AutoModelForImageTextToText.from_config(family.config)
    draw(vlm, 4)
    vlm.save_pretrained(folder / "vlm")
    words = {f"word{number}": number for number in range(NUM_TOKENS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="word0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    for name in ("vlm", "base", "one", "two"):
        tokenizer.save(str(folder / name / "tokenizer.json"))
    (folder / "recipe.yaml").write_text(RECIPE)


def renamed(keys: Iterable[str], layout: Layout) -> list[str]:
    """Keys as they are in another layout."""
    return [reduce(lambda key, rename: re.sub(*rename, key), layout, key) for key in keys]


def rename_keys(file: Path, layout: Layout) -> None:
    tensors = load_file(file)
    keys = renamed(tensors, layout)
    assert keys != list(tensors) and len(set(keys)) == len(keys)
    save_file(dict(zip(keys, tensors.values(), strict=True)), file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's parents, written when first asked for. Never write in it."""
    folders: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("family")
            with torch.random.fork_rng():
                torch.manual_seed(0)  # some vectors begin as noise
                write_parents(folders[name], FAMILIES[name]())
        return folders[name]

    return write


@pytest.fixture
def parents(request: pytest.FixtureRequest, written: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder with a family's parents, the VLM in one of its layouts."""
    family, layout = request.param
    folder = shutil.copytree(written(family), tmp_path / "parents")
    file = folder / "vlm" / WEIGHTS
    if layout == "as in memory":
        save_file(dict(load(folder / "vlm").named_parameters()), file, metadata={"format": "pt"})
    elif layout == "as on the hub":
        rename_keys(file, LAYOUTS[family])
    return folder


def load(folder: Path) -> Any:
    return transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()


def answer(model: Any, family: Family) -> list[int]:
    """Tokens said greedily about the picture."""
    prompt = family.prompt
    said = model.generate(**prompt, max_new_tokens=8, do_sample=False, pad_token_id=PAD, eos_token_id=None)
    return said[0, prompt["input_ids"].shape[1] :].tolist()


def blend(folder: Path, out: Path, *overrides: str) -> dict[str, Tensor]:
    """`vlmmerge blend` of a folder's recipe; returns the tensors that were written."""
    options = [word for override in overrides for word in ("--set", override)]
    assert cli.main(["blend", str(folder / "recipe.yaml"), "--out", str(out), *options]) == 0
    return load_file(out / WEIGHTS)


def tower_of(folder: Path) -> dict[str, str]:
    """The tower of each tensor of the VLM."""
    base, vlm = (open_checkpoint(folder / name).shapes for name in ("base", "vlm"))
    return dict(towers(vlm, language_tower(base)))


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.int32), other.view(torch.int32))


@pytest.mark.parametrize(
    ("parents", "family"), [((name, layout), name) for name, layout in CASES], indirect=["parents"],
    ids=[f"{name}, {layout}" for name, layout in CASES],
)  # fmt: skip
def test_what_is_blended_loads_with_transformers_and_says_what_the_live_model_said(
    parents: Path, family: str, tmp_path: Path
) -> None:
    vlm = FAMILIES[family]()
    inspected = describe(inspect([str(parents / name) for name in ("vlm", "one", "two", "base")]))
    assert inspected["grade"] != FAILS and inspected["parents"]["vlm"]["role"] == "vlm"
    plan = make_plan(load_recipe(parents / "recipe.yaml"))
    live = load(parents / "vlm")
    before = answer(live, vlm)
    make_blender(plan, live).write(plan.fixed_ratios())
    said = answer(live, vlm)
    assert said != before, "the answer tells one blend from another"
    other = replace(vlm, picture={**vlm.picture, "pixel_values": -vlm.picture["pixel_values"]})
    assert answer(live, other) != said, "and one picture from another"

    after, parent = blend(parents, tmp_path / "out"), load_file(parents / "vlm" / WEIGHTS)
    assert after.keys() == parent.keys()
    found = tower_of(parents)
    assert found.keys() == parent.keys() and set(found.values()) == {"vision", "projector", "language"}
    for key, tower in found.items():
        assert same(after[key], parent[key]) == (tower != "language"), f"{key} of the {tower} tower"
    reloaded = load(tmp_path / "out")
    assert answer(reloaded, vlm) == said
    shipped = dict(reloaded.named_parameters())
    assert all(same(parameter, shipped[name]) for name, parameter in live.named_parameters())

    blend(parents, tmp_path / "same", ONLY_VLM)
    assert (tmp_path / "same" / WEIGHTS).read_bytes() == (parents / "vlm" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("layout", FOREIGN_LAYOUTS)
def test_a_layout_that_transformers_cannot_load_is_blended_file_to_file(
    written: Callable[[str], Path], tmp_path: Path, layout: str
) -> None:
    family, renames = FOREIGN_LAYOUTS[layout]
    folder = shutil.copytree(written(family), tmp_path / "parents")
    usual, usual_tower = blend(folder, tmp_path / "usual"), tower_of(folder)
    rename_keys(folder / "vlm" / WEIGHTS, renames)
    foreign, foreign_tower = blend(folder, tmp_path / "foreign"), tower_of(folder)
    name_of = dict(zip(usual, renamed(usual, renames), strict=True))
    assert foreign.keys() == set(name_of.values())
    assert all(same(foreign[name_of[key]], tensor) for key, tensor in usual.items())
    assert {name_of[key]: tower for key, tower in usual_tower.items()} == foreign_tower


def test_experts_that_are_fused_as_they_load_are_blended_in_files_and_told_to_a_search(tmp_path: Path) -> None:
    family = llava_of_qwen3_moe()
    write_parents(tmp_path, family)
    blend(tmp_path, tmp_path / "out")
    assert answer(load(tmp_path / "out"), family) != answer(load(tmp_path / "vlm"), family)
    with pytest.raises(ParentsError) as caught:
        make_blender(make_plan(load_recipe(tmp_path / "recipe.yaml")), load(tmp_path / "vlm"))
    first = [f"layers.0.mlp.experts.{number}" for number in (0, 1)]
    names = [f"{expert}.{name}_proj.weight" for expert in first for name in ("down", "gate", "up")]
    assert str(caught.value) == "\n".join(
        ["the loaded VLM lacks 24 of 45 language slots", *(f"  {name}" for name in names), f"hint: {FUSED}"]
    )


def test_experts_that_are_turned_as_they_load_are_blended_in_files_and_told_to_a_search(tmp_path: Path) -> None:
    """The hub's checkpoints have them turned: names pair, and what is blended live would not be what ships."""
    family = qwen3_vl_moe()
    write_parents(tmp_path, family)
    for name in ("vlm", "base", "one", "two"):
        tensors = load_file(tmp_path / name / WEIGHTS)
        turned = {key: value.mT.contiguous() if "experts" in key else value for key, value in tensors.items()}
        save_file(turned, tmp_path / name / WEIGHTS, metadata={"format": "pt"})
    blend(tmp_path, tmp_path / "out")
    assert answer(load(tmp_path / "out"), family) != answer(load(tmp_path / "vlm"), family)
    with pytest.raises(ParentsError) as caught:
        make_blender(make_plan(load_recipe(tmp_path / "recipe.yaml")), load(tmp_path / "vlm"))
    assert str(caught.value) == "\n".join(
        [
            "the loaded VLM holds other values than its files in 4 of 24 language slots",
            "  layers.0.mlp.experts.down_proj  (4, 24, 32) in the file   (4, 32, 24) in memory",
            "  layers.0.mlp.experts.gate_up_proj  (4, 32, 48) in the file   (4, 48, 32) in memory",
            "  layers.1.mlp.experts.down_proj  (4, 24, 32) in the file   (4, 32, 24) in memory",
            "  layers.1.mlp.experts.gate_up_proj  (4, 32, 48) in the file   (4, 48, 32) in memory",
            f"hint: {CONVERTED}",
        ]
    )


def test_experts_each_by_itself_do_not_pair_with_all_in_one_tensor(tmp_path: Path) -> None:
    write_parents(tmp_path / "one by one", llava_of_qwen3_moe())
    write_parents(tmp_path, qwen3_vl_moe())
    for name in ("base", "one", "two"):
        shutil.rmtree(tmp_path / name)
        shutil.copytree(tmp_path / "one by one" / name, tmp_path / name)
    with pytest.raises(ParentsError) as caught:
        make_plan(load_recipe(tmp_path / "recipe.yaml", ["blend.embeddings=vlm"]))
    assert caught.value.message == "parents do not fit: 28 of 47 language slots differ"
    assert caught.value.details[0] == (
        "`vlm`: 19 of 43 slots found under `model.language_model.`; no slot: "
        "model.language_model.layers.0.mlp.experts.down_proj, model.language_model.layers.0.mlp.experts.gate_up_proj, "
        "model.language_model.layers.1.mlp.experts.down_proj"
    )
    assert caught.value.hint == (
        "one parent may hold each expert by itself, and another all in one tensor: such two cannot be blended"
    )


def test_a_head_of_its_own_is_blended_though_a_config_that_is_silent_would_tie_it(
    written: Callable[[str], Path], tmp_path: Path
) -> None:
    """Mistral Small 3.1's config does not say, and transformers would tie it, but for what the files hold."""
    folder = shutil.copytree(written("Mistral 3"), tmp_path / "parents")
    file = folder / "vlm" / "config.json"
    config = json.loads(file.read_text())
    for part in (config, config["text_config"]):
        del part["tie_word_embeddings"]
    file.write_text(json.dumps(config))
    family, plan = mistral3(), make_plan(load_recipe(folder / "recipe.yaml"))
    assert HEAD in plan.anatomy.slots
    live = load(folder / "vlm")
    assert live.config.tie_word_embeddings
    make_blender(plan, live).write(plan.fixed_ratios())
    blend(folder, tmp_path / "out")
    assert answer(load(tmp_path / "out"), family) == answer(live, family)


def longer(prompt: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two more words, and another picture."""
    more = {"input_ids": [12, 13], "attention_mask": [1, 1]}
    per_token = {name for name, value in prompt.items() if value.shape == prompt["input_ids"].shape}
    grown = {name: torch.cat([prompt[name], torch.tensor([more.get(name, [0, 0])])], dim=1) for name in per_token}
    return {**prompt, **grown, "pixel_values": -prompt["pixel_values"]}


def of_two_pictures(prompt: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another picture before the question."""
    num_tokens = prompt["input_ids"].shape[1]
    again = [*range(num_tokens - len(QUESTION) + 1), *range(1, num_tokens)]
    per_token = {name for name, value in prompt.items() if value.shape == prompt["input_ids"].shape}
    # Some families have a picture's tiles before their pixels, with the samples in front.
    dimension = int(prompt["pixel_values"].ndim == 5 and "image_sizes" not in prompt)
    doubled = {
        name: value[:, again] if name in per_token else torch.cat([value, value]) for name, value in prompt.items()
    }
    pixels = torch.cat([prompt["pixel_values"], prompt["pixel_values"].flip(-1)], dim=dimension)
    return {**doubled, "pixel_values": pixels}


# Windows, running states, or pictures' tokens that attend to later ones.
WITHOUT_SHARING = {"PaliGemma", "PaliGemma 2", "Gemma 3", "LFM2-VL", "Qwen3.5"}
WITH_STATES = {"LFM2-VL", "Qwen3.5"}
DECODING: list[dict[str, Any]] = [{}, {"num_beams": 3, "repetition_penalty": 1.5}]


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_features_computed_once_say_what_the_pictures_say_alone_and_in_a_padded_batch(
    written: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    live = load(written(family) / "vlm")
    if family == "Mllama":
        with pytest.raises(CheckpointError) as caught:
            check_takes_features(live, "model")
        assert str(caught.value).startswith("model: MllamaForConditionalGeneration takes no precomputed picture feat")
        return
    check_takes_features(live, "model")
    prompt = FAMILIES[family]().prompt
    asked = [prompt, longer(prompt), of_two_pictures(prompt), longer(of_two_pictures(prompt))]
    prompts = [make_prompt(each, stored(look(live, each), tmp_path / "seen")) for each in asked]
    for decoding in DECODING:
        settings = {"max_new_tokens": 8, "pad_token_id": PAD, "eos_token_id": None, **decoding}
        endless = [plain_tokens(live, each, settings).tolist() for each in asked]
        settings["eos_token_id"] = max(chain(*endless), key=lambda end: len({len(cut(said, end)) for said in endless}))
        wanted = [cut(plain_tokens(live, each, settings).tolist(), settings["eos_token_id"]) for each in asked]
        assert decoding or len({len(tokens) for tokens in wanted}) > 1, "rows end one after the other"
        blind = put_away_eyes(live)
        alone = [decode(blind, [join([prompt])], settings)[0].tolist() for prompt in prompts]
        assert [cut(tokens, settings["eos_token_id"]) for tokens in alone] == wanted
        together = [tokens.tolist() for tokens in decode(blind, [join(prompts * 3)], settings)]
        assert [cut(tokens, settings["eos_token_id"]) for tokens in together] == wanted * 3
        if not decoding and can_join(blind):
            parts = [join(some) for some in (prompts[:1], prompts[1:], prompts[::-1] * 2)]
            in_parts = [tokens.tolist() for tokens in decode(blind, parts, settings)]
            assert [cut(tokens, settings["eos_token_id"]) for tokens in in_parts] == wanted + wanted[::-1] * 2
        if not decoding:
            assert (family in WITH_STATES) != can_join(blind)
            assert (family not in WITHOUT_SHARING) == can_share(blind, prompts[0], 200)
        if not decoding and family not in WITHOUT_SHARING:
            shared = find_shared(prompts * 3, blind.config.image_token_id)
            assert shared and shared.has_pictures and len(shared.rows) == len(prompts)
            at_once = decode(blind, [join_shared(prompts * 3, shared)], settings, shared)
            assert [cut(tokens.tolist(), settings["eos_token_id"]) for tokens in at_once] == wanted * 3
            before = cut_at(prompts, [1] * len(prompts), has_pictures=False)
            at_once = decode(blind, [join_shared(prompts, before)], settings, before)
            assert [cut(tokens.tolist(), settings["eos_token_id"]) for tokens in at_once] == wanted


def stored(seen: Seen, file: Path) -> Seen:
    """Features that were written and read again, bit for bit."""
    write_seen(file, seen)
    found = read_seen(file)
    assert found and len(found.deepstack_features or []) == len(seen.deepstack_features or [])
    file.unlink()
    return found


def put_away_eyes(model: Any) -> Any:
    """A copy of a model without its eyes: their memory is gone."""
    blind = copy.deepcopy(model)
    put_eyes(blind, "meta")
    assert blind.device.type == "cpu" and any(each.is_meta for each in blind.parameters())
    return blind


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "Mllama"])
def test_the_eyes_are_all_that_is_no_language_tower(written: Callable[[str], Path], family: str) -> None:
    folder = written(family)
    live, tower = load(folder / "vlm"), tower_of(folder)
    found = {id(tensor) for _, tensor in eye_tensors(live)}
    of_eyes = {name for name, tensor in live.named_parameters() if id(tensor) in found}
    num_eyes = sum(live.get_parameter(name).numel() for name in of_eyes)
    tensors = load_file(folder / "vlm" / WEIGHTS)
    assert num_eyes == sum(tensors[key].numel() for key in tower if tower[key] != "language")


def plain_tokens(model: Any, prompt: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    """What transformers alone says of pixels."""
    return model.generate(**prompt, **settings, do_sample=False)[0, prompt["input_ids"].shape[1] :]


def cut(tokens: list[int], end: int) -> list[int]:
    """Tokens up to the one that ends an answer; beams repeat that."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
