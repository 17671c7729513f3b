"""CLIPScore and RefCLIPScore, against the formula in plain torch on what transformers alone makes of the same files."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

from tests.score.equipment import picture
from tests.score.tinyclip import LIMIT, write_clip, write_pair, write_siglip, write_siglip2
from vlmmerge.errors import CheckpointError, EvalsetError, ScoreError
from vlmmerge.evalsets import Sample
from vlmmerge.evalsets.pictures import read_images
from vlmmerge.score import Targets, paired_difference, prepare
from vlmmerge.score.clip import WANTED
from vlmmerge.score.clipscore import clip_score, ref_clip_score

COLOURS = ("red", "blue", "green", "orange", "black")
PICTURES = tuple(picture(colour) for colour in COLOURS)
REFERENCES = (("赤いバス", "バスが道路に停"), ("青い空",), ("芝生",), ("犬", "白い犬"), ("眠る猫",))
ANSWERS = ["赤いバス", "雲のある空", "the green grass", "犬が走っています。", "猫"]
KINDS = {"clip": write_clip, "siglip": write_siglip}
METRICS = ["clipscore", "refclipscore"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny checkpoint of each kind. Never write in them."""
    folder = tmp_path_factory.mktemp("clips")
    return {kind: write(folder / kind, seed=3) for kind, write in KINDS.items()}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, folders):
    return folders[request.param]


@pytest.fixture
def clip_folder(folders, tmp_path):
    """A copy of the CLIP, to be spoilt."""
    return shutil.copytree(folders["clip"], tmp_path / "clip")


def targets_of(folder, images=tuple((each,) for each in PICTURES), references=REFERENCES):
    return Targets(references, images=images, clip=str(folder))


def scored(targets, answers=ANSWERS):
    return prepare(METRICS, targets).score(answers)


