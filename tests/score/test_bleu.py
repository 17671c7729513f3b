"""BLEU against pycocoevalcap and sacrebleu."""

import random

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.segment import content_words

NAMES = ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]

# from pycocoevalcap.bleu.bleu_scorer import BleuScorer     (pycocoevalcap 1.2; words: characters, 。 dropped)
# scorer = BleuScorer(n=4); [scorer.__iadd__((answer, references)) for answer, references, _ in GOLDEN]
# scorer.compute_score(option="closest"), times 100
GOLDEN = [
    ("赤いバスです。", ("赤いバスが走っています。", "バスです。"), (100.0, 100.0, 100.0, 90.3602)),
    ("犬", ("白い犬", "犬"), (100.0, 0.1, 0.01, 0.003162)),
    ("東京タワーの夜景", ("東京タワーの夜景", "夜の東京タワー"), (100.0, 100.0, 100.0, 100.0)),
    ("", ("駅",), (0.0, 0.0, 0.0, 0.0)),
    ("車車車車", ("車が二台", "車と車"), (50.0, 1e-06, 0.0, 0.0)),
    ("犬と猫", ("猫と犬が遊ぶ", "猫"), (100.0, 2e-06, 0.0, 0.0)),
]
GOLDEN_ALL = (90.909091, 80.10688, 79.031234, 78.715989)


def scores(answers, references, segmenter="characters"):
    return prepare(NAMES, Targets(tuple(references), segmenter=segmenter)).score(answers)


def pycocoevalcap(answers, references, segmenter):
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer").BleuScorer(n=4)
    for answer, sample in zip(answers, references, strict=True):
        scorer += (
            " ".join(content_words(answer, segmenter)),
            [" ".join(content_words(text, segmenter)) for text in sample],
        )
    return scorer.compute_score(option="closest")


def test_golden_values():
    answers, references, wanted = zip(*GOLDEN, strict=True)
    found = scores(answers, references)
    assert [found[name].value for name in NAMES] == pytest.approx(GOLDEN_ALL, abs=1e-6)
    for order, name in enumerate(NAMES):
        assert found[name].per_sample == pytest.approx([row[order] for row in wanted], abs=1e-6)


@pytest.mark.parametrize("segmenter", ["characters", "unidic-lite"])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_pycocoevalcap_on_random_text(segmenter, seed):
    rng = random.Random(seed)

    def text():
        return "".join(rng.choices(["赤い", "犬", "が", "走る", "道路", "、", " ", "a", "を"], k=rng.randint(0, 14)))

    answers = [text() for _ in range(rng.randint(1, 20))]
    references = [tuple("駅" + text() for _ in range(rng.randint(1, 5))) for _ in answers]
    found = scores(answers, references, segmenter)
    values, each = pycocoevalcap(answers, references, segmenter)
    assert [found[name].value for name in NAMES] == pytest.approx([100 * value for value in values], rel=1e-9)
    for order, name in enumerate(NAMES):
        assert found[name].per_sample == pytest.approx([100 * value for value in each[order]], rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_bleu_4_agrees_with_sacrebleu_on_random_words(seed):
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = random.Random(seed)

    def text():
        return " ".join(rng.choices("abcd", k=rng.randint(1, 25)))

    answers = [text() for _ in range(30)]
    references = [(text(), text()) for _ in answers]
    by_position = [list(column) for column in zip(*references, strict=True)]
    # sacrebleu's words are parted by spaces here, and with unidic-lite letters that stand alone are words too.
    wanted = sacrebleu.corpus_bleu(answers, by_position, tokenize="none", smooth_method="none").score
    assert wanted > 1
    assert scores(answers, references, "unidic-lite")["bleu_4"].value == pytest.approx(wanted, abs=1e-6)


def test_of_two_references_as_near_in_length_the_shorter_counts():
    found = scores(["犬が走"], [("犬が", "犬が走る")])["bleu_1"]
    assert found.statistics == ((3, 2, 3, 3),)


def test_a_word_said_more_often_than_in_any_reference_counts_only_so_often():
    assert scores(["犬犬犬"], [("犬と犬", "犬です")])["bleu_1"].statistics == ((3, 3, 3, 2),)


def test_the_value_is_combined_from_counts_and_is_not_the_mean():
    found = scores(["犬", "赤いバスが道路に停まっています"], [("猫",), ("赤いバスが道路に停まっています",)])["bleu_1"]
    assert found.per_sample == (pytest.approx(0, abs=1e-9), pytest.approx(100))
    assert found.value > 90


def test_the_signature_names_what_makes_the_words():
    signature = scores(["犬"], [("犬",)])["bleu_4"].signature
    assert signature.startswith("bleu_4|n:1|refs:1|seg:characters|v:")
