"""CLIPScore and RefCLIPScore: how near an answer is to the pictures and the references, as a CLIP-like model sees it.

Knows the formulas. Does not know how the model is loaded (`clip.py`). No prompt is put before the text, for the paper's
is English. Of several pictures the mean counts, since an answer is about all of them. Numbers of two models, or of a
model that knows little Japanese, say nothing beside each other: the signature holds the model's checksum.

Source: Hessel 2021, CLIPScore: A Reference-free Evaluation Metric for Image Captioning, section 3,
https://arxiv.org/abs/2104.08718
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from vlmmerge.errors import ScoreError
from vlmmerge.score.clip import Clip, open_clip
from vlmmerge.score.metric import Array, Metric, Prepared, Targets, check_references, describe_references, mean

WEIGHT = 2.5  # the paper's w, which stretches the cosines that such models give


@dataclass(frozen=True)
class _Seen:
    """What is known of a sample before any answer: unit vectors of its pictures and references, a row each."""

    pictures: Array
    references: Array
    is_cut: bool  # whether a reference was


def clip_score(text: Array, pictures: Array) -> float:
    """CLIP-S of a text about pictures, times 100, in [0, 250].

    Args:
        text: Unit vector, shape (dimensions,).
        pictures: Unit vectors, shape (pictures, dimensions); the mean over them counts.

    >>> clip_score(np.array([0.6, 0.8]), np.array([[1.0, 0.0], [0.0, -1.0]]))
    75.0
    """
    return 100 * WEIGHT * float(np.maximum(pictures @ text, 0).mean())


def ref_clip_score(text: Array, pictures: Array, references: Array) -> float:
    """RefCLIP-S, times 100: the harmonic mean of CLIP-S and the largest cosine to a reference; 0 if either is.

    Args:
        references: Unit vectors, shape (references, dimensions).
    """
    to_pictures, to_references = clip_score(text, pictures), 100 * float(np.maximum(references @ text, 0).max())
    total = to_pictures + to_references
    return 2 * to_pictures * to_references / total if total else 0.0


def tell_cut(statistics: Array) -> tuple[str, ...]:
    """Notes on texts that were longer than the model reads, from rows of (score, answer was cut, a reference was)."""
    counts = statistics[:, 1:].sum(axis=0)
    told = ("answers were", "samples have references that were")
    return tuple(
        f"{count:.0f} of {len(statistics)} {what} longer than the model reads, and cut"
        for count, what in zip(counts, told, strict=True)
        if count
    )


def _prepare(name: str, score: Callable[[Array, _Seen], float], has_references: bool) -> Callable[[Targets], Prepared]:
    def prepare(targets: Targets) -> Prepared:
        clip, samples = _see_all(name, targets, has_references)

        def statistics(answers: Sequence[str]) -> Array:
            return np.array([row(answer, seen) for answer, seen in zip(answers, samples, strict=True)])

        def row(answer: str, seen: _Seen) -> tuple[float, bool, bool]:
            if not answer.strip():
                return 0.0, False, seen.is_cut
            text, is_cut = clip.text(answer)
            return score(text, seen), is_cut, seen.is_cut

        refs = (describe_references(targets),) if has_references else ()
        return Prepared(statistics, (*refs, clip.signature, f"text:{clip.limit}"))

    return prepare


def _see_all(name: str, targets: Targets, has_references: bool) -> tuple[Clip, list[_Seen]]:
    """The model, and what it sees in each sample's pictures and, if they are wanted, references."""
    if targets.clip is None:
        hint = "`--clip MODEL`, or `score.clip` in the recipe: a folder or hub id"
        raise ScoreError(f"`{name}` needs a CLIP-like model, and none is given", hint=hint)
    if targets.images is None or not all(targets.images):
        raise ScoreError(f"`{name}` needs pictures for every sample, and there are none", hint="use another metric")
    if has_references:
        check_references(targets, name)
    clip = open_clip(targets.clip)
    samples = list(zip(targets.images, targets.references, strict=True))
    console = Console(stderr=True)
    shown = track(samples, f"{name}: looking", transient=True, console=console, disable=not console.is_terminal)
    return clip, [
        _see(clip, f"{number}", images, references if has_references else ())
        for number, (images, references) in enumerate(shown, 1)
    ]


def _see(clip: Clip, name: str, images: Sequence[bytes], references: Sequence[str]) -> _Seen:
    pictures = [clip.picture(image, name) for image in images]
    texts = [clip.text(reference) for reference in references if reference.strip()]
    vectors = np.array([vector for vector, _ in texts])
    return _Seen(np.array(pictures), vectors, any(is_cut for _, is_cut in texts))


CLIPSCORE = Metric(
    "clipscore",
    "250 × cosine of answer and picture",
    None,
    _prepare("clipscore", lambda text, seen: clip_score(text, seen.pictures), has_references=False),
    mean,
    tell_cut,
    needs=("images", "clip"),
)
REFCLIPSCORE = Metric(
    "refclipscore",
    "harmonic mean of clipscore and 100 × cosine to the nearest reference",
    None,
    _prepare(
        "refclipscore", lambda text, seen: ref_clip_score(text, seen.pictures, seen.references), has_references=True
    ),
    mean,
    tell_cut,
    needs=("images", "clip"),
)
