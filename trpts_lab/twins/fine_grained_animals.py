"""Twins of the fine-grained sets of birds and dogs: neighbours in a space of traits."""

import numpy as np

from trpts_lab.canvas import cover, disc, ellipse, grid, hsv, in_parts, paint, per, segment, turned
from trpts_lab.twins.traits import Traits, backdrop, colour, photo, pose
from trpts_lab.twins.twin import Twin

CUB = Traits(
    101,
    30,
    beak=(0.12, 0.5),
    hook=(-0.25, 0.6),
    crest=(-0.1, 0.3),
    tail=(0.15, 0.65),
    plump=(0.2, 0.33),
    bars=(0.0, 0.09),
    hood=(-0.2, 0.45),
    back_hue=(0.02, 0.65),
    back_value=(0.2, 0.7),
    belly_hue=(0.0, 0.2),
    belly_value=(0.45, 1.0),
)


@in_parts
def cub(labels, rng, split):
    """A perched bird from the side: beak length and hook, crest, tail, plumpness, wing bars, hood
    and the colours of back and belly are the class; side, tilt, size, light, perch and background
    vary.
    """
    n = len(labels)
    t = CUB.of(labels, rng)
    pictures = backdrop(rng, n)
    u, v = pose(rng, n, 0.25, 0.1, (1.0, 1.25))
    bark = hsv(rng.uniform(0.02, 0.15, n), rng.uniform(0.1, 0.5, n), rng.uniform(0.2, 0.5, n))
    paint(
        pictures,
        bark,
        cover(
            np.abs(v - 0.62 - 0.1 * u * per(rng.uniform(-1, 1, n)))
            - per(rng.uniform(0.03, 0.09, n))
        ),
    )
    back = colour(t["back_hue"], 0.45, t["back_value"])
    belly = colour(t["belly_hue"], 0.45, t["belly_value"])

    for foot in (-0.06, 0.08):
        paint(pictures, bark * 0.5, cover(segment(u, v, foot, 0.3, foot + 0.04, 0.62) - 0.022))
    a, b = turned(u, v, per(rng.uniform(-0.75, -0.3, n)))  # the body's axis: posture varies
    paint(pictures, back * 0.85, cover(segment(a, b, -0.3, 0.05, -0.38 - t["tail"], 0.08) - 0.07))
    paint(pictures, belly, cover(ellipse(a, b, 0.48, t["plump"])))
    paint(pictures, back, cover(np.maximum(ellipse(a, b, 0.48, t["plump"]), b + 0.02)))
    wing = ellipse(a + 0.12, b + 0.03, 0.36, 0.15)
    paint(pictures, back * 0.75, cover(wing))
    for at in (-0.02, -0.2):
        paint(
            pictures,
            (0.97, 0.97, 0.93),
            cover(np.maximum(np.abs(a - at - 0.5 * b) - t["bars"] / 2, wing)),
        )

    hu, hv = 0.33, -0.36  # the head: over the breast in every posture
    lift = t["crest"]
    crest = np.maximum(
        np.abs(u - hu + 0.1 + 0.5 * (hv - v))
        - 0.09 * np.clip(1 - (hv - 0.1 - v) / np.maximum(lift, 1e-3), 0, 1),
        v - hv,
    )
    paint(pictures, back, cover(crest + 9.0 * (hv - 0.1 - v > lift)))
    head = disc(u - hu, v - hv, 0.19)
    paint(pictures, belly, cover(head))
    paint(pictures, back, cover(np.maximum(head, v - hv - t["hood"])))
    along = (u - hu - 0.16) / t["beak"]
    half = 0.075 * np.clip(1 - along, 0, 1)
    beak = np.maximum(
        np.abs(v - hv - 0.02 - t["hook"] * t["beak"] * along**2) - half, np.abs(along - 0.5) - 0.5
    )
    paint(pictures, hsv(0.11, 0.5, rng.uniform(0.25, 0.5, n)), cover(beak))
    paint(pictures, (0.02, 0.02, 0.02), cover(disc(u - hu - 0.06, v - hv + 0.04, 0.045)))
    return photo(pictures, rng)


