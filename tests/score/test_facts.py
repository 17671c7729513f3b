"""The facts metric: all of the sample's phrases and no others."""

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import Targets, prepare

REFERENCES = (("赤い車が2台",), ("青い家",), ("犬",))
FACTS = (("赤い", "2台"), ("青い", "家"), ("犬",))


def per_sample(answers, references=REFERENCES, facts=FACTS, **options):
    return prepare(["facts"], Targets(references, facts=facts, **options)).score(answers)["facts"].per_sample


def test_all_facts_and_no_others_are_right():
    assert per_sample(["２台の赤い車です。", "家が青いです", "大きな犬"]) == (100, 100, 100)


def test_a_missing_fact_is_wrong():
    assert per_sample(["赤い車", "家", "猫"]) == (0, 0, 0)


def test_a_fact_of_another_sample_is_wrong():
    assert per_sample(["赤い車が2台と犬", "赤い家と青い家", "犬の家"]) == (0, 0, 0)


def test_saying_the_whole_vocabulary_is_wrong_everywhere():
    assert per_sample(["赤い青い2台家犬"] * 3) == (0, 0, 0)


def test_a_phrase_within_a_phrase_is_said_along_with_it():
    """A sample with 赤い車 could never be right where another sample's phrase is 車."""
    facts = (("赤い車",), ("車",))
    assert per_sample(["赤い車です", "車です"], (("赤い車",), ("車",)), facts) == (100, 100)
    assert per_sample(["車です", "赤い車です"], (("赤い車",), ("車",)), facts) == (0, 0)


def test_the_evalsets_vocabulary_counts_beyond_the_samples_chosen():
    one = (REFERENCES[:1], FACTS[:1])
    assert per_sample(["赤い車が2台と猫"], *one) == (100,)
    assert per_sample(["赤い車が2台と猫"], *one, fact_vocabulary=("猫",)) == (0,)


def test_the_signature_changes_with_the_vocabulary():
    def signature(*vocabulary):
        targets = Targets(REFERENCES, facts=FACTS, fact_vocabulary=vocabulary)
        return prepare(["facts"], targets).score([""] * 3)["facts"].signature

    assert "|facts:5-" in signature()
    assert signature() == signature("犬")
    assert signature() != signature("猫")


def test_a_sample_without_facts_is_right_when_none_is_said():
    assert per_sample(["何もない道", "犬", ""], REFERENCES, ((), ("犬",), ())) == (100, 100, 0)


def test_an_evalset_without_facts_is_an_error():
    with pytest.raises(ScoreError, match="`facts` needs each sample's fact phrases, and there are none"):
        prepare(["facts"], Targets(REFERENCES))


def test_facts_for_fewer_samples_than_references_are_an_error():
    with pytest.raises(ScoreError, match="facts for 1 samples, references for 3"):
        prepare(["facts"], Targets(REFERENCES, facts=FACTS[:1]))
