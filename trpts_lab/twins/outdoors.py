"""Places out of doors, layer by layer: what the twin of Sun397 draws under a sky, but for landmarks
(in `places`).

A place is a list of words; each word draws one layer (sky, ground, a house ...) over those before
it. Layers see a `View`: the pictures and coordinates x, y with the horizon at y = 0, already
shifted, scaled and mirrored.
"""

import numpy as np

from trpts_lab.canvas import segment
from trpts_lab.twins.patterns import saw, tent
from trpts_lab.twins.view import ground, ocean, sky


def ridge(tone, height, wide, pointed=False, shift=0.0):
    """A far ridge: rounded tops, or pointed ones."""

    def draw(w):
        t = w.x * wide + w.any(0, 6)
        top = (
            tent(t) * 0.75 + 0.25 * tent(2.7 * t)
            if pointed
            else 0.6 + 0.3 * np.sin(4 * t) + 0.12 * np.sin(9.3 * t)
        )
        w.put(tone, np.maximum(shift - w.y - height * top, w.y - shift))

    return draw


def peaks(w):
    for at in (-0.65, 0.55, -0.05):
        at, high, half = at + w.any(-0.15, 0.15), w.any(0.5, 0.85), w.any(0.45, 0.7)
        slope = np.abs(w.x - at) / half * high
        w.put("rock", np.maximum(slope - high - w.y, w.y))
        w.put("snow", np.maximum(slope - high - w.y, w.y + 0.62 * high + 0.06 * np.sin(20 * w.x)))


def skyline(w):
    at = np.clip(((w.x + 1.5) * 3.2).astype(int), 0, 9)
    high = w.rng.uniform(0.25, 0.95, (w.n, 10))[np.arange(w.n)[:, None, None], at]
    shade = w.rng.uniform(0.6, 1.2, (w.n, 10))[np.arange(w.n)[:, None, None], at]
    inside = np.maximum(-w.y - high, w.y)
    w.put(w.tone("wall")[:, None, None] * shade[..., None] * 0.7, inside)
    # windows
    w.put("sand", np.maximum(inside + 0.06, 0.6 - tent(w.x * 9.6 + 14.4) * tent(w.y * 6)))


def crops(w):
    w.put("earth", -w.y)
    w.put("grass", np.maximum(-w.y, 0.4 - tent(1.1 * w.x * w.near(0.25) + w.any(0, 1))))


def road(w):
    w.put("grey", np.maximum(-w.y, np.abs(w.x) - 0.06 - 0.65 * w.y))
    w.put(
        "white",
        np.maximum(
            np.maximum(-w.y, np.abs(w.x) - 0.01 - 0.05 * w.y),
            0.4 - tent(1.2 * w.near(0.3) + w.any(0, 1)),
        ),
    )


def river(w):
    w.put(
        "water",
        np.maximum(
            -w.y, np.abs(w.x - 0.35 * w.y * np.sin(5 * w.y + w.any(0, 1))) - 0.04 - 0.35 * w.y
        ),
    )


def rails(w):
    off = np.abs(w.x) - 0.02 - 0.5 * w.y
    w.put("wood", np.maximum(np.maximum(-w.y, off - 0.12 * w.y), 0.5 - tent(1.6 * w.near(0.3))))
    w.put("white", np.maximum(-w.y, np.abs(off) - 0.015 - 0.03 * w.y))


def palm(w):
    fronds = [
        ("e", 0.3 * np.sin(a), -0.95 - 0.22 * np.cos(a), 0.09, 0.32, a)
        for a in (-1.9, -1.1, -0.3, 0.5, 1.3, 2.0)
    ]
    for at in (-0.45, 0.35):
        w.thing(
            ("wood", [("b", 0, -0.45, 0.05, 0.5)]), ("leaf", fronds), at=at, foot=0.45, size=0.85
        )


def canyon(w):
    for side in (-1, 1):
        steps = 0.22 + 0.2 * w.y + 0.08 * np.floor(4 * w.y + w.any(0, 1))
        w.put("earth", np.maximum(steps - side * w.x, -0.75 - w.y))


def waterfall(w):
    w.put("rock", np.maximum(-w.y - 0.75, w.y - 0.35))
    w.put("white", np.maximum(np.abs(w.x + 0.05 * np.sin(9 * w.y)) - 0.2, -w.y - 0.75))
    w.put("water", 0.35 - w.y)
    w.put("white", np.hypot(w.x * 0.5, w.y - 0.38) - 0.17)


