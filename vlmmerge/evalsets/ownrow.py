"""A row of a person's own set: its fields, what each must be, and the sample that it makes. Reads no files."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vlmmerge.evalsets.rows import LETTERS, lettered
from vlmmerge.evalsets.sample import Sample
from vlmmerge.evalsets.split import CHOICE_PROMPTS
from vlmmerge.recipe.faults import must, shown

ALL = "all"  # every row of an own set, whatever split it names


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: Any, least: int = 1) -> bool:
    return isinstance(value, list) and len(value) >= least and all(map(_is_text, value))


def _is_split(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9_.-]+", value)) and value != ALL


Text = Annotated[str, must("text that is not empty", _is_text)]
Texts = Annotated[tuple[str, ...], must("a list of one or more texts that are not empty", _are_texts, tuple)]
Options = Annotated[
    tuple[str, ...],
    must(
        f"a list of 2 to {len(LETTERS)} texts", lambda value: _are_texts(value, 2) and len(value) <= len(LETTERS), tuple
    ),
]
Facts = Annotated[tuple[str, ...], must("a list of texts", lambda value: value == [] or _are_texts(value), tuple)]
Id = Annotated[str, must("text or an integer", lambda value: _is_text(value) or type(value) is int, str)]
SplitName = Annotated[str, must(f'a name of the letters A-Z a-z 0-9 _ . - and not "{ALL}"', _is_split)]


class OwnRow(BaseModel):
    """A row as people write it: `image` or `images`, and `references` or `answer`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Text = Field(description="what is asked, as text")
    image: Text | None = None
    images: Texts | None = None
    references: Texts | None = None
    answer: Text | None = None
    options: Options | None = None
    facts: Facts = ()
    id: Id | None = None
    split: SplitName | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The pictures' names."""
        return (self.images or ()) if self.image is None else (self.image,)


def make_sample(row: OwnRow, images: tuple[bytes, ...], number: int) -> Sample | list[str]:
    """The sample of a row, or what is wrong between its fields; `number` names it where it has no id."""
    faults = [
        f"{one}: wanted {one} or {other}, found {'both' if found[0] and found[1] else 'neither'}"
        for one, other, found in (
            ("image", "images", (row.image, row.images)),
            ("references", "answer", (row.references, row.answer)),
        )
        if bool(found[0]) == bool(found[1])
    ]
    references = row.references or ((row.answer,) if row.answer else ())
    question = row.question
    if row.options and not faults:
        question = CHOICE_PROMPTS["ja"].format(question=question, options=lettered(row.options))
        references, faults = _chosen(row.options, references)
    if faults:
        return faults
    return Sample(row.id or str(number), images, question, references, row.facts, row.options or ())


def _chosen(options: tuple[str, ...], references: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """Each right option's letter and text, and faults for references that are neither."""
    letters = LETTERS[: len(options)]
    right: list[str] = []
    for reference in references:
        if reference not in options and reference not in letters:
            return (), [f"references: {shown(reference)} is no option and none of the letters {letters}"]
        index = options.index(reference) if reference in options else letters.index(reference)
        right += [letters[index], options[index]]
    return tuple(right), []
