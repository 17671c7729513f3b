"""A picture's bytes as a picture, believed in nothing: what is no picture, or too much of one, is never decoded.

Knows picture files. Does not know models.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy
from PIL import Image, ImageOps, UnidentifiedImageError

from vlmmerge.errors import EvalsetError, VlmMergeError
from vlmmerge.evalsets.sample import Sample

# A picture of more pixels than this is refused before it is decoded (about 1 GiB as float32 RGB).
MAX_PIXELS = 90_000_000
# Processors scale the shorter side to hundreds of pixels: a line one pixel thin becomes gigabytes.
MAX_RATIO = 200
LARGEST_FILE = 2**29  # bytes: what MAX_PIXELS take without compression
MOST_TOLD = 20  # faults in one message
# What people have; Pillow reads dozens more, one of them (EPS) by running another program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def read_picture_file(file: Path) -> bytes:
    """Read a picture's file as it is.

    Raises:
        EvalsetError: It cannot be read, or is absurdly large.
    """
    try:
        if not file.is_file() and file.exists() and not file.is_dir():
            raise EvalsetError(f"{file} is no regular file", hint="check --image")
        if (size := file.stat().st_size) > LARGEST_FILE:
            raise EvalsetError(f"{file} has {size:,} bytes, wanted at most {LARGEST_FILE:,}", hint="check --image")
        return file.read_bytes()
    except OSError as error:
        raise EvalsetError(f"cannot read {file}: {error.strerror}", hint="check --image") from None


def read_images(sample: Sample) -> list[Image.Image]:
    """Decode a sample's pictures as RGB.

    Raises:
        EvalsetError: One is not a picture of a kind that is read here, a huge or a very thin one.
    """
    of = f"of sample {sample.id}"
    if not sample.images:
        raise EvalsetError(f"sample {sample.id} has no picture", hint="every sample needs one")
    if len(sample.images) == 1:
        return [decode(sample.images[0], f"picture {of}")]
    return [decode(image, f"picture {number} {of}") for number, image in enumerate(sample.images, 1)]


def check_pictures(samples: Sequence[Sample]) -> None:
    """Read all pictures, and keep none, before any work is done that a bad one would lose.

    Raises:
        EvalsetError: Some cannot be read; all of them are told.
    """
    faults, good = [], set()
    for sample in samples:
        if sample.images not in good:  # a picture may have many questions
            try:
                read_images(sample)
                good.add(sample.images)
            except EvalsetError as error:
                faults.append(error)
    raise_faults(faults, len(samples))


def raise_faults(faults: Sequence[VlmMergeError], num_samples: int) -> None:
    """Raise what is wrong with samples, if anything is: one fault as it is, several in one error.

    Raises:
        EvalsetError: There is a fault.
    """
    if len(faults) == 1:
        raise faults[0]
    if faults:
        more = [f"... and {len(faults) - MOST_TOLD} more"] if len(faults) > MOST_TOLD else []
        raise EvalsetError(
            f"{len(faults)} of {num_samples} samples cannot be asked",
            details=[*(error.message for error in faults[:MOST_TOLD]), *more],
            hint="mend these samples or take them out; `vlmmerge evaluate` goes on without them",
        )


def decode(encoded: bytes, where: str) -> Image.Image:
    """Decode a picture as RGB.

    Args:
        encoded: Its file.
        where: How messages call it.

    Raises:
        EvalsetError: Not a picture of a kind that is read here, a huge or a very thin one.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if fault := _size_fault(*image.size):
                raise EvalsetError(f"{where} has {image.width} x {image.height} pixels", hint=fault)
            return _as_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise EvalsetError(f"{where} cannot be read: {error}", hint=_size_fault(MAX_PIXELS, 2)) from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        EOFError,
        struct.error,
    ) as error:
        # Pillow's own words for this name an object in memory, which tells nobody anything.
        reason = "no kind of picture that is read here" if isinstance(error, UnidentifiedImageError) else str(error)
        hint = "give a whole JPEG, PNG or WebP file"
        raise EvalsetError(f"{where} cannot be read: {reason}", hint=hint) from None


def _as_rgb(image: Image.Image) -> Image.Image:
    """The picture in eight bits a colour; of an animation the first. (Pillow makes all that is above 255 white.)"""
    if image.mode.startswith("I"):
        greys = numpy.asarray(image)
        is_deep = image.mode != "I" or greys.max(initial=0) > 255
        return Image.fromarray((greys >> 8 if is_deep else greys).astype(numpy.uint8)).convert("RGB")
    return image.convert("RGB")


def _size_fault(width: int, height: int) -> str:
    """What to do of a picture that is too large or too thin; empty if it is neither."""
    if width * height > MAX_PIXELS:
        return f"at most {MAX_PIXELS} pixels are read: make it smaller first"
    if max(width, height) > MAX_RATIO * min(width, height):
        return f"the longer side may be {MAX_RATIO} times the shorter one: cut it first"
    return ""
