"""How a language tower computes, as its config tells: what no tensor's shape betrays, and blends only suffer.

Knows configs in the spellings of several years of transformers. Does not know tensors, nor other parents.
"""

from collections.abc import Mapping
from typing import Any

from vlmmerge.inspection.defaults import class_defaults

# A VLM's config keeps its language tower's settings under one of these; an LLM's, and some VLMs', are at its top.
WITHIN = ("text_config", "llm_config", "language_config")
# Where a class says nothing either.
ROPE_THETA = 10_000.0
# What rope's settings hold besides scaling; sections (mrope) move pictures' tokens alone, a text's as ever.
NO_SCALING = ("rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved")
SPECIAL_TOKENS = ("bos", "eos", "pad")


def read_traits(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read how the language tower computes.

    Args:
        config: The parsed config.json of an LLM or a VLM.

    Returns:
        Values that JSON can hold, by trait; without those that neither the config nor its model's class states. None
        is a value: no sliding window, no scaling.

    >>> traits = read_traits({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "rope_theta": 5e5})
    >>> traits["rope_theta"], traits["head_dim"], traits["key_value_heads"], traits["sliding_window"]
    (500000.0, 16, 4, None)
    """
    text = language_config(config)
    stated = {key: value for key, value in text.items() if value is not None or key == "sliding_window"}
    defaults = class_defaults(str(text.get("model_type", "")))
    settings = {**defaults, **stated}
    rope = _rope(stated)
    thetas = {"rope_theta": defaults.get("default_theta", ROPE_THETA)} if defaults else {}
    found = {
        "architecture": settings.get("model_type"),
        "hidden_size": settings.get("hidden_size"),
        "intermediate_size": settings.get("intermediate_size"),
        "attention_heads": settings.get("num_attention_heads"),
        "key_value_heads": settings.get("num_key_value_heads") or settings.get("num_attention_heads"),
        "head_dim": settings.get("head_dim") or _head_dim(settings),
        "activation": settings.get("hidden_activation") or settings.get("hidden_act"),
        "norm_epsilon": settings.get("rms_norm_eps", settings.get("layer_norm_eps")),
        "rope_theta": _of_layers(rope, "rope_theta") or settings.get("rope_theta") or thetas.get("rope_theta"),
        "max_positions": settings.get("max_position_embeddings"),
    }
    known = {trait: value for trait, value in found.items() if value is not None}
    if defaults or "sliding_window" in stated:
        known["sliding_window"] = settings.get("sliding_window") if settings.get("use_sliding_window", True) else None
    if defaults or rope:
        known["rope_scaling"] = _scaling(rope)
    return known


def language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the language tower within a model's config."""
    return next((config[key] for key in WITHIN if isinstance(config.get(key), dict)), config)


def read_special_tokens(config: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """Read which tokens begin, end and pad a text: by their numbers, as generating takes them.

    Args:
        config: The parsed config.json.
        generation: The parsed generation_config.json; empty where there is none.
    """
    places = (generation, language_config(config), config)
    found = {name: [place.get(f"{name}_token_id") for place in places] for name in SPECIAL_TOKENS}
    known = {name: next((value for value in values if value is not None), None) for name, values in found.items()}
    return {f"{name}_token": value for name, value in known.items() if value is not None}


def _rope(stated: Mapping[str, Any]) -> dict[str, Any]:
    """What the config says of rope, whichever of two keys it says it under, of all layers or of each kind."""
    said = stated.get("rope_parameters") or stated.get("rope_scaling")
    return dict(said) if isinstance(said, dict) else {}


def _of_layers(rope: Mapping[str, Any], key: str) -> Any:
    """A setting of all layers, or of each kind of layer."""
    kinds = {kind: value.get(key) for kind, value in rope.items() if isinstance(value, dict) and key in value}
    return rope.get(key) or kinds or None


def _scaling(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of rope's settings bends a text's positions; None where nothing is left."""
    left = {}
    for key, value in rope.items():
        if isinstance(value, dict):
            value = _scaling(value)
        is_plain = key in ("rope_type", "type") and value in ("default", "mrope")
        if value is not None and key not in NO_SCALING and not is_plain:
            left["rope_type" if key == "type" else key] = value
    return left or None


def _head_dim(settings: Mapping[str, Any]) -> int | None:
    hidden, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None
