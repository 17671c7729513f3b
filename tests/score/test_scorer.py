"""Preparing and scoring: the faults that a user can make, and what is read once."""

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import METRICS, Targets, objective, paired_difference, possible, prepare
from vlmmerge.score.rouge import rouge_words
from vlmmerge.score.scorer import OF_REFERENCES
from vlmmerge.score.segment import content_words, words

KNOWN = [
    *("cider", "rouge_1", "rouge_2", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "chrf", "exact"),
    *("contains", "vqa", "choice", "numbers"),
    *("japanese", "facts", "clipscore", "refclipscore", "judge", "judge_heron"),
]
REFERENCES = (("犬が走る", "犬"), ("猫が眠る", "猫"), ("鳥が飛ぶ", "鳥"))


def test_the_metrics_are_these():
    assert [name for name in METRICS if not name.endswith("_strict")] == KNOWN


def test_what_is_scored_where_nobody_chooses_needs_nothing_but_the_targets():
    assert possible(Targets(REFERENCES)) == ["cider", "rouge_l", "chrf", "exact", "contains", "japanese"]
    assert possible(Targets(REFERENCES, facts=(("犬",), ("猫",), ("鳥",))))[-1] == "facts"


def test_scores_come_in_the_order_of_the_names_each_once():
    scorer = prepare(["exact", "cider", "exact"], Targets(REFERENCES))
    assert list(scorer.score(["犬"] * 3)) == ["exact", "cider"]


def test_all_unknown_metrics_are_named_with_the_nearest():
    with pytest.raises(ScoreError) as caught:
        prepare(["cidr", "rouge_l", "meteor"], Targets(REFERENCES))
    assert str(caught.value) == (
        "unknown metric\n  cidr (did you mean cider?)\n  meteor\n"
        f"hint: known: {', '.join(KNOWN)}; and NAME_strict of those that are measured against references"
    )


def test_no_samples_are_an_error():
    with pytest.raises(ScoreError, match="there are no samples to score"):
        prepare(["exact"], Targets(()))


@pytest.mark.parametrize("name", OF_REFERENCES)
def test_a_sample_without_a_reference_is_an_error(name):
    with pytest.raises(ScoreError) as caught:
        prepare([name], Targets((("犬",), (), (" ", ""))))
    assert str(caught.value) == (
        f"`{name}` needs a reference for every sample: 2 of 3 have none\n  samples 1, 2 (counted from 0)\n"
        "hint: `japanese`, `facts` and `clipscore` need no references"
    )


def test_too_few_answers_are_an_error():
    with pytest.raises(ScoreError, match="2 answers, wanted one for each of 3 samples"):
        prepare(["exact"], Targets(REFERENCES)).score(["犬", "猫"])


def test_references_are_segmented_once():
    scorer = prepare(OF_REFERENCES, Targets(REFERENCES))
    scorer.score(["大きな犬"] * 3)
    for cached in (words, content_words, rouge_words):
        cached.cache_clear()
    scorer.score(["小さな犬"] * 3)
    # The tagger is called where `words` does not know a text: for the one answer, whatever the number of metrics.
    assert words.cache_info().misses == 1


def test_the_number_of_references_is_in_the_signature():
    uneven = Targets((("犬",), ("猫", "ねこ", "ネコ")))
    assert "|refs:1-3|" in prepare(["exact"], uneven).score(["犬", "猫"])["exact"].signature


def test_the_objective_is_the_weighted_sum():
    scores = prepare(["exact", "japanese"], Targets(REFERENCES)).score(["犬", "cat", "鳥居"])
    assert objective(scores, {"exact": 1.0, "japanese": 0.5}) == pytest.approx(100 / 3 + 0.5 * 200 / 3)


def test_an_objective_that_was_not_scored_is_an_error():
    scores = prepare(["exact"], Targets(REFERENCES)).score(["犬"] * 3)
    with pytest.raises(ScoreError) as caught:
        objective(scores, {"exact": 1.0, "cider": 1.0})
    assert str(caught.value) == "the objective names metrics that were not scored\n  cider"


def test_scores_of_different_metrics_cannot_be_compared():
    scores = prepare(["exact", "chrf"], Targets(REFERENCES)).score(["犬"] * 3)
    with pytest.raises(ScoreError, match="scores with different signatures cannot be compared"):
        paired_difference(scores["exact"], scores["chrf"])


def test_the_paired_difference_of_combined_counts_is_that_of_the_values():
    scorer = prepare(["chrf"], Targets(REFERENCES))
    a, b = (scorer.score(answers)["chrf"] for answers in (["犬が走る", "猫", "鳥が飛ぶ"], ["犬", "猫が", "馬"]))
    difference, low, high = paired_difference(a, b)
    assert difference == a.value - b.value
    assert low <= difference <= high
    assert difference != pytest.approx(sum(a.per_sample) / 3 - sum(b.per_sample) / 3)
