"""A CLIP-like model: pictures and texts as unit vectors of one space, where what belongs together lies close.

Knows transformers' way to load such a model and to ask it. Does not know scores. Pictures and texts go through one at a
time, in float32, so that no vector depends on what else is read.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vlmmerge.checkpoint import Checkpoint, open_checkpoint
from vlmmerge.checkpoint.loading import load_part
from vlmmerge.errors import CheckpointError, ScoreError
from vlmmerge.evalsets import Sample
from vlmmerge.score.metric import Array
from vlmmerge.score.segment import readable

WANTED = (
    "give a folder or hub id with safetensors, a processor, and get_text_features and get_image_features in a class of "
    "transformers' own, such as google/siglip-base-patch16-256-multilingual"
)
NUM_KEPT = 2**14  # texts; candidates of one search give many answers more than once


class Clip:
    """A loaded model; made by `open_clip`.

    Attributes:
        limit: The most tokens of a text that it reads.
        signature: What it is, for signatures: its kind and the checksum of all its files.
        text: A text to its unit vector, shape (dimensions,), and whether the text was cut; kept for the next time.
    """

    def __init__(self, checkpoint: Checkpoint, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        # The tokenizer alone may know no limit, and the model alone may count its padding's place too.
        self.limit = min(processor.tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
        self.signature = f"clip:{checkpoint.config.get('model_type')}-{checkpoint.checksum[:12]}"
        self.text: Callable[[str], tuple[Array, bool]] = functools.lru_cache(NUM_KEPT)(self._read)
        self._pictures: dict[bytes, Array] = {}

    def picture(self, encoded: bytes, name: str) -> Array:
        """A picture to its unit vector, shape (dimensions,), computed once.

        Args:
            encoded: Its file.
            name: What messages call its sample.

        Raises:
            EvalsetError: It cannot be read.
        """
        if encoded not in self._pictures:
            self._pictures[encoded] = self._look(encoded, name)
        return self._pictures[encoded]

    def _read(self, text: str) -> tuple[Array, bool]:
        tokenizer, text = self._processor.tokenizer, readable(text)
        is_cut = len(tokenizer(text, verbose=False)["input_ids"]) > self.limit
        # Some kinds were trained on full length alone and read the last place; the others do not see the padding.
        padding = "max_length" if tokenizer.pad_token is not None else False
        inputs = tokenizer(text, padding=padding, truncation=True, max_length=self.limit, return_tensors="pt")
        return self._features(self._model.get_text_features, inputs), is_cut

    def _look(self, encoded: bytes, name: str) -> Array:
        from vlmmerge.evalsets.pictures import read_images

        (image,) = read_images(Sample(name, (encoded,), "", ()))
        inputs = self._processor.image_processor(images=image, return_tensors="pt")
        return self._features(self._model.get_image_features, inputs)

    def _features(self, see: Callable[..., Any], inputs: Mapping[str, Any]) -> Array:
        import torch

        taken = inspect.signature(see).parameters
        with torch.inference_mode():
            found = see(**{key: value.to(self._model.device) for key, value in inputs.items() if key in taken})
        vector: Array = getattr(found, "pooler_output", found)[0].double().cpu().numpy()
        length = np.linalg.norm(vector)
        if not 0 < length < np.inf:
            raise ScoreError("the CLIP-like model gives features that are not finite, or all 0", hint=WANTED)
        return vector / length


@functools.lru_cache(maxsize=1)  # every metric and split of a run asks for the same one
def open_clip(where: str) -> Clip:
    """Load a CLIP-like model, from safetensors, with no code but transformers' own.

    Args:
        where: A local folder or hub id.

    Raises:
        CheckpointError: There is no such checkpoint, or it is malformed.
        ScoreError: It is of another kind, or weights are missing.
    """
    from vlmmerge.generate import best_device, load_processor

    checkpoint = open_checkpoint(where)
    try:
        processor = load_processor(checkpoint.folder)
        model = load_part(checkpoint.folder, _load_model, trusts_code=False)
    except CheckpointError as error:
        raise _no_clip(where, error.details or [error.message]) from None
    if getattr(processor, "image_processor", None) is None:
        raise _no_clip(where, ["its processor reads no pictures"])
    return Clip(checkpoint, model.to(best_device()).eval(), processor)


def _load_model(*arguments: Any, **settings: Any) -> Any:
    import torch
    from transformers import AutoModel

    model, told = AutoModel.from_pretrained(
        *arguments, **settings, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    lacking = [name for name in ("get_text_features", "get_image_features") if not hasattr(model, name)]
    if lacking or not hasattr(model.config, "text_config"):
        raise ValueError(f"{type(model).__name__} has no {' and no '.join(lacking or ['text_config'])}")
    if missing := sorted(told["missing_keys"]):  # transformers would draw them at random
        raise ValueError(f"its files lack {len(missing)} of its weights, such as {missing[0]}")
    return model


def _no_clip(where: str, details: Sequence[str]) -> ScoreError:
    return ScoreError(f"{where} is no CLIP-like model that can be used here", details=details, hint=WANTED)
