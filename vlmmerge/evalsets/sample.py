"""A sample: pictures, a question, and what answers are measured against. Knows nothing of where it is from."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One thing to ask.

    Args:
        id: Names the sample within its split.
        images: Each picture's encoded file, as bytes; one of them in most sets.
        question: What is asked.
        references: The right answers, one or more.
        facts: Phrases that a right answer contains; empty where the set states none.
        options: What a multiple-choice question lets choose from, in the order of its letters; empty for others.
        context: What the pictures show, in words, for a judge that does not see them; empty where the set does not say.
    """

    id: str
    images: tuple[bytes, ...]
    question: str
    references: tuple[str, ...]
    facts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    context: str = ""


def digest(samples: Iterable[Sample]) -> str:
    """A sha256 that no other pictures, questions and references have."""
    total = hashlib.sha256()
    for sample in samples:
        images = [hashlib.sha256(image).hexdigest() for image in sample.images]
        context = [sample.context] if sample.context else []
        total.update(json.dumps([sample.id, *images, sample.question, *sample.references, *context]).encode())
    return total.hexdigest()