NABIRDS = Traits(
    202,
    40,
    span=(0.65, 1.0),
    chord=(0.13, 0.3),
    sweep=(-0.1, 0.7),
    point=(0.0, 0.9),
    tail=(0.2, 0.6),
    fork=(-0.35, 0.7),
    neck=(0.0, 0.4),
    tip=(0.45, 1.05),
    stripe=(0.0, 0.1),
    hue=(0.0, 0.7),
    value=(0.3, 0.95),
    head=(0.1, 0.9),
)


@in_parts
def nabirds(labels, rng, split):
    """A bird in flight from below: span, chord, sweep and point of the wings, tail and its fork,
    neck, wing tips and stripe are the class; males wear the class's colours and females a drab
    plumage; heading, roll, light, sky vary.
    """
    n = len(labels)
    t = NABIRDS.of(labels, rng)
    pictures = backdrop(rng, n)
    x, y = grid()
    x, y = x - per(rng.uniform(-0.1, 0.1, n)), y - per(rng.uniform(-0.1, 0.1, n))
    heading = rng.uniform(-0.9, 0.9, n) - np.pi / 2  # upwards, more or less
    u, v = turned(x, y, per(heading))  # u: towards the beak, v: towards a wing tip
    zoom = per(rng.uniform(0.9, 1.08, n))
    roll = per(rng.uniform(-0.3, 0.3, n))
    # a bird that rolls shows one wing foreshortened
    u, v = (u / zoom, np.abs(v) / zoom / (1 + roll * np.sign(v)))
    male = per(rng.random(n) < 0.5)
    body = colour(t["hue"], 0.15 + 0.45 * male, t["value"] * (0.75 + 0.25 * male))
    cap = colour(t["hue"] + 0.4, 0.1 + 0.6 * male, t["head"])

    out = v / t["span"]  # 0 at the body, 1 at the tip
    # the wing bends back at its wrist
    middle = 0.08 + 0.12 * out - t["sweep"] * np.maximum(out - 0.35, 0)
    half = (
        t["chord"]
        * np.clip(1 - t["point"] * out, 0.08, 1)
        * np.sqrt(np.clip((1.02 - out) * 5, 0, 1))
    )
    wing = np.maximum(np.abs(u - middle) - half, v - t["span"])
    paint(pictures, body * 0.8, cover(wing))
    paint(pictures, (0.06, 0.06, 0.08), cover(np.maximum(wing, (t["tip"] - out) * 0.5)))
    paint(
        pictures,
        (0.97, 0.97, 0.93),
        cover(
            np.maximum(np.abs(u - middle + half * 0.4) - t["stripe"] / 2, np.maximum(wing, v - 0.9))
        ),
    )
    back = -u - 0.3  # along the tail
    end = t["tail"] + t["fork"] * (v - 0.1)  # forked or wedge-shaped
    paint(
        pictures,
        body * 0.65,
        cover(np.maximum(np.maximum(v - 0.06 - 0.3 * back, back - end), -back)),
    )
    paint(pictures, body, cover(ellipse(u, v, 0.42, 0.14)))
    reach = 0.4 + t["neck"]
    paint(pictures, body, cover(segment(u, v, 0.3, 0.0, reach, 0.0) - 0.075))
    paint(pictures, (0.15, 0.12, 0.05), cover(segment(u, v, reach, 0.0, reach + 0.2, 0.0) - 0.03))
    paint(pictures, cap, cover(disc(u - reach, v, 0.11)))
    return photo(pictures, rng)


TWINS = (
    Twin(
        name="cub_twin",
        group="fgvc",
        stands_for="CUB-200-2011",
        differs="30 drawn species of eleven traits instead of 200 photographed ones; "
        "always from the side",
        n_classes=30,
        render=cub,
    ),
    Twin(
        name="nabirds_twin",
        group="fgvc",
        stands_for="NABirds",
        differs="40 drawn species in flight instead of 555 photographed ones; "
        "two plumages a species",
        n_classes=40,
        render=nabirds,
    ),
)
