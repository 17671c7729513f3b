"""What new eyes are fitted to: the old eyes' projected features of a square picture, as a map.

Where the old projector has LLaVA's shape, what goes into its activation is told, too: a linear map comes much nearer to
that than to what comes out in the end. Knows a live model by what its `get_image_features` gives. Does not know the new
eyes.
"""

import math
import re
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlmmerge.backbone.grid import Grid
from vlmmerge.errors import VlmMergeError
from vlmmerge.generate import LiveVlm
from vlmmerge.generate.features import look

TRIAL_SIDE = 448  # of a blank picture
RESAMPLER = re.compile(r"resampl|perceiver|q_?former|query_tokens")


class OldEyes:
    """The eyes of a model, looked through one picture at a time.

    Args:
        vlm: The model.

    Raises:
        VlmMergeError: Its features are no map of the picture.
    """

    def __init__(self, vlm: LiveVlm) -> None:
        self.vlm = vlm
        config = vlm.model.config.to_dict()
        if any(RESAMPLER.search(name) for name in vlm.parameters()):
            raise self._refused("they come out of a resampler, whose tokens stand for no part of the picture")
        # Where a picture is seen whole first, and then tile by tile, it is the whole that is a map.
        self._base = _base_side(config) if config.get("image_grid_pinpoints") else None
        self._hidden: list[Tensor] = []
        projector = _projector(vlm.model)
        self.activation: str | None = config.get("projector_hidden_act") if projector else None
        if projector and self.activation:
            projector.linear_1.register_forward_hook(lambda module, given, made: self._hidden.append(made))
        features, self.grid = self.look(Image.new("RGB", (TRIAL_SIDE, TRIAL_SIDE)))
        self.num_outputs = features.shape[1] // (2 if self.activation else 1)

    @property
    def features(self) -> slice:
        """Which columns of what `look` tells are projected features."""
        return slice(self.num_outputs)

    @property
    def hidden(self) -> slice | None:
        """Which columns go into the projector's activation, if that is known."""
        return slice(self.num_outputs, 2 * self.num_outputs) if self.activation else None

    @torch.inference_mode()
    def look(self, picture: Image.Image) -> tuple[Tensor, Grid]:
        """Look at one square picture.

        Returns:
            Float32 of shape (rows * columns, width), new, and the map's rows and columns. The columns of the features
            are `features` and `hidden`.
        """
        processor, model = self.vlm.processor.image_processor, self.vlm.model
        inputs = processor(images=[picture], return_tensors="pt").to(self.vlm.device)
        self._hidden.clear()
        seen = look(model, inputs)
        if seen.deepstack_features is not None:
            raise self._refused("they also go into deeper layers of the language tower")
        features = self._map(torch.cat([part.reshape(-1, part.shape[-1]) for part in seen.pooler_output]))
        side = math.isqrt(len(features))
        if self._hidden:
            hidden = self._map(self._hidden[0].reshape(-1, self._hidden[0].shape[-1]))
            features = torch.cat([features, hidden], -1)
        return features.float(), (side, side)

    def _map(self, features: Tensor) -> Tensor:
        """The rows that are a map of the picture."""
        side = self._base or math.isqrt(len(features))
        if self._base is None and len(features) - side * side not in (0, 1):
            raise self._refused(f"{len(features)} of a square picture are no square map")
        start = 0 if self._base else len(features) - side * side  # a class token may stand before the map
        return features[start : start + side * side]

    def _refused(self, why: str) -> VlmMergeError:
        return VlmMergeError(
            f"{self.vlm.folder}: new eyes cannot be fitted to this model's features: {why}",
            hint="--donor takes another VLM's eyes without fitting",
        )


def _base_side(config: dict[str, Any]) -> int:
    eyes = config["vision_config"]
    return int(eyes["image_size"]) // int(eyes["patch_size"])


def _projector(model: Any) -> Any:
    """The projector, if it has LLaVA's shape: two linear maps of equal outputs with an activation between."""
    for module in model.modules():
        if all(hasattr(module, name) for name in ("linear_1", "act", "linear_2")):
            first, second = module.linear_1, module.linear_2
            return module if first.out_features == second.in_features == second.out_features else None
    return None
