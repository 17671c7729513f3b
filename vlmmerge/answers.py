"""Answers that any tool made, as JSON lines with their references: read and checked, to be scored.

Knows the rows: `answer`, `references`, and if there are any `question`, `id`, `options`, `facts` and `context`; other
fields are left alone. Does not know models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vlmmerge.compare import Answered, compare
from vlmmerge.errors import ScoreError
from vlmmerge.evalsets import Sample
from vlmmerge.exam import DEFAULT_SETTINGS, ScoreSettings, make_targets
from vlmmerge.jsonlines import read_rows
from vlmmerge.score import possible, prepare


class AnswerRow(BaseModel):
    """One line: an answer and what it is measured against."""

    model_config = ConfigDict(frozen=True, strict=True)

    answer: str = Field(description="text, empty where the model said nothing")
    references: tuple[str, ...] = Field(min_length=1, description="a list of one or more right answers")
    question: str = ""
    id: str | int | None = None
    options: tuple[str, ...] = ()
    context: str = ""
    facts: tuple[str, ...] = ()


def score_files(
    files: Mapping[str, Path], metrics: Sequence[str], settings: ScoreSettings = DEFAULT_SETTINGS
) -> dict[str, Any]:
    """Score files of answers to the same samples, side by side.

    Args:
        files: By name; each has one row a sample, in the same order.
        metrics: Their names; empty for all that can be had.
        settings: What they are made with.

    Returns:
        What `compare.compare` tells.

    Raises:
        ScoreError: A file cannot be read or has faults, two are not of the same samples, or a metric cannot be had.
    """
    read = {name: _read(file) for name, file in files.items()}
    (first, (samples, _)), *others = read.items()
    for name, (its_samples, _) in others:
        _check_same(first, samples, name, its_samples)
    targets = make_targets(samples, settings)
    scorer = prepare(metrics or possible(targets), targets)
    return compare(samples, {name: Answered(said, scorer.score(said)) for name, (_, said) in read.items()})


def _read(file: Path) -> tuple[list[Sample], list[str]]:
    rows = read_rows(file, AnswerRow, ScoreError)
    return [_sample(number, row) for number, row in rows], [row.answer for _, row in rows]


def _sample(number: int, row: AnswerRow) -> Sample:
    name = f"line {number}" if row.id is None else str(row.id)
    return Sample(name, (), row.question, row.references, row.facts, row.options, row.context)


def _check_same(first: str, samples: Sequence[Sample], name: str, its_samples: Sequence[Sample]) -> None:
    if len(samples) != len(its_samples):
        raise ScoreError(
            f"not the same samples: {len(samples)} in {first}, {len(its_samples)} in {name}",
            hint="score files of different samples one by one",
        )
    for sample, its_sample in zip(samples, its_samples, strict=True):
        if sample != its_sample:
            raise ScoreError(
                f"not the same samples: {sample.id} of {first} and {its_sample.id} of {name}",
                details=[_shown(sample), _shown(its_sample)],
                hint="both files must have the same references and questions in the same order",
            )


def _shown(sample: Sample) -> str:
    return f"{sample.question} {' / '.join(sample.references)}"[:100].strip()
