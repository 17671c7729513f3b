"""Samples from a table's rows, as a split's columns say. Does not know where the table comes from."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets.sample import Sample
from vlmmerge.evalsets.split import Split

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FACTS = "facts"
PICTURE_NAMES = {"ja": r"画像\1", "en": r"image \1"}


def make_samples(table: "Dataset", split: Split, name: str) -> Iterator[Sample]:
    """Each chosen row's samples, in the table's order; `name` is how messages call the split.

    Raises:
        EvalsetError: A row lacks a picture, a question or an answer.
    """
    for number, row in enumerate(_chosen_rows(table, split)):
        try:
            yield from _samples(row, split, number)
        except (ValueError, KeyError, TypeError, SyntaxError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            hint = "the set's manifest does not fit what the set holds"
            raise EvalsetError(f"{name}: row {number} (from 0) makes no sample: {reason}", hint=hint) from None


def lettered(options: Iterable[str]) -> str:
    """Options as they are asked, one a line.

    >>> print(lettered(["富士山", "浅間山"]))
    A. 富士山
    B. 浅間山
    """
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def _chosen_rows(table: "Dataset", split: Split) -> Iterable[Row]:
    """The wanted rows with the wanted columns, pictures as the bytes that they are."""
    if split.where:
        columns = [list(table[column]) for column in split.where]
        wanted = list(split.where.values())
        rows = enumerate(zip(*columns, strict=True))
        keep = [n for n, row in rows if all(value in each for value, each in zip(row, wanted, strict=True))]
        table = table.select(keep)
    wanted_columns = split.columns | {split.question_column, FACTS}
    table = table.select_columns([column for column in table.column_names if column in wanted_columns])
    for column in split.images:
        table = table.cast_column(column, _undecoded(table.features[column]))
    return table


def _undecoded(feature: Any) -> Any:
    """The same feature with pictures left encoded."""
    import datasets

    if isinstance(feature, datasets.Image):
        return datasets.Image(decode=False)
    if isinstance(feature, datasets.List):
        return datasets.List(_undecoded(feature.feature), length=feature.length)
    return feature


def _samples(row: Row, split: Split, number: int) -> Iterator[Sample]:
    name = str(row[split.id] if split.id else number)
    images, references = _images(row, split), _field(row, split.references)
    if isinstance(references, list) and any(isinstance(each, dict) for each in references):
        for qa in references[:1] if split.only_first else references:
            answers = _texts(qa["answers"] if "answers" in qa else qa["answer"])
            yield Sample(f"{name}/{qa[split.question_id]}", images, _asked(qa["question"], split), answers)
        return
    question = split.question or row.get(split.question_column)
    options = _options(row, split)
    yield Sample(
        id=name,
        images=images,
        question=_asked(question, split, options),
        references=_answers(references, split, options),
        facts=tuple(row.get(FACTS) or ()) if split.language == "ja" else (),
        options=options,
        context=str(row[split.context] or "") if split.context else "",
    )


def _field(row: Row, path: str) -> Any:
    """What stands at `column/field`; of a list of structs, the field of each."""
    value: Any = row
    for key in path.split("/"):
        value = [each[key] for each in value] if isinstance(value, list) else value[key]
    return value


def _images(row: Row, split: Split) -> tuple[bytes, ...]:
    columns = [row[column] for column in split.images]
    images = [image for found in columns for image in (found if isinstance(found, list) else [found]) if image]
    if not images:
        raise ValueError("it has no picture")
    return tuple(map(_image_bytes, images))


def _image_bytes(image: Row) -> bytes:
    """The encoded picture: within the row, or in a file that the row names."""
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def _options(row: Row, split: Split) -> tuple[str, ...]:
    return tuple(_named_pictures(text, split) for text in _texts(_field(row, split.options))) if split.options else ()


def _asked(question: Any, split: Split, options: tuple[str, ...] = ()) -> str:
    if not isinstance(question, str) or not question.strip():
        raise ValueError("it has no question")
    return split.template.format(question=_named_pictures(question, split), options=lettered(options))


def _named_pictures(text: str, split: Split) -> str:
    """Marks of pictures as words: pictures stand before the text, where a mark of its own would stand for one more."""
    return re.sub(r"<image>\s*", "", re.sub(r"<image\s*(\d+)>", PICTURE_NAMES[split.language], text))


def _answers(value: Any, split: Split, options: tuple[str, ...]) -> tuple[str, ...]:
    """The right answers; of a choice its letter, then what the option says."""
    if split.answer_form == "text":
        answers = tuple(text for text in _texts(value) if text.strip())
        if not answers:
            raise ValueError("it has no answer")
        return answers
    index = value if split.answer_form == "index" else LETTERS.find(str(value).strip().upper() or "?")
    if type(index) is not int or not 0 <= index < len(options):
        raise ValueError(f"its answer {value!r} is none of its {len(options)} options")
    return (LETTERS[index], options[index])


def _texts(value: Any) -> tuple[str, ...]:
    """One text or several; some sets write a list of texts as a text."""
    if isinstance(value, str) and re.fullmatch(r"\[\s*(['\"]).*\1\s*\]", value, re.DOTALL):
        value = ast.literal_eval(value)
    texts = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"wanted texts, found {value!r}")
    return texts
