"""A page to draw on: text, lines and shapes in pixels of the finished picture, at most MAX_SIDE on its longer side.

Everything is drawn at SCALE times its size and then reduced. Text that a font cannot show, that is too small to read,
that leaves the page or that touches other text is a fault of the drawing, and an assertion tells it. Knows nothing of
what the documents say.
"""

import itertools
import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from documents import fonts

SCALE = 2
MAX_SIDE = 512
SMALLEST = 12
NUM_COLOURS = 40
NEVER_FIRST = "。、」』）ーっゃゅょャュョッ！？"  # a column does not begin with these

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Ink:
    """How text looks.

    Args:
        face: A name of `fonts.SOURCES`.
        size: In pixels of the finished picture, SMALLEST or more.
        colour: As Pillow reads it.
    """

    face: str
    size: float
    colour: str = "#222222"

    def of(self, size: float) -> "Ink":
        """The same at another size."""
        return replace(self, size=size)

    def width(self, text: str) -> float:
        """How wide a line of text is, in pixels of the finished picture."""
        return fonts.load(self.face, round(self.size * SCALE)).getlength(text) / SCALE

    def fitted(self, text: str, width: float) -> "Ink":
        """As large as fits into `width`, and never larger than this."""
        size = self.size
        while size > SMALLEST and self.of(size).width(text) > width:
            size -= 0.5
        return self.of(size)


class Page:
    """A picture in the making."""

    def __init__(self, width: int, height: int, ground: str = "white") -> None:
        assert max(width, height) <= MAX_SIDE, f"{width} x {height} is larger than {MAX_SIDE}"
        self.width, self.height = width, height
        self.ground = ground
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), ground)
        self.pen = ImageDraw.Draw(self.image)
        self.written: list[tuple[Box, str]] = []

    def write(self, at: Point, text: str, ink: Ink, anchor: str = "lm") -> None:
        """A line of text, from left to right; `anchor` is Pillow's (l, m, r and t, m, b, s)."""
        self._text(at, text, ink, anchor, None)

    def write_down(self, at: Point, text: str, ink: Ink, anchor: str = "mt") -> None:
        """A column of text, from top to bottom; `anchor` is Pillow's."""
        self._text(at, text, ink, anchor, "ttb")

    def _text(self, at: Point, text: str, ink: Ink, anchor: str, direction: str | None) -> None:
        assert not fonts.missing(ink.face, text), f"{ink.face} cannot show {fonts.missing(ink.face, text)} of {text}"
        assert ink.size >= SMALLEST, f"{text}: {ink.size} px is too small to read"
        font, spot = fonts.load(ink.face, round(ink.size * SCALE)), (at[0] * SCALE, at[1] * SCALE)
        box = self.pen.textbbox(spot, text, font=font, anchor=anchor, direction=direction)
        room = (0, 0, self.width * SCALE, self.height * SCALE)
        assert box[0] >= 2 and box[1] >= 2 and box[2] <= room[2] - 2 and box[3] <= room[3] - 2, (
            f"{text} leaves the page: {box} of {room}"
        )
        for other, what in self.written:
            assert not _touch(box, other), f"{text} lies on {what}: {box}, {other}"
        self.written.append((box, text))
        self.pen.text(spot, text, font=font, fill=ink.colour, anchor=anchor, direction=direction)

    def line(self, points: list[Point], colour: str, width: float = 1) -> None:
        """A line through points."""
        spots = [(x * SCALE, y * SCALE) for x, y in points]
        self.pen.line(spots, fill=colour, width=max(1, round(width * SCALE)))

    def course(self, points: list[Point], colour: str, width: float) -> None:
        """A broken line of the same width at every slope, its corners round."""
        for (x, y), (other_x, other_y) in itertools.pairwise(points):
            half = width / 2 / math.hypot(other_x - x, other_y - y)
            dx, dy = (y - other_y) * half, (other_x - x) * half
            self.shape(
                [(x + dx, y + dy), (other_x + dx, other_y + dy), (other_x - dx, other_y - dy), (x - dx, y - dy)], colour
            )
            self.disc((other_x, other_y), width / 2, colour)

    def dots(self, start: Point, end_x: float, colour: str, step: float = 5) -> None:
        """A dotted leader to the right, as between an item and its price."""
        x = start[0]
        while x < end_x:
            self.disc((x, start[1]), 0.8, colour)
            x += step

    def box(
        self, box: Box, fill: str | None = None, edge: str | None = None, width: float = 1, round_by: float = 0
    ) -> None:
        """A rectangle (left, top, right, bottom), its corners rounded by a radius."""
        spots = [side * SCALE for side in box]
        self.pen.rounded_rectangle(
            spots, radius=round_by * SCALE, fill=fill, outline=edge, width=round(width * SCALE) if edge else 0
        )

    def disc(self, centre: Point, radius: float, fill: str | None, edge: str | None = None, width: float = 1) -> None:
        """A circle."""
        (x, y), r = (centre[0] * SCALE, centre[1] * SCALE), radius * SCALE
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=edge, width=round(width * SCALE))

    def shape(self, points: list[Point], fill: str) -> None:
        """A filled polygon."""
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill)

    def picture(self, tilt: float = 0.0) -> Image.Image:
        """The finished picture in few colours; `tilt` turns it by degrees."""
        image = self.image
        if tilt:
            image = image.rotate(tilt, Image.Resampling.BICUBIC, expand=False, fillcolor=self.ground)
        small = image.resize((self.width, self.height), Image.Resampling.BOX)
        return small.quantize(NUM_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)

    def photo(self, look: random.Random) -> Image.Image:
        """The finished picture as a snapshot, RGB: not quite from the front, lit from one side, a little noise."""
        width, height = self.image.size
        inset = [look.uniform(0, 0.022) for _ in range(8)]
        corners = (
            inset[0] * width, inset[1] * height, inset[2] * width, (1 - inset[3]) * height,
            (1 - inset[4]) * width, (1 - inset[5]) * height, (1 - inset[6]) * width, inset[7] * height,
        )  # fmt: skip
        image = self.image.transform(self.image.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
        small = np.asarray(image.resize((self.width, self.height), Image.Resampling.BOX), dtype=np.float64)
        across, down = np.linspace(-1, 1, self.width), np.linspace(-1, 1, self.height)[:, None]
        light = 0.97 + look.uniform(-0.08, 0.08) * across + look.uniform(-0.06, 0.02) * down
        noise = np.random.default_rng(look.getrandbits(32)).normal(0, 2.5, (self.height, self.width, 1))
        return Image.fromarray(np.clip(small * light[:, :, None] + noise, 0, 255).astype(np.uint8))


def columns(text: str, length: int) -> list[str]:
    """Text cut into vertical columns of `length` characters, one more where the next must not begin a column.

    >>> columns("お知らせです。", 6)
    ['お知らせです。']
    """
    cut: list[str] = []
    while text:
        end = length + (text[length : length + 1] in tuple(NEVER_FIRST))
        cut.append(text[:end])
        text = text[end:]
    return cut


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] - 1 and other[0] < one[2] - 1 and one[1] < other[3] - 1 and other[1] < one[3] - 1
