"""Text at the edges of what a model may say, scored as the reference implementations score it."""

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.rouge import rouge_words
from vlmmerge.score.segment import content_words

EDGES = {
    "empty": ("", ("駅のホームです。",)),
    "one word": ("犬", ("白い犬", "犬")),
    "only emoji": ("😀🐶", ("笑顔の犬😀",)),
    "full-width": ("ＡＢＣの看板が１２３枚！", ("ABCの看板が123枚です。",)),
    "half-width kana": ("ﾊﾞｽが走る｡", ("バスが走る。", "バスです。")),
    "no spaces": ("白い犬が芝生の上を走っています", ("白い犬が芝生の上を走っています。",)),
    "many spaces": (" 白い\t犬　が\n\n走る ", ("白い犬が走る",)),
    "10 000 characters": (("白い犬が走る。" * 1429)[:10_000], ("白い犬が走る。", "赤い猫")),
    "lone surrogate": ("犬\ud800と\udfff猫", ("犬?と?猫",)),
}
NAMES = ["rouge_1", "rouge_2", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "chrf"]

# Made by `reference_values()` below: rouge_score 0.1.2, pycocoevalcap 1.2, sacrebleu 2.6.0; words by unidic-lite 1.0.8
# after neologdn 0.5.6 for ROUGE.
GOLDEN = {
    "empty": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "one word": [100.0, 0.0, 100.0, 100.0, 0.1, 0.01, 0.003, 1.801, 100.0],
    "only emoji": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 11.364],
    "full-width": [80.0, 76.923, 80.0, 84.648, 84.648, 84.648, 84.648, 8.987, 14.542],
    "half-width kana": [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 3.162, 4.709, 18.445],
    "no spaces": [95.652, 95.238, 95.652, 100.0, 100.0, 100.0, 100.0, 10.0, 93.884],
    "many spaces": [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 10.0, 100.0],
    "10 000 characters": [0.14, 0.112, 0.14, 0.07, 0.061, 0.05, 0.039, 0.0, 0.225],
    "lone surrogate": [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 3.162, 7.5, 12.0],
}


def reference_values():
    """For each metric the values of EDGES, by the implementations that it is held against."""
    return {**rouge_score(), **pycocoevalcap(), "chrf": sacrebleu()}


def rouge_score():
    module = pytest.importorskip("rouge_score.rouge_scorer")
    tokenizer = type("Words", (), {"tokenize": staticmethod(rouge_words)})
    scorer = module.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=tokenizer)
    scores = [scorer.score_multi(references, answer) for answer, references in EDGES.values()]
    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    return {own: [100 * score[theirs].fmeasure for score in scores] for own, theirs in kinds.items()}


def pycocoevalcap():
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer").BleuScorer(n=4)
    cider = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer()
    for answer, references in EDGES.values():
        row = (" ".join(content_words(answer)), [" ".join(content_words(text)) for text in references])
        bleu += row
        cider += row
    orders = bleu.compute_score(option="closest")[1]
    blues = {f"bleu_{number}": [100 * value for value in order] for number, order in enumerate(orders, 1)}
    return {**blues, "cider": cider.compute_score()[1].tolist()}


def sacrebleu():
    scorer = pytest.importorskip("sacrebleu.metrics").CHRF()
    return [scorer.sentence_score(answer, list(references)).score for answer, references in EDGES.values()]


@pytest.fixture(scope="module")
def found():
    answers, references = zip(*EDGES.values(), strict=True)
    scores = prepare(NAMES, Targets(references)).score(answers)
    return {name: dict(zip(EDGES, score.per_sample, strict=True)) for name, score in scores.items()}


@pytest.mark.parametrize("edge", EDGES)
def test_golden_values(found, edge):
    assert [found[name][edge] for name in NAMES] == pytest.approx(GOLDEN[edge], abs=5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_implementation_gives_the_same(found, name):
    assert list(found[name].values()) == pytest.approx(reference_values()[name], rel=1e-9, abs=1e-9)
