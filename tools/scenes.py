"""The demo world: scenes of coloured things, their pictures, and what English and Japanese say about them.

A scene is a pair of things in a relation, or a group of equal things at a place. Everything here is a pure function of
a scene or of a seeded `random.Random`. A scene's combination (its colours, shapes and relation, or its colour, shape,
count and place) belongs to exactly one split, by hash: no evaluation scene can be met in training, in any size or
wording. Knows nothing of models or tokens.
"""

import hashlib
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

PICTURE_SIZE = 120
SUPERSAMPLING = 2
SPLITS = ("train",) * 8 + ("search", "held_out")

# English word, Japanese attribute, Japanese noun, RGB.
COLOURS = {
    "red": ("赤い", "赤", (214, 39, 40)),
    "blue": ("青い", "青", (31, 90, 220)),
    "green": ("緑の", "緑", (34, 150, 60)),
    "yellow": ("黄色い", "黄色", (245, 215, 30)),
    "purple": ("紫の", "紫", (125, 45, 175)),
    "orange": ("オレンジ色の", "オレンジ色", (250, 135, 20)),
    "pink": ("ピンクの", "ピンク", (250, 140, 190)),
    "brown": ("茶色の", "茶色", (120, 72, 35)),
}
SHAPES = {"circle": "丸", "square": "四角", "triangle": "三角", "star": "星", "heart": "ハート", "cross": "十字"}
SIZES = {"big": "大きな", "small": "小さな"}
RELATIONS = {"above": ("below", "上"), "left": ("right", "左"), "below": ("above", "下"), "right": ("left", "右")}
RELATION_WORDS = {"above": "above", "below": "below", "left": "to the left of", "right": "to the right of"}
PLACES = {
    "left": ("on the left", "左"),
    "right": ("on the right", "右"),
    "top": ("at the top", "上"),
    "bottom": ("at the bottom", "下"),
    "middle": ("in the middle", "真ん中"),
}
NUMBERS = {1: "one", 2: "two", 3: "three"}


@dataclass(frozen=True)
class Thing:
    size: str
    colour: str
    shape: str

    def english(self) -> str:
        """Colour and shape: the phrase by which an answer names this thing."""
        return f"{self.colour} {self.shape}"

    def japanese(self) -> str:
        """As `english`."""
        return COLOURS[self.colour][0] + SHAPES[self.shape]


@dataclass(frozen=True)
class Pair:
    """`first` is `relation` (above, below, left, right) of `second`."""

    first: Thing
    second: Thing
    relation: str

    @property
    def things(self) -> tuple[Thing, ...]:
        return (self.first, self.second)

    def turned(self) -> "Pair":
        """The same scene told from the other thing."""
        return Pair(self.second, self.first, RELATIONS[self.relation][0])

    def upright(self) -> "Pair":
        """The same scene told from the upper or the left thing, as captions tell it."""
        return self if self.relation in ("above", "left") else self.turned()


@dataclass(frozen=True)
class Group:
    """`count` equal things at a `place`."""

    thing: Thing
    count: int
    place: str

    @property
    def things(self) -> tuple[Thing, ...]:
        return (self.thing,)


Scene = Pair | Group
Placed = tuple[Thing, tuple[float, float], float]  # a thing, its centre and its radius


def random_scene(rng: random.Random, split: str) -> Scene:
    """A scene whose combination belongs to `split`: seven in ten are pairs."""
    while True:
        scene = _random_pair(rng) if rng.random() < 0.7 else _random_group(rng)
        if split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> str:
    """The one split that the scene's combination belongs to: sizes do not count, nor which thing is named first."""
    if isinstance(scene, Pair):
        pair = scene.upright()
        key = f"{pair.first.colour} {pair.first.shape} {pair.relation} {pair.second.colour} {pair.second.shape}"
    else:
        key = f"{scene.thing.colour} {scene.thing.shape} {scene.count} {scene.place}"
    return SPLITS[int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(SPLITS)]


def _random_thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(list(SIZES)), rng.choice(list(COLOURS)), rng.choice(list(SHAPES)))


def _random_pair(rng: random.Random) -> Pair:
    first, second = _random_thing(rng), _random_thing(rng)
    while (first.colour, first.shape) == (second.colour, second.shape):
        second = _random_thing(rng)
    return Pair(first, second, rng.choice(list(RELATIONS)))


def _random_group(rng: random.Random) -> Group:
    return Group(_random_thing(rng), rng.choice(list(NUMBERS)), rng.choice(list(PLACES)))


