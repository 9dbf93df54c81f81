"""Twin of VTAB's Natural group: textures (DTD).

A texture is a function height(u, v, salt) in [0, 1]: u, v are picture coordinates, turned, scaled
and slightly warped, in which a cell of the texture has side 1; salt [n, 1, 1] is each picture's own
random number.
"""

import numpy as np

from trpts_lab.canvas import finish, noise, paint, per
from trpts_lab.twins.patterns import (
    PI2,
    arcs,
    bricks,
    centre,
    cobweb,
    framed,
    hexagons,
    local,
    lot,
    maze,
    over,
    polar,
    rods,
    saw,
    scales,
    scattered,
    tartan,
    tent,
    triangles,
    warped,
    wave,
    woven,
)
from trpts_lab.twins.studio import backdrop, class_by_class, lit, pose, two_colours
from trpts_lab.twins.twin import Twin

TEXTURES = {
    "banded": lambda u, v, s: over(tent(u), 0.5),
    "lined": lambda u, v, s: over(tent(u * 1.4), 0.78),
    "pleated": lambda u, v, s: saw(u),
    "stratified": lambda u, v, s: lot(np.floor(u * 3), 0, s),
    "wavy": lambda u, v, s: over(tent(u * 1.2 + 0.25 * np.sin(3 * v)), 0.5),
    "zigzagged": lambda u, v, s: over(tent(u * 1.2 + 0.5 * tent(v)), 0.5),
    "stepped": lambda u, v, s: over(tent(u + 0.5 * (np.floor(v * 1.2) % 2)), 0.5),
    "scalloped": lambda u, v, s: saw(v + 0.4 * np.abs(np.sin(np.pi * u))),
    "dashed": lambda u, v, s: (
        over(tent(u * 1.5), 0.5) * over(tent(v + 0.5 * (np.floor(u * 1.5) % 2)), 0.4)
    ),
    "braided": lambda u, v, s: over(
        -np.abs(np.abs(saw(u) - 0.5) - 0.25 * np.abs(np.sin(np.pi * v))), -0.1
    ),
    "herringbone": lambda u, v, s: over(tent(2 * v + 1.6 * tent(u / 2)), 0.5) * over(tent(u), 0.15),
    "checkered": lambda u, v, s: (np.floor(u) + np.floor(v)) % 2,
    "gingham": lambda u, v, s: (over(tent(u), 0.5) + over(tent(v), 0.5)) / 2,
    "tartan": tartan,
    "meshed": lambda u, v, s: np.maximum(over(tent(u), 0.8), over(tent(v), 0.8)),
    "latticed": lambda u, v, s: np.maximum(
        over(tent(u + v * 0.45), 0.8), over(tent(u - v * 0.45), 0.8)
    ),
    "bricked": lambda u, v, s: over(0.5 - framed(*bricks(u / 1.6, v * 1.1)), 0.07),
    "woven": woven,
    "triangular": triangles,
    "argyle": lambda u, v, s: (np.floor(u + v * 0.5) + np.floor(u - v * 0.5)) % 2,
    "dotted": lambda u, v, s: over(-centre(1.3 * u, 1.3 * v), -0.24),
    "polka": lambda u, v, s: over(-centre(*bricks(0.75 * u, 0.75 * v)), -0.33),
    "ringed": lambda u, v, s: over(-np.abs(centre(u, v) - 0.33), -0.09),
    "studded": lambda u, v, s: (
        np.clip(0.4 + local(u, v)[0] + local(u, v)[1], 0, 1) * over(-centre(u, v), -0.42)
    ),
    "crossed": lambda u, v, s: (
        over(-np.minimum(*np.abs(local(u, v))), -0.11) * over(-framed(u, v), -0.36)
    ),
    "framed": lambda u, v, s: over(-np.abs(framed(u, v) - 0.33), -0.08),
    "nested": lambda u, v, s: over(tent(framed(u / 2, v / 2) * 6), 0.5, 0.3),
    "diamonds": lambda u, v, s: over(-np.abs(local(u, v)[0]) - np.abs(local(u, v)[1]), -0.34),
    "scaly": lambda u, v, s: scales(u, v, False),
    "fan-scaled": lambda u, v, s: scales(u / 1.6, v / 1.6, True),
    "honeycombed": lambda u, v, s: over(-hexagons(u, v)[0], -0.1),
    "tiled": lambda u, v, s: lot(*hexagons(u, v)[1:], s),
    "sprinkled": rods,
    "freckled": lambda u, v, s: over(-scattered(1.5 * u, 1.5 * v, s)[0], -0.22),
    "bubbly": lambda u, v, s: over(
        -np.abs(scattered(u, v, s, 0.6)[0] - 0.15 - 0.2 * scattered(u, v, s, 0.6)[2]), -0.07
    ),
    "cracked": lambda u, v, s: over(
        np.subtract(*scattered(u * 0.7, v * 0.7, s)[1::-1]), 0.07, 0.06
    ),
    "mosaic": lambda u, v, s: scattered(u * 0.9, v * 0.9, s)[2],
    "pebbled": lambda u, v, s: 1 - 1.25 * np.divide(*scattered(u, v, s)[:2]) ** 2,
    "winding": arcs,
    "maze": maze,
    "marbled": lambda u, v, s: wave(u * 0.5 + warped(u, v, s, 0.35)),
    "grained": lambda u, v, s: saw(2 * np.hypot(u, v * 0.22) + warped(u, v * 0.3, s, 0.25)),
    "concentric": lambda u, v, s: polar(u, v, 0, 1.1, 0),
    "spiralled": lambda u, v, s: polar(u, v, 3, 0.8, 0),
    "fanned": lambda u, v, s: polar(u, v, 0, 0, 14),
    "cobwebbed": cobweb,
    "swirled": lambda u, v, s: wave(
        2.2 * centre(u / 2, v / 2) + np.arctan2(*local(u / 2, v / 2)) / PI2
    ),
}


def dtd_twin(labels, rng, split):
    """Class = texture structure (47); scale, angle, place, warp, colours, contrast, light vary."""
    textures = list(TEXTURES.values())

    def draw(c, n, rng):
        x, y, _ = pose(rng, n, 0.7, (0.32, 0.52), np.pi)
        salt = per(rng.integers(0, 30000, n))
        bend = per(rng.uniform(0, 0.12, n))
        u, v = x + bend * np.sin(1.7 * y + salt), y + bend * np.sin(2.1 * x + salt)
        height = np.clip(textures[c](u, v, salt), 0, 1)
        low, high = two_colours(rng, n)
        high = low + (high - low) * rng.uniform(0.65, 1.0, (n, 1)).astype(np.float32)
        pictures = backdrop(rng, n, low, 0.15)
        paint(pictures, high, height.astype(np.float32) * (0.75 + 0.25 * noise(rng, n, 6)))
        return finish(lit(rng, pictures), rng, 0.02)

    return class_by_class(labels, rng, draw)


TWINS = (
    Twin(
        name="dtd_twin",
        group="natural",
        stands_for="DTD",
        differs="Each texture follows one formula in two colours instead of many photographs "
        "fitting one adjective.",
        n_classes=47,
        render=dtd_twin,
    ),
)
