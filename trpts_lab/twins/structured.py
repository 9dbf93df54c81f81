"""Twins of VTAB's flat structured tasks: where a white sprite lies, and how it is turned."""

import numpy as np

from trpts_lab import canvas
from trpts_lab.canvas import per
from trpts_lab.twins.twin import Twin

LOCATIONS, ORIENTATIONS = 16, 16


def heart(x, y, size):
    """Signed distance to a heart, tip to +x: a square on its corner, a disc on each upper side."""
    u, v = canvas.turned(x + 0.1 * size, y, np.pi / 4)
    a = 0.48 * size
    lobes = np.minimum(canvas.disc(u + a, v, a), canvas.disc(u, v - a, a))
    return np.minimum(canvas.box(u, v, a, a), lobes)


def drop(x, y, size):
    """Signed distance to a drop whose tip points to +x: a disc that tapers to a point."""
    t = np.clip((x + 0.45 * size) / (1.5 * size), 0, 1)
    return np.hypot(x + 0.45 * size - 1.5 * size * t, y) - 0.58 * size * (1 - t)


def letter_l(x, y, size):
    """Signed distance to an L whose long arm points to +x."""
    arm = canvas.box(x, y - 0.4 * size, size, 0.24 * size)
    foot = canvas.box(x + 0.76 * size, y + 0.1 * size, 0.24 * size, 0.72 * size)
    return np.minimum(arm, foot)


def sprites(shapes, chosen, x, y, size, angle, rng):
    """White sprites on black: shapes[chosen[i]] at x[i], y[i], turned clockwise by angle[i]."""
    px, py = canvas.grid()
    pictures = canvas.blank(len(chosen))
    for kind, shape in enumerate(shapes):
        rows = np.flatnonzero(chosen == kind)
        u, v = canvas.turned(px - per(x[rows]), py - per(y[rows]), per(angle[rows]))
        pictures[rows] += canvas.cover(shape(u, v, per(size[rows])))[..., None]
    # the same in all channels: grey pictures
    grain = rng.standard_normal((*pictures.shape[:3], 1), dtype=np.float32)
    return canvas.finish(pictures + 0.08 * grain)


def inside_bin(labels, n_bins, rng):
    """A value in [0, 1) per label, anywhere inside the label's bin."""
    return (labels + rng.random(len(labels))) / n_bins


def dsprites_loc(labels, rng, split):
    """The bin of the sprite's horizontal position carries the class; shape (square, ellipse,
    heart), height, size and orientation vary.
    """
    n = len(labels)
    shapes = (
        lambda x, y, size: canvas.box(x, y, 0.75 * size, 0.75 * size),
        lambda x, y, size: canvas.ellipse(x, y, size, 0.55 * size),
        heart,
    )
    x = -0.72 + 1.44 * inside_bin(labels, LOCATIONS, rng)
    y = rng.uniform(-0.72, 0.72, n)
    return sprites(
        shapes,
        rng.integers(0, 3, n),
        x,
        y,
        rng.uniform(0.14, 0.28, n),
        rng.uniform(0, 2 * np.pi, n),
        rng,
    )


def dsprites_ori(labels, rng, split):
    """Class = the bin of the sprite's orientation; shape (heart, L, drop), place and size vary."""
    n = len(labels)
    angle = 2 * np.pi * inside_bin(labels, ORIENTATIONS, rng)
    x, y = rng.uniform(-0.45, 0.45, (2, n))
    return sprites(
        (heart, letter_l, drop), rng.integers(0, 3, n), x, y, rng.uniform(0.3, 0.5, n), angle, rng
    )


TWINS = (
    Twin(
        name="dsprites_loc_twin",
        group="structured",
        stands_for="dSprites, x location",
        differs="Positions are continuous inside the 16 bins and a slight sensor grain is added; "
        "the original has 32 positions, two to a bin, and noiseless binary pictures of 64 x 64.",
        n_classes=LOCATIONS,
        render=dsprites_loc,
        any_size=True,
    ),
    Twin(
        name="dsprites_ori_twin",
        group="structured",
        stands_for="dSprites, orientation",
        differs="Only shapes without rotational symmetry (heart, L, drop), so that every picture "
        "has one right answer; the original's squares and ellipses look alike in several bins. "
        "Larger sprites, any angle, slight grain.",
        n_classes=ORIENTATIONS,
        render=dsprites_ori,
        any_size=True,
    ),
)
