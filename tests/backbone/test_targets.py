"""Which models' eyes can be replaced by an encoder's: families of each kind, with real processors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, LlavaProcessor

from vlmmerge.backbone.folder import check_language_tower
from vlmmerge.backbone.targets import OldEyes
from vlmmerge.errors import VlmMergeError
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import Generate

if TYPE_CHECKING:
    from conftest import Cli

IMAGE = 4  # the token of the tests' tokenizer
TEXT: dict[str, Any] = dict(
    vocab_size=180, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
)  # fmt: skip
EYES: dict[str, Any] = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, image_size=16, patch_size=8
)
ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_EYES = dict(
    depth=2, hidden_size=32, out_hidden_size=32, intermediate_size=64, num_heads=4, patch_size=4,
    num_position_embeddings=16, deepstack_visual_indexes=[0],
)  # fmt: skip
SIDE = {"height": 16, "width": 16}
SQUARE = transformers.SiglipImageProcessorPil(size=SIDE)


def deep_stacked() -> Any:
    text = {**TEXT, "head_dim": 8, "rope_parameters": ROTARY}
    others = dict(video_token_id=7, vision_start_token_id=5, vision_end_token_id=6)
    return transformers.Qwen3VLConfig(text_config=text, vision_config=QWEN_EYES, image_token_id=IMAGE, **others)


def resampled() -> Any:
    perceiver = dict(
        resampler_n_latents=4, resampler_depth=1, resampler_n_heads=4, resampler_head_dim=8, num_key_value_heads=2,
        hidden_size=32,
    )  # fmt: skip
    text = transformers.MistralConfig(**TEXT)
    return transformers.Idefics2Config(
        vision_config=EYES, text_config=text, perceiver_config=perceiver, image_token_id=IMAGE
    )


def both_ways() -> Any:
    text = {**TEXT, "head_dim": 8, "query_pre_attn_scalar": 8}
    eyes = {**EYES, "patch_size": 4, "model_type": "siglip_vision_model", "vision_use_head": False}
    return transformers.Gemma3Config(
        vision_config=eyes, text_config=text, image_token_index=IMAGE, mm_tokens_per_image=4
    )


def tiled() -> Any:
    return transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**EYES), text_config=transformers.MistralConfig(**TEXT),
        image_token_index=IMAGE, vision_feature_layer=-1, image_grid_pinpoints=[[16, 32], [32, 16]],
        image_seq_length=4,
    )  # fmt: skip


def oblong() -> Any:
    """Two tiles, and no picture as a whole: no square map."""
    eyes = transformers.InternVLVisionConfig(**{**EYES, "image_size": [16, 16], "patch_size": [4, 4]})
    return transformers.InternVLConfig(
        vision_config=eyes, text_config=transformers.Qwen2Config(**TEXT), image_token_id=IMAGE, image_seq_length=4,
        vision_feature_layer=-1,
    )  # fmt: skip


@pytest.fixture
def write_model(parents: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a model of random weights with a processor: pictures by `pictures`, else as LLaVA's."""

    def write(config: Any, pictures: Any = SQUARE, make: Any = LlavaProcessor, **more: Any) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            model = AutoModelForImageTextToText.from_config(config)
        folder, tokenizer = tmp_path / "model", AutoTokenizer.from_pretrained(parents / "vlm")
        model.save_pretrained(folder)
        more = {"patch_size": 8, "image_token": "<image>", "chat_template": tokenizer.chat_template} | more
        make(pictures, tokenizer, **more).save_pretrained(folder)
        return folder

    return write


def refusal(check: Callable[[LiveVlm], object], folder: Path) -> str:
    with pytest.raises(VlmMergeError) as caught:
        check(LiveVlm(folder, Generate()))
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (deep_stacked, "it counts positions in pictures in three dimensions"),
        (both_ways, "it reads the tokens of a picture in both directions"),
    ],
)
def test_a_language_tower_that_a_llava_would_use_otherwise_is_refused(
    make: Callable[[], Any], why: str, write_model: Callable[..., Path]
) -> None:
    folder = write_model(make())
    assert refusal(check_language_tower, folder) == (
        f"{folder}: a LLaVA cannot use this language tower as it is used here: {why}\n"
        "hint: --donor takes the eyes of another VLM of the same family"
    )


RESAMPLED = "they come out of a resampler, whose tokens stand for no part of the picture"
DEEP = "they also go into deeper layers of the language tower"


@pytest.mark.parametrize(
    ("make", "pictures", "why"),
    [
        (deep_stacked, transformers.Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=1024), DEEP),
        (resampled, transformers.Idefics2ImageProcessorPil(size={"shortest_edge": 16, "longest_edge": 16}), RESAMPLED),
        (
            oblong,
            transformers.GotOcr2ImageProcessorPil(size=SIDE, crop_to_patches=True, min_patches=2, max_patches=2),
            "12 of a square picture are no square map",
        ),
    ],
)
def test_features_that_are_no_map_are_refused(
    make: Callable[[], Any], pictures: Any, why: str, write_model: Callable[..., Path]
) -> None:
    folder = write_model(make(), pictures)
    assert refusal(OldEyes, folder) == (
        f"{folder}: new eyes cannot be fitted to this model's features: {why}\n"
        "hint: --donor takes another VLM's eyes without fitting"
    )


def test_a_refusal_is_a_message_and_nothing_is_written(
    cli: "Cli", write_model: Callable[..., Path], images: Path, encoder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, out = write_model(resampled()), tmp_path / "out"
    done = cli.run("swap-vision", folder, "--encoder", encoder_of("vit"), "--images", images, "--out", out)
    assert done.status == 1 and f"error: {folder}: new eyes cannot be fitted to this model's features" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_tiled_models_picture_is_seen_whole_and_becomes_a_llava_without_tiles(
    cli: "Cli", write_model: Callable[..., Path], images: Path, encoder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    pictures = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size=SIDE, image_grid_pinpoints=[[16, 32], [32, 16]]
    )
    folder = write_model(tiled(), pictures, transformers.LlavaNextProcessor, vision_feature_select_strategy="default")
    eyes, out = ("--encoder", encoder_of("siglip"), "--images", images, "--evalset", "none"), tmp_path / "out"
    done = cli.run("swap-vision", folder, *eyes, "--out", out, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["alignment"]["grid"] == [2, 2]
    model, processor = AutoModelForImageTextToText.from_pretrained(out), AutoProcessor.from_pretrained(out)
    content = [{"type": "image", "image": Image.new("RGB", (60, 30))}, {"type": "text", "text": "何色ですか？"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert int((inputs["input_ids"] == IMAGE).sum()) == 4 and model(**inputs).logits.isfinite().all()
