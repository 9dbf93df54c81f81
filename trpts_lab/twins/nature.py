"""Twins of VTAB's living things (Pets, Flowers102, Natural); a class is a row of visible traits."""

from functools import cache

import numpy as np

from trpts_lab.canvas import cover, ellipse, finish, grid, hsv, paint, per, segment, turned
from trpts_lab.twins.studio import backdrop, class_by_class, lit, part, pose, spread
from trpts_lab.twins.twin import Twin

EARS = (  # drawn for x > 0 and mirrored: upright, round, hanging, long
    ("t", 0.42, -0.62, 0.27, 0.34, 0.35),
    ("e", 0.52, -0.5, 0.27, 0.27),
    ("e", 0.62, 0.0, 0.18, 0.48, -0.2),
    ("e", 0.3, -0.78, 0.13, 0.42, 0.2),
)
FURS = (
    (0.07, 0.1, 0.22),
    (0.1, 0.06, 0.95),
    (0.6, 0.08, 0.55),
    (0.07, 0.75, 0.85),
    (0.06, 0.6, 0.45),
    (0.11, 0.35, 0.88),
)


@cache
def breeds():
    """37 rows of (ear, width, muzzle, marking, fur, ruff), chosen to differ in many traits."""
    return spread(np.random.default_rng(37), (4, 3, 3, 6, 6, 2), 37)


def pets_twin(labels, rng, split):
    """Class = ears, width, muzzle, marking, fur, ruff of a face; pose, light, eyes, ground vary."""

    def draw(c, n, rng):
        ear, width, muzzle, marking, fur, ruff = breeds()[c]
        x, y, edge = pose(rng, n, 0.14, (0.62, 0.85), 0.25)
        x = x + 0.12 * per(rng.uniform(-1, 1, n)) * (1 - y * y)  # the head turns a little
        ax = np.abs(x)
        h, s, v = FURS[fur]
        coat = hsv(
            h + rng.normal(0, 0.012, n),
            s * rng.uniform(0.8, 1.2, n),
            v * rng.uniform(0.85, 1.05, n),
        )
        other = np.clip(coat * 0.35 if v > 0.5 else coat * 0.3 + 0.62, 0, 1)  # of the markings
        pictures = backdrop(
            rng,
            n,
            hsv(rng.random(n), rng.uniform(0.1, 0.6, n), rng.uniform(0.2, 0.85, n)),
            0.4,
            clutter=2,
        )
        if ruff:
            paint(
                pictures,
                coat * 0.7,
                cover(
                    ellipse(x, y - 0.25, 0.88, 0.75) + 0.06 * np.sin(14 * np.arctan2(y, ax)), edge
                ),
            )
        half = (0.5, 0.6, 0.72)[width]
        head = cover(ellipse(x, y, half, 0.62), edge)
        ears = cover(part(ax - (half - 0.6), y, *EARS[ear]), edge)
        tip = other if marking == 5 else coat * 0.8
        if ear != 2:
            paint(pictures, tip, ears)
        paint(pictures, coat, head)
        marks = (
            np.float32(-1),  # none
            0.13 + 0.1 * y - ax,  # blaze down the middle
            y - 0.08,  # mask over the lower face
            0.3 - np.hypot(x - 0.27, y + 0.1),  # patch around one eye
            0.1 * np.sin(22 * ax + 6 * y)
            - 0.5 * np.maximum(y + 0.12, 0),  # stripes on the forehead
            np.float32(-1),  # dark ears, above
        )[marking]
        paint(pictures, other, head * cover(-marks, edge))
        if ear == 2:
            paint(pictures, tip, ears)
        size = (0.2, 0.3, 0.42)[muzzle]
        paint(
            pictures,
            np.clip(coat * 0.5 + 0.42, 0, 1),
            0.85 * cover(ellipse(x, y - 0.33, size, size * 0.75), edge),
        )
        paint(
            pictures,
            np.float32([0.1, 0.06, 0.06]),
            cover(ellipse(x, y - 0.33 + size * 0.4, 0.1, 0.07), edge),
        )
        eye = np.hypot(ax - 0.27 * half / 0.6, y + 0.1)
        paint(pictures, hsv(rng.uniform(0.08, 0.5, n), 0.7, 0.85), cover(eye - 0.13, edge))
        paint(pictures, np.float32([0.03, 0.03, 0.03]), cover(eye - 0.075, edge))
        return finish(lit(rng, pictures, 0.75), rng, 0.025)

    return class_by_class(labels, rng, draw)


