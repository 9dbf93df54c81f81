"""Twins of VTAB's Natural group: things (CIFAR-100, Caltech101) and house numbers (SVHN)."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from trpts_lab.canvas import cover, finish, hsv, paint, per
from trpts_lab.twins.studio import (
    backdrop,
    class_by_class,
    lit,
    part,
    pose,
    silhouette,
    two_colours,
)
from trpts_lab.twins.twin import Twin

SILHOUETTES = {
    "cup": [("b", -0.1, 0.05, 0.45, 0.6), ("o", 0.5, 0.05, 0.28, 0.32)],
    "fish": [("e", -0.2, 0, 0.65, 0.42), ("t", 0.62, 0, 0.5, 0.3, -np.pi / 2)],
    "tree": [("e", 0, -0.3, 0.6, 0.58), ("b", 0, 0.55, 0.12, 0.4)],
    "fir": [("t", 0, -0.45, 0.5, 0.45), ("t", 0, 0.05, 0.7, 0.45), ("b", 0, 0.7, 0.12, 0.25)],
    "house": [("b", 0, 0.35, 0.6, 0.5), ("t", 0, -0.45, 0.85, 0.4), ("b", 0.4, -0.6, 0.1, 0.25)],
    "car": [
        ("b", 0, 0.15, 0.9, 0.25),
        ("h", 0, 0, 0.55, 0.5),
        ("e", -0.5, 0.45, 0.22, 0.22),
        ("e", 0.5, 0.45, 0.22, 0.22),
    ],
    "mushroom": [("h", 0, 0.05, 0.85, 0.8), ("b", 0, 0.4, 0.2, 0.45)],
    "bottle": [("b", 0, 0.35, 0.35, 0.55), ("h", 0, -0.15, 0.35, 0.3), ("b", 0, -0.6, 0.12, 0.35)],
    "butterfly": [
        ("e", 0, 0, 0.09, 0.7),
        *(
            ("e", s * 0.45, y, 0.42, b, s * t)
            for s in (-1, 1)
            for y, b, t in ((-0.35, 0.3, 0.6), (0.4, 0.26, -0.6))
        ),
    ],
    "key": [
        ("o", -0.5, 0, 0.34, 0.34),
        ("b", 0.35, 0, 0.55, 0.1),
        ("b", 0.8, 0.2, 0.09, 0.25),
        ("b", 0.5, 0.2, 0.09, 0.2),
    ],
    "rocket": [("e", 0, -0.1, 0.3, 0.85), ("t", 0, 0.55, 0.65, 0.4)],
    "lamp": [("t", 0, -0.55, 0.65, 0.4), ("b", 0, 0.25, 0.08, 0.6), ("h", 0, 0.9, 0.45, 0.2)],
    "chair": [("b", -0.4, 0, 0.12, 0.9), ("b", 0, 0.1, 0.5, 0.13), ("b", 0.4, 0.5, 0.12, 0.4)],
    "horse": [
        ("e", 0, 0, 0.55, 0.26),
        ("e", -0.7, -0.5, 0.3, 0.15, -0.5),
        ("e", -0.48, -0.25, 0.16, 0.4, -0.4),
        *(("b", u, 0.5, 0.08, 0.42) for u in (-0.42, -0.2, 0.2, 0.42)),
    ],
    "bird": [
        ("e", 0.05, 0.1, 0.55, 0.33, 0.3),
        ("e", -0.45, -0.35, 0.25, 0.25),
        ("t", -0.8, -0.3, 0.12, 0.2, -np.pi / 2),
        ("t", 0.7, 0.45, 0.3, 0.35, -0.9),
        ("b", 0, 0.6, 0.05, 0.3),
    ],
    "moon": [("e", 0, 0, 0.85, 0.85), ("x", 0.4, -0.1, 0.7, 0.7)],
    "heart": [
        ("e", -0.37, -0.3, 0.42, 0.42),
        ("e", 0.37, -0.3, 0.42, 0.42),
        ("t", 0, 0.35, 0.77, 0.5, np.pi),
    ],
    "snowman": [
        ("e", 0, 0.4, 0.52, 0.5),
        ("e", 0, -0.3, 0.34, 0.33),
        ("b", 0, -0.65, 0.42, 0.07),
        ("b", 0, -0.85, 0.22, 0.2),
    ],
    "boat": [
        ("h", 0, 0.35, 0.9, 0.5, np.pi),
        ("t", 0.28, -0.3, 0.4, 0.55),
        ("b", -0.2, -0.25, 0.06, 0.65),
    ],
    "person": [
        ("e", 0, -0.7, 0.24, 0.24),
        ("b", 0, -0.05, 0.24, 0.42),
        ("b", 0, -0.3, 0.7, 0.1),
        *(("b", u, 0.6, 0.1, 0.4) for u in (-0.2, 0.2)),
    ],
}
FILLINGS = ("plain", "banded", "barred", "dotted", "outlined")


def cifar100_twin(labels, rng, split):
    """Class = one of 20 silhouettes x 5 fillings, not colour; place, size, tilt, hues vary."""
    shapes = list(SILHOUETTES.values())

    def draw(c, n, rng):
        x, y, edge = pose(rng, n, 0.16, (0.58, 0.84), 0.22)
        ground, first = two_colours(rng, n)
        # darker markings on a bright thing, and the reverse
        second = first * per(rng.uniform(0.2, 0.45, n))[:, 0]
        second = np.where(first.mean(1, keepdims=True) < 0.4, 1 - (1 - first) * 0.35, second)
        d = silhouette(x, y, shapes[c // len(FILLINGS)])
        waves = per(rng.uniform(8.5, 11.5, n))
        u, v = x * waves + per(rng.uniform(0, 6, n)), y * waves + per(rng.uniform(0, 6, n))
        mark = [np.float32(-1), np.sin(v), np.sin(u), np.sin(u) + np.sin(v) - 0.35, np.float32(-1)]
        pictures = backdrop(rng, n, ground, clutter=2)
        if FILLINGS[c % len(FILLINGS)] == "outlined":
            paint(pictures, second, cover(d - 0.13, edge))
        paint(pictures, first, cover(d, edge))
        paint(pictures, second, cover(d, edge) * np.clip(0.5 + 2 * mark[c % len(FILLINGS)], 0, 1))
        return finish(lit(rng, pictures), rng, 0.03)

    return class_by_class(labels, rng, draw)


@cache
def caltech_things():
    """50 things of 2 to 4 parts, drawn once: [(parts, tones)]; every second is symmetric."""
    rng = np.random.default_rng(20101)
    things = []
    for c in range(50):
        count = 2 + c % 3
        parts = [
            (rng.choice(list("eebth")), 0.0, rng.uniform(-0.2, 0.3), *rng.uniform(0.3, 0.62, 2))
        ]
        while len(parts) < count:
            reach, angle = rng.uniform(0.5, 0.75), rng.uniform(0, 2 * np.pi)
            at = (reach * np.cos(angle), reach * np.sin(angle))
            new = (rng.choice(list("ebtoh")), *at, *rng.uniform(0.14, 0.4, 2), rng.uniform(-1, 1))
            parts.append(new)
            if c % 2 and abs(at[0]) > 0.25:  # the same part once more on the other side
                parts.append((new[0], -at[0], at[1], *new[3:5], -new[5]))
        things.append((parts, rng.permutation(4)))
    return things


def caltech101_twin(labels, rng, split):
    """Class = a centred thing's parts, their places and tones; clutter, hues and pose vary."""
    tones = np.array([1.0, 0.42, 0.75, 0.2])

    def draw(c, n, rng):
        parts, order = caltech_things()[c]
        x, y, edge = pose(rng, n, 0.1, (0.68, 0.88), 0.22)
        x = x * per(rng.uniform(0.85, 1.18, n))  # seen a little from the side
        pictures = backdrop(
            rng,
            n,
            hsv(rng.random(n), rng.uniform(0, 0.5, n), rng.uniform(0.15, 0.9, n)),
            0.5,
            clutter=5,
        )
        hue, grey = rng.random(n), rng.uniform(0.1, 0.6, n)
        # contour
        paint(
            pictures,
            np.float32([0.05, 0.05, 0.05]),
            0.8 * cover(silhouette(x, y, parts) - 0.06, edge),
        )
        for i, p in enumerate(parts):
            tone = tones[order[i % 4]] * rng.uniform(0.85, 1.0, n)
            paint(pictures, hsv(hue + 0.07 * i, grey, tone), cover(part(x, y, *p), edge))
        return finish(lit(rng, pictures), rng, 0.03)

    return class_by_class(labels, rng, draw)


