"""The metrics of a judge: a mark from 1 to 5, and Heron-Bench's ratio to the reference's mark.

Knows what of a sample is shown to the judge. Does not know how it is asked.

A judgement that cannot be read is no mark: its sample is left out of the value, and notes tell how many there are.
Where not one can be read there is no value, but an error. An empty answer scores 0.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmmerge.errors import ScoreError
from vlmmerge.evalsets import Sample
from vlmmerge.score.judge.asking import Content, ask_all
from vlmmerge.score.judge.protocols import FIVE, HERON, Protocol
from vlmmerge.score.judge.settings import Judge
from vlmmerge.score.metric import (
    Array,
    Metric,
    Prepared,
    Targets,
    check_references,
    describe_references,
    mean_of_counted,
)

Row = tuple[float, ...]
Marks = tuple[float, ...] | None
# Kinds of pictures that endpoints take, by how their files begin; others are sent as PNG.
KINDS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif"}


def combine_ratio(sums: Array, num_samples: int) -> Array:
    """Combine rows of (answer's mark, reference's mark, counts) as 100 × the ratio of the two sums."""
    with np.errstate(invalid="ignore"):
        return 100 * sums[..., 0] / sums[..., 1]


def tell_unread(statistics: Array) -> tuple[str, ...]:
    """Notes on judgements that could not be read, from rows whose last number is 1 where it could."""
    unread = len(statistics) - round(float(statistics[:, -1].sum()))
    return (f"{unread} of {len(statistics)} judgements could not be read, and are left out",) if unread else ()


def _prepare_five(targets: Targets) -> Prepared:
    """Shows question, all references and the answer; an empty answer is not sent."""
    judge = _check(targets, "judge")

    def show(number: int, answer: str) -> Content:
        references = [text for text in targets.references[number] if text.strip()]
        return _show(targets, number, FIVE, {"references": references, "answer": answer})

    def statistics(answers: Sequence[str]) -> Array:
        contents = {number: show(number, answer) for number, answer in enumerate(answers) if answer.strip()}
        marks = dict(zip(contents, _judged(judge, FIVE, list(contents.values())), strict=True))
        return np.array([_mark(marks[number]) if number in marks else (0.0, 1.0) for number in range(len(answers))])

    return Prepared(statistics, (describe_references(targets), *_signature(judge, FIVE)))


def _prepare_heron(targets: Targets) -> Prepared:
    """Shows context, question, the first reference and the answer.

    Beside an empty answer the reference's mark counts too; whatever the judge gives the empty one, it is 0.
    """
    judge = _check(targets, "judge_heron")

    def show(number: int, answer: str) -> Content:
        reference = next(filter(str.strip, targets.references[number]))
        return _show(targets, number, HERON, {"answer_1": reference, "answer_2": answer})

    def statistics(answers: Sequence[str]) -> Array:
        marks = _judged(judge, HERON, [show(number, answer) for number, answer in enumerate(answers)])
        return np.array([_pair(answer, found) for answer, found in zip(answers, marks, strict=True)])

    return Prepared(statistics, _signature(judge, HERON))


def _mark(found: Marks) -> Row:
    return (found[0], 1.0) if found else (0.0, 0.0)


def _pair(answer: str, found: Marks) -> Row:
    return (found[1] if answer.strip() else 0.0, found[0], 1.0) if found else (0.0, 0.0, 0.0)


def _check(targets: Targets, name: str) -> Judge:
    """The judge, if there is all that it needs."""
    if targets.judge is None:
        hint = "`--judge-url URL --judge-model NAME`, or `score.judge: {url, model}` in the recipe: any endpoint that "
        raise ScoreError(f"`{name}` needs a judge, and none is given", hint=hint + "speaks OpenAI's chat completions")
    check_references(targets, name)
    if targets.judge.sends_images and targets.images is None:
        raise ScoreError(f"`{name}`: the judge is to see the pictures, and there are none", hint="set sends_images off")
    _ = targets.judge.key  # a fault in it is told before a model is asked for hours
    return targets.judge


def _signature(judge: Judge, protocol: Protocol) -> tuple[str, ...]:
    sees = "pictures" if judge.sends_images else "text"
    return protocol.signature, f"judge:{judge.model}@{judge.host}", f"sees:{sees}"


def _judged(judge: Judge, protocol: Protocol, contents: Sequence[Content]) -> list[Marks]:
    """The marks of each judgement, None where it cannot be read.

    Raises:
        ScoreError: The judge cannot be asked, or not one judgement can be read.
    """
    replies = ask_all(judge, contents, f"asking {judge.model}")
    marks = [protocol.read(reply) for reply in replies]
    if replies and not any(marks):
        raise ScoreError(
            f"none of {len(replies)} judgements of {judge.model} could be read", details=[repr(replies[0][:200])],
            hint="take a model that follows instructions; wanted were marks such as "
            + ", ".join(f'"{mark}": 3' for mark in protocol.marks),
        )  # fmt: skip
    return marks


def _show(targets: Targets, number: int, protocol: Protocol, answers: Mapping[str, Any]) -> Content:
    """A sample and the answers to it as the judge's message, with the pictures where it is to see them."""
    context = targets.contexts[number] if targets.contexts and protocol is HERON else ""
    question = targets.questions[number] if targets.questions else ""
    text = protocol.write({"context": context, "question": question, **answers})
    if not (targets.judge and targets.judge.sends_images and targets.images):
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in targets.images[number]]
    return [{"type": "text", "text": text}, *pictures]


def _data_url(encoded: bytes) -> str:
    kind = next((kind for start, kind in KINDS.items() if encoded.startswith(start)), None)
    if kind is None:
        from vlmmerge.evalsets.pictures import read_images  # with torch, which few judgements need

        file = io.BytesIO()
        read_images(Sample("shown to the judge", (encoded,), "", ()))[0].save(file, "png")
        kind, encoded = "png", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


JUDGE = Metric(
    "judge", "a judge's mark, 1 to 5 (0: empty)", None, _prepare_five, mean_of_counted, tell_unread, needs=("judge",)
)
JUDGE_HERON = Metric(
    "judge_heron",
    "% of the mark that a judge gives the reference",
    None,
    _prepare_heron,
    combine_ratio,
    tell_unread,
    needs=("judge",),
)
