"""Blind samples: the same questions without the pictures that they are about. What is still right needs no eyes.

Knows samples and picture files. Does not know models, answers or scores.

A sample gets a blank picture, or the picture of another sample. The other sample is one that is asked the same, if
there is one: what it is answered is then known already, so that of captions nothing more has to be asked.
"""

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

from PIL import Image

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import Sample
from vlmmerge.evalsets.pictures import read_images

GREY = (128, 128, 128)


@dataclass(frozen=True)
class Others:
    """The samples with other pictures, as far as their answers are not known.

    Args:
        unasked: Samples that have to be asked beside the exam's own.
        places: For each sample of the exam, where the answer with the other picture is: among the answers to the exam,
            followed by those to `unasked`.
    """

    unasked: list[Sample]
    places: list[int]

    def answers(self, answers: Sequence[str]) -> list[str]:
        """The answers with other pictures, in the samples' order, from those to the exam and then to `unasked`."""
        return [answers[place] for place in self.places]


def grounding_samples(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The same samples with blank and with other pictures, as `blank_samples` and `other_samples` make them.

    Raises:
        EvalsetError: A picture cannot be read, or all samples have the same one.
    """
    return {"blank": blank_samples(samples), "other": other_samples(samples)}


def blank_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The same samples, each picture a grey one of its size.

    Raises:
        EvalsetError: A picture cannot be read.
    """
    return [
        replace(sample, images=tuple(_grey(image.width, image.height) for image in read_images(sample)))
        for sample in samples
    ]


def other_samples(samples: Sequence[Sample], question: str | None = None) -> list[Sample]:
    """The same samples, each with the pictures of another one that has none of its own.

    The other is looked for among those that are asked the same, then among all; each time from half-way round on,
    since neighbours may be alike. Nothing is drawn, so that it is the same everywhere.

    Args:
        samples: At least two with different pictures.
        question: What all are asked, if not their own questions.

    Raises:
        EvalsetError: All samples have the same picture.
    """
    asked_same: dict[tuple[object, ...], list[int]] = {}
    for number, sample in enumerate(samples):
        asked_same.setdefault(_asked(sample, question)[1:], []).append(number)
    return [
        replace(sample, images=_other(samples, number, asked_same[_asked(sample, question)[1:]]).images)
        for number, sample in enumerate(samples)
    ]


def find_others(samples: Sequence[Sample], question: str | None = None) -> Others:
    """The samples with other pictures, and where their answers are; arguments and errors as `other_samples`."""
    places = {_asked(sample, question): number for number, sample in reversed(list(enumerate(samples)))}
    unasked: list[Sample] = []
    wanted = other_samples(samples, question)
    for sample in wanted:
        if _asked(sample, question) not in places:
            places[_asked(sample, question)] = len(samples) + len(unasked)
            unasked.append(sample)
    return Others(unasked, [places[_asked(sample, question)] for sample in wanted])


def _asked(sample: Sample, question: str | None) -> tuple[object, ...]:
    """All that an answer follows from."""
    return sample.images, question or sample.question, sample.options


def _other(samples: Sequence[Sample], number: int, asked_same: Sequence[int]) -> Sample:
    own = set(samples[number].images)
    for place in chain(_half_way_round(asked_same, number), _half_way_round(range(len(samples)), number)):
        if own.isdisjoint(samples[place].images):
            return samples[place]
    raise EvalsetError(
        f"grounding needs other pictures, but every sample shows that of {samples[number].id}",
        hint="ask more samples, or leave grounding out",
    )


def _half_way_round(places: Sequence[int], own: int) -> Iterator[int]:
    """All places once, from the one that is half-way round from one's own."""
    start = bisect_left(places, own) + len(places) // 2
    return (places[(start + step) % len(places)] for step in range(len(places)))


@lru_cache(maxsize=256)
def _grey(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), GREY).save(file, "png")
    return file.getvalue()
