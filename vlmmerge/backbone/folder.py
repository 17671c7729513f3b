"""New eyes, projector and a model's language tower as an ordinary Hugging Face folder, of LLaVA's or FastVLM's shape.

Knows modules and processors. Does not know how the projector was fitted.
"""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from vlmmerge.backbone.encoder import Encoder
from vlmmerge.backbone.projector import Projector
from vlmmerge.errors import VlmMergeError
from vlmmerge.generate import LiveVlm


def check_language_tower(vlm: LiveVlm) -> None:
    """Check that a LLaVA can hold a model's language tower, and would use it as the model does.

    Raises:
        VlmMergeError: It cannot.
    """
    from transformers import AutoModel

    config, decoder = vlm.model.config.get_text_config(), vlm.model.get_decoder()
    with torch.device("meta"):
        held: Any = type(AutoModel.from_config(config))
    why = ""
    if held is not type(decoder):
        why = f"it is a {type(decoder).__name__}, which comes back as a {held.__name__}"
    elif "mrope_section" in (getattr(config, "rope_parameters", None) or {}):
        why = "it counts positions in pictures in three dimensions"
    elif "token_type_ids" in inspect.signature(vlm.model.forward).parameters:
        why = "it reads the tokens of a picture in both directions"
    elif vlm.model.config.get_text_config() is vlm.model.config or not hasattr(vlm.model.config, "image_token_id"):
        why = "its config names no image token"
    if why:
        raise VlmMergeError(
            f"{vlm.folder}: a LLaVA cannot use this language tower as it is used here: {why}",
            hint="--donor takes the eyes of another VLM of the same family",
        )


def make_llava(vlm: LiveVlm, encoder: Encoder, projector: Projector, layers: Sequence[int]) -> Any:
    """Put modules together as a LLaVA, or as a FastVLM, which is one for towers whose features come as channels.

    Args:
        vlm: Whose language tower and head there will be.
        encoder: The eyes, in the model's dtype.
        projector: In float32; it is cast to the model's dtype.
        layers: Whose features it takes.

    Returns:
        The model; its modules are shared, not copied.
    """
    from transformers import FastVlmConfig, FastVlmForConditionalGeneration, LlavaConfig, LlavaForConditionalGeneration

    old, eyes = vlm.model.config, copy.deepcopy(encoder.tower.config)
    eyes.hidden_size = encoder.width  # which not every vision config names
    text_config, names = old.get_text_config(), ("bos_token_id", "eos_token_id", "pad_token_id")
    make_config: Any = FastVlmConfig if encoder.has_channels else LlavaConfig
    make_model: Any = FastVlmForConditionalGeneration if encoder.has_channels else LlavaForConditionalGeneration
    config = make_config(
        vision_config=eyes, text_config=text_config, image_token_index=old.image_token_id,
        projector_hidden_act=projector.activation, vision_feature_layer=layers[0] if len(layers) == 1 else list(layers),
        vision_feature_select_strategy=_strategy(encoder), image_seq_length=encoder.num_tokens,
        tie_word_embeddings=bool(text_config.tie_word_embeddings), dtype=vlm.model.dtype,
        **{name: getattr(old, name) for name in names if hasattr(old, name)},
    )  # fmt: skip
    with torch.device("meta"):
        llava = make_model(config)
    fitted = copy.deepcopy(projector).to(vlm.device, vlm.model.dtype).state_dict()
    llava.model.multi_modal_projector.load_state_dict(fitted, assign=True)
    llava.model.vision_tower, llava.model.language_model = encoder.tower, vlm.model.get_decoder()
    llava.lm_head = vlm.model.get_output_embeddings()
    llava.generation_config = vlm.model.generation_config
    return llava.eval()


def make_processor(vlm: LiveVlm, encoder: Encoder) -> Any:
    """The new model's processor: the encoder's pictures, the model's tokenizer and chat template."""
    from transformers import LlavaProcessor

    tokenizer = vlm.processor.tokenizer
    return LlavaProcessor(
        encoder.processor, tokenizer, patch_size=encoder.patch_side, vision_feature_select_strategy=_strategy(encoder),
        image_token=tokenizer.convert_ids_to_tokens(vlm.model.config.image_token_id),
        num_additional_image_tokens=encoder.num_before,
        chat_template=getattr(vlm.processor, "chat_template", None) or tokenizer.chat_template,
    )  # fmt: skip


def write_llava(llava: Any, processor: Any, folder: Path) -> None:
    """Write model and processor into an empty folder."""
    llava.save_pretrained(folder)
    processor.save_pretrained(folder)


def _strategy(encoder: Encoder) -> Literal["default", "full"]:
    return "default" if encoder.drops_first else "full"
