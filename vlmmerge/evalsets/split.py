"""A split as its manifest tells it: where its rows are, and how a sample is made of one. Reads nothing."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

Kind = Literal["captions", "questions", "choices"]
AnswerForm = Literal["text", "letter", "index"]

# The usual metrics of a kind, the headline first; that is what a search makes higher by default (`score/defaults.py`).
USUAL_METRICS: dict[Kind, tuple[str, ...]] = {
    "captions": ("cider", "rouge_l", "chrf"),
    "questions": ("contains", "exact", "rouge_l", "chrf"),
    "choices": ("choice",),
}
CHOICE_PROMPTS = {
    "ja": "{question}\n{options}\n選択肢の記号で答えてください。",
    "en": "{question}\n{options}\nAnswer with the letter of an option.",
}


@dataclass(frozen=True)
class Split:
    """One split of an evalset.

    A field of a struct within a column is written `column/field`.

    Args:
        references: The column of the references: a text, a list of texts, or a list of questions {question, answer or
            answers, ...}, which gives one sample a question instead of one a row.
        language: Of the questions and references: `ja` or `en`.
        num_samples: How many samples there are; None where only the hub knows.
        question: What is asked where the rows have no question of their own.
        file: The parquet file of a bundled split, one row a picture; the file of an own set.
        sha256: Of the file; of an own set's samples.
        hub_split: The split's name on the hub, for a set that is there.
        files: Which of the hub's files hold the split, where fetching all of them would be far too much.
        configs: The hub's configurations whose rows are put together; empty for the one that there is.
        where: Which rows are asked: by column, the values that are wanted.
        id: The column that names a row; None for the row's number.
        question_id: The field that names a question within a row's.
        only_first: Whether only each row's first question is asked.
        question_column: The column of the question, where neither `question` nor `references` has it.
        images: The columns of the pictures, in their order; each holds one, a list or none.
        options: The column of what can be chosen from: a list of texts, or the text of such a list.
        context: The column that tells in words what the pictures show.
        answer_form: What `references` holds: the answer's `text`, or the `letter` or `index` (from 0) of an option.
        prompt: The template of what is asked, of {question} and {options}.
        stated_kind: The kind, where it is not plain from the columns.
        stated_metrics: The metrics, where they are not the kind's usual ones.
        protocol: The preset of the published numbers, if they used one.
    """

    references: str
    language: str
    num_samples: int | None = None
    question: str | None = None
    file: str | None = None
    sha256: str | None = None
    hub_split: str | None = None
    files: str | None = None
    configs: tuple[str, ...] = ()
    where: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    id: str | None = "id"
    question_id: str = "kind"
    only_first: bool = False
    question_column: str = "question"
    images: tuple[str, ...] = ("image",)
    options: str | None = None
    context: str | None = None
    answer_form: AnswerForm = "text"
    prompt: str | None = None
    stated_kind: Kind | None = None
    stated_metrics: tuple[str, ...] = ()
    protocol: str | None = None

    def __post_init__(self) -> None:
        if (self.file is None or self.sha256 is None) == (self.hub_split is None):
            raise ValueError("a split has either file and sha256, or hub_split")
        for name, value, known in (
            ("kind", self.kind, get_args(Kind)),
            ("answer_form", self.answer_form, get_args(AnswerForm)),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, found {value!r}")
        if (self.kind == "choices" or self.answer_form != "text") and not self.options:
            raise ValueError("`options` is missing")

    @property
    def kind(self) -> Kind:
        """`captions` where every sample is asked the same, `choices` where there are options, else `questions`."""
        return self.stated_kind or ("captions" if self.question else "choices" if self.options else "questions")

    @property
    def metrics(self) -> tuple[str, ...]:
        """What its answers are usually scored by, the headline first."""
        return self.stated_metrics or USUAL_METRICS[self.kind]

    @property
    def template(self) -> str:
        """What is asked, of {question} and {options}."""
        return self.prompt or (CHOICE_PROMPTS[self.language] if self.options else "{question}")

    @property
    def columns(self) -> set[str]:
        """The columns that a row must have, but for the question's own."""
        paths = {self.references, *self.images, *self.where, *filter(None, (self.id, self.options, self.context))}
        return {path.partition("/")[0] for path in paths}

    def of_config(self, config: str) -> "Split":
        """The part of it that is one of its configurations."""
        return replace(self, configs=(config,), num_samples=None)


def read_split(fields: dict[str, Any]) -> Split:
    """A split from a manifest's plain values, where `kind` and `metrics` are what is stated, and lists are lists.

    Raises:
        ValueError, TypeError: They are no split.
    """
    fields = dict(fields)
    stated = {"stated_kind": fields.pop("kind", None), "stated_metrics": tuple(fields.pop("metrics", ()))}
    for name in {"configs", "images"} & fields.keys():
        fields[name] = (fields[name],) if isinstance(fields[name], str) else tuple(fields[name])
    where = {
        column: tuple(wanted) if isinstance(wanted, list) else (wanted,)
        for column, wanted in fields.pop("where", {}).items()
    }
    return Split(**fields, **stated, where=where)
