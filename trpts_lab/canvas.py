"""A small canvas for procedural images: many pictures at once, analytic shapes with soft edges.

Arrays are float32 NumPy. A batch of pictures is [n, S, S, 3] with colours in [0, 1] and S = 2 *
SIZE: drawn at twice the final resolution, `finish` averages 2 x 2 pixels. Coordinates run from -1
(left, top) to 1 (right, bottom). Parameters that differ from picture to picture have shape [n] and
are given through `per`, which makes them [n, 1, 1].

Pictures have SIZE = 32 pixels per side unless they are drawn inside `with at_size(84):`. There the
functions below work at that size, and S in their docstrings means `drawn_side()`. The constants
stay those of 32 pixels: a module that uses them can only draw at 32.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

SIZE = 32
S = 2 * SIZE
EDGE = 2.0 / S  # width of a soft edge: one drawn pixel

_size = ContextVar("pixels per side of a finished picture", default=SIZE)


@contextmanager
def at_size(size: int) -> Iterator[None]:
    """Draw pictures of `size` x `size` pixels in this context; ValueError: fewer than one."""
    if size < 1:
        raise ValueError(f"size={size}: expected at least 1 pixel")
    token = _size.set(size)
    try:
        yield
    finally:
        _size.reset(token)


def final_side() -> int:
    """Pixels per side of a finished picture: SIZE, or the size of the surrounding `at_size`."""
    return _size.get()


def drawn_side() -> int:
    """Pixels per side while drawing: twice `final_side()`."""
    return 2 * final_side()


def grid() -> tuple[np.ndarray, np.ndarray]:
    """x, y of all pixels, each [1, S, S]."""
    side = drawn_side()
    line = ((np.arange(side, dtype=np.float32) + 0.5) / side) * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    return x[None], y[None]


def per(values):
    """[n] -> [n, 1, 1]: one value per picture."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def turned(x, y, angle):
    """Coordinates in a frame turned by `angle` (radians, [n, 1, 1] or a number)."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, -s * x + c * y


def disc(x, y, radius):
    """Signed distance to a disc around the origin: negative inside."""
    return np.hypot(x, y) - radius


def ellipse(x, y, a, b):
    """Approximate signed distance to an ellipse of half axes a, b."""
    k = np.hypot(x / a, y / b)
    return (k - 1) * np.minimum(a, b)


def box(x, y, a, b):
    """Signed distance (inside: Chebyshev) to a rectangle of half sides a, b."""
    return np.maximum(np.abs(x) - a, np.abs(y) - b)


def polygon(x, y, n_sides, radius):
    """Signed distance to a regular polygon, corner up; `n_sides` may differ per picture."""
    sector = 2 * np.pi / n_sides
    angle = np.mod(np.arctan2(x, -y) + sector / 2, sector) - sector / 2
    inner = radius * np.cos(sector / 2)
    # distance to the nearest side's line: rotate the point so that this side is upright
    r = np.hypot(x, y)
    return r * np.cos(np.abs(angle) - sector / 2) - inner


def segment(x, y, x0, y0, x1, y1):
    """Distance to the line segment from (x0, y0) to (x1, y1)."""
    dx, dy = x1 - x0, y1 - y0
    t = np.clip(((x - x0) * dx + (y - y0) * dy) / np.maximum(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.hypot(x - x0 - t * dx, y - y0 - t * dy)


def cover(distance: np.ndarray, edge: float | np.ndarray | None = None) -> np.ndarray:
    """Coverage in [0, 1] from a signed distance; `edge`: the soft edge's width, 1 px if None."""
    edge = 2.0 / drawn_side() if edge is None else edge
    return np.clip(0.5 - distance / edge, 0, 1).astype(np.float32)


def paint(pictures, colour, coverage):
    """Paint a colour, [3], [n, 3] or [n, S, S, 3], over pictures in place; coverage [n, S, S]."""
    colour = np.asarray(colour, dtype=np.float32)
    if colour.ndim == 2:
        colour = colour[:, None, None, :]
    pictures += coverage[..., None] * (colour - pictures)
    return pictures


def blank(n: int, colour=(0.0, 0.0, 0.0)) -> np.ndarray:
    """n pictures of one colour each: [3] or [n, 3]."""
    side = drawn_side()
    colour = np.broadcast_to(np.asarray(colour, dtype=np.float32), (n, 3))
    return np.repeat(np.repeat(colour[:, None, None, :], side, 1), side, 2)


def hsv(h, s, v):
    """Hue, saturation, value in [0, 1] (any broadcastable shapes) to RGB [..., 3]."""
    h, s, v = np.broadcast_arrays(*(np.asarray(a, dtype=np.float32) for a in (h, s, v)))
    k = np.mod(np.array([5, 3, 1], dtype=np.float32) + h[..., None] * 6, 6)
    return v[..., None] - v[..., None] * s[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1)


def noise(rng: np.random.Generator, n: int, cells: int, octaves: int = 1) -> np.ndarray:
    """Smooth noise in [0, 1], [n, S, S]: bilinear on a grid of `cells`, doubled per octave."""
    side = drawn_side()
    total, weight = np.zeros((n, side, side), np.float32), 0.0
    for octave in range(octaves):
        k = cells * 2**octave
        values = rng.random((n, k + 1, k + 1), dtype=np.float32)
        at = (np.arange(side, dtype=np.float32) + 0.5) / side * k
        i = np.minimum(at.astype(int), k - 1)
        t = at - i
        t = t * t * (3 - 2 * t)
        # [n, S, k+1]
        rows = values[:, i] * (1 - t)[None, :, None] + values[:, i + 1] * t[None, :, None]
        total += (rows[:, :, i] * (1 - t) + rows[:, :, i + 1] * t) / 2**octave
        weight += 1 / 2**octave
    return total / weight


def finish(
    pictures: np.ndarray, rng: np.random.Generator | None = None, grain: float = 0.0
) -> np.ndarray:
    """[n, S, S, 3] in [0, 1] -> uint8 [n, S / 2, S / 2, 3].

    `grain` is the deviation of camera noise, which rng draws for each pixel of the finished
    picture.
    """
    n, side = len(pictures), final_side()
    small = pictures.reshape(n, side, 2, side, 2, 3).mean((2, 4))
    if grain:
        small = small + rng.normal(0, grain, small.shape).astype(np.float32)
    return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)


def in_parts(render, size=50):
    """Make render(labels, rng, split) draw `size` pictures at a time: cached, twice as fast."""

    @functools.wraps(render)
    def parts(labels, rng, split):
        pieces = [render(labels[i : i + size], rng, split) for i in range(0, len(labels), size)]
        return (
            np.concatenate(pieces)
            if pieces
            else np.zeros((0, final_side(), final_side(), 3), np.uint8)
        )

    return parts
