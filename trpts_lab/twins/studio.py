"""Tools that twins of photographs share: pose, light, clutter, colours, and things put together
from parts.

A part is (kind, cx, cy, a, b[, turn]) in the thing's own frame, y pointing down: `e` ellipse, `b`
box, `t` triangle with its tip up, `h` upper half of an ellipse, `o` ring; `x` cuts an ellipse out
of the parts before it.
"""

import numpy as np

from trpts_lab.canvas import (
    EDGE,
    SIZE,
    box,
    cover,
    ellipse,
    grid,
    hsv,
    noise,
    paint,
    per,
    segment,
    turned,
)

RING = 0.09  # half thickness of a ring, in the object's frame


def class_by_class(labels, rng, draw):
    """Pictures by draw(class, n, rng) -> uint8 [n, 32, 32, 3], class by class, in label order."""
    labels = np.asarray(labels)
    images = np.empty((len(labels), SIZE, SIZE, 3), np.uint8)
    for c in np.unique(labels):
        rows = np.flatnonzero(labels == c)
        images[rows] = draw(c, len(rows), rng)
    return images


def pose(rng, n, shift, scale, turn, mirror=True):
    """x, y [n, S, S] in an object's frame (random place, size in a range, angle), and soft edge."""
    x, y = grid()
    size = per(rng.uniform(*scale, n))
    x = (x - per(rng.uniform(-shift, shift, n))) / size
    y = (y - per(rng.uniform(-shift, shift, n))) / size
    x, y = turned(x, y, per(rng.uniform(-turn, turn, n)))
    if mirror:
        x = x * per(rng.choice([-1, 1], n))
    return x, y, EDGE / size


def two_colours(rng, n):
    """Two random colours [n, 3] of different brightness, in either order: no hint of the class."""
    dark, bright = rng.uniform(0.1, 0.42, n), rng.uniform(0.6, 1.0, n)
    swap = rng.random(n) < 0.5
    values = np.where(swap, bright, dark), np.where(swap, dark, bright)
    return [hsv(rng.random(n), rng.uniform(0.05, 0.75, n), v) for v in values]


def backdrop(rng, n, colour, variety=0.3, clutter=0):
    """Smoothly mottled ground around `colour` [n, 3], with `clutter` random strokes."""
    mottle = noise(rng, n, 3, 2)[..., None] - 0.5
    tint = rng.uniform(-1, 1, (n, 1, 1, 3)).astype(np.float32)
    pictures = colour[:, None, None, :] + mottle * (tint * variety + variety)
    x, y = grid()
    for _ in range(clutter):
        ends = [per(rng.uniform(-1.2, 1.2, n)) for _ in range(4)]
        stroke = cover(segment(x, y, *ends) - per(rng.uniform(0.02, 0.12, n)))
        paint(pictures, np.clip(colour + rng.uniform(-0.35, 0.35, (n, 3)), 0, 1), stroke)
    return pictures


def lit(rng, pictures, low=0.65, high=1.15):
    """Light from a random side: a linear ramp of brightness over the picture, in place."""
    n = len(pictures)
    x, y = grid()
    angle = per(rng.uniform(0, 2 * np.pi, n))
    ramp = per(rng.uniform(low, high, n)) * (1 + 0.22 * (x * np.cos(angle) + y * np.sin(angle)))
    pictures *= ramp[..., None]
    return pictures


def part(x, y, kind, cx, cy, a, b, turn=0.0):
    """Signed distance to one part of a silhouette (see the head of this module)."""
    u, v = turned(x - cx, y - cy, turn) if turn else (x - cx, y - cy)
    if kind == "b":
        return box(u, v, a, b)
    if kind == "t":
        return np.maximum(
            (np.abs(u) - a * (v + b) / (2 * b)) / np.hypot(1, a / (2 * b)), np.abs(v) - b
        )
    d = ellipse(u, v, a, b)
    return {"e": d, "x": d, "h": np.maximum(d, v), "o": np.abs(d) - RING}[kind]


def silhouette(x, y, parts):
    """Signed distance to all parts together; cuts take away from the parts before them."""
    total = np.float32(9)
    for p in parts:
        total = (
            np.maximum(total, -part(x, y, *p)) if p[0] == "x" else np.minimum(total, part(x, y, *p))
        )
    return total


def spread(rng, sizes, k):
    """k rows of traits, column i in [0, sizes[i]): each the most different of 300 random ones."""
    rows = rng.integers(0, sizes, (1, len(sizes)))
    while len(rows) < k:
        others = rng.integers(0, sizes, (300, len(sizes)))
        rows = np.vstack([rows, others[(others[:, None] != rows[None]).sum(-1).min(1).argmax()]])
    return rows
