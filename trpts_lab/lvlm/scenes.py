"""Procedural scenes: coloured shapes in a grid of cells, and clutter that catches the eye and
answers nothing.

    scene = draw_scene("test", 0)       # the same scene on every machine
    scene.image                         # uint8 [SIZE, SIZE, 3]
    cell_tokens(row, column)            # bool [N_TOKENS]: the image tokens of a cell

Every object fills one cell, every cell is 2 x 2 patches, so the tokens that show an object are
known. Clutter is black and white and as large as an object: contrast alone does not tell the two
apart from what is asked.
"""

from dataclasses import dataclass

import numpy as np

GRID, PATCH = 5, 4  # cells along a side; pixels along a patch
CELL = 2 * PATCH  # pixels along a cell
SIZE = GRID * CELL  # pixels along the image
SIDE = SIZE // PATCH  # patches along the image
N_TOKENS = SIDE**2
N_OBJECTS = (3, 7)  # fewest and most
N_CLUTTER = (2, 4)
MOST_COUNTED = 4
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 215, 50),
    "purple": (165, 60, 200),
    "orange": (245, 140, 30),
}
SHAPES = ("circle", "square", "triangle", "cross")
# first word of every seed: no scene of one is drawn for another
SPLITS = {"train": 0, "val": 1, "test": 2}

_Y, _X = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2  # pixel centres, from the middle of the cell
_MASKS = {
    "circle": _X**2 + _Y**2 <= 3.3**2,
    "square": np.maximum(abs(_X), abs(_Y)) <= 2.6,
    "triangle": (_Y <= 3) & (abs(_X) <= (_Y + 4) / 2),
    "cross": (np.minimum(abs(_X), abs(_Y)) <= 1) & (np.maximum(abs(_X), abs(_Y)) <= 3),
}


@dataclass(frozen=True)
class Thing:
    """One coloured shape and the cell it stands in."""

    colour: str
    shape: str
    row: int
    column: int


@dataclass(frozen=True)
class Scene:
    """An image and what it shows.

    things   the objects, no two alike in both colour and shape
    clutter  (row, column) of the cells with clutter
    counted  a colour or a shape whose number of objects was drawn first, all of 0 to MOST_COUNTED
             equally likely
    """

    image: np.ndarray
    things: tuple
    clutter: tuple
    counted: str

    @property
    def thing_tokens(self):
        """bool [objects, N_TOKENS]: the tokens of each object."""
        return np.array([cell_tokens(t.row, t.column) for t in self.things])

    @property
    def clutter_tokens(self):
        """bool [N_TOKENS]: the tokens of all clutter."""
        return np.any([cell_tokens(*cell) for cell in self.clutter], axis=0)


def cell_tokens(row, column):
    """The image tokens of one cell: bool [N_TOKENS], tokens counted along the rows."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
    return mask.ravel()


def draw_scene(split, number, seed=0):
    """Scene `number` of a split ("train", "val", "test"): decided by the three arguments alone.

    raises  ValueError: an unknown split
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown: expected one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS[split], seed, number])
    kinds, counted = _draw_kinds(rng)
    cells = rng.permutation(GRID**2)[: len(kinds) + rng.integers(N_CLUTTER[0], N_CLUTTER[1] + 1)]
    places = [divmod(int(cell), GRID) for cell in cells]
    things = tuple(Thing(*kind, *place) for kind, place in zip(kinds, places, strict=False))
    clutter = tuple(places[len(kinds) :])
    return Scene(_render(things, clutter, rng), things, clutter, counted)


def _draw_kinds(rng):
    """Distinct (colour, shape), and the word whose count among them was drawn evenly."""
    words = (*COLOURS, *SHAPES)
    counted, n_counted = words[rng.integers(len(words))], int(rng.integers(MOST_COUNTED + 1))
    n = int(rng.integers(max(N_OBJECTS[0], n_counted), N_OBJECTS[1] + 1))
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    kinds = [kinds[i] for i in rng.permutation(len(kinds))]
    counted_kinds = [kind for kind in kinds if counted in kind][:n_counted]
    others = [kind for kind in kinds if counted not in kind][: n - n_counted]
    return counted_kinds + others, counted


def _render(things, clutter, rng):
    """uint8 [SIZE, SIZE, 3]: gradient with noise, then clutter, then objects of varied colours."""
    corners = rng.uniform(70, 170, (2, 2, 3))
    t = np.linspace(0, 1, SIZE)
    ends = np.stack([1 - t, t])  # [2, SIZE]
    image = np.einsum("iy,jx,ijc->yxc", ends, ends, corners) + rng.normal(0, 8, (SIZE, SIZE, 3))
    for row, column in clutter:
        image[_pixels(row, column)] = _clutter(rng)[..., None] * 215.0 + 20
    for thing in things:
        colour = np.array(COLOURS[thing.colour]) + rng.uniform(-15, 15, 3)
        image[_pixels(thing.row, thing.column)][_MASKS[thing.shape]] = colour
    return image.clip(0, 255).astype(np.uint8)


def _pixels(row, column):
    return np.s_[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]


def _clutter(rng):
    """bool [CELL, CELL]: stripes, a chequerboard or dots."""
    kind, step = rng.integers(4), int(rng.integers(1, 3))
    y, x = np.mgrid[:CELL, :CELL] // step
    return [y % 2 == 0, x % 2 == 0, (x + y) % 2 == 0, rng.random((CELL, CELL)) < 0.5][kind]
