"""Guards: a broken one always turns a score down, by as much as the rule says, and never up."""

import itertools
import random

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.recipe import Guards
from vlmmerge.score import Targets, prepare
from vlmmerge.score.defaults import DEFAULT_GUARDS, DEFAULT_OBJECTIVES, default_guards
from vlmmerge.score.guards import GUARDS, SHORT_SENTENCE, Look, check_guards, grounding, guarded
from vlmmerge.score.scorer import METRICS, objective_parts, paired_grounding

REFERENCES = [("白い犬が芝生の上を走っています。",), ("赤いバスが道路に停まっています。",), ("NHK",), ("黒",)]
HONEST = ["犬が芝生を走っています。", "赤いバスが停まっています。", "NHK", "このバスの色は黒です。"]
LIMITS = {"japanese": 90.0, "length_ratio": 2.0, "repetition": 0.2, "grounding": 0.1}


def look(answers, grounding=1.0, parts=(1.0, 1.0, 1.0, 1.0)):
    return Look(answers, REFERENCES, parts, grounding)


def test_the_recipe_knows_the_guards_of_the_registry():
    assert list(Guards.model_fields) == list(GUARDS)
    assert all(set(guards) <= set(GUARDS) for guards in DEFAULT_GUARDS.values())
    assert all(set(weights) <= set(METRICS) for weights in DEFAULT_OBJECTIVES.values())
    assert DEFAULT_GUARDS.keys() == DEFAULT_OBJECTIVES.keys()
    assert all(Guards(**guards) for guards in DEFAULT_GUARDS.values()), "a default is within its key's range"


def test_an_honest_candidate_keeps_its_objective_bit_for_bit():
    """A name on a sign is no language, and a short sentence is not too long for a reference of one character."""
    result = guarded(0.7531, LIMITS, look(HONEST))
    assert result.score == result.objective == 0.7531
    assert all(found.kept == 1.0 for found in result.found.values())


def test_without_guards_the_objective_is_the_score():
    assert guarded(0.3, {}, look([""] * 4)).score == 0.3


@pytest.mark.parametrize(
    ("name", "answers", "value", "kept"),
    [
        ("japanese", [*HONEST[:3], "it is black"], 75.0, 75 / 90),
        ("japanese", ["a dog", "a bus", "NHK", "black"], 25.0, 25 / 90),
        ("japanese", ["", "", "", ""], 25.0, 25 / 90),
        ("length_ratio", [*HONEST[:3], "黒" * SHORT_SENTENCE * 4], None, (3 + (2 / 4) ** 2) / 4),
        ("length_ratio", [*HONEST[:3], "黒" * SHORT_SENTENCE * 2], None, 1.0),
        ("repetition", [*HONEST[:3], "黒" * 13], 0.9 / 4, (3 + (0.2 / 0.9) ** 2) / 4),
    ],
)
def test_a_broken_guard_keeps_what_the_rule_says(name, answers, value, kept):
    result = guarded(2.0, {name: LIMITS[name]}, look(answers))
    assert result.found[name].kept == pytest.approx(kept)
    assert value is None or result.found[name].value == pytest.approx(value)
    assert result.score == pytest.approx(2.0 * kept) and result.objective == 2.0


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (1.0, 1.0)])
def test_what_needs_no_eyes_is_turned_down_to_nothing(share, kept):
    assert guarded(2.0, {"grounding": 0.1}, look(HONEST, share)).score == pytest.approx(2.0 * kept)


def test_broken_guards_multiply():
    answers = [*HONEST[:2], "a" * 48, "黒" * 48]
    together = guarded(1.0, LIMITS, look(answers, 0.05)).score
    apart = [guarded(1.0, {name: limit}, look(answers, 0.05)).score for name, limit in LIMITS.items()]
    assert all(score < 1 for score in apart)
    assert together == pytest.approx(apart[0] * apart[1] * apart[2] * apart[3])


def test_half_of_the_answers_cannot_hide_behind_the_other_half():
    """Over all, the mean length would be as it should be."""
    answers = ["犬", "バ", "黒" * 46, "黒" * 46]
    found = guarded(1.0, {"length_ratio": 2.0}, look(answers)).found["length_ratio"]
    assert found.value < 2.0 and found.kept < 0.65


def test_an_answer_loses_its_own_part_of_the_objective_and_no_other():
    answers, alone = [*HONEST[:3], "黒" * 240], (0.0, 0.0, 0.0, 7.0)
    limits = {"length_ratio": 2.0}
    assert guarded(1.0, limits, look(answers, parts=(1.0, 1.0, 1.0, 0.0))).score == 1.0
    assert guarded(1.0, limits, look(answers, parts=alone)).score == pytest.approx(0.01)
    assert guarded(0.0, limits, look(answers, parts=(0.0,) * 4)).found["length_ratio"].kept == pytest.approx(3.01 / 4)


@pytest.mark.parametrize("value", [-3.0, -1e-9, 0.0])
def test_an_objective_below_zero_is_turned_down_and_never_up(value):
    result = guarded(value, LIMITS, look(["a dog"] * 4, 0.0))
    assert result.score == 2 * value, "nothing is kept"
    assert guarded(value, LIMITS, look(HONEST)).score == value


