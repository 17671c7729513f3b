"""What some metrics need beside texts, for the tests of all metrics: a picture, a CLIP and a judge, made once."""

import atexit
import functools
import io
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from PIL import Image

from tests.score.judge.fakejudge import serving
from vlmmerge.score import Judge, Targets

_LASTING = ExitStack()  # as long as the process
atexit.register(_LASTING.close)
_FOLDER = Path(_LASTING.enter_context(tempfile.TemporaryDirectory()))


@functools.cache
def clip_folder() -> str:
    from tests.score.tinyclip import write_clip  # who needs no model does not wait for transformers

    # A seed by which texts of the tests lie on the picture's side: about half of them would score 0.
    return str(write_clip(_FOLDER / "clip", seed=3))


@functools.cache
def judge() -> Judge:
    server = _LASTING.enter_context(serving())
    return Judge(server.url, "tiny", cache=_FOLDER / "judgements", first_wait=0.01)


def equipped(targets: Targets) -> Targets:
    """The targets, with whatever any metric needs; all samples have one picture, and two wrong options."""
    images = ((picture("red"),),) * len(targets.references)
    options = tuple((*sample, "青い車", "赤い丸") for sample in targets.references)
    return replace(targets, images=images, options=options, clip=clip_folder(), judge=judge())


def picture(colour: str) -> bytes:
    """A PNG of one colour with a corner of another."""
    image = Image.new("RGB", (24, 20), colour)
    image.paste("white", (0, 0, 8, 8))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
