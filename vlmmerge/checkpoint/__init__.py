"""A checkpoint, on disk or on the hub, believed in nothing: config, headers, tokenizer; lazy reads."""

from vlmmerge.checkpoint.opening import MODEL_CARD, Checkpoint, open_checkpoint, open_headers

__all__ = ["MODEL_CARD", "Checkpoint", "open_checkpoint", "open_headers"]
