"""Compositions: drawn objects, real digits and real photographs, pasted on real textures.

    composition = compose("test", 0)    # the same picture on every machine
    composition.image                   # uint8 [SIZE, SIZE, 3]
    composition.tokens                  # bool [things, N_TOKENS]: the image tokens of each thing

Things lie in the nine parts of the picture, at most one in each, anywhere inside it: their edges
do not follow those of the patches. A token belongs to a thing that covers a quarter of its patch.
The photographs and the textures are in the public domain or CC0 (`trpts_lab.real.pictures`), the
digits are MNIST's. Digits of one split are never seen in another; of the photographs, which are
six, other parts are cut out for every picture.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from trpts_lab.real.packaged import find
from trpts_lab.real.pictures import picture

PATCH, SIDE = 14, 10  # pixels along a patch; patches along the picture
SIZE = PATCH * SIDE  # pixels along the picture
N_TOKENS = SIDE**2
PARTS = 3  # along a side
PART = SIZE / PARTS  # pixels
THING = (32, 43)  # pixels along a thing: fewest, and one more than most
MARGIN = 2  # pixels between a thing and the edge of its part
OWNED = 0.25  # a token belongs to a thing that covers this much of its patch
N_THINGS = (3, 7)  # fewest and most
MOST_COUNTED = 4
FINER = 4  # drawn objects are drawn this many times as large, then averaged

COLOURS = {
    "red": (215, 35, 35),
    "green": (35, 170, 60),
    "blue": (45, 80, 225),
    "yellow": (240, 220, 45),
    "purple": (150, 50, 190),
    "orange": (245, 140, 25),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
# What a photograph is called in questions and answers
PHOTOGRAPHS = {
    "camera": "camera",
    "cat": "cat",
    "coffee": "coffee",
    "rocket": "rocket",
    "galaxy": "galaxies",
    "retina": "retina",
}
TEXTURES = ("brick", "grass", "gravel")
DIGIT = "digit"
# first word of every seed: no composition of one split is made for another
SPLITS = {"train": 0, "val": 1, "test": 2}
# Of each 10 digits of MNIST, in the file's order: those of a split
DIGITS_OF = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}


@dataclass(frozen=True)
class Thing:
    """What lies in one part of the picture.

    kind    one of SHAPES, of PHOTOGRAPHS, or DIGIT
    colour  of a shape; None for photographs and digits
    digit   0 to 9; None for all others
    """

    kind: str
    colour: str | None
    digit: int | None
    row: int
    column: int

    @property
    def name(self):
        """What questions call it: "red star", "cat", "digit"."""
        return self.kind if self.colour is None else f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Composition:
    """A picture and what it shows.

    things   no two of the same name
    tokens   bool [things, N_TOKENS]
    counted  a colour or a shape whose number of things was drawn first, all of 0 to MOST_COUNTED
             equally likely
    """

    image: np.ndarray
    things: tuple
    tokens: np.ndarray
    counted: str


def compose(split, number, seed=0):
    """Composition `number` of a split ("train", "val", "test"): decided by the three arguments.

    raises  ValueError: an unknown split; as `package_file` where a picture or MNIST is missing
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown: expected one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS[split], seed, number])
    kinds, counted = _draw_kinds(rng)
    places = [divmod(int(part), PARTS) for part in rng.permutation(PARTS**2)[: len(kinds)]]
    things = tuple(Thing(*kind, *place) for kind, place in zip(kinds, places, strict=True))
    image, tokens = _background(rng), []  # float [SIZE, SIZE, 3]
    for thing in things:
        side = int(rng.integers(*THING))
        colours, cover = _look(thing, side, split, rng)  # [side, side, 3], [side, side]
        room = int(PART) - 2 * MARGIN - side
        y, x = (
            int(PART * part) + MARGIN + int(rng.integers(room + 1))
            for part in (thing.row, thing.column)
        )
        where = np.s_[y : y + side, x : x + side]
        image[where] += (colours - image[where]) * cover[..., None]
        covered = np.zeros((SIZE, SIZE), np.float32)
        covered[where] = cover
        share = covered.reshape(SIDE, PATCH, SIDE, PATCH).mean((1, 3))  # [SIDE, SIDE]
        tokens.append((share >= OWNED).ravel())
    return Composition(image.clip(0, 255).astype(np.uint8), things, np.array(tokens), counted)


