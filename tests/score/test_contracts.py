"""What every metric keeps, over the whole registry."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.score.equipment import equipped
from vlmmerge import __version__
from vlmmerge.score import METRICS, DocumentFrequency, Targets, document_frequency, paired_difference, possible, prepare
from vlmmerge.score.cider import content_words
from vlmmerge.score.segment import segmenter_name

FACTS = (("犬",), ("赤い", "バス"), ("猫",), ("鳥",), ("駅",), ("青い", "空"))
REFERENCES = (
    ("白い犬が1匹、芝生の上を走っています。", "犬が走っている。"),
    ("赤いバスが2台、道路に停まっています。", "赤いバスが停車している。"),
    ("猫が3匹、ソファの上で眠っています。", "ソファで寝ている猫。"),
    ("鳥が4羽、木の枝にとまっています。", "枝の上に鳥がいる。"),
    ("駅のホームに5人が並んでいます。", "人々が駅で待っている。"),
    ("青い空に雲が6つ浮かんでいます。", "雲のある青い空。"),
)
PERFECT = [sample[0] for sample in REFERENCES]
MIXED = [PERFECT[0], "青い車", "", "鳥がいます。", "a train", "青い空に雲が6つ浮かんでいます"]
LONG = ["".join(PERFECT[i:] + PERFECT[:i]) for i in range(6)]
STRANGE = ["\0", "\ud800犬", "😀" * 5, "犬" * 3000, "\u200d\ufeff\u202e", "...。。。!?"]

TARGETS = Targets(REFERENCES, facts=FACTS)
# Many words, each of another weight: a sum in another order ends on another last bit.
NGRAMS = sorted({(word,) for text in PERFECT for word in content_words(text)})
DOCUMENTS = DocumentFrequency(1000, {ngram: 3 * i + 2 for i, ngram in enumerate(NGRAMS)}, segmenter_name("unidic-lite"))
UNEVEN = Targets(tuple((text,) for text in LONG[::-1]), facts=FACTS, documents=DOCUMENTS)
TEXT_ALONE = possible(UNEVEN)  # without a model
NONSENSE = ("clipscore", "refclipscore")  # what random weights see; tests/score/test_clipscore.py knows better
HIGHEST = {"clipscore": 250.0, "refclipscore": 1000 / 7}  # elsewhere 100
every_metric = pytest.mark.parametrize("name", METRICS)


def scored(name, answers, targets=TARGETS, **options):
    return prepare([name], equipped(targets)).score(answers, **options)[name]


@every_metric
def test_registry_names_the_metric_as_it_names_itself(name):
    assert METRICS[name].name == name
    assert METRICS[name].unit


@every_metric
def test_perfect_answers_get_the_best_value_where_it_is_defined(name):
    best = METRICS[name].best
    if best is None:
        pytest.skip(f"the best value of {name} depends on the references")
    assert scored(name, PERFECT).value == pytest.approx(best, abs=1e-9)


@every_metric
def test_perfect_answers_beat_mixed_ones_and_mixed_ones_beat_none(name):
    if name in NONSENSE:
        pytest.skip("its model has random weights")
    assert scored(name, PERFECT).value > scored(name, MIXED).value > scored(name, [""] * 6).value


@every_metric
@pytest.mark.parametrize("empty", ["", " ", "\u3000", "\n"])
def test_an_empty_answer_scores_zero(name, empty):
    score = scored(name, [empty, *PERFECT[1:]])
    assert score.per_sample[0] == 0
    assert scored(name, [empty] * 6).value == 0


@every_metric
def test_no_answer_raises_or_scores_beyond_the_range(name):
    score = scored(name, STRANGE)
    assert all(
        0 <= value <= HIGHEST.get(name, 100) for value in (score.value, score.low, score.high, *score.per_sample)
    )


@every_metric
def test_the_order_of_samples_does_not_matter(name):
    order = [3, 0, 5, 1, 4, 2]
    shuffled = Targets(tuple(REFERENCES[i] for i in order), facts=tuple(FACTS[i] for i in order))
    first = scored(name, MIXED)
    second = scored(name, [MIXED[i] for i in order], shuffled)
    assert (second.value, second.low, second.high) == (first.value, first.low, first.high)
    assert second.per_sample == tuple(first.per_sample[i] for i in order)
    assert second.signature == first.signature


@every_metric
def test_a_sample_is_scored_alike_whatever_the_other_answers_say(name):
    assert scored(name, MIXED).per_sample[:2] == scored(name, MIXED[:2] + ["犬"] * 4).per_sample[:2]


@every_metric
def test_scoring_twice_gives_the_same(name):
    scorer = prepare([name], equipped(TARGETS))
    assert scorer.score(MIXED) == scorer.score(MIXED)


@every_metric
def test_the_signature_holds_metric_number_and_version(name):
    parts = scored(name, MIXED).signature.split("|")
    assert parts[0] == name
    assert parts[1] == "n:6"
    assert parts[-1] == f"v:{__version__}"


@every_metric
@pytest.mark.parametrize("answers", [PERFECT, MIXED, STRANGE])
def test_the_interval_contains_the_value(name, answers):
    score = scored(name, answers)
    assert score.low <= score.value <= score.high


@every_metric
def test_there_is_one_value_and_one_row_of_statistics_a_sample(name):
    score = scored(name, MIXED)
    assert score.num_samples == len(score.per_sample) == len(score.statistics) == 6


@every_metric
def test_leaving_the_interval_out_leaves_the_value_as_it_is(name):
    score = scored(name, MIXED, intervals=False)
    assert score.value == scored(name, MIXED).value
    assert math.isnan(score.low)
    assert math.isnan(score.high)


@every_metric
def test_a_candidate_does_not_differ_from_itself(name):
    score = scored(name, MIXED)
    assert paired_difference(score, score) == (0, 0, 0)


@every_metric
def test_swapping_two_candidates_turns_their_difference_around(name):
    a, b = scored(name, PERFECT), scored(name, MIXED)
    difference, low, high = paired_difference(a, b)
    assert difference == a.value - b.value
    assert low <= difference <= high
    assert paired_difference(b, a)[0] == -difference


@every_metric
def test_one_sample_is_enough(name):
    targets = Targets(REFERENCES[:1], facts=FACTS[:1], documents=document_frequency(REFERENCES))
    score = scored(name, PERFECT[:1], targets)
    assert score.low == score.value == score.high > 0


def test_scores_are_the_same_in_every_process():
    """Python salts the order of sets of strings in each process: no sum may follow it."""
    program = (
        "import sys; sys.path.insert(0, 'tests/score'); import test_contracts as t\n"
        "print([(s.value.hex(), s.low.hex(), s.high.hex(), s.signature)"
        " for s in t.prepare(t.TEXT_ALONE, t.UNEVEN).score(t.LONG).values()])"
    )
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
