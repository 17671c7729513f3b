"""ROUGE-1, ROUGE-2 and ROUGE-L against rouge_score, and the published preprocessing."""

import random

import pytest

from vlmmerge.score import Targets, prepare
from vlmmerge.score.rouge import EMOJI, rouge_l, rouge_n, rouge_words

# from rouge_score.rouge_scorer import RougeScorer     (rouge_score 0.1.2; tokenizer: str.split)
# RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=spaces).score_multi(references, answer), each fmeasure
GOLDEN = [
    ("a b c d e", ["a b c d e", "a b c x e"], (1.0, 1.0, 1.0)),
    ("d c b a", ["a b c d e", "b c d"], (0.888889, 0.0, 0.285714)),
    ("f", ["f", "g f"], (1.0, 0.0, 1.0)),
    ("a a a b", ["a b a c", "c"], (0.75, 0.333333, 0.5)),
    ("", ["h i"], (0.0, 0.0, 0.0)),
]
KINDS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def rouge(answer, reference):
    return rouge_n(answer, reference, 1), rouge_n(answer, reference, 2), rouge_l(answer, reference)


class Segmenter:
    """rouge_score's tokenizer: either spaces, or the published Japanese words."""

    def __init__(self, segment):
        self.tokenize = segment


def reference_scorer(segment):
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    return scorer.RougeScorer(list(KINDS.values()), tokenizer=Segmenter(segment))


@pytest.mark.parametrize(("answer", "references", "wanted"), GOLDEN)
def test_golden_values(answer, references, wanted):
    values = [rouge(answer.split(), reference.split()) for reference in references]
    assert [max(column) for column in zip(*values, strict=True)] == pytest.approx(wanted, abs=1e-6)


def test_agrees_with_rouge_score_on_random_words():
    scorer, rng = reference_scorer(str.split), random.Random(0)
    for _ in range(500):
        answer, reference = (rng.choices("abcde", k=rng.choice([0, 1, 5, 30, 90])) for _ in range(2))
        scores = scorer.score(" ".join(reference), " ".join(answer))
        wanted = [scores[kind].fmeasure for kind in KINDS.values()]
        assert rouge(answer, reference) == pytest.approx(wanted, abs=1e-12)


def test_agrees_with_rouge_score_on_japanese_with_several_references():
    answers = ["白い犬が道路を走っています😀。", "赤いﾊﾞｽです", "標識"]
    references = (("白い犬が走る。", "犬が道路にいます。"), ("バス", "赤いバスです。"), ("猫",))
    scorer = reference_scorer(rouge_words)
    wanted = [scorer.score_multi(list(sample), answer) for answer, sample in zip(answers, references, strict=True)]
    found = prepare(KINDS, Targets(references)).score(answers)
    for own, theirs in KINDS.items():
        assert found[own].per_sample == pytest.approx([100 * score[theirs].fmeasure for score in wanted])


def test_words_are_compared_after_neologdn():
    assert rouge_words("ﾊﾝｶｸ　 カナ〜") == rouge_words("ハンカク カナ")


def test_every_emoji_is_dropped_and_nothing_else_of_the_first_plane():
    emoji = pytest.importorskip("emoji")
    singles = {text for text in emoji.EMOJI_DATA if len(text) == 1}
    assert all(EMOJI.sub("", character) == "" for character in singles)
    dingbats = set(map(chr, range(0x2702, 0x27B1)))
    dropped = {chr(code) for code in range(0x10000) if EMOJI.match(chr(code))}
    assert dropped == {character for character in singles | dingbats if ord(character) < 0x10000}


@pytest.mark.parametrize("text", ["犬と猫", "ー〜々〆ヶ", "★☆♪○●", "3個", "Ａ"])
def test_japanese_text_and_its_signs_are_no_emoji(text):
    assert EMOJI.sub("", text) == text


def test_the_signature_names_what_makes_the_words():
    signature = prepare(["rouge_l"], Targets((("犬",),))).score(["犬"])["rouge_l"].signature
    assert "|refs:1|norm:neologdn-" in signature
    assert "|seg:unidic-lite-" in signature