def house(w, at=0.0, foot=0.3, size=0.8, wall="wall"):
    w.thing(
        (wall, [("b", 0, -0.25, 0.45, 0.25)]),
        ("roof", [("t", 0, -0.7, 0.62, 0.22)]),
        (
            "dark",
            [
                ("b", 0, -0.15, 0.08, 0.15),
                ("b", -0.26, -0.3, 0.07, 0.08),
                ("b", 0.26, -0.3, 0.07, 0.08),
            ],
        ),
        at=at,
        foot=foot,
        size=size,
    )


def houses(w):
    house(w, -0.55, 0.25, 0.6)
    house(w, 0.5, 0.35, 0.75)


def tents(w):
    for at in (-0.45, 0.45):
        w.thing(
            ("cloth", [("t", 0, -0.25, 0.4, 0.27)]),
            ("dark", [("t", 0, -0.15, 0.12, 0.17)]),
            at=at,
            foot=0.4,
        )


def pyramids(w):
    for at, size in ((0.45, 0.6), (-0.3, 1.0)):
        w.thing(("earth", [("t", 0, -0.4, 0.7, 0.4)]), at=at, size=size)


def pier(w):
    planks = np.maximum(-w.y, 0.15 - tent(1.4 * w.near(0.25)))
    w.put("wood", np.maximum(np.abs(w.x) - 0.05 - 0.4 * w.y, planks))


def trees(w):
    for at in (-0.6, 0.1, 0.65):
        w.thing(
            ("wood", [("b", 0, -0.2, 0.05, 0.25)]),
            ("leaf", [("e", 0, -0.6, 0.3, 0.35)]),
            at=at,
            foot=0.3,
        )


def windmill(w):
    spin, rotor = w.any(0, np.pi / 2), []
    w.thing(("white", [("t", 0, -0.25, 0.5, 0.75), ("h", 0, -0.6, 0.2, 0.2)]), foot=0.2, size=0.85)
    for k in range(4):
        a = spin + k * np.pi / 2
        rotor.append(segment(w.x, w.y, 0, -0.4, 0.55 * np.cos(a), -0.4 + 0.55 * np.sin(a)) - 0.06)
    w.put("wood", np.minimum.reduce(rotor))


def turbines(w):
    for at, size in ((-0.6, 0.55), (0.0, 0.9), (0.6, 0.65)):
        a, top = w.any(0, 2), -0.75 * size
        arms = [
            segment(
                w.x,
                w.y,
                at,
                top,
                at + 0.36 * size * np.cos(a + t),
                top + 0.36 * size * np.sin(a + t),
            )
            for t in (0, 2.1, 4.2)
        ]
        w.put("white", np.minimum.reduce([*arms, segment(w.x, w.y, at, top, at, 0.15)]) - 0.035)


def bridge(w):
    arches = np.hypot((saw(w.x * 1.1 + 0.5) - 0.5) * 0.9, w.y - 0.4) - 0.38
    w.put("wall", np.maximum(np.abs(w.y - 0.1) - 0.3, -arches))
    w.put("dark", np.abs(w.y + 0.22) - 0.03)


def wheel(w):
    r, a = np.hypot(w.x, w.y + 0.25), np.arctan2(w.x, w.y + 0.25)
    w.put(
        "dark",
        np.minimum(segment(w.x, w.y, 0, -0.25, -0.3, 0.5), segment(w.x, w.y, 0, -0.25, 0.3, 0.5))
        - 0.03,
    )
    spokes = np.maximum(np.abs(np.sin(4 * a)) * r / 4 - 0.02, r - 0.55)
    w.put("cloth", np.minimum(np.abs(r - 0.55) - 0.045, spokes))


OUTDOORS = {
    "sky": sky,
    "grass": ground("grass"),
    "sand": ground("sand"),
    "snow": ground("snow"),
    "dirt": ground("earth"),
    "rocks": ground("rock"),
    "asphalt": ground("grey"),
    "ocean": ocean,
    "bay": lambda w: ocean(w, 0.3),
    "crops": crops,
    "hills": ridge("grass", 0.4, 0.35),
    "dunes": ridge("sand", 0.35, 0.45),
    "forest": ridge("leaf", 0.65, 2.0),
    "firs": ridge("leaf", 0.6, 2.6, pointed=True),
    "peaks": peaks,
    "skyline": skyline,
    "canyon": canyon,
    "road": road,
    "river": river,
    "rails": rails,
    "palm": palm,
    "trees": trees,
    "windmill": windmill,
    "bridge": bridge,
    "houses": houses,
    "waterfall": waterfall,
    "turbines": turbines,
    "wheel": wheel,
    "tents": tents,
    "pyramids": pyramids,
    "pier": pier,
}