# What is said -------------------------------------------------------------------------------------------------------


def english_captions(scene: Scene) -> list[str]:
    """Every caption of the English wordings that is true of the scene."""
    if isinstance(scene, Group):
        where = PLACES[scene.place][0]
        what = f"{NUMBERS[scene.count]} {scene.thing.size} {scene.thing.english()}" + _plural(scene)
        verb = "are" if scene.count > 1 else "is"
        return [f"There {verb} {what} {where}.", f"{what.capitalize()} {verb} {where}."]
    pair = scene.upright()
    first, second = pair.first.english(), pair.second.english()
    told = f"{article(first)} {first} {{}}{RELATION_WORDS[pair.relation]} {article(second)} {second}."
    return [told.format("is ").capitalize(), "There is " + told.format("")]


def japanese_captions(scene: Scene) -> list[str]:
    """Every caption of the Japanese wordings that is true of the scene."""
    if isinstance(scene, Group):
        thing, where = SIZES[scene.thing.size] + scene.thing.japanese(), PLACES[scene.place][1]
        return [
            f"{where}に{thing}が{scene.count}つあります。",
            f"{thing}が{where}に{scene.count}つあります。",
            f"{where}に{thing}が{scene.count}つ見えます。",
        ]
    pair = scene.upright()
    told = f"{pair.first.japanese()}が{pair.second.japanese()}の{RELATIONS[pair.relation][1]}"
    return [f"{told}にあります。", f"{told}に見えます。"]


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _plural(scene: Group) -> str:
    if scene.count == 1:
        return ""
    return "es" if scene.thing.shape.endswith("s") else "s"


def questions(scene: Scene, rng: random.Random) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Questions that have one answer: kind -> ((English question, answer), (Japanese question, answer))."""
    thing = rng.choice(scene.things)
    colour_ja, shape_ja, name_ja = COLOURS[thing.colour], SHAPES[thing.shape], thing.japanese()
    name = thing.english()
    asked = {"count": _count_question(scene)}
    if sum(other.shape == thing.shape for other in scene.things) == 1:
        asked["colour"] = (
            (f"What colour is the {thing.shape}?", f"{thing.colour.capitalize()}."),
            (f"{shape_ja}は何色ですか？", f"{colour_ja[1]}です。"),
        )
    if sum(other.colour == thing.colour for other in scene.things) == 1:
        asked["shape"] = (
            (f"What is the {thing.colour} thing?", f"A {thing.shape}."),
            (f"{colour_ja[0]}ものは何ですか？", f"{shape_ja}です。"),
        )
    if isinstance(scene, Pair):
        pair = scene if thing == scene.first else scene.turned()
        other, side = pair.second, RELATIONS[pair.relation][1]
        where = f"{RELATION_WORDS[pair.relation].capitalize()} the {other.english()}."
        where_ja = f"{other.japanese()}の{side}です。"
    else:
        where, where_ja = f"{PLACES[scene.place][0].capitalize()}.", f"{PLACES[scene.place][1]}です。"
    asked["where"] = ((f"Where is the {name}?", where), (f"{name_ja}はどこにありますか？", where_ja))
    absent = _random_thing(rng)
    shown = thing if rng.random() < 0.5 else absent
    is_there = any((shown.colour, shown.shape) == (other.colour, other.shape) for other in scene.things)
    asked["yes_no"] = (
        (f"Is there {article(shown.colour)} {shown.english()}?", "Yes." if is_there else "No."),
        (f"{shown.japanese()}はありますか？", "はい。" if is_there else "いいえ。"),
    )
    return asked


def _count_question(scene: Scene) -> tuple[tuple[str, str], tuple[str, str]]:
    count = scene.count if isinstance(scene, Group) else 2
    return (
        ("How many things are there?", f"{NUMBERS[count].capitalize()}."),
        ("ものはいくつありますか？", f"{count}つです。"),
    )


# What is drawn ------------------------------------------------------------------------------------------------------


def draw(placed: list[Placed], rng: random.Random) -> Image.Image:
    """A picture of placed things, PICTURE_SIZE square, RGB: tilt, shades, background and noise vary with `rng`."""
    side = PICTURE_SIZE * SUPERSAMPLING
    picture = _background(side, rng)
    pen = ImageDraw.Draw(picture)
    for thing, (x, y), radius in placed:
        shade = rng.uniform(-16, 16)
        fill = tuple(int(min(255, max(0, level + shade))) for level in COLOURS[thing.colour][2])
        points = _outline(thing.shape, rng.uniform(-0.2, 0.2))
        pen.polygon([((x + radius * px) * side, (y + radius * py) * side) for px, py in points], fill=fill)
    small = picture.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BOX)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(2, 8), (PICTURE_SIZE, PICTURE_SIZE, 1))
    return Image.fromarray(np.clip(np.asarray(small) + noise, 0, 255).astype(np.uint8))


def place(scene: Scene, rng: random.Random) -> list[Placed]:
    """Where each thing stands and its radius, in fractions of the picture's side."""
    if isinstance(scene, Group):
        return _place_group(scene, rng)
    radii = [_radius(thing, rng) for thing in scene.things]
    # Neighbours may overlap by up to a tenth of their extent along the axis of the relation.
    apart = rng.uniform(0.9 * sum(radii), max(0.9 * sum(radii), 1 - sum(radii)))
    start = rng.uniform(radii[0], max(radii[0], 1 - radii[1] - apart))
    drift = rng.uniform(-0.35, 0.35) * apart
    across = rng.uniform(max(radii), 1 - max(radii))
    other = min(max(across + drift, radii[1]), 1 - radii[1])
    spots = [(across, start), (other, start + apart)]
    if scene.relation in ("left", "right"):
        spots = [(along, cross) for cross, along in spots]
    if scene.relation in ("below", "right"):
        spots = [(1 - x, 1 - y) for x, y in spots]
    return list(zip(scene.things, spots, radii, strict=True))


