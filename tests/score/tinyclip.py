"""Tiny CLIP-like checkpoints as transformers writes them: random weights, and a tokenizer of characters."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

SIDE, LIMIT = 16, 12
CHARACTERS = sorted(set("白い犬が芝生の上を走っています。赤いバス道路に停青空雲浮猫眠鳥枝駅人abcdeghinrst "))
VOCABULARY = {token: row for row, token in enumerate(["<pad>", "<unk>", *CHARACTERS, "<s>", "</s>"])}
TEXT = dict(
    vocab_size=len(VOCABULARY), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=LIMIT, pad_token_id=0, bos_token_id=VOCABULARY["<s>"],
    eos_token_id=VOCABULARY["</s>"], projection_size=16,
)  # fmt: skip
EYES = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8
)


def write_clip(folder: Path, *, seed: int = 0) -> Path:
    """Write a CLIP, the same each time for a seed; returns its folder."""
    config = CLIPConfig(text_config=TEXT, vision_config=EYES, projection_dim=16)
    side = {"height": SIDE, "width": SIDE}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=side)
    return write(folder, CLIPModel, config, CLIPProcessor(pictures, make_tokenizer()), seed)


def write_siglip(folder: Path, *, seed: int = 0) -> Path:
    """Write a SigLIP, which reads the last place of a text, so that padding moves its features."""
    config = SiglipConfig(text_config=TEXT, vision_config=EYES)
    pictures = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return write(folder, SiglipModel, config, SiglipProcessor(pictures, make_tokenizer()), seed)


def write_siglip2(folder: Path, *, seed: int = 0) -> Path:
    """Write a SigLIP 2 of pictures in any shape: patches, a mask and a grid."""
    eyes = {key: value for key, value in EYES.items() if key != "image_size"}
    config = Siglip2Config(text_config=TEXT, vision_config=eyes | {"num_patches": 16})
    pictures = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    return write(folder, Siglip2Model, config, Siglip2Processor(pictures, make_tokenizer()), seed)


def write_pair(folder: Path, *, seed: int = 0) -> Path:
    """Write a picture encoder and a BERT with a projection each, as many Japanese CLIPs are made."""
    bert = BertConfig(**{key: value for key, value in TEXT.items() if not key.startswith(("bos", "eos", "projection"))})
    config = VisionTextDualEncoderConfig.from_vision_text_configs(CLIPVisionConfig(**EYES), bert, projection_dim=16)
    side = {"height": SIDE, "width": SIDE}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=side)
    processor = VisionTextDualEncoderProcessor(pictures, make_tokenizer())
    return write(folder, VisionTextDualEncoderModel, config, processor, seed)


def write(folder, model_class, config, processor, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
        for parameter in model.parameters():  # wide enough for no text to be like another
            if parameter.ndim > 1:
                parameter.data = torch.randn(parameter.shape) * 1.5 / parameter[0].numel() ** 0.5
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token a character, and one at either end."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(each, VOCABULARY[each]) for each in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        model_max_length=LIMIT,
    )  # fmt: skip