def plain_features(folder, texts):
    """Unit vectors of texts and of all pictures, each in one batch: new tensors, a row each."""
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    images = [image for encoded in PICTURES for image in read_images(Sample("it", (encoded,), "", ()))]
    inputs = processor(text=texts, images=images, padding="max_length", truncation=True, return_tensors="pt")
    pixels, words = inputs.pop("pixel_values"), {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        found = model.get_text_features(**words).pooler_output, model.get_image_features(pixels).pooler_output
    return [torch.nn.functional.normalize(each.double()) for each in found]


def test_clipscore_is_the_papers_formula(folder):
    texts, images = plain_features(folder, ANSWERS)
    wanted = (250 * (texts * images).sum(1).clamp(min=0)).tolist()
    assert len(set(map(tuple, images.tolist()))) == 5 and any(wanted), "the model is blind"
    score = scored(targets_of(folder))["clipscore"]
    assert score.per_sample == pytest.approx(wanted, abs=1e-3)
    assert score.value == pytest.approx(sum(wanted) / 5, abs=1e-3)


def test_refclipscore_is_the_harmonic_mean_with_the_nearest_reference(folder):
    texts, images = plain_features(folder, ANSWERS)
    wanted = []
    for text, image, references in zip(texts, images, REFERENCES, strict=True):
        to_image = 250 * (text @ image).clamp(min=0)
        to_references = 100 * (plain_features(folder, list(references))[0] @ text).max().clamp(min=0)
        wanted.append((2 / (1 / to_image + 1 / to_references)).item())
    assert any(wanted), "a test of nothing but zeros"
    assert scored(targets_of(folder))["refclipscore"].per_sample == pytest.approx(wanted, abs=1e-3)


def test_a_smaller_angle_to_the_picture_scores_higher_and_beyond_a_right_angle_it_is_zero():
    angles = np.linspace(0, np.pi, 9)
    scores = [clip_score(np.array([np.cos(angle), np.sin(angle)]), np.array([[1.0, 0.0]])) for angle in angles]
    assert scores[0] == 250
    assert scores[:5] == sorted(scores[:5], reverse=True)
    assert scores[4:] == pytest.approx([0] * 5, abs=1e-12)


def test_a_text_like_a_reference_and_nothing_like_the_picture_is_no_good():
    text, away = np.array([1.0, 0.0]), np.array([[-1.0, 0.0]])
    assert ref_clip_score(text, pictures=away, references=text[None]) == 0
    assert ref_clip_score(text, pictures=text[None], references=away) == 0
    assert ref_clip_score(text, text[None], text[None]) == pytest.approx(2 * 250 * 100 / 350)


def test_of_several_pictures_the_mean_counts(folder):
    both = targets_of(folder, images=((PICTURES[0], PICTURES[1]),) * 5)
    one, other = (scored(targets_of(folder, images=((each,),) * 5))["clipscore"] for each in PICTURES[:2])
    wanted = [(a + b) / 2 for a, b in zip(one.per_sample, other.per_sample, strict=True)]
    assert scored(both)["clipscore"].per_sample == pytest.approx(wanted)


def test_a_sample_scores_the_same_bits_alone_and_among_others(folder):
    together = scored(targets_of(folder))
    for index in range(5):
        alone = scored(targets_of(folder, ((PICTURES[index],),), REFERENCES[index : index + 1]), [ANSWERS[index]])
        for name in METRICS:
            assert alone[name].value == together[name].per_sample[index]


def test_longer_texts_than_the_model_reads_are_cut_and_counted(folder):
    longest = "犬" * (LIMIT - 2)  # and a token at either end
    targets = targets_of(folder, references=(("猫", "雲" * LIMIT), *REFERENCES[1:]))
    scores = scored(targets, [longest, longest + "犬", longest + "猫", "空", "鳥"])
    cut = "2 of 5 answers were longer than the model reads, and cut"
    assert scores["clipscore"].notes == (cut,)
    assert scores["refclipscore"].notes == (
        cut,
        "1 of 5 samples have references that were longer than the model reads, and cut",
    )
    assert scored(targets_of(folder), ["犬"] * 5)["refclipscore"].notes == ()


@pytest.mark.parametrize(("write", "kind"), [(write_siglip2, "siglip2"), (write_pair, "vision-text-dual-encoder")])
def test_models_of_other_kinds_score_too(tmp_path, write, kind):
    scores = scored(targets_of(write(tmp_path / "clip", seed=3)))
    assert f"|clip:{kind}-" in scores["clipscore"].signature
    assert len(set(scores["clipscore"].per_sample)) > 1, "it sees or reads nothing"


def test_what_follows_the_cut_does_not_matter(folders):
    longest = "犬" * (LIMIT - 2)
    images = ((PICTURES[0],),) * 5
    each = scored(targets_of(folders["siglip"], images), [longest + more for more in ("", "猫", "空" * 999, "a", "い")])
    assert len(set(each["clipscore"].per_sample)) == 1


def test_clipscore_needs_no_references(folder):
    targets = targets_of(folder, references=((),) * 5)
    assert prepare(["clipscore"], targets).score(ANSWERS)["clipscore"].value > 0
    with pytest.raises(ScoreError, match="`refclipscore` needs a reference for every sample: 5 of 5 have none"):
        prepare(["refclipscore"], targets)


def test_the_signature_tells_the_models_kind_files_and_longest_text(folders, tmp_path):
    signatures = {kind: scored(targets_of(folder))["clipscore"].signature for kind, folder in folders.items()}
    assert signatures["clip"].split("|")[2].startswith("clip:clip-")
    assert signatures["siglip"].split("|")[2:4] == [signatures["siglip"].split("|")[2], f"text:{LIMIT}"]
    moved = shutil.copytree(folders["clip"], tmp_path / "elsewhere")
    assert scored(targets_of(moved))["clipscore"].signature == signatures["clip"]


def test_scores_of_two_models_cannot_be_compared(folders, tmp_path):
    one = scored(targets_of(folders["clip"]))["clipscore"]
    other = scored(targets_of(write_clip(tmp_path / "other", seed=4)))["clipscore"]
    with pytest.raises(ScoreError, match="scores with different signatures cannot be compared"):
        paired_difference(one, other)


@pytest.mark.parametrize("name", METRICS)
def test_no_model_is_an_error_that_tells_how_to_give_one(name):
    with pytest.raises(ScoreError) as caught:
        prepare([name], Targets(REFERENCES, images=tuple((each,) for each in PICTURES)))
    assert str(caught.value) == (
        f"`{name}` needs a CLIP-like model, and none is given\n"
        "hint: `--clip MODEL`, or `score.clip` in the recipe: a folder or hub id"
    )


def test_no_pictures_are_an_error(folder):
    for images in (None, ((PICTURES[0],), (), (), (), ())):
        with pytest.raises(ScoreError) as caught:
            prepare(["clipscore"], targets_of(folder, images))
        assert str(caught.value) == (
            "`clipscore` needs pictures for every sample, and there are none\nhint: use another metric"
        )


def test_a_picture_that_cannot_be_read_is_named(folder):
    with pytest.raises(EvalsetError, match="picture of sample 2 cannot be read: no kind of picture that is read here"):
        prepare(["clipscore"], targets_of(folder, ((PICTURES[0],), (b"no picture",), *((PICTURES[0],),) * 3)))


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint: "):
        prepare(["clipscore"], targets_of(tmp_path / "nowhere"))


def test_a_model_of_another_kind_is_an_error(parents):
    with pytest.raises(ScoreError) as caught:
        prepare(["clipscore"], targets_of(parents / "vlm"))
    assert str(caught.value) == (
        f"{parents / 'vlm'} is no CLIP-like model that can be used here\n"
        f"  LlavaModel has no get_text_features\nhint: {WANTED}"
    )


def test_missing_weights_are_an_error_and_not_drawn_at_random(clip_folder):
    weights = load_file(clip_folder / "model.safetensors")
    del weights["text_projection.weight"], weights["logit_scale"]
    save_file(weights, clip_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ScoreError, match=r"its files lack 2 of its weights, such as logit_scale"):
        prepare(["clipscore"], targets_of(clip_folder))


def test_code_that_comes_with_the_model_is_told_and_not_run(clip_folder):
    config = json.loads((clip_folder / "config.json").read_text())
    config |= {"model_type": "odd_clip", "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModel": "odd.OddClip"}}
    (clip_folder / "config.json").write_text(json.dumps(config))
    (clip_folder / "odd.py").write_text(f"open({str(clip_folder / 'ran')!r}, 'w')")
    with pytest.raises(ScoreError, match=r"class OddClip of odd.py in "):
        prepare(["clipscore"], targets_of(clip_folder))
    assert not (clip_folder / "ran").exists()


def test_features_that_are_not_finite_are_an_error(clip_folder):
    weights = load_file(clip_folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] = float("nan")
    save_file(weights, clip_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ScoreError, match="the CLIP-like model gives features that are not finite, or all 0"):
        prepare(["clipscore"], targets_of(clip_folder))
