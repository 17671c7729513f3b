"""Multiple choice: the share of answers that choose the right option.

Knows labels (A, イロハ, アイウ, digits; see `labels.py`) and options in words. Never guesses: an answer that names no
option, or two, is wrong and counts as unreadable.

The rule, first that applies: the whole answer is an option's text; of the sentence that follows the last 答えは, 正解,
したがって or Answer:, of all that follows it, of a first line that is a label alone, of the whole answer: one label is
said to be right (Bが正解), one label is named, or one option's text is said. A text that is denied (犬ではなく) or
guessed (犬か猫) is not said, and neither is 犬 in 犬小屋. "A. 猫" where A is 犬 cannot be read.

Samples without options are counted out: the signature tells how many are counted in.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vlmmerge.errors import ScoreError
from vlmmerge.score.contains import in_sentences, says, says_apart
from vlmmerge.score.labels import (
    NARROW,
    Labels,
    after_label,
    begins_with_label_alone,
    decided,
    find_labels,
    named,
    without_labels,
)
from vlmmerge.score.metric import Array, Metric, Prepared, Targets, mean_of_counted
from vlmmerge.score.normalise import NORMALISATION, normalise

RULE = "labels:1"
SENTENCE_END = re.compile(r"[。\n]")
MARKUP = re.compile(r"[*_`#]+|\\(?:boxed|text)|[{}]")
# What comes before the answer itself; the last of them counts.
MARKER = re.compile(
    r"(?:答え|解答|回答|正解|正答|結論)(?:として(?:は|正しいのは)?)?(?:は|が|:|=|\s)*|したがって|従って|よって|ゆえに|以上より|"
    r"(?:[Aa]nswer|ANSWER|[Oo]ption|[Cc]hoice)(?: is|:| would be)+|[Tt]herefore|[Tt]hus"
)


@dataclass(frozen=True)
class Question:
    """One sample: its options, normalised, how they are called, and which are right."""

    options: tuple[str, ...]
    labels: Labels
    right: frozenset[int]


def choose(answer: str, options: Sequence[str], question: str = "") -> int | None:
    """Which option an answer chooses, from 0; None where it cannot be read or names more than one.

    Args:
        options: Their texts in the order of their labels.
        question: What was asked, which may show the labels' order (ア or イロハ).

    >>> options = ("犬", "猫", "鳥", "魚")
    >>> [choose(text, options) for text in ("B", "（ｂ）", "答えはロです", "② 猫", "猫です。", "AかBです", "A cat")]
    [1, 1, 1, 1, 1, None, None]
    """
    return _choose(answer, tuple(map(normalise, options)), find_labels(options, question))


def _choose(answer: str, options: tuple[str, ...], labels: Labels) -> int | None:
    whole = normalise(answer)
    if options.count(whole) == 1:
        return options.index(whole)
    text = MARKUP.sub("", answer.translate(NARROW)).strip()
    for part, is_conclusion in _parts(text):
        labelled = decided(part, labels) or named(part, labels, is_conclusion=is_conclusion)
        chosen = labelled | _texts(after_label(part), options) if labelled else _said(part, options)
        if chosen:
            return next(iter(chosen)) if len(chosen) == 1 else None
    return None


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """What is read of an answer, one after the other until something is chosen; with whether it is the conclusion."""
    for found in list(MARKER.finditer(text))[-1:]:
        conclusion = text[found.end() :].strip()
        yield SENTENCE_END.split(conclusion, maxsplit=1)[0], True
        yield conclusion, True
    if begins_with_label_alone(text):
        yield text.splitlines()[0], False
    yield text, False


def _texts(text: str, options: Sequence[str]) -> set[int]:
    """The options that a text is."""
    folded = normalise(text)
    return {i for i, option in enumerate(options) if folded == option}


def _said(part: str, options: Sequence[str]) -> set[int]:
    """The options whose text is said; one within a longer one that is said (犬 in 犬小屋) is not."""
    text = in_sentences(part)
    said = [option for option in options if says(text, option)]
    return {i for i, option in enumerate(options) if option in said and says_apart(text, option, said)}


def _read_question(options: Sequence[str], references: Sequence[str], question: str) -> Question | str:
    """One sample, or the reference that is none of its options."""
    labels = find_labels(options, question)
    bare, whole = tuple(map(normalise, without_labels(options))), tuple(map(normalise, options))
    right: set[int] = set()
    for reference in references:
        label = labels.find(normalise(reference))
        found = _texts(reference, bare) | _texts(reference, whole) or ({label} if label is not None else set())
        if not found:
            return reference
        right |= found
    return Question(bare, labels, frozenset(right))


def _prepare(targets: Targets) -> Prepared:
    samples = _read_all(targets)
    num_counted = sum(sample is not None for sample in samples)

    def statistics(answers: Sequence[str]) -> Array:
        """Rows of: right (0 or 100), counted in (0 or 1), unreadable (0 or 1)."""
        rows = np.zeros((len(samples), 3))
        for i, (answer, sample) in enumerate(zip(answers, samples, strict=True)):
            if sample is not None:
                chosen = _choose(answer, sample.options, sample.labels)
                rows[i] = 100.0 * (chosen in sample.right), 1.0, chosen is None
        return rows

    return Prepared(statistics, (f"counted:{num_counted}", NORMALISATION, RULE))


def _read_all(targets: Targets) -> list[Question | None]:
    options = targets.options or ()
    if not any(options):
        raise ScoreError("`choice` needs each sample's options, and there are none", hint="use `exact` or `contains`")
    questions = targets.questions or ("",) * len(options)
    samples: list[Question | None] = []
    faults = []
    for i, (texts, references, question) in enumerate(zip(options, targets.references, questions, strict=True)):
        sample = _read_question(texts, references, question) if texts else None
        if isinstance(sample, str) or (sample and not sample.right):
            faults.append(f"sample {i} (counted from 0): {sample if isinstance(sample, str) else 'no reference'!r}")
            sample = None
        samples.append(sample)
    if faults:
        raise ScoreError(
            f"`choice` needs references that are options or their letters: {len(faults)} of {len(options)} are not",
            details=faults[:5] + (["..."] if len(faults) > 5 else []),
            hint="a reference is an option's text, or its letter, A for the first",
        )
    return samples


def _notes(statistics: Array) -> tuple[str, ...]:
    num_out, num_unreadable = int((statistics[:, 1] == 0).sum()), int(statistics[:, 2].sum())
    notes = []
    if num_out:
        notes.append(f"{num_out} of {len(statistics)} samples have no options and do not count")
    if num_unreadable:
        num_answers = len(statistics) - num_out
        notes.append(f"{num_unreadable} of {num_answers} answers name no option, or more than one, and count as wrong")
    return tuple(notes)


CHOICE = Metric(
    "choice",
    "% of answers that choose the right option",
    100.0,
    _prepare,
    mean_of_counted,
    notes=_notes,
    needs=("options",),
)