@cache
def _digits():
    return load_digits()


def digit_sources(split):
    """Rows of scikit-learn's 1,797 handwritten digits for this split; splits share none."""
    order = np.random.default_rng(1797).permutation(len(_digits().target))
    train, val, test = np.split(order, [1078, 1437])  # 60, 20, 20 %
    return {"train": train, "val": val, "test": test}[split]


def svhn_twin(labels, rng, split):
    """Class = a handwritten centre digit; neighbours, colours, contrast, tilt, size, wall vary."""
    labels, n, rows = np.asarray(labels), len(labels), digit_sources(split)
    # left, centre and right digit
    targets, strips = (_digits().target[rows], np.zeros((n, 12, 33), np.float32))
    gap = rng.integers(7, 9, n)
    for place in (-1, 0, 1):
        source = rng.choice(rows, n)
        if place == 0:
            for digit in range(10):
                mine = labels == digit
                source[mine] = rng.choice(rows[targets == digit], mine.sum())
        shown = np.ones(n) if place == 0 else rng.random(n) < 0.65
        top, left = (2 if place == 0 else rng.integers(1, 4, n)), 12 + place * gap
        at = (
            np.arange(n)[:, None, None],
            np.reshape(top, (-1, 1, 1)) + np.arange(8)[:, None],
            left[:, None, None] + np.arange(8),
        )
        strips[at] = np.maximum(strips[at], _digits().images[source] / 16 * shown[:, None, None])
    x, y, _ = pose(rng, n, 0.1, (0.55, 0.85), 0.15, mirror=False)
    u = np.clip(
        (x + y * per(rng.uniform(-0.25, 0.25, n))) * per(rng.uniform(4.2, 5.5, n)) + 15.5, 0, 31.99
    )
    v = np.clip(y * 4 + 5.5, 0, 10.99)
    i, j, a, p = v.astype(np.int32), u.astype(np.int32), u % 1, np.arange(n)[:, None, None]
    upper = strips[p, i, j] * (1 - a) + strips[p, i, j + 1] * a
    lower = strips[p, i + 1, j] * (1 - a) + strips[p, i + 1, j + 1] * a
    ink = np.clip((upper + (lower - upper) * (v % 1) - 0.3) * 3, 0, 1)
    wall, paper = two_colours(rng, n)
    paper = wall + (paper - wall) * rng.uniform(0.45, 1.0, (n, 1)).astype(np.float32)  # contrast
    pictures = backdrop(rng, n, wall, 0.25, clutter=1)
    paint(pictures, paper, ink)
    return finish(lit(rng, pictures), rng, 0.03)


TWINS = (
    Twin(
        name="cifar100_twin",
        group="natural",
        stands_for="CIFAR-100",
        differs="Drawn silhouettes with drawn fillings instead of photographs of 100 things in "
        "20 superclasses.",
        n_classes=100,
        render=cifar100_twin,
    ),
    Twin(
        name="caltech101_twin",
        group="natural",
        stands_for="Caltech101",
        differs="50 invented things made of two to four flat parts instead of photographs of 101 "
        "kinds of object.",
        n_classes=50,
        render=caltech101_twin,
    ),
    Twin(
        name="svhn_twin",
        group="natural",
        stands_for="SVHN",
        differs="Real handwritten digits (8 x 8 pixels) on drawn walls instead of photographed "
        "house numbers.",
        n_classes=10,
        render=svhn_twin,
    ),
)
