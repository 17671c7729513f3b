"""Traits: what answers look like, in numbers that can be counted by hand."""

import pytest

from vlmmerge.score.traits import describe, length, nearest_length, repetition

LOOP = "犬はどこを見ていますか？\n\n"


@pytest.mark.parametrize(
    ("text", "characters"),
    [("", 0), (" \u3000\n", 0), ("赤い バス", 4), ("ﾊﾞｽ", 2), ("バス", 2), ("３人", 2), ("😀", 1), ("\ud800", 1)],
)
def test_a_length_is_characters_in_one_form_without_white_space(text: str, characters: int) -> None:
    assert length(text) == characters


@pytest.mark.parametrize(
    ("characters", "references", "nearest"),
    [
        (1, ["赤", "赤いバス"], 1),
        (3, ["赤", "赤いバス"], 4),
        (2, ["赤", "赤い"], 2),
        (2, ["赤", "赤です"], 1),
        (0, ["", "赤"], 1),
    ],
)
def test_the_nearest_length_is_some_references_and_the_shorter_of_two_as_near(
    characters: int, references: list[str], nearest: int
) -> None:
    assert nearest_length(characters, references) == nearest


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("赤い", 0.0),
        ("赤い赤い", 0.0),  # one piece of four characters
        ("赤い赤い赤い", 1 / 3),  # 赤い赤い, い赤い赤, 赤い赤い
        ("赤 い 赤 い 赤 い", 1 / 3),
        ("ああああああああ", 4 / 5),
        ("白い犬が芝生の上を走っています。", 0.0),
        ("立っている人が二人、座っている人が三人います。", 3 / 20),  # っている, ている人, いる人が: an honest one
    ],
)
def test_repetition_is_the_share_of_pieces_said_before(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


def test_a_loop_repeats_nearly_all_of_itself_and_the_more_the_longer_it_is() -> None:
    shares = [repetition(LOOP * times) for times in (1, 2, 5, 100)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[1] > 0.4 and shares[-1] > 0.98


def test_traits_are_told_over_all_and_for_each_answer() -> None:
    traits = describe(
        ["赤いバスです。", "a bus", "赤い" * 6, "赤いバスです。"],
        [("赤いバス",), ("バス", "青いバス"), ("赤",), ("車",)],
    )
    assert traits.lengths == (7, 4, 12, 7)
    assert traits.length_ratios == (7 / 4, 1.0, 12.0, 7.0)
    assert traits.are_japanese == (True, False, True, True)
    assert traits.distinct == 3 / 4
    assert traits.overall() == {
        "length": 7.5,
        "median_length": 7.0,
        "length_ratio": pytest.approx(21.75 / 4),
        "repetition": pytest.approx(7 / 9 / 4),
        "distinct": 0.75,
        "japanese": 75.0,
    }
    assert traits.of_sample(2) == {
        "length": 12, "length_ratio": 12.0, "repetition": pytest.approx(7 / 9), "japanese": True,
    }  # fmt: skip


@pytest.mark.parametrize("references", [None, [(), ("赤",)], [("",), ("赤",)]])
def test_without_references_there_is_no_length_ratio(references: list[tuple[str, ...]] | None) -> None:
    traits = describe(["赤", "青"], references)
    assert traits.length_ratios is None
    assert "length_ratio" not in traits.overall() and "length_ratio" not in traits.of_sample(0)


def test_one_answer_to_everything_shows_as_few_that_are_distinct() -> None:
    assert describe(["犬です。"] * 10).distinct == 0.1
    assert describe(["", "", "犬"]).distinct == pytest.approx(2 / 3)
