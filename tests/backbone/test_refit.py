"""`swap-vision --encoder`: any vision encoder's eyes, with a projector in closed form, as a folder that loads."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageOps
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlmmerge.anatomy.towers import language_tower
from vlmmerge.backbone.encoder import load_encoder
from vlmmerge.backbone.refit import ALL_VIEWS, views_of
from vlmmerge.backbone.targets import OldEyes
from vlmmerge.backbone.tower import load_processor
from vlmmerge.errors import CheckpointError, VlmMergeError
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import Generate

if TYPE_CHECKING:
    from conftest import Cli, Done

EncoderOf = Callable[[str], Path]

CPU = torch.device("cpu")

# How many tokens stand before each encoder's map of 4 x 4.
NUM_BEFORE = {
    "siglip": 0, "clip": 1, "vit": 1, "dinov2": 1, "dinov2 with registers": 5, "dinov3": 5, "aimv2": 0,
    "swin, in stages": 0, "convnext, convolutional": 0,
}  # fmt: skip


@pytest.mark.parametrize("kind", NUM_BEFORE)
def test_a_map_is_found_in_any_encoder(kind: str, encoder_of: EncoderOf) -> None:
    folder, num_before = encoder_of(kind), NUM_BEFORE[kind]
    encoder = load_encoder(folder, torch.float32, CPU)
    assert (encoder.grid, encoder.num_before, encoder.side, encoder.width) == ((4, 4), num_before, 24, 16)
    assert encoder.has_channels == kind.endswith("convolutional")
    picture = Image.new("RGB", (60, 60), "red")
    layers = (-1,) if encoder.has_channels else (-1, -2)
    assert encoder.look([picture] * 2, layers).shape == (2, max(0, num_before - 1) + 16, 16 * len(layers))
    old = load_encoder(folder, torch.float32, CPU, (3, 3))
    assert (old.grid, old.side, old.num_before) == ((3, 3), 18, num_before)


@pytest.mark.parametrize(
    "own",
    [
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 24, "width": 24}),
        transformers.DeiTImageProcessorPil(size={"height": 28, "width": 28}, crop_size={"height": 24, "width": 24}),
        transformers.ConvNextImageProcessorPil(size={"shortest_edge": 24}, crop_pct=0.5),
        transformers.PoolFormerImageProcessorPil(),
    ],
    ids=lambda own: type(own).__name__,
)
def test_nothing_is_cut_off_a_square_picture(own: Any, tmp_path: Path) -> None:
    """Each of these takes the middle of larger pictures: what stands in the corners would be lost."""
    own.save_pretrained(tmp_path)
    picture = Image.new("RGB", (24, 24))
    picture.putpixel((0, 0), (255, 255, 255))
    pixels = load_processor(tmp_path, 24)(images=[picture], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 24, 24) and pixels[0, 0, 0, 0] > pixels[0, 0, 5, 5]


def language_tensors(folder: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "model.safetensors")
    tower = language_tower({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    return {str(slot): tensors[key] for slot, key in tower.items()}


def swap(cli: "Cli", *arguments: object) -> Any:
    return cli.run("swap-vision", *arguments)


@pytest.fixture(scope="module")
def swapped(
    cli: "Cli", parents: Path, images: Path, encoder_of: EncoderOf, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], tuple[Path, "Done"]]:
    """The tiny VLM with the eyes of an encoder on a grid, made once, and the command that has ended."""

    @cache
    def made(kind: str, grid: str) -> tuple[Path, "Done"]:
        out = tmp_path_factory.mktemp("swapped") / "out"
        eyes = ("--encoder", encoder_of(kind), "--images", images, "--grid", grid, "--fit", "two-layer")
        done = swap(cli, parents / "vlm", *eyes, "--out", out, "--samples", 2, "--max-loss", 1, "--json")
        assert done.status == 0, done.err
        return out, done

    return made


KINDS_AND_GRIDS = [("dinov2 with registers", "new"), ("vit", "old"), ("convnext, convolutional", "old")]


@pytest.mark.parametrize(("kind", "grid"), KINDS_AND_GRIDS)
def test_the_folder_loads_as_a_llava_and_answers_and_its_language_tower_has_not_changed(
    kind: str, grid: str, parents: Path, images: Path, swapped: Callable[[str, str], tuple[Path, "Done"]]
) -> None:
    out, done = swapped(kind, grid)
    alignment, side = json.loads(done.out)["alignment"], 4 if grid == "new" else 3
    assert alignment["grid"] == [side, side] and alignment["tokens"] == side**2 + max(0, NUM_BEFORE[kind] - 1)
    assert 0 < alignment["relative_error"] < 1.5 and alignment["cosine"] > 0.3
    assert (alignment["num_train"], alignment["num_held_out"]) == (21, 3)
    assert "warning: only 21 pictures to fit to: relative error" in done.err
    assert f"warning: 1 picture skipped: {images / 'broken.jpg'}" in done.err
    model = AutoModelForImageTextToText.from_pretrained(out)
    inputs = AutoProcessor.from_pretrained(out).apply_chat_template(
        [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (40, 30))}]}],
        tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == alignment["tokens"]
    assert model(**inputs).logits.isfinite().all()
    own, made = (language_tensors(folder) for folder in (parents / "vlm", out))
    assert made.keys() == own.keys() and all(torch.equal(made[slot], own[slot]) for slot in own)
    assert "## Alignment" in (out / "README.md").read_text(encoding="utf-8")
    if "registers" not in kind:  # these stand before the map, and nothing tells how many
        assert OldEyes(LiveVlm(out, Generate())).grid == (side, side), "its eyes can be swapped again"


def test_a_models_own_eyes_are_fitted_without_error(cli: "Cli", parents: Path, images: Path, tmp_path: Path) -> None:
    """The old projector's hidden layer is linear in these features: two ridge regressions find it again."""
    vlm = AutoModelForImageTextToText.from_pretrained(parents / "vlm")
    vlm.model.vision_tower.save_pretrained(tmp_path / "own")
    AutoProcessor.from_pretrained(parents / "vlm").image_processor.save_pretrained(tmp_path / "own")
    for number in range(40):
        chance = np.random.default_rng(number)
        (tmp_path / "many").mkdir(exist_ok=True)
        picture = Image.fromarray(chance.integers(0, 256, (30, 30, 3), dtype=np.uint8))
        picture.save(tmp_path / "many" / f"{number}.png")
    eyes = ("--encoder", tmp_path / "own", "--images", tmp_path / "many", "--layer", -1, "--evalset", "none")
    done = swap(cli, parents / "vlm", *eyes, "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    alignment = json.loads(done.out)["alignment"]
    assert alignment["relative_error"] < 1e-3 and alignment["cosine"] > 0.999
    assert alignment["activation"] == "gelu" and alignment["layers"] == [-1]


def test_a_layer_that_is_not_there_is_told(encoder_of: EncoderOf) -> None:
    encoder = load_encoder(encoder_of("siglip"), torch.float32, CPU)
    encoder.check_layers((-4, -1, 0, 3))
    for layer in (-5, 4):
        with pytest.raises(VlmMergeError) as caught:
            encoder.check_layers((layer,))
        assert str(caught.value) == (
            f"this encoder has no layer {layer}\nhint: --layer takes 0 to 3, or -1 to -4 from the last one"
        )


def test_layers_of_another_shape_are_not_taken(encoder_of: EncoderOf) -> None:
    stages = load_encoder(encoder_of("swin, in stages"), torch.float32, CPU)
    stages.check_layers((1, 2, -1, -2))
    with pytest.raises(VlmMergeError, match=r"no layer 0\nhint: --layer takes 1 to 2, or -1 to -2 from the last one"):
        stages.check_layers((0,))
    lone = load_encoder(encoder_of("convnext, convolutional"), torch.float32, CPU)
    with pytest.raises(VlmMergeError, match=r"no layer -2\nhint: --layer takes -1 alone where features come as chan"):
        lone.check_layers((-2,))


def test_a_picture_has_four_views_the_first_two_of_which_are_itself_and_its_mirror_image() -> None:
    picture = Image.fromarray(np.arange(27, dtype=np.uint8).reshape(3, 3, 3))
    views = list(views_of([picture, picture], ALL_VIEWS))
    assert len(views) == 8 and len({view.tobytes() for view in views}) == 4
    itself, mirrored = views_of([picture], 2)
    assert itself == picture and mirrored == ImageOps.mirror(picture)


def test_an_encoder_without_a_map_is_refused(encoder_of: EncoderOf) -> None:
    folder = encoder_of("vit of one patch")
    with pytest.raises(CheckpointError) as caught:
        load_encoder(folder, torch.float32, CPU)
    assert str(caught.value).splitlines() == [
        f"{folder}: this encoder gives no map of features that a VLM can take",
        "  it gives 2 tokens of 24 x 24 pixels, which are no square map",
        "hint: give a vision transformer (CLIP, SigLIP, DINO, ViT, AIM ...), or a convolutional encoder of a class in "
        "transformers (EfficientNet, ResNet, ConvNeXt ...)",
    ]


def test_a_vlm_is_no_encoder(parents: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_encoder(parents / "vlm", torch.float32, CPU)
    assert "tensors of its vision tower are missing" in str(caught.value) and "--donor" in str(caught.value)


@pytest.mark.parametrize("kind", ["a language model", "an encoder without an image processor", "a folder of pictures"])
def test_what_is_no_encoder_is_told(
    kind: str, cli: "Cli", parents: Path, images: Path, encoder_of: EncoderOf, tmp_path: Path
) -> None:
    encoder = {"a language model": parents / "ja-llm", "a folder of pictures": images}.get(kind, tmp_path / "encoder")
    if kind == "an encoder without an image processor":
        shutil.copytree(encoder_of("vit"), encoder)
        (encoder / "preprocessor_config.json").unlink()
    done = swap(cli, parents / "vlm", "--encoder", encoder, "--images", images, "--out", tmp_path / "out")
    assert done.status == 1 and not (tmp_path / "out").exists()
    if kind == "a folder of pictures":
        assert f"error: {images}" in done.err and "config.json" in done.err
    else:
        assert f"error: {encoder}: transformers does not load it as a vision encoder\n" in done.err
        assert "hint: --encoder wants a folder or hub id with config.json, model.safetensors and preproc" in done.err


def test_a_model_that_is_no_vlm_is_told(
    cli: "Cli", parents: Path, images: Path, encoder_of: EncoderOf, tmp_path: Path
) -> None:
    encoder = encoder_of("siglip")
    done = swap(cli, parents / "ja-llm", "--encoder", encoder, "--images", images, "--out", tmp_path / "out")
    assert done.status == 1
    assert f"error: {parents / 'ja-llm'} is no vision-language model: it has no vision tower" in done.err


def test_pictures_are_needed_for_an_encoder(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    done = swap(cli, parents / "vlm", "--encoder", parents / "vlm", "--out", tmp_path / "out")
    assert (done.status, done.message) == (
        1, "error: --encoder and --images go together\nhint: --images is a folder of unlabelled pictures",
    )  # fmt: skip
    (tmp_path / "empty").mkdir()
    eyes = ("--encoder", parents / "vlm", "--images", tmp_path / "empty")
    done = swap(cli, parents / "vlm", *eyes, "--out", tmp_path / "out")
    assert done.status == 1 and f"error: too few pictures in {tmp_path / 'empty'}: none" in done.err


def test_a_swap_that_loses_too_much_writes_nothing_unless_it_is_forced(
    cli: "Cli", images: Path, encoder_of: EncoderOf, tmp_path: Path
) -> None:
    """The demo's VLM tells in English what it sees; eyes of random weights, fitted to noise, tell it nothing."""
    vlm = Path(__file__).parents[2] / "recipes/demo-parents/vlm"
    encoder = encoder_of("siglip")
    eyes = ("--encoder", encoder, "--images", images, "--out", tmp_path / "out")
    asked = ("--evalset", "ja-scenes:held_out_english", "--samples", 4, "--max-new-tokens", 24)
    before = sorted(tmp_path.iterdir())
    done = swap(cli, vlm, *eyes, *asked)
    assert done.status == 1
    assert "error: the new eyes lose " in done.err and "at most 15% may be lost; nothing was written" in done.err
    assert "alignment on 3 held-out pictures: relative error" in done.err
    assert "warning: the evalset's pictures are unlike those of --images: relative error" in done.err
    assert sorted(tmp_path.iterdir()) == before
    done = swap(cli, vlm, *eyes, *asked, "--force")
    assert done.status == 0 and "the new eyes keep" in done.out


def test_the_new_model_can_be_a_parent(
    cli: "Cli", parents: Path, swapped: Callable[[str, str], tuple[Path, "Done"]], tmp_path: Path
) -> None:
    new, _ = swapped("convnext, convolutional", "old")
    few = [
        "search.evaluations=1",
        "search.grid=0",
        "evalset.finals=",
        f"parents.vlm={new}",
        "generate.max_new_tokens=2",
    ]
    overrides = [word for text in few for word in ("--set", text)]
    done = cli.run("evolve", parents / "recipe.yaml", "--run", tmp_path / "run", *overrides)
    assert done.status == 0, done.err


def test_killed_at_any_moment_a_swap_leaves_its_input_and_no_half_written_folder(
    cli: "Cli", parents: Path, images: Path, encoder_of: EncoderOf, tmp_path: Path
) -> None:
    inputs = {file: file.read_bytes() for file in (parents / "vlm").iterdir()}
    arguments = ["swap-vision", parents / "vlm", "--encoder", encoder_of("vit"), "--images", images, "--max-loss", 1]
    arguments += ["--samples", 2, "--out", tmp_path / "out"]
    part = tmp_path / ".out.part"
    (cli.folder / "stderr").write_text("")  # not what an earlier command told
    process = cli.start(*arguments)
    while "skipped" not in (cli.folder / "stderr").read_text():  # the pictures are found, and nothing is loaded
        time.sleep(0.002)
    os.kill(process, signal.SIGINT)
    done = cli.wait()
    assert (done.status, list(tmp_path.iterdir())) == (130, []) and done.err.endswith("interrupted\n")
    process = cli.start(*arguments)
    while not (part / "processor_config.json").exists():  # the model is there already
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert cli.wait().status == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".out.part"]
    assert {file: file.read_bytes() for file in (parents / "vlm").iterdir()} == inputs
    done = cli.run(*arguments)
    assert done.status == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
