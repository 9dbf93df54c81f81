"""The twin of Stanford Dogs: breeds that differ in parts."""

import numpy as np

from trpts_lab.canvas import cover, disc, hsv, in_parts, noise, paint, per, segment
from trpts_lab.twins.traits import Traits, backdrop, joined, photo, pose
from trpts_lab.twins.twin import Twin

DOGS = Traits(
    404,
    30,
    snout=(0.08, 0.34),
    depth=(0.06, 0.11),
    ear=(-1.0, 1.0),
    ear_size=(0.12, 0.26),
    legs=(0.2, 0.55),
    body=(0.36, 0.58),
    girth=(0.14, 0.25),
    tail=(0.2, 0.45),
    curl=(-0.6, 2.4),
    patches=(0.25, 0.75),
    saddle=(-0.4, 0.4),
    fur=(0.35, 1.0),
)


@in_parts
def dogs(labels, rng, split):
    """A dog from the side: snout, ears from erect to hanging, legs, body, tail and its curl, and
    the pattern of the coat are the class; the coat's tint, gait, head carriage, side, size, light,
    floor and background vary.
    """
    n = len(labels)
    t = DOGS.of(labels, rng)
    pictures = backdrop(rng, n)
    u, v = pose(rng, n, 0.12, 0.1, (0.9, 1.08))
    floor = hsv(rng.random(n), rng.uniform(0.1, 0.4, n), rng.uniform(0.3, 0.8, n))
    paint(pictures, floor, cover(per(rng.uniform(0.3, 0.6, n)) - v, 0.1))
    coat = (
        hsv(rng.uniform(0.02, 0.13, n), rng.uniform(0.15, 0.65, n), 1.0)
        * np.ravel(t["fur"])[:, None]
    )
    dark = coat * 0.35
    top = 0.68 - t["legs"] - t["girth"]  # height of the body's axis over the floor at 0.68
    half = t["body"]

    nod, swing = per(rng.uniform(-0.08, 0.08, n)), per(rng.uniform(-0.12, 0.12, n))
    hu, hv = half + 0.2, top - t["girth"] - 0.2 + nod  # the head

    def leg(at, step):
        return segment(u, v, at * half, top, at * half + step * swing, 0.68) - 0.06

    paint(pictures, coat * 0.7, cover(joined(leg(-0.85, -1), leg(0.8, 1))))  # the far side's
    tail, px, py = [], -half - 0.05, top - 0.08
    # the tail starts backwards and upwards, and turns by its curl on the way
    heading = np.pi + 0.5 + 0 * px
    for _ in range(3):
        qx, qy = px + np.cos(heading) * t["tail"] / 2.3, py + np.sin(heading) * t["tail"] / 2.3
        tail.append(segment(u, v, px, py, qx, qy) - 0.045)
        px, py, heading = qx, qy, heading + t["curl"] / 2.3
    paint(pictures, coat * 0.9, cover(joined(*tail)))
    body = segment(u, v, -half, top, half, top - 0.03) - t["girth"]
    neck = segment(u, v, half, top - 0.05, hu, hv) - 0.12
    paint(pictures, coat, cover(joined(leg(-0.75, 1), leg(0.9, -1), body)))
    paint(pictures, dark, cover(np.maximum(body, v - top - t["saddle"] * t["girth"])))
    spots = per(rng.uniform(0, 0.02, n)) + 0.5 * (t["patches"] - noise(rng, n, 7))
    paint(pictures, (0.95, 0.93, 0.9), cover(np.maximum(body, spots), 0.06))

    paint(pictures, coat, cover(joined(neck, disc(u - hu, v - hv, 0.17))))
    snout = segment(u, v, hu + 0.08, hv + 0.06, hu + 0.13 + t["snout"], hv + 0.09) - t["depth"]
    paint(pictures, coat * 0.9, cover(snout))
    nose = disc(u - hu - 0.15 - t["snout"], v - hv - 0.05, 0.05)
    eye = disc(u - hu - 0.08, v - hv + 0.04, 0.035)
    paint(pictures, (0.03, 0.03, 0.03), cover(joined(nose, eye)))
    ex, ey = hu - 0.08, hv - 0.1  # the ear points up at -1, back at 0, down at 1
    eu, ev = -np.cos(t["ear"] * np.pi / 2), np.sin(t["ear"] * np.pi / 2)
    a, b = (u - ex) * eu + (v - ey) * ev, (v - ey) * eu - (u - ex) * ev
    long = t["ear_size"] * 1.4
    ear = np.maximum(
        np.abs(b) - 0.1 * (1 - 0.6 * a / long), np.abs(a - long / 2 + 0.04) - long / 2 - 0.04
    )
    paint(pictures, dark, cover(ear))
    return photo(pictures, rng)


TWINS = (
    Twin(
        name="dogs_twin",
        group="fgvc",
        stands_for="Stanford Dogs",
        differs="30 drawn breeds of twelve traits instead of 120 photographed ones; always "
        "standing, from the side",
        n_classes=30,
        render=dogs,
    ),
)