def _place_group(scene: Group, rng: random.Random) -> list[Placed]:
    radius = min(_radius(scene.thing, rng), 0.165)
    gap = rng.uniform(1.9, 2.1) * radius
    along = 0.5 + rng.uniform(-0.06, 0.06)
    edge = radius + rng.uniform(0.0, 0.06)
    across = {"left": edge, "top": edge, "right": 1 - edge, "bottom": 1 - edge}.get(scene.place, 0.5)
    upright = scene.place in ("left", "right") or (scene.place == "middle" and rng.random() < 0.5)
    laid = []
    for number in range(scene.count):
        step = along + (number - (scene.count - 1) / 2) * gap
        jitter = across + rng.uniform(-0.02, 0.02)
        laid.append((scene.thing, (jitter, step) if upright else (step, jitter), radius))
    return laid


def _radius(thing: Thing, rng: random.Random) -> float:
    return rng.uniform(0.10, 0.12) if thing.size == "small" else rng.uniform(0.16, 0.2)


def _background(side: int, rng: random.Random) -> Image.Image:
    """A pale or grey ground: plain, shaded or striped, never in a thing's colour."""
    base = rng.choice(
        [(235, 235, 235), (205, 205, 205), (60, 62, 66), (222, 226, 232), (238, 230, 215), (150, 155, 160)]
    )
    picture = Image.new("RGB", (side, side), base)
    kind, depth = rng.choice(["plain", "shaded", "striped"]), rng.randint(6, 18)
    pen, width = ImageDraw.Draw(picture), rng.randint(side // 16, side // 6)
    for row in range(side if kind == "shaded" else 0):
        pen.line([(0, row), (side, row)], fill=tuple(level - depth * row // side for level in base))
    for start in range(0, side if kind == "striped" else 0, 2 * width):
        pen.rectangle([(start, 0), (start + width, side)], fill=tuple(level - depth for level in base))
    return picture


def _outline(shape: str, tilt: float) -> list[tuple[float, float]]:
    """The shape's outline around the origin with radius about 1, turned by `tilt` radians."""
    turn = 2 * math.pi
    if shape == "circle":
        points = [(math.cos(turn * k / 40), math.sin(turn * k / 40)) for k in range(40)]
    elif shape == "square":
        points = [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    elif shape == "triangle":
        points = [(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)]
    elif shape == "star":
        lengths = [1.1 if k % 2 == 0 else 0.45 for k in range(10)]
        points = [(r * math.sin(turn * k / 10), -r * math.cos(turn * k / 10)) for k, r in enumerate(lengths)]
    elif shape == "cross":
        arm = 0.33
        quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
        points = quarter + [(x, -y) for x, y in reversed(quarter)]
        points += [(-x, -y) for x, y in quarter] + [(-x, y) for x, y in reversed(quarter)]
    else:
        steps = [turn * k / 40 for k in range(40)]
        curve = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in steps]
        points = [(math.sin(t) ** 3 * 1.05, -y / 15.5) for t, y in zip(steps, curve, strict=True)]
    cosine, sine = math.cos(tilt), math.sin(tilt)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in points]