PETALS = (4, 5, 6, 8, 13)
COLOURS = (
    (0.15, 0.06, 0.97),
    (0.145, 0.85, 0.95),
    (0.07, 0.9, 0.95),
    (0.99, 0.85, 0.8),
    (0.92, 0.45, 0.95),
    (0.77, 0.6, 0.75),
)
COLOURS += ((0.64, 0.7, 0.85),)


@cache
def species():
    """40 varied rows of (petals, width, tip, centre size, colour, dark centre, second ring)."""
    return spread(np.random.default_rng(40), (5, 3, 3, 3, 7, 2, 2), 40)


def petals(x, y, count, wide, tip, length):
    """Signed distance to a ring of `count` petals; place along the petal (centre 0, tip 1)."""
    sector = 2 * np.pi / count
    angle = np.mod(np.arctan2(x, -y) + sector / 2, sector) - sector / 2
    r = np.hypot(x, y)
    along, across = r * np.cos(angle) / length, np.abs(r * np.sin(angle))
    half = np.float32(wide * np.sin(sector / 2) * 0.78 * length)
    if tip == 2:  # a notch in the end
        along = along / (0.78 + 0.24 * np.minimum(across / (0.6 * half), 1))
    t = np.clip(along, 0, 1)
    shape = (4 * t * (1 - t)) if tip == 1 else np.sqrt(np.maximum(1 - (2 * t**1.35 - 1) ** 2, 0))
    return np.maximum(across - half * shape * (1.15 if tip == 1 else 1), (along - 1) * length), t


def flowers102_twin(labels, rng, split):
    """Class = petals (number, width, tip), centre, rings, colours; pose, light, leaves vary."""

    def draw(c, n, rng):
        count, width, tip, middle, colour, dark, second = species()[c]
        x, y, edge = pose(rng, n, 0.18, (0.62, 0.95), np.pi)
        x = x / per(rng.uniform(0.65, 1.0, n))  # seen from the side
        hue, s, v = COLOURS[colour]
        v = v * rng.uniform(0.8, 1.05, n)
        colours = hsv(
            hue + rng.normal(0, 0.015, n), np.clip(s * rng.uniform(0.75, 1.15, n), 0, 1), v
        )
        leaf = hsv(rng.uniform(0.2, 0.42, n), rng.uniform(0.2, 0.8, n), rng.uniform(0.12, 0.6, n))
        pictures = backdrop(rng, n, leaf, 0.25)
        for _ in range(3):  # blades and stalks behind
            ends = [per(rng.uniform(-1.3, 1.3, n)) for _ in range(4)]
            paint(
                pictures,
                leaf * rng.uniform(0.5, 1.6, (n, 1)),
                cover(segment(*grid(), *ends) - per(rng.uniform(0.03, 0.1, n))),
            )
        wide = (0.5, 0.8, 1.15)[width]
        rings = (
            ((1.0, 0.0, 1.0), (0.62, np.pi / PETALS[count], 0.75)) if second else ((1.0, 0.0, 1.0),)
        )
        for length, turn, tone in rings:
            d, t = petals(*turned(x, y, turn), PETALS[count], wide, tip, length)
            # darker inside and at the rim
            shade = (0.55 + 0.45 * t) * np.clip(0.55 - d / 0.12, 0.55, 1)
            paint(pictures, (colours * tone)[:, None, None, :] * shade[..., None], cover(d, edge))
        radius = (0.13, 0.23, 0.36)[middle]
        core = hsv(0.07, 0.75, 0.25) if dark else hsv(0.14, 0.85, 0.9)
        d = np.hypot(x, y) - radius
        paint(
            pictures, np.broadcast_to(core, (n, 3)) * rng.uniform(0.8, 1.1, (n, 1)), cover(d, edge)
        )
        return finish(lit(rng, pictures, 0.7), rng, 0.025)

    return class_by_class(labels, rng, draw)


TWINS = (
    Twin(
        name="pets_twin",
        group="natural",
        stands_for="Pets",
        differs="Frontal cartoon faces of 37 invented breeds instead of photographs of whole "
        "cats and dogs.",
        n_classes=37,
        render=pets_twin,
    ),
    Twin(
        name="flowers102_twin",
        group="natural",
        stands_for="Flowers102",
        differs="One open, drawn flower of 40 invented species instead of photographs of 102 "
        "kinds.",
        n_classes=40,
        render=flowers102_twin,
    ),
)
