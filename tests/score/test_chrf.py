"""chrF against sacrebleu's own scorer."""

import random

import pytest
from sacrebleu.metrics import CHRF

from vlmmerge.score import Targets, prepare

# from sacrebleu.metrics import CHRF     (sacrebleu 2.6.0)
# CHRF().sentence_score(answer, references).score; CHRF().corpus_score(answers, references by position).score
GOLDEN = [
    ("赤いバスです。", ("赤いバスが走っています。", "バスです。"), 86.555360),
    ("犬", ("白い犬", "白い犬"), 38.461538),
    ("東京タワー", ("東京タワー", "東京タワー"), 100.0),
    ("", ("駅", "駅"), 0.0),
    ("a b c", ("abc d", "x"), 68.862275),
]
GOLDEN_ALL = 80.417433


def score(answers, references):
    return prepare(["chrf"], Targets(tuple(references))).score(answers)["chrf"]


def test_golden_values():
    answers, references, wanted = zip(*GOLDEN, strict=True)
    found = score(answers, references)
    assert found.per_sample == pytest.approx(wanted, abs=1e-6)
    assert found.value == pytest.approx(GOLDEN_ALL, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("alphabet", ["abc ", "犬が走る。 ", "赤青白い車"])
def test_agrees_with_sacrebleu_on_random_text(seed, alphabet):
    rng = random.Random(seed)

    def text(shortest):
        return "".join(rng.choices(alphabet, k=rng.randint(shortest, 25)))

    num_references = rng.randint(1, 4)
    answers = [text(0) for _ in range(12)]
    references = [tuple(f"車{text(0)}" for _ in range(num_references)) for _ in answers]
    found = score(answers, references)
    wanted = [CHRF().sentence_score(a, list(r)).score for a, r in zip(answers, references, strict=True)]
    assert found.per_sample == pytest.approx(wanted, abs=1e-9)
    by_position = [list(column) for column in zip(*references, strict=True)]
    assert found.value == pytest.approx(CHRF().corpus_score(answers, by_position).score, abs=1e-9)


def test_the_value_is_combined_from_counts_and_is_not_the_mean():
    found = score(["犬", "赤いバスが道路に停まっています"], [("猫",), ("赤いバスが道路に停まっています",)])
    assert found.per_sample == (0, 100)
    assert found.value > 90