def test_no_answers_whatever_are_worth_more_with_guards_than_without():
    rng = random.Random(0)
    texts = ["", "犬", "a dog", "NHK", "黒" * 60, "赤い" * 9, *HONEST, *("".join(HONEST),)]
    for _ in range(300):
        answers, value = rng.choices(texts, k=4), rng.uniform(-1, 1)
        limits = dict(rng.sample(sorted(LIMITS.items()), rng.randint(0, 4)))
        parts = tuple(rng.choice([0.0, rng.random()]) for _ in range(4))
        result = guarded(value, limits, look(answers, rng.random(), parts))
        assert value - abs(value) <= result.score <= value
        assert all(0 <= found.kept <= 1 for found in result.found.values())


def test_mending_a_little_scores_a_little_more():
    """Evolution climbs a slope, not a cliff."""
    lengths = [[*HONEST[:3], "黒い犬" * times] for times in range(40, 7, -1)]
    scores = [guarded(1.0, {"length_ratio": 2.0}, look(answers)).score for answers in lengths]
    steps = [after - before for before, after in itertools.pairwise(scores)]
    assert all(0 < step < 0.06 for step in steps)
    grounded = [guarded(1.0, {"grounding": 0.1}, look(HONEST, share / 1000)).score for share in range(101)]
    assert all(0 < after - before < 0.011 for before, after in itertools.pairwise(grounded))


def test_guards_do_not_depend_on_the_order_of_the_samples():
    rng = random.Random(1)
    answers, parts = [rng.choice([*HONEST, "黒" * 50, "a dog"]) for _ in range(200)], [rng.random() for _ in range(200)]
    references = [rng.choice(REFERENCES) for _ in range(200)]
    order = rng.sample(range(200), 200)
    first = guarded(1.0, LIMITS, Look(answers, references, parts, 0.3))
    second = guarded(
        1.0, LIMITS, Look([answers[i] for i in order], [references[i] for i in order], [parts[i] for i in order], 0.3)
    )
    assert first == second


def test_a_guard_of_lengths_needs_a_reference_for_every_sample():
    check_guards({"japanese": 90.0}, [(), ()])
    check_guards(LIMITS, REFERENCES)
    with pytest.raises(ScoreError) as caught:
        check_guards(LIMITS, [("赤",), (), (" ",)])
    assert str(caught.value) == (
        "the guard `length_ratio` needs a reference for every sample: 2 of 3 have none\n"
        "  samples 1, 2 (counted from 0)\n"
        "hint: leave score.guards.length_ratio out"
    )


def test_answers_in_another_language_need_not_be_japanese():
    assert "japanese" in default_guards("captions", "ja") and "japanese" not in default_guards("captions", "en")


@pytest.mark.parametrize(
    ("right", "other", "share"),
    [
        (0.8, 0.2, 0.75),
        (0.8, 0.0, 1.0),
        (0.8, 0.8, 0.0),
        (0.8, 0.9, 0.0),
        (0.8, -0.2, 1.0),
        (0.0, 0.0, 0.0),
        (0.0, -1.0, 0.0),
        (-0.5, -1.0, 0.0),
        (float("nan"), 0.1, 0.0),
        (0.5, float("nan"), 0.0),
    ],
)
def test_grounding_is_what_other_pictures_take_away(right, other, share):
    assert grounding(right, other) == pytest.approx(share)


def test_the_parts_of_an_objective_are_its_samples_own():
    scores = prepare(["chrf", "exact"], Targets(tuple(REFERENCES))).score(HONEST, intervals=False)
    parts = objective_parts(scores, {"chrf": 1.0, "exact": -0.5})
    each = zip(scores["chrf"].per_sample, scores["exact"].per_sample, strict=True)
    assert parts == pytest.approx([abs(chrf - 0.5 * exact) for chrf, exact in each])


def test_a_sample_that_a_metric_does_not_count_has_no_part_in_it():
    """A reference without a number has the value None, which could not be added."""
    scores = prepare(["numbers"], Targets((("3人",), ("犬",)))).score(["三人です。", "犬です。"], intervals=False)
    assert scores["numbers"].per_sample[1] is None
    assert objective_parts(scores, {"numbers": 1.0}) == [100.0, 0.0]


def test_grounding_has_an_interval_of_a_paired_bootstrap():
    scorer = prepare(["chrf"], Targets(tuple(REFERENCES)))
    right, other = scorer.score(HONEST)["chrf"], scorer.score(HONEST[1:] + HONEST[:1])["chrf"]
    share, low, high = paired_grounding(right, other)
    assert share == pytest.approx(1 - other.value / right.value)
    assert 0 < low < share < high <= 1
    assert paired_grounding(right, right) == (0, 0, 0)


def test_grounding_of_scores_that_cannot_be_compared_is_refused():
    long, short = (prepare(["chrf"], Targets(tuple(REFERENCES[:n]))).score(HONEST[:n])["chrf"] for n in (4, 3))
    with pytest.raises(ScoreError, match="scores with different signatures cannot be compared"):
        paired_grounding(long, short)
