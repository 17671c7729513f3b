"""A merge that was published in an old layout, which transformers stopped understanding, opens and leaves loadable.

EvoVLM-JP-v1 needs transformers <= 4.42.4: its config says `llava` and has left-over keys of LLaVA-NeXT, its rows are
padded to 64, its processor does not know how many features a picture has, and its template knows only texts.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from vlmmerge import cli
from vlmmerge.evalsets import load
from vlmmerge.evaluate import Evaluator
from vlmmerge.generate import LiveVlm, chat
from vlmmerge.generate.processor import taking_parts
from vlmmerge.plan import make_plan
from vlmmerge.recipe import Generate, load_recipe

WEIGHTS, IMAGE = "model.safetensors", 4
# Mistral's of early 2024, which puts a text in its place and knows no parts.
OLD_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
ONLY_VLM = "blend.ratios={vlm: {weight: 1.0}, ja: {weight: 0.0}}"
RATIOS = "blend.ratios={vlm: {weight: 0.8}, ja: {weight: 0.6, density: 0.7}}"
KEPT_OF_TEXT = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings", "model_type", "rms_norm_eps", "sliding_window",
)  # fmt: skip
KEPT_OF_EYES = (
    "hidden_size", "image_size", "intermediate_size", "model_type", "num_attention_heads", "num_hidden_layers",
    "patch_size", "projection_dim",
)  # fmt: skip


def write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")


def age_config(config: dict[str, Any], num_rows: int) -> dict[str, Any]:
    """The config as transformers 4.39 wrote it, with what LLaVA-NeXT had left behind."""
    text = {key: config["text_config"][key] for key in KEPT_OF_TEXT} | {"vocab_size": num_rows}
    return {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "ignore_index": -100,
        "image_grid_pinpoints": [[30, 60], [60, 30]], "use_image_newline_parameter": True,
        "image_token_index": config["image_token_index"], "projector_hidden_act": "gelu",
        "text_config": text | {"rope_theta": 10000.0, "torch_dtype": "bfloat16"}, "torch_dtype": "float32",
        "transformers_version": "4.39.0", "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        "vision_config": {key: config["vision_config"][key] for key in KEPT_OF_EYES}, "vocab_size": num_rows,
    }  # fmt: skip


def age(folder: Path) -> None:
    """Make of a VLM as transformers 5 writes it one of early 2024."""
    num_rows = 192
    tensors = {}
    for key, tensor in load_file(folder / WEIGHTS).items():
        more = (
            torch.zeros(num_rows - len(tensor), *tensor.shape[1:])
            if "embed_tokens" in key or "lm_head" in key
            else None
        )
        old = key.replace("vision_tower.", "vision_tower.vision_model.")
        tensors[old] = tensor if more is None else torch.cat([tensor, more])
    save_file(tensors | {"image_newline": torch.zeros(32)}, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / "config.json", age_config(json.loads((folder / "config.json").read_text()), num_rows))
    pictures = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    pictures = {**pictures, "image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"}
    write_json(folder / "preprocessor_config.json", pictures)
    file = folder / "tokenizer_config.json"
    tokenizer = json.loads(file.read_text())
    tokenizer = {key: value for key, value in tokenizer.items() if "image_token" not in key and "special" not in key}
    write_json(file, tokenizer | {"chat_template": OLD_TEMPLATE, "processor_class": "LlavaProcessor"})
    for name in ("processor_config.json", "chat_template.jinja"):
        (folder / name).unlink()


@pytest.fixture(scope="module")
def old_parents(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(parents, tmp_path_factory.mktemp("old") / "parents")
    age(folder / "vlm")
    return folder


def test_transformers_alone_cannot_ask_it(old_parents: Path) -> None:
    """What this is about: when it can, `processor.py` may go."""
    processor = transformers.AutoProcessor.from_pretrained(old_parents / "vlm")
    sample = load("ja-scenes", "search", 1)[0]
    with pytest.raises(ValueError, match="does not have a chat template"):
        chat(processor, sample, Generate())
    processor.chat_template = taking_parts(OLD_TEMPLATE, "<image>")
    with pytest.raises(TypeError, match="NoneType"):
        chat(processor, sample, Generate())


def test_it_is_asked_as_the_model_of_today_that_it_was_made_of(parents: Path, old_parents: Path) -> None:
    """The same eyes, the same rows: the same prompt, but for the template, and as many features."""
    samples = load("ja-scenes", "search", 2)
    old, new = (LiveVlm(folder / "vlm", Generate(max_new_tokens=4)) for folder in (old_parents, parents))
    for one, other in zip(old.prepare(samples), new.prepare(samples), strict=True):
        assert (one.token_ids == IMAGE).sum() == (other.token_ids == IMAGE).sum() == 9
    text = old.processor.tokenizer.decode(old.prepare(samples)[0].token_ids)
    assert text.startswith("<s>[INST]") and "<image>" in text and text.endswith("[/INST]")


def test_it_opens_as_a_parent_and_leaves_loadable(old_parents: Path, tmp_path: Path) -> None:
    recipe, out = old_parents / "recipe.yaml", tmp_path / "out"
    assert cli.main(["blend", str(recipe), "--out", str(out), "--set", RATIOS]) == 0
    evaluator = Evaluator(make_plan(load_recipe(recipe, [RATIOS])))
    answers = evaluator.hold_out(evaluator.plan.fixed_ratios())["answers"]
    assert any(answers)

    # As anybody would, with transformers alone.
    processor = transformers.AutoProcessor.from_pretrained(out)
    model = transformers.AutoModelForImageTextToText.from_pretrained(out).eval()
    settings = evaluator.plan.recipe.generate
    for sample, answer in zip(evaluator.held_out_exam.samples, answers, strict=True):
        inputs = chat(processor, sample, settings)
        said = model.generate(**inputs, max_new_tokens=settings.max_new_tokens, do_sample=False)
        assert processor.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip() == answer

    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (old_parents / "vlm", out)
    )
    ours = {"README.md", "vlmmerge.json", "processor_config.json", "chat_template.jinja"}
    assert after.keys() - before.keys() == ours
    assert all(after[name] == content for name, content in before.items() if name != WEIGHTS)
    settings_written = json.loads(after["processor_config.json"])
    assert settings_written == {
        "processor_class": "LlavaProcessor",
        "patch_size": 10,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }


def test_a_parent_that_lacks_nothing_is_left_as_it_is(old_parents: Path, tmp_path: Path) -> None:
    """What such a merge became is a parent in its turn."""
    folder = shutil.copytree(old_parents, tmp_path / "parents")
    for out in (tmp_path / "out", tmp_path / "again"):
        assert cli.main(["blend", str(folder / "recipe.yaml"), "--out", str(out), "--set", ONLY_VLM]) == 0
        shutil.rmtree(folder / "vlm")
        shutil.copytree(out, folder / "vlm")
    once, twice = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("out", "again"))
    assert once.keys() == twice.keys()
    assert all(twice[name] == once[name] for name in once.keys() - {"README.md", "vlmmerge.json"})


def test_a_template_with_texts_alone_says_the_same_of_texts() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()), bos_token="<s>", eos_token="</s>"
    )
    texts = [
        {"role": "user", "content": "一"},
        {"role": "assistant", "content": "二"},
        {"role": "user", "content": "三"},
    ]
    parts = [{**texts[0], "content": [{"type": "image"}, {"type": "text", "text": "一"}]}, *texts[1:]]
    mended = taking_parts(OLD_TEMPLATE, "<image>")
    said = tokenizer.apply_chat_template(texts, chat_template=OLD_TEMPLATE, tokenize=False)
    assert said == "<s>[INST] 一 [/INST]二</s>[INST] 三 [/INST]"
    assert tokenizer.apply_chat_template(texts, chat_template=mended, tokenize=False) == said
    with_picture = tokenizer.apply_chat_template(parts, chat_template=mended, tokenize=False)
    assert with_picture == said.replace("一", "<image>\n一")
    modern = "{% for part in message['content'] %}{{ part['type'] }}{% endfor %}"
    assert taking_parts(modern, "<image>") == modern
