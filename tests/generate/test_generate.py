"""generate.py: answers from kept features are those of plain transformers from pixels, in batches of any size."""

import copy
import io
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

from vlmmerge.errors import CheckpointError, EvalsetError
from vlmmerge.evalsets import Sample, load
from vlmmerge.evalsets.pictures import MAX_PIXELS, read_images, read_picture_file
from vlmmerge.generate import LiveVlm, chat
from vlmmerge.generate.chat import as_answer, template_arguments
from vlmmerge.recipe import Generate

SETTINGS = Generate(max_new_tokens=8)


def picture_file(image: Image.Image, kind: str = "png") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def sample_of(image: bytes) -> Sample:
    return Sample("it", (image,), "何色ですか？", ())


@pytest.fixture(scope="module")
def vlm(parents: Path) -> LiveVlm:
    return LiveVlm(parents / "vlm", SETTINGS)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Pictures with questions of different lengths, some about one picture."""
    return load("ja-scenes", "search_questions", 12) + load("ja-scenes", "search_english", 4)


def plain_answers(folder: Path, samples: list[Sample], settings: Generate, **arguments: Any) -> list[str]:
    """What transformers alone says, one sample at a time, from pixels; `arguments` are of its `generate`."""
    processor: Any = AutoProcessor.from_pretrained(folder)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder)
    answers = []
    for sample in samples:
        inputs = chat(processor, sample, settings)
        assert "pixel_values" in inputs
        said = model.generate(**inputs, max_new_tokens=settings.max_new_tokens, do_sample=False, **arguments)
        answers.append(processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return [answer.strip() for answer in answers]


def test_answers_from_features_are_those_of_plain_transformers_from_pixels(
    parents: Path, vlm: LiveVlm, samples: list[Sample]
) -> None:
    answers = vlm.answer(vlm.prepare(samples))
    assert answers == plain_answers(parents / "vlm", samples, SETTINGS)
    assert len(set(answers)) > len(samples) // 2, "the parents' answers should depend on picture and question"


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.3}),
        ({"beams": 3}, {"num_beams": 3}),
        (
            {"protocol": "evovlm-jp", "max_new_tokens": 8, "system": "はい。"},
            {"num_beams": 5, "repetition_penalty": 1.5},
        ),
    ],
)
def test_beams_and_penalties_are_those_of_plain_transformers_in_batches_of_1_and_of_64(
    parents: Path, samples: list[Sample], settings: dict[str, Any], arguments: dict[str, Any]
) -> None:
    vlm = LiveVlm(parents / "vlm", Generate(**{"max_new_tokens": 8} | settings))
    prompts = vlm.prepare(samples[:8] + samples[-2:])
    plain = plain_answers(parents / "vlm", samples[:8] + samples[-2:], vlm.settings, **arguments)
    assert vlm.answer(prompts) == plain != LiveVlm(parents / "vlm", SETTINGS).answer(prompts)
    assert [vlm.answer([prompt])[0] for prompt in prompts] == plain


def test_an_answer_ends_before_a_stop_string_and_the_others_go_on(
    parents: Path, vlm: LiveVlm, samples: list[Sample]
) -> None:
    prompts = vlm.prepare(samples)
    plain = vlm.answer(prompts)
    stop = next(answer for answer in plain if len(answer) > 4)[2:4]
    wanted = [answer.split(stop)[0].strip() for answer in plain]
    for beams in (1, 2):
        stopping = LiveVlm(parents / "vlm", SETTINGS.model_copy(update={"stop": (stop,), "beams": beams}))
        answers = stopping.answer(prompts)
        assert not any(stop in answer for answer in answers)
        assert beams > 1 or answers == wanted != plain


def test_a_protocol_sets_what_the_recipe_does_not_say() -> None:
    published = Generate(protocol="evovlm-jp")
    assert (published.beams, published.repetition_penalty, published.max_new_tokens) == (5, 1.5, 512)
    assert published.system == (
        "あなたは役立つ、偏見がなく、検閲されていないアシスタントです。与えられた画像を下に、質問に答えてください。"
    )
    own = Generate(protocol="evovlm-jp", system=None, beams=2)
    assert (own.system, own.beams, own.repetition_penalty) == (None, 2, 1.5)
    assert Generate(**published.model_dump()) == published
    assert Generate(protocol="greedy") == Generate()


def test_a_template_that_knows_thinking_is_asked_for_none_and_thoughts_are_no_answer(vlm: LiveVlm) -> None:
    processor = copy.copy(vlm.processor)
    assert "think" not in template_arguments(processor)
    processor.chat_template += "{% if enable_thinking is defined and not enable_thinking %}はい。{% endif %}"
    said = processor.tokenizer.decode(
        chat(processor, sample_of(picture_file(Image.new("RGB", (9, 9)))), SETTINGS)["input_ids"][0]
    )
    assert said.endswith("[/INST]はい。")
    assert as_answer("赤? 青? </think>\n\n赤です。", SETTINGS) == "赤です。"
    assert as_answer(" <think>赤? 青?", SETTINGS) == ""


def test_padding_is_not_counted_as_said(parents: Path, samples: list[Sample], tmp_path: Path) -> None:
    """Padded with the token that ends answers, rows were penalised for ending, by how much they were padded."""
    settings = SETTINGS.model_copy(update={"repetition_penalty": 1.5, "max_new_tokens": 24})
    vlm = LiveVlm(parents / "vlm", settings)
    vlm.processor.tokenizer.pad_token = None
    prompts = vlm.prepare(samples)
    assert len({len(prompt.token_ids) for prompt in prompts}) > 1
    assert vlm.answer(prompts) == [vlm.answer([prompt])[0] for prompt in prompts]


def write_llava_next(parents: Path, folder: Path) -> Path:
    """The tiny VLM's language tower behind a LLaVA-NeXT, which cuts a picture into tiles by its form."""
    small = AutoModelForImageTextToText.from_pretrained(parents / "vlm")
    own = small.config
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LlavaNextConfig(
            vision_config=own.vision_config, text_config=own.text_config, image_token_index=own.image_token_id,
            vision_feature_layer=-1, image_grid_pinpoints=[[30, 60], [60, 30], [60, 60]], image_seq_length=9,
        )  # fmt: skip
        vlm = LlavaNextForConditionalGeneration(config)
    vlm.model.language_model.load_state_dict(small.model.language_model.state_dict())
    vlm.lm_head.load_state_dict(small.lm_head.state_dict())
    vlm.model.vision_tower.load_state_dict(small.model.vision_tower.state_dict())
    vlm.generation_config = small.generation_config
    vlm.save_pretrained(folder)
    tokenizer = AutoProcessor.from_pretrained(parents / "vlm").tokenizer
    side = {"height": 30, "width": 30}
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": 30}, crop_size=side, image_grid_pinpoints=config.image_grid_pinpoints
    )
    LlavaNextProcessor(
        pictures, tokenizer, patch_size=10, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def test_pictures_of_other_forms_have_other_tiles_and_are_answered_in_one_batch(parents: Path, tmp_path: Path) -> None:
    folder = write_llava_next(parents, tmp_path / "vlm")
    noise = Image.effect_noise((90, 90), 80).convert("RGB")
    forms = [(30, 60), (60, 30), (64, 64), (90, 20), (33, 60)]
    samples = [
        Sample(f"{width} x {height}", (picture_file(noise.resize((width, height))),), "何色ですか？" * number, ())
        for number, (width, height) in enumerate(forms, 1)
    ]
    vlm = LiveVlm(folder, SETTINGS)
    prompts = vlm.prepare(samples)
    numbers = [int((prompt.token_ids == vlm.model.config.image_token_id).sum()) for prompt in prompts]
    assert len(set(numbers)) > 2, "forms differ in their number of tokens"
    assert vlm.answer(prompts) == plain_answers(folder, samples, SETTINGS)


def test_a_system_message_and_a_question_of_the_recipe_reach_the_model(parents: Path, samples: list[Sample]) -> None:
    settings = Generate(max_new_tokens=8, question="画像を説明してください。", system="はい。")
    asked = LiveVlm(parents / "vlm", settings)
    answers = asked.answer(asked.prepare(samples[:4]))
    assert answers == plain_answers(parents / "vlm", samples[:4], settings)
    tokenizer = asked.processor.tokenizer
    said = tokenizer.decode(asked.prepare(samples[:1])[0].token_ids)
    assert said == "<s>はい。</s>[INST]" + "<image>" * 9 + "画像を説明してください。[/INST]"


def test_the_picture_moves_the_answer(vlm: LiveVlm) -> None:
    colours = [picture_file(Image.new("RGB", (40, 40), colour)) for colour in ("red", "blue", "white", "black")]
    assert len(set(vlm.answer(vlm.prepare([sample_of(image) for image in colours])))) > 1


@pytest.mark.parametrize("batch_tokens", [1, 150, 10**6])
def test_the_size_of_batches_never_moves_an_answer(
    parents: Path, vlm: LiveVlm, samples: list[Sample], batch_tokens: int
) -> None:
    other = LiveVlm(parents / "vlm", SETTINGS.model_copy(update={"batch_tokens": batch_tokens}))
    assert other.answer(other.prepare(samples)) == vlm.answer(vlm.prepare(samples))


def test_the_order_of_samples_never_moves_an_answer(vlm: LiveVlm, samples: list[Sample]) -> None:
    prompts = vlm.prepare(samples)
    assert vlm.answer(prompts[::-1]) == vlm.answer(prompts)[::-1]
    assert vlm.answer([]) == []


def test_samples_of_one_picture_share_its_features(vlm: LiveVlm, samples: list[Sample]) -> None:
    same = [sample for sample in samples if sample.images == samples[0].images]
    prompts = vlm.prepare(same)
    assert len(prompts) > 1 and len({id(prompt.seen) for prompt in prompts}) == 1
    assert [tuple(feature.shape) for feature in prompts[0].seen.pooler_output] == [(9, 32)]
    assert int((prompts[0].token_ids == vlm.model.config.image_token_id).sum()) == 9


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F"])
def test_pictures_of_any_colour_mode_are_read_as_rgb(mode: str) -> None:
    image = Image.new("RGB", (5, 7), "red").convert(mode)
    (read,) = read_images(sample_of(picture_file(image, "tiff")))
    assert (read.mode, read.size) == ("RGB", (5, 7))


@pytest.mark.parametrize("image", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_picture_that_is_none_is_told(vlm: LiveVlm, image: bytes) -> None:
    with pytest.raises(EvalsetError) as caught:
        vlm.prepare([sample_of(image)])
    assert str(caught.value).startswith("picture of sample it cannot be read: ")


def test_a_picture_that_ends_too_early_is_told() -> None:
    noise = Image.effect_noise((64, 64), 50).convert("RGB")
    with pytest.raises(EvalsetError, match="picture of sample it cannot be read: "):
        read_images(sample_of(picture_file(noise, "jpeg")[:-1500]))


def test_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(EvalsetError) as caught:
        read_images(sample_of(picture_file(Image.new("1", (side, side)))))
    assert str(caught.value) == (
        f"picture of sample it has {side} x {side} pixels\n"
        f"hint: at most {MAX_PIXELS} pixels are read: make it smaller first"
    )


def test_a_picture_too_huge_for_pillow_is_refused_too() -> None:
    with pytest.raises(EvalsetError, match=r"picture of sample it cannot be read: .* decompression bomb"):
        read_images(sample_of(picture_file(Image.new("1", (20_000, 20_000)))))


def header_of_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size; there is not much behind it."""
    claim = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (claim, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("width", "height"), [(10**9, 1), (1, 10**9), (40_000, 25_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_of_a_thousand_million_pixels_is_refused_by_its_header(vlm: LiveVlm, width: int, height: int) -> None:
    with pytest.raises(EvalsetError) as caught:
        vlm.prepare([sample_of(header_of_png(width, height))])
    assert str(caught.value).startswith("picture of sample it cannot be read: Image size (")
    assert caught.value.hint == f"at most {MAX_PIXELS} pixels are read: make it smaller first"


@pytest.mark.parametrize("size", [(2010, 10), (1, 201)])
def test_a_picture_like_a_thread_is_refused(size: tuple[int, int]) -> None:
    """A processor that scales the shorter side to 336 pixels makes gigabytes of it."""
    with pytest.raises(EvalsetError) as caught:
        read_images(sample_of(picture_file(Image.new("1", size))))
    assert str(caught.value) == (
        f"picture of sample it has {size[0]} x {size[1]} pixels\n"
        "hint: the longer side may be 200 times the shorter one: cut it first"
    )


def test_kinds_of_pictures_that_run_another_program_are_not_read() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(EvalsetError) as caught:
        read_images(sample_of(postscript))
    assert str(caught.value) == (
        "picture of sample it cannot be read: no kind of picture that is read here\n"
        "hint: give a whole JPEG, PNG or WebP file"
    )


def test_a_picture_file_is_a_regular_one_of_bounded_size(tmp_path: Path) -> None:
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 2**29 + 1)
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    told = {}
    for name in ("huge.png", "pipe.png", "missing.png", "."):
        with pytest.raises(EvalsetError) as caught:
            read_picture_file(tmp_path / name)
        assert caught.value.hint == "check --image"
        told[name] = caught.value.message.replace(str(tmp_path), "")
    assert told == {
        "huge.png": "/huge.png has 536,870,913 bytes, wanted at most 536,870,912",
        "pipe.png": "/pipe.png is no regular file",
        "missing.png": "cannot read /missing.png: No such file or directory",
        ".": "cannot read : Is a directory",
    }


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what is wrong with the picture
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
def test_damaged_pictures_raise_nothing_but_an_evalset_error(kind: str) -> None:
    rng = random.Random(kind)
    whole = picture_file(Image.effect_noise((16, 16), 50).convert("RGB"), kind)
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(min(len(content), 200))] = rng.randrange(256)
        try:
            read_images(sample_of(bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])))
        except EvalsetError as error:
            assert str(error).startswith("picture of sample it ")


@pytest.mark.parametrize("name", ["base", "ja-llm"])
def test_a_model_without_eyes_is_told(parents: Path, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        LiveVlm(parents / name, SETTINGS)
    assert caught.value.message == (f"{parents / name}: transformers does not load it as an image-text-to-text model")
    assert caught.value.hint == "`parents.vlm` and MODEL must be vision-language models with a processor"


def test_the_model_keeps_the_dtype_of_its_files_unless_the_recipe_says_otherwise(parents: Path, vlm: LiveVlm) -> None:
    assert vlm.model.dtype == torch.float32
    assert LiveVlm(parents / "vlm", Generate(dtype="bfloat16")).model.dtype == torch.bfloat16
