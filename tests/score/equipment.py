"""What some metrics need beside texts, for the tests of all metrics: a picture and a CLIP, made once a process."""

import functools
import io
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

from vlmmerge.score import Targets

_FOLDER = tempfile.TemporaryDirectory()  # lives as long as the process


@functools.cache
def clip_folder() -> str:
    from tests.score.tinyclip import write_clip  # who needs no model does not wait for transformers

    # A seed by which texts of the tests lie on the picture's side: about half of them would score 0.
    return str(write_clip(Path(_FOLDER.name) / "clip", seed=3))


def equipped(targets: Targets) -> Targets:
    """The targets, with whatever any metric needs; all samples have one picture."""
    return replace(targets, images=((picture("red"),),) * len(targets.references), clip=clip_folder())


def picture(colour: str) -> bytes:
    """A PNG of one colour with a corner of another."""
    image = Image.new("RGB", (24, 20), colour)
    image.paste("white", (0, 0, 8, 8))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
