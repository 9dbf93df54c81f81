"""Twins of the fine-grained sets of flowers and cars: neighbours in a space of traits."""

import numpy as np

from trpts_lab.canvas import box, cover, ellipse, hsv, in_parts, paint, per
from trpts_lab.twins.traits import Traits, backdrop, colour, joined, photo, pose
from trpts_lab.twins.twin import Twin

FLOWERS = Traits(
    303,
    30,
    count=(4, 9.99),
    length=(0.5, 0.85),
    width=(0.1, 0.3),
    bulge=(0.35, 0.8),
    notch=(-0.25, 0.35),
    cup=(-0.1, 0.75),
    eye=(0.1, 0.28),
    ring=(0.0, 0.45),
    hue=(0.7, 1.17),
    ring_hue=(0.0, 1.0),
)


@in_parts
def oxford_flowers(labels, rng, split):
    """A flower seen from the side as much as from above: number, length, width, widest place and
    notch of the petals, how far the flower opens, its eye and ring are the class; tilt, turn, stem,
    light and background vary.
    """
    n = len(labels)
    t = FLOWERS.of(labels, rng)
    count = np.floor(per(FLOWERS.values["count"][labels]))
    pictures = backdrop(rng, n, (0.15, 0.45))
    u, v = pose(rng, n, 0.5, 0.12, (0.85, 1.1))
    v = v + 0.05
    paint(
        pictures,
        hsv(rng.uniform(0.2, 0.38, n), 0.5, rng.uniform(0.2, 0.5, n)),
        cover(np.abs(u - 0.15 * v * v) - 0.045 + 9.0 * (v < 0)),
    )
    petal_hue = t["hue"] + per(rng.uniform(-0.03, 0.03, n))
    bright = per(rng.uniform(0.75, 1.0, n))
    petal, ring = colour(petal_hue, 0.55, bright), colour(t["ring_hue"], 0.75, 0.6 * bright)
    tilt, spin = per(rng.uniform(0.3, 1.1, n)), per(rng.uniform(0, 2 * np.pi, n))
    rise, out = np.sin(t["cup"]), np.cos(t["cup"])

    # what shows at each pixel: its shade, whether it belongs to the ring, whether there is a petal
    # at all
    shade, in_ring, flower = (np.zeros((n, *u.shape[1:]), np.float32) for _ in range(3))
    # from the farthest petal to the nearest: each keeps its own shade, so that overlapping petals
    # can be told apart
    for j in range(9):
        # 0, 1, -1, 2, -2, ...: both ways round from behind
        step = np.where(j % 2 == 1, (j + 1) // 2, -(j // 2))
        angle = -np.pi / 2 + (step + np.mod(spin, 1) - 0.5) * 2 * np.pi / count
        du, dv = np.cos(angle) * out, np.sin(angle) * out * np.cos(tilt) - rise * np.sin(tilt)
        seen = np.maximum(np.hypot(du, dv), 1e-3)  # how much of the petal's length the viewer sees
        du, dv, long = du / seen, dv / seen, np.maximum(seen, 0.3) * t["length"]
        broad = t["width"] * np.sqrt(
            (np.sin(angle) ** 2 + (np.cos(angle) * np.cos(tilt)) ** 2) * 0.8 + 0.2
        )
        a, b = (u * du + v * dv) / long, np.abs(v * du - u * dv) / broad
        bulge = t["bulge"]
        k = np.where(a < bulge, 1 - a / bulge, (a - bulge) / (1 - bulge))
        edge = np.sqrt(np.clip(1 - k**2, 0, 1)) * (0.35 + 0.65 * np.clip(a / bulge, 0, 1))
        shape = np.maximum((b - edge) * broad, (np.abs(a - 0.5) - 0.5) * long)
        shape = np.maximum(shape, (a - 1 + t["notch"] * np.clip(1 - 2 * b, 0, 1)) * long)
        here = cover(shape) * (j < count)
        shade += here * (0.8 + 0.2 * np.sin(2.4 * angle + spin) - 0.25 * np.clip(b, 0, 1) - shade)
        in_ring += here * ((a < t["ring"]) - in_ring)
        np.maximum(flower, here, out=flower)
    petals = petal[:, None, None] + in_ring[..., None] * (ring - petal)[:, None, None]
    paint(pictures, petals * shade[..., None], flower)
    lift = 0.15 * rise * np.sin(tilt)
    eye = hsv(rng.uniform(0.08, 0.18, n), 0.75, rng.uniform(0.5, 0.95, n))
    paint(
        pictures,
        eye,
        cover(ellipse(u, v + lift, t["eye"], t["eye"] * (0.35 + 0.65 * np.cos(tilt)))),
    )
    return photo(pictures, rng)


CARS = Traits(
    505,
    30,
    roof=(0.22, 0.5),
    taper=(0.0, 0.5),
    width=(0.5, 0.66),
    hood=(0.2, 0.36),
    grille=(0.12, 0.42),
    grille_height=(0.05, 0.15),
    bars=(1.0, 4.99),
    lamp=(0.06, 0.15),
    lamp_aspect=(0.6, 2.4),
    slant=(-0.5, 0.7),
    spacing=(0.55, 0.85),
    wheel=(0.12, 0.2),
)


@in_parts
def cars(labels, rng, split):
    """A car from the front or three-quarter front: roof line, hood, grille with its bars,
    headlights and wheels are the class; paint, angle of view, side, size, light, road and
    background vary.
    """
    n = len(labels)
    t = CARS.of(labels, rng)
    bars = np.floor(per(CARS.values["bars"][labels]))
    pictures = backdrop(rng, n)
    u, v = pose(rng, n, 0.06, 0.08, (1.0, 1.25))
    paint(
        pictures,
        hsv(0.6, 0.05, rng.uniform(0.3, 0.6, n)),
        cover(per(rng.uniform(0.2, 0.5, n)) - v, 0.06),
    )
    body = hsv(rng.random(n), rng.uniform(0.0, 0.8, n), rng.uniform(0.25, 1.0, n))
    yaw = per(rng.uniform(0.0, 0.75, n))
    # width of the front, length of the side that shows
    squeeze, flank = (np.cos(yaw), 1.1 * np.sin(yaw))
    front = u - flank * 0.45  # the front's own middle lies to the right when the side shows
    f, w = front / squeeze, t["width"]
    belt, floor = 0.05, 0.5

    paint(
        pictures,
        (0.03, 0.03, 0.03),
        0.7 * cover(box(u, v - floor - 0.07, w * squeeze + flank * 0.5, 0.06), 0.1),
    )
    tyre = (0.06, 0.06, 0.07)
    paint(
        pictures, tyre, cover(box(np.abs(f) - w + 0.09, v - floor + 0.02, 0.09, t["wheel"] * 0.9))
    )
    left = -w * squeeze + flank * 0.45  # the corner between front and side
    inside = np.maximum(left - flank - u, u - left)  # the strip of picture that shows the side
    paint(
        pictures,
        body * 0.75,
        cover(np.maximum(inside, np.maximum(belt - 0.03 - v, v - floor + 0.04))),
    )
    # the cabin stands back from the front; its roof is drawn out over the side
    height = np.clip((belt - v) / t["roof"], 0, 1)
    lean = w * (0.92 - t["taper"] * height**1.5) * squeeze
    middle = front + flank * 0.3
    cabin = np.maximum(
        np.maximum(middle - lean, -middle - lean - flank * 0.55),
        np.maximum(v - belt, belt - t["roof"] - v),
    )
    paint(pictures, body * 0.9, cover(cabin))
    paint(
        pictures,
        (0.15, 0.2, 0.25),
        cover(
            np.maximum(
                np.abs(middle) - lean + 0.06,
                np.maximum(v - belt + 0.01, belt - t["roof"] + 0.06 - v),
            )
        ),
    )
    paint(
        pictures,
        (0.1, 0.13, 0.17),
        cover(
            np.maximum(
                np.maximum(middle + lean + 0.03, -middle - lean - flank * 0.5),
                np.maximum(v - belt + 0.04, belt - t["roof"] + 0.08 - v),
            )
        ),
    )
    rim, narrow = t["wheel"], np.maximum(np.sin(yaw), 0.05)
    wheel_v = v - floor + 0.04
    hub = joined(*(np.hypot((u - left + flank * at) / narrow, wheel_v) for at in (0.2, 0.85)))
    paint(pictures, tyre, cover(np.maximum((hub - rim) * narrow, 0.1 - yaw)))
    paint(pictures, (0.75, 0.75, 0.78), cover(np.maximum((hub - rim * 0.55) * narrow, 0.1 - yaw)))

    face = np.maximum(
        np.abs(f) - w - 0.03 * (v - belt), np.abs(v - (belt + floor) / 2) - (floor - belt) / 2
    )
    paint(pictures, body, cover(face * squeeze))
    nose = belt + t["hood"] * 0.5  # where the hood ends and the face begins
    paint(pictures, np.minimum(body * 1.25, 1), cover(np.maximum(face * squeeze, v - nose + 0.04)))
    g, gh = f, t["grille_height"]
    gv = v - nose - 0.08
    grille = box(g, gv, t["grille"], gh)
    paint(pictures, (0.05, 0.05, 0.06), cover(grille))
    stripe = np.abs(np.mod((gv / gh + 1) / 2 * bars, 1) - 0.5) * 2 * gh / bars - 0.018
    paint(pictures, (0.85, 0.85, 0.88), cover(np.maximum(grille, stripe)))
    aside = np.abs(f) - t["spacing"] * w
    up = v - nose - 0.04 + t["slant"] * aside
    lamp = ellipse(
        aside, up, t["lamp"] * np.sqrt(t["lamp_aspect"]), t["lamp"] / np.sqrt(t["lamp_aspect"])
    )
    paint(pictures, (0.98, 0.97, 0.85), cover(lamp))
    paint(pictures, (0.9, 0.9, 0.9), cover(box(f, v - 0.44, 0.13, 0.035)))
    return photo(pictures, rng)


TWINS = (
    Twin(
        name="oxford_flowers_twin",
        group="fgvc",
        stands_for="Oxford Flowers",
        differs="30 drawn flowers of ten traits instead of 102 photographed ones; "
        "one flower a picture",
        n_classes=30,
        render=oxford_flowers,
    ),
    Twin(
        name="cars_twin",
        group="fgvc",
        stands_for="Stanford Cars",
        differs="30 drawn models of twelve traits instead of 196 photographed ones; always front "
        "or three-quarter view",
        n_classes=30,
        render=cars,
    ),
)
