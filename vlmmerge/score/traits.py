"""What answers look like, right or wrong: their length, how much they repeat, how many differ, how many are Japanese.

Knows texts. No trait is a score: none is better for being higher, and a right answer and a wrong one may look alike.
They are told beside scores, and `guards.py` reads some of them.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from vlmmerge.score.japanese import is_japanese

# Four characters are a word or two of Japanese, which no honest answer says over and over. Measured 2026-11: of 5005
# captions by people and machines 0.06 % repeat more than a fifth of them; of a model's 4000 answers 2 % do, in loops.
NGRAM = 4


@dataclass(frozen=True)
class Traits:
    """What each answer looks like, in the samples' order.

    Attributes:
        lengths: Characters, white space apart.
        length_ratios: Length by that of the reference of the nearest length; None without references.
        repetitions: Share of repeated pieces, 0 to 1.
        are_japanese: Whether it is Japanese by its script.
        distinct: Share of answers that differ from all before them: 1 / n for one answer to everything.
    """

    lengths: tuple[int, ...]
    length_ratios: tuple[float, ...] | None
    repetitions: tuple[float, ...]
    are_japanese: tuple[bool, ...]
    distinct: float

    def overall(self) -> dict[str, float]:
        """One number a trait: means over the samples and the median length; `japanese` is in %."""
        ratios = {} if self.length_ratios is None else {"length_ratio": fmean(self.length_ratios)}
        return {
            "length": fmean(self.lengths),
            "median_length": median(self.lengths),
            **ratios,
            "repetition": fmean(self.repetitions),
            "distinct": self.distinct,
            "japanese": 100.0 * fmean(self.are_japanese),
        }

    def of_sample(self, number: int) -> dict[str, Any]:
        """One answer's traits as plain values."""
        ratios = {} if self.length_ratios is None else {"length_ratio": self.length_ratios[number]}
        return {
            "length": self.lengths[number],
            **ratios,
            "repetition": self.repetitions[number],
            "japanese": self.are_japanese[number],
        }


def describe(answers: Sequence[str], references: Sequence[Sequence[str]] | None = None) -> Traits:
    """Describe answers, at least one.

    Args:
        answers: One a sample.
        references: Each sample's, at least one with a character in it; None where there are none.
    """
    lengths = tuple(map(length, answers))
    has_references = references is not None and all(any(map(length, sample)) for sample in references)
    ratios = (
        tuple(long / nearest_length(long, own) for long, own in zip(lengths, references or (), strict=True))
        if has_references
        else None
    )
    distinct = len({_plain(answer) for answer in answers}) / len(answers)
    return Traits(lengths, ratios, tuple(map(repetition, answers)), tuple(map(is_japanese, answers)), distinct)


def length(text: str) -> int:
    """Characters of a text after NFKC, white space apart.

    >>> length("赤い バス")
    4
    """
    return len(_plain(text))


def nearest_length(num_characters: int, references: Sequence[str]) -> int:
    """The length of the reference whose length is nearest; of two as near the shorter, and none that is empty.

    Source: Papineni 2002, BLEU, section 2.2.2 ("best match length"), https://aclanthology.org/P02-1040/

    >>> nearest_length(5, ["赤", "赤いバスです", "赤いバスが道路に停まっている"])
    6
    """
    return min(filter(None, map(length, references)), key=lambda known: (abs(known - num_characters), known))


def repetition(text: str, order: int = NGRAM) -> float:
    """Share of a text's pieces that it has said before, 0 to 1: 1 - distinct n-grams / n-grams.

    The pieces are of characters: Japanese has no spaces, and words would depend on a dictionary. A text that is too
    short to have two pieces repeats nothing.

    Source: Welleck 2019, Neural Text Generation with Unlikelihood Training, seq-rep-n (there of tokens),
    https://arxiv.org/abs/1908.04319

    >>> repetition("白い犬が走っています。"), round(repetition("赤い" * 50), 2)
    (0.0, 0.98)
    """
    plain = _plain(text)
    num_pieces = len(plain) - order + 1
    if num_pieces < 2:
        return 0.0
    return 1.0 - len({plain[start : start + order] for start in range(num_pieces)}) / num_pieces


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())
