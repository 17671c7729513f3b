"""What the processors of old checkpoints lack, and transformers wants by now: taken from the model, in this one place.

Until transformers 4.42 a model of LLaVA's kind put the picture's features in the place of one image token itself. Since
then the processor repeats that token, and for that it must know how many features a picture has; and it renders the
chat, with a template that takes a message in parts. A checkpoint of those days (EvoVLM-JP-v1, for one) has weights and
config that load as ever, and a processor that fails when it is first asked. What it lacks is filled in from the
config and the weights' names:

    patch_size                       the vision config's
    vision_feature_select_strategy   the config's
    num_additional_image_tokens      1 where the vision tower has a class token, which no such processor may ignore
    chat_template                    the tokenizer's, made to take messages in parts where it knows only texts

An export of such a parent gets these in `processor_config.json` and `chat_template.jinja`: the only files of an export
that differ from the parent's, but for weights, provenance and card. Nothing that a processor already says is changed.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlmmerge.checkpoint import Checkpoint
from vlmmerge.checkpoint.jsonfile import read_object
from vlmmerge.checkpoint.loading import load_part
from vlmmerge.errors import CheckpointError

SETTINGS, TEMPLATE = "processor_config.json", "chat_template.jinja"
# Joins a message's parts to a text, for a template that can do no more than put a text in its place.
JOIN_PARTS = """\
{%- set joined = namespace(messages=[], text='') -%}
{%- for message in messages -%}
{%- set joined.text = message['content'] if message['content'] is string else '' -%}
{%- for part in (message['content'] if message['content'] is not string else []) -%}
{%- set joined.text = joined.text + ('IMAGE\\n' if part['type'] == 'image' else part['text']) -%}
{%- endfor -%}
{%- set joined.messages = joined.messages + [{'role': message['role'], 'content': joined.text}] -%}
{%- endfor -%}
{%- set messages = joined.messages -%}
"""


def complete(processor: Any, config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Give a processor what it lacks, in place.

    Args:
        processor: As transformers loaded it.
        config: The model's, as plain values.
        keys: The model's, in its files or live: they tell whether there is a class token.

    Returns:
        What it was given, new and perhaps empty: settings, and `chat_template`.
    """
    has_class_token = any(key.rsplit(".", 1)[-1] in ("class_embedding", "cls_token") for key in keys)
    known = {
        "patch_size": (None, (config.get("vision_config") or {}).get("patch_size")),
        "vision_feature_select_strategy": (None, config.get("vision_feature_select_strategy")),
        "num_additional_image_tokens": (0, 1 if has_class_token else None),
    }
    given = {
        name: value
        for name, (lacking, value) in known.items()
        if value is not None and getattr(processor, name, value) == lacking
    }
    own, tokenizers = getattr(processor, "chat_template", None), getattr(processor, "tokenizer", None)
    if own is None and isinstance(template := getattr(tokenizers, "chat_template", None), str):
        given["chat_template"] = taking_parts(template, str(getattr(processor, "image_token", "<image>")))
    for name, value in given.items():
        setattr(processor, name, value)
    return given


def taking_parts(template: str, image_token: str) -> str:
    """A chat template that takes messages in parts, pictures among them, besides texts.

    A template that looks at a part's `type` does so already and is returned as it is.
    """
    return template if "type" in template else JOIN_PARTS.replace("IMAGE", image_token) + template


def write_missing(vlm: Checkpoint, folder: Path) -> None:
    """Write what the VLM parent's processor lacks into a folder that holds a copy of its files.

    Only a parent whose config has a `vision_feature_select_strategy`, and whose processor's settings are not all
    written down, is looked at, for loading a processor takes seconds; one that has no processor is left without.
    """
    file = folder / SETTINGS
    written = read_object(file) if file.exists() else {}
    if (
        "vision_feature_select_strategy" not in vlm.config
        or {"patch_size", "num_additional_image_tokens"} <= written.keys()
    ):
        return
    from transformers import AutoProcessor

    try:
        processor = load_part(folder, AutoProcessor.from_pretrained, trusts_code=False)
    except CheckpointError:
        return
    given = complete(processor, vlm.config, vlm.tensors)
    if template := given.pop("chat_template", None):
        (folder / TEMPLATE).write_text(template, encoding="utf-8")
    if given:
        settings = {"processor_class": type(processor).__name__, **written, **given}
        file.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
