"""Samples from a table's rows, as a split's columns say. Does not know where the table comes from."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vlmmerge.evalsets.manifest import Split
from vlmmerge.evalsets.sample import Sample

Row = dict[str, Any]


def make_samples(rows: Iterable[Row], split: Split) -> Iterator[Sample]:
    """Each row's samples, in the rows' order."""
    for number, row in enumerate(rows):
        yield from _samples(row, split, number)


def _samples(row: Row, split: Split, number: int) -> Iterator[Sample]:
    images, facts = (_image_bytes(row["image"]),), tuple(row.get("facts") or ())
    name = str(row[split.id] if split.id else number)
    references = row[split.references]
    if split.kind == "questions" and not isinstance(references, str) and all(isinstance(qa, dict) for qa in references):
        for qa in references[:1] if split.only_first else references:
            yield Sample(f"{name}/{qa[split.question_id]}", images, qa["question"], _answers(qa))
        return
    question = split.question or row.get("question")
    assert question, "a split of captions has one question"
    yield Sample(name, images, question, _texts(references), facts if split.language == "ja" else ())


def _answers(qa: Row) -> tuple[str, ...]:
    """A question's answers: `answers`, the best first, or its one `answer`."""
    return _texts(qa["answers"] if "answers" in qa else qa["answer"])


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _image_bytes(image: Row) -> bytes:
    """The encoded picture: within the row, or in a file that the row names."""
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