def _draw_kinds(rng):
    """Distinct (kind, colour, digit), and the word whose count among them was drawn evenly."""
    words = (*COLOURS, *SHAPES)
    counted, n_counted = words[rng.integers(len(words))], int(rng.integers(MOST_COUNTED + 1))
    n = int(rng.integers(max(N_THINGS[0], n_counted + 1), N_THINGS[1] + 1))
    drawn = [(shape, colour, None) for colour in COLOURS for shape in SHAPES]
    drawn = [drawn[i] for i in rng.permutation(len(drawn))]
    kinds = [kind for kind in drawn if counted in kind][:n_counted]
    others = [kind for kind in drawn if counted not in kind]
    if rng.random() < 0.6:
        others.insert(0, (DIGIT, None, int(rng.integers(10))))
    some = rng.permutation(list(PHOTOGRAPHS))[: rng.integers(1, 4)]
    others = [(str(name), None, None) for name in some[:2]] + others
    return kinds + others[: n - n_counted], counted


def _background(rng):
    """float32 [SIZE, SIZE, 3]: a part of a texture in some tint and light, or a smooth gradient."""
    tint = rng.uniform(0.55, 1.1, 3)
    if rng.random() < 0.75:
        whole = _texture(TEXTURES[rng.integers(len(TEXTURES))])
        side = int(rng.integers(SIZE, min(whole.size)))
        return np.asarray(_cut(whole, side, SIZE, rng), np.float32) * tint.astype(np.float32)
    ends = np.linspace([1.0, 0.0], [0.0, 1.0], SIZE)  # [SIZE, 2]
    gradient = np.einsum("yi,xj,ijc->yxc", ends, ends, rng.uniform(60, 200, (2, 2, 3)))
    return (gradient + rng.normal(0, 6, gradient.shape)).astype(np.float32)


def _look(thing, side, split, rng):
    """(float [side, side, 3] colours, [side, side] how far it covers what is behind it, 0 to 1)."""
    if thing.kind in PHOTOGRAPHS:
        whole = _texture(PHOTOGRAPHS[thing.kind])
        cut = _cut(whole, int(min(whole.size) * rng.uniform(0.75, 1.0)), side, rng)
        light = rng.uniform(0.8, 1.15)
        return np.asarray(cut, np.float32) * light, np.ones((side, side), np.float32)
    if thing.kind == DIGIT:
        some = _digits(split)[thing.digit]
        ink = Image.fromarray(some[rng.integers(len(some))])
        cover = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
        colour = rng.uniform(215, 255, 3) if rng.random() < 0.5 else rng.uniform(0, 40, 3)
        plate = 255 - colour  # what a digit is read against
        colours = plate + (colour - plate) * cover[..., None]
        return colours, np.ones((side, side), np.float32)
    colour = np.array(COLOURS[thing.colour]) + rng.uniform(-15, 15, 3)
    cover = np.asarray(_outline(thing.kind, side), np.float32) / 255
    return np.broadcast_to(colour, (side, side, 3)), cover


def _cut(whole, cut, side, rng):
    """A square of `cut` pixels out of a picture, somewhere, scaled to `side` pixels."""
    x, y = (int(rng.integers(length - cut + 1)) for length in whole.size)
    return whole.resize((side, side), Image.Resampling.BOX, (x, y, x + cut, y + cut))


@cache
def _texture(name):
    return picture(name)


@cache
def _digits(split):
    """{digit: uint8 [n, 28, 28]} of a split."""
    table = np.loadtxt(find("mnist"), delimiter=",", dtype=np.uint8)  # [5000, 785]
    rows = np.isin(np.arange(len(table)) % 10, DIGITS_OF[split])
    return {
        digit: table[rows & (table[:, -1] == digit), :-1].reshape(-1, 28, 28) for digit in range(10)
    }


def _outline(shape, side):
    """Pillow image [side, side], grey: how far the shape covers each pixel."""
    S = side * FINER
    whole = Image.new("L", (S, S))
    draw, middle = ImageDraw.Draw(whole), S / 2
    if shape == "circle":
        draw.ellipse((0, 0, S - 1, S - 1), fill=255)
    elif shape == "heart":
        t = np.linspace(0, 2 * np.pi, 60)
        x = 16 * np.sin(t) ** 3
        y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
        corners = np.stack([x, y + 2.5], 1) / 34 * S + middle
        draw.polygon([tuple(corner) for corner in corners], fill=255)
    else:
        corners = np.array(_corners(shape)) * middle + middle
        draw.polygon([tuple(corner) for corner in corners], fill=255)
    return whole.resize((side, side), Image.Resampling.BOX)


def _corners(shape):
    """(x, y) of a polygon's corners, -1 to 1."""
    if shape == "square":
        return [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
    if shape == "triangle":
        return [(0, -0.95), (1, 0.85), (-1, 0.85)]
    if shape == "cross":
        a, b = 0.3, 0.95
        return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a),
                (-b, a), (-b, -a), (-a, -a)]  # fmt: skip
    angles = np.arange(10) * np.pi / 5 - np.pi / 2  # a star's, from the top
    radii = np.where(np.arange(10) % 2, 0.42, 1.0)
    return list(zip(radii * np.cos(angles), radii * np.sin(angles), strict=True))
