"""CIDEr-D against pycocoevalcap's scorer, and its table of document frequencies."""

import random

import pytest

from vlmmerge.errors import ScoreError
from vlmmerge.score import METRICS, DocumentFrequency, Targets, document_frequency, prepare
from vlmmerge.score.cider import cider_d, content_words
from vlmmerge.score.segment import segmenter_name

# from pycocoevalcap.cider.cider_scorer import CiderScorer     (pycocoevalcap 1.2)
# scorer = CiderScorer(); [scorer.__iadd__((answer, references)) for answer, references, _ in GOLDEN]
# scorer.compute_score()[1]
GOLDEN = [
    ("a b c d e", ["a b c d e", "a b c x e"], 6.228458),
    ("d c b a", ["a b c d e", "b c d"], 2.130005),
    ("f", ["f", "g f"], 2.121692),
    ("a a a b", ["a b a c", "c"], 0.849775),
    ("", ["h i"], 0.0),
]
CAPTIONS = (
    ("白い犬が芝生の上を走っています。", "犬が走っている。"),
    ("赤いバスが道路に停まっています。", "赤いバスが停車している。"),
    ("ジョン・レノンの看板と犬。", "看板がある。"),
)


def score_rows(rows):
    segmented = [[reference.split() for reference in references] for _, references in rows]
    documents = DocumentFrequency.build(segmented, "spaces")
    return [cider_d(row[0].split(), sample, documents) for row, sample in zip(rows, segmented, strict=True)]


def score_rows_with_pycocoevalcap(rows):
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer()
    for answer, references in rows:
        scorer += (answer, references)
    return scorer.compute_score()[1].tolist()


def test_golden_values():
    assert score_rows([row[:2] for row in GOLDEN]) == pytest.approx([row[2] for row in GOLDEN], abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_pycocoevalcap_on_random_words(seed):
    rng = random.Random(seed)

    def text():
        return " ".join(rng.choices("abcdefgh", k=rng.randint(0, 14)))

    rows = [(text(), [text() for _ in range(rng.randint(1, 5))]) for _ in range(rng.randint(2, 30))]
    assert score_rows(rows) == pytest.approx(score_rows_with_pycocoevalcap(rows), rel=1e-9, abs=1e-12)


def test_agrees_with_pycocoevalcap_on_japanese():
    answers = ["白い犬が道路を走っています。", "赤いバスです。", "看板"]
    rows = [
        (" ".join(content_words(answer)), [" ".join(content_words(text)) for text in sample])
        for answer, sample in zip(answers, CAPTIONS, strict=True)
    ]
    score = prepare(["cider"], Targets(CAPTIONS)).score(answers)["cider"]
    assert score.per_sample == pytest.approx(score_rows_with_pycocoevalcap(rows), rel=1e-9)
    assert score.value == pytest.approx(sum(score.per_sample) / 3)


def test_identical_captions_score_ten_and_identical_words_two_and_a_half():
    long, short = content_words(CAPTIONS[0][0]), content_words("犬")
    documents = document_frequency([["赤い猫"], ["青い空"], ["駅"]])
    assert cider_d(long, [long], documents) == pytest.approx(10)
    assert cider_d(short, [short], documents) == pytest.approx(2.5)


def test_a_word_in_every_sample_counts_for_nothing():
    documents = DocumentFrequency.build([[["犬", "白"]], [["犬", "赤"]]], "spaces")
    assert cider_d(["犬"], [["犬", "白"]], documents) == 0
    assert cider_d(["白"], [["犬", "白"]], documents) > 0


def test_punctuation_and_width_do_not_matter_and_the_middle_dot_stays():
    assert content_words("「ﾈｺ」が…３匹！") == content_words("ネコが3匹")
    assert "・" in content_words("犬・猫")


def test_the_frozen_table_scores_as_the_references_that_made_it():
    from_references = prepare(["cider"], Targets(CAPTIONS)).score(["犬", "赤いバス", "看板"])
    from_table = prepare(["cider"], Targets(CAPTIONS, documents=document_frequency(CAPTIONS))).score(
        ["犬", "赤いバス", "看板"]
    )
    assert from_table == from_references


def test_another_table_gives_another_score_and_another_signature():
    plain = prepare(["cider"], Targets(CAPTIONS)).score(["犬", "赤いバス", "看板"])["cider"]
    documents = document_frequency([*CAPTIONS, ["赤いバス"], ["犬"]])
    frozen = prepare(["cider"], Targets(CAPTIONS, documents=documents)).score(["犬", "赤いバス", "看板"])["cider"]
    assert frozen.value != plain.value
    assert f"|df:{documents.sha256[:8]}|" in frozen.signature
    assert frozen.signature != plain.signature


def test_a_table_survives_json_and_keeps_its_checksum():
    documents = document_frequency(CAPTIONS)
    again = DocumentFrequency.from_json(documents.to_json())
    assert again == documents
    assert again.sha256 == documents.sha256
    assert again.num_documents == 3
    assert again.counts[("犬",)] == 2


def test_the_checksum_does_not_depend_on_the_order_of_the_samples():
    assert document_frequency(CAPTIONS[::-1]).sha256 == document_frequency(CAPTIONS).sha256


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"segmenter":"x","num_documents":"many","counts":{}}', "null"])
def test_something_else_than_a_table_is_an_error(text):
    with pytest.raises(ScoreError, match="not a table of document frequencies"):
        DocumentFrequency.from_json(text)


def test_a_count_beyond_the_number_of_documents_is_an_error():
    with pytest.raises(ScoreError, match="a count is beyond the number of documents"):
        DocumentFrequency.from_json('{"segmenter":"x","num_documents":2,"counts":{"犬":3}}')


def test_one_sample_without_a_table_is_an_error():
    with pytest.raises(ScoreError) as caught:
        prepare(["cider"], Targets(CAPTIONS[:1]))
    assert str(caught.value) == (
        "`cider` cannot tell rare words from common ones in the references of one sample\n"
        "hint: score two samples or more, or by other metrics, such as `rouge_l`"
    )


def test_a_table_made_with_another_segmenter_is_an_error():
    table = DocumentFrequency(9, {}, "sudachi-1")
    with pytest.raises(ScoreError) as caught:
        prepare(["cider"], Targets(CAPTIONS, documents=table))
    assert str(caught.value) == (
        f"document frequencies of words by sudachi-1 cannot weigh words by {segmenter_name('unidic-lite')}\n"
        "hint: make the table again with this segmenter"
    )


def test_the_best_value_is_left_open():
    assert METRICS["cider"].best is None
