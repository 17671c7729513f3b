"""blind.py: nobody is shown a picture of its own, and nothing is asked twice."""

import io

import pytest
from PIL import Image

from vlmmerge.blind import GREY, blank_samples, find_others, grounding_samples, other_samples
from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import Sample, load

WHAT, WHERE = "何ですか？", "どこですか？"


def sample(name: str, picture: str, question: str = WHAT) -> Sample:
    return Sample(name, tuple(part.encode() for part in picture.split()), question, (f"{name}です。",))


def test_blank_pictures_are_grey_and_have_the_pictures_sizes() -> None:
    samples = load("ja-scenes", "search_questions", 6)
    blank = blank_samples(samples)
    for shown, asked in zip(blank, samples, strict=True):
        with Image.open(io.BytesIO(shown.images[0])) as grey, Image.open(io.BytesIO(asked.images[0])) as own:
            assert grey.size == own.size and grey.getcolors() == [(own.width * own.height, GREY)]
    assert [(s.id, s.question, s.references) for s in blank] == [(s.id, s.question, s.references) for s in samples]


@pytest.mark.parametrize("split", ["search", "search_questions"])
def test_no_sample_is_given_a_picture_of_its_own_and_all_else_stays(split: str) -> None:
    samples = load("ja-scenes", split)
    other = grounding_samples(samples[:300])["other"]
    for shown, asked in zip(other, samples, strict=False):
        assert shown.images != asked.images and shown.images in {each.images for each in samples[:300]}
        assert (shown.id, shown.question, shown.references) == (asked.id, asked.question, asked.references)
    assert grounding_samples(samples[:300])["other"] == other, "nothing is drawn"


def test_a_picture_that_several_samples_show_is_no_other_picture() -> None:
    samples = [sample("a", "P"), sample("b", "P"), sample("c", "P"), sample("d", "Q")]
    assert [each.images for each in other_samples(samples)] == [(b"Q",)] * 3 + [(b"P",)]


def test_of_several_pictures_none_may_be_ones_own() -> None:
    samples = [sample("a", "P Q"), sample("b", "Q R"), sample("c", "S")]
    assert [each.images for each in other_samples(samples)] == [(b"S",), (b"S",), (b"P", b"Q")]


def test_neighbours_are_not_each_others_other_picture() -> None:
    samples = [sample(name, name) for name in "abcdefgh"]
    shown = [each.images[0].decode() for each in other_samples(samples)]
    assert "".join(shown) == "efghabcd"


def test_who_is_asked_the_same_lends_the_picture_so_that_the_answer_is_known() -> None:
    samples = [sample("a", "P"), sample("b", "Q", WHERE), sample("c", "R"), sample("d", "S", WHERE)]
    others = find_others(samples)
    assert others.unasked == [] and others.places == [2, 3, 0, 1]
    assert others.answers(["1", "2", "3", "4"]) == ["3", "4", "1", "2"]


def test_a_question_that_nobody_else_is_asked_is_asked_again_with_another_picture() -> None:
    samples = [sample("a", "P"), sample("b", "Q", WHERE), sample("c", "R")]
    others = find_others(samples)
    assert [(each.id, each.images, each.question) for each in others.unasked] == [("b", (b"R",), WHERE)]
    assert others.places == [2, 3, 0]
    assert find_others(samples, "説明してください。").unasked == [], "all are asked the same"


def test_captions_are_never_asked_twice_and_the_answers_are_those_of_the_other_pictures() -> None:
    samples = load("ja-scenes", "search", 64)
    others = find_others(samples)
    assert others.unasked == []
    of_picture = {each.images: f"answer to {each.id}" for each in samples}
    wanted = [of_picture[each.images] for each in other_samples(samples)]
    assert others.answers([of_picture[each.images] for each in samples]) == wanted


def test_options_belong_to_what_is_asked() -> None:
    first = Sample("a", (b"P",), WHAT, ("犬",), options=("犬", "猫"))
    second = Sample("b", (b"Q",), WHAT, ("猫",), options=("猫", "鳥"))
    assert [each.options for each in find_others([first, second]).unasked] == [("犬", "猫"), ("猫", "鳥")]


def test_one_picture_alone_has_no_other() -> None:
    with pytest.raises(EvalsetError) as caught:
        other_samples([sample("a", "P"), sample("b", "P", WHERE)])
    assert str(caught.value) == (
        "grounding needs other pictures, but every sample shows that of a\n"
        "hint: ask more samples, or leave grounding out"
    )
