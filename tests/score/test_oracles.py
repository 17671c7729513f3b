"""Published scores of real answers by real models; read from ../shared/oracles, skipped where that folder is absent."""

import json
from pathlib import Path

import pytest

from vlmmerge.score import Targets, prepare

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
pytestmark = pytest.mark.skipif(not ORACLES.is_dir(), reason="no folder ../shared/oracles beside the project")


def read(name):
    return json.loads((ORACLES / name).read_text(encoding="utf-8"))


# The published values are medians of an unseeded bootstrap, so a plain mean differs by up to 0.1 (4000) or 0.4 (50).
@pytest.mark.parametrize(
    ("name", "num_samples", "published", "tolerance"),
    [
        ("evovlm-jp-v1-7b.ja-vg-vqa-500.json", 4000, 18.698, 0.1),
        ("evovlm-jp-v1-7b.ja-vlm-bench-in-the-wild.json", 50, 52.04, 0.4),
        ("japanese-instructblip-alpha.ja-vlm-bench-in-the-wild.json", 50, 20.465, 0.4),
    ],
)
def test_rouge_l_equals_the_published_value(name, num_samples, published, tolerance):
    results = read(name)["results"]
    targets = Targets(tuple((answer,) for answer in results["answer"]))
    score = prepare(["rouge_l"], targets).score(results["prediction"])["rouge_l"]
    assert score.num_samples == num_samples
    assert score.value == pytest.approx(published, abs=tolerance)
    assert score.low < published < score.high


def test_rouge_l_over_the_first_question_of_each_picture_is_that_of_the_same_answers():
    results = read("evovlm-jp-v1-7b.ja-vg-vqa-500.json")["results"]
    targets = Targets(tuple((answer,) for answer in results["answer"][::8]))
    assert round(prepare(["rouge_l"], targets).score(results["prediction"][::8])["rouge_l"].value, 2) == 19.88


@pytest.mark.parametrize(("dictionary", "published"), [("ipadic", 0.4863), ("unidic-lite", 0.4857)])
def test_cider_equals_the_published_value_to_four_digits(dictionary, published):
    pytest.importorskip(dictionary.replace("-", "_"))
    references: dict[int, list[str]] = {}
    for caption in read("coco-ja.references.json")["annotations"]:
        references.setdefault(caption["image_id"], []).append(caption["caption"])
    candidates = read("coco-ja.candidates.json")
    targets = Targets(tuple(tuple(references[row["image_id"]]) for row in candidates), segmenter=dictionary)
    score = prepare(["cider"], targets).score([row["caption"] for row in candidates])["cider"]
    assert round(score.value, 4) == published


def test_nearly_all_of_a_japanese_models_answers_are_japanese():
    results = read("evovlm-jp-v1-7b.ja-vg-vqa-500.json")["results"]
    score = prepare(["japanese"], Targets(((),) * 4000)).score(results["prediction"])["japanese"]
    assert score.value > 98
