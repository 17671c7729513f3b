"""Whatever a sample holds is read as people see it, or told with the sample's name; the others lose nothing."""

import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from vlmmerge.errors import CheckpointError, EvalsetError
from vlmmerge.evalsets import Sample, load
from vlmmerge.evalsets.pictures import check_pictures, read_images
from vlmmerge.generate import LiveVlm
from vlmmerge.recipe import Generate


def file_of(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sample_of(name: str, *images: bytes, question: str = "何色ですか？") -> Sample:
    return Sample(name, images, question, ("赤",))


def read(image: bytes) -> numpy.ndarray[Any, Any]:
    return numpy.asarray(read_images(sample_of("it", image))[0]).astype(int)


@pytest.fixture(scope="module")
def good() -> list[Sample]:
    return load("ja-scenes", "search_questions", 3)


@pytest.fixture
def vlm(parents: Path) -> LiveVlm:
    return LiveVlm(parents / "vlm", Generate(max_new_tokens=8))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_read_as_the_brightest_eight(kind: str) -> None:
    """Pillow makes all above 255 white, which is nearly all."""
    greys = numpy.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(numpy.uint16)
    assert (read(file_of(Image.fromarray(greys), kind))[..., 0] == greys >> 8).all()
    few = numpy.arange(250, dtype=numpy.int32).reshape(10, 25)
    assert (read(file_of(Image.fromarray(few), "tiff"))[..., 2] == few).all()


def test_cmyk_is_read_as_the_colours_that_it_prints() -> None:
    for colour in ((255, 0, 0), (0, 255, 0), (250, 250, 250)):
        for kind in ("jpeg", "tiff"):
            printed = file_of(Image.new("RGB", (16, 16), colour).convert("CMYK"), kind)
            assert abs(read(printed).mean(axis=(0, 1)) - colour).max() < 30


def test_a_picture_lies_as_its_camera_says() -> None:
    upright = Image.new("RGB", (20, 40), "white")
    upright.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # as a phone held upright writes it: turn by 90 degrees clockwise to see it
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    for kind in ("jpeg", "png", "webp"):
        found = read(file_of(turned, kind, exif=exif))
        assert found.shape == (40, 20, 3) and abs(found - numpy.asarray(upright).astype(int)).mean() < 10


def test_of_an_animation_the_first_picture_is_read() -> None:
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "blue", "green")]
    for kind in ("gif", "webp", "png"):
        found = read(file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100))
        assert found.shape == (9, 12, 3) and abs(found.mean(axis=(0, 1)) - (255, 0, 0)).max() < 10


def test_a_picture_of_one_pixel_is_answered(vlm: LiveVlm, good: list[Sample]) -> None:
    tiny = sample_of("tiny", file_of(Image.new("RGB", (1, 1), "red")))
    answers, faults = vlm.ask([*good, tiny])
    assert answers[-1] and not faults


BAD = {
    "empty": b"",
    "torn": file_of(Image.effect_noise((64, 64), 50).convert("RGB"), "jpeg")[:-1500],
    "thread": file_of(Image.new("RGB", (20000, 3))),
}
TOLD = [
    "picture of sample empty cannot be read: no kind of picture that is read here",
    "picture of sample torn cannot be read: ",
    "picture of sample thread has 20000 x 3 pixels",
    "sample none has no picture",
    "sample long: ",
]


def bad_samples() -> list[Sample]:
    endless = "赤い丸" * 400
    good = file_of(Image.new("RGB", (9, 9)))
    pictures = [sample_of(name, image) for name, image in BAD.items()]
    return [*pictures, sample_of("none"), sample_of("long", good, question=endless)]


def test_a_bad_sample_has_an_empty_answer_and_a_name_and_the_others_have_theirs(
    vlm: LiveVlm, good: list[Sample]
) -> None:
    wanted = vlm.answer(vlm.prepare(good))
    answers, faults = vlm.ask([good[0], *bad_samples(), *good[1:]])
    assert answers == [wanted[0], "", "", "", "", "", *wanted[1:]]
    assert len(faults) == len(TOLD)
    assert all(fault.message.startswith(told) for fault, told in zip(faults, TOLD, strict=True))
    assert faults[-1].message.endswith(" tokens and an answer of 8 are more than the 256 that the model reads")
    assert faults[-1].hint == "a shorter question, smaller or fewer pictures, or fewer `generate.max_new_tokens`"


def test_all_bad_samples_are_told_at_once_where_a_search_would_begin(vlm: LiveVlm, good: list[Sample]) -> None:
    with pytest.raises(EvalsetError) as caught:
        vlm.prepare([*good, *bad_samples()])
    assert caught.value.message == "5 of 8 samples cannot be asked"
    assert all(line.startswith(told) for line, told in zip(caught.value.details, TOLD, strict=True))
    with pytest.raises(EvalsetError) as caught:
        check_pictures([*good, *bad_samples()])
    assert caught.value.message == "4 of 8 samples cannot be asked"
    assert caught.value.hint == "mend these samples or take them out; `vlmmerge evaluate` goes on without them"
    with pytest.raises(EvalsetError) as caught:
        check_pictures([sample_of(str(number), b"") for number in range(30)])
    assert len(caught.value.details) == 21 and caught.value.details[-1] == "... and 10 more"


def test_nothing_is_answered_where_every_sample_is_bad(vlm: LiveVlm) -> None:
    with pytest.raises(EvalsetError, match="5 of 5 samples cannot be asked"):
        vlm.ask(bad_samples())
    with pytest.raises(EvalsetError, match=r"^sample none has no picture"):
        vlm.ask([sample_of("none")])


def test_a_picture_that_the_processor_does_not_take_is_told(vlm: LiveVlm, good: list[Sample]) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("absolute aspect ratio must be smaller than 200\nand more")

    vlm.processor.image_processor.preprocess = refuse
    with pytest.raises(EvalsetError) as caught:
        vlm.prepare(good[:1])
    assert str(caught.value) == (
        f"sample {good[0].id} cannot be asked: ValueError: absolute aspect ratio must be smaller than 200\n"
        "hint: the model's processor does not take its pictures or its question"
    )


def test_a_template_without_a_place_for_a_picture_is_told(vlm: LiveVlm, good: list[Sample]) -> None:
    vlm.processor.chat_template = vlm.processor.chat_template.replace("'<image>'", "''")
    with pytest.raises(CheckpointError) as caught:
        vlm.prepare(good)
    assert caught.value.message == f"{vlm.folder}: its chat template cannot be used"
    assert caught.value.details == ("ValueError: it has no place for a picture",)


def test_a_model_that_never_ends_is_ended(vlm: LiveVlm, good: list[Sample]) -> None:
    vlm.model.generation_config.eos_token_id = None
    for beams in (1, 2):
        vlm.answerer.settings = vlm.settings.model_copy(update={"beams": beams, "max_new_tokens": 5})
        tokens = vlm.processor.tokenizer(vlm.answer(vlm.prepare(good)), add_special_tokens=False).input_ids
        assert all(1 <= len(each) <= 5 for each in tokens)
