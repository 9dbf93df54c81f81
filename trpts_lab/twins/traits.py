"""What the fine-grained twins share: classes as points in a space of a few continuous traits, pose,
backdrop, light.

The points are drawn once, from a seed per family, so that classes are neighbours: two species of
bird may share their tail and differ in beak and wing bars. Individuals scatter a little around
their class; pose, light and background are drawn for every picture.
"""

import functools

import numpy as np

from trpts_lab.canvas import blank, cover, finish, grid, hsv, noise, paint, per, turned


class Traits:
    """Looks of a family's K classes: trait name -> [K] values, evenly spaced between limits."""

    def __init__(self, seed, n_classes, **limits):
        rng = np.random.default_rng(seed)
        self.limits = limits
        self.values = {}
        for name, (low, high) in limits.items():
            self.values[name] = low + (high - low) * rng.permutation(n_classes) / (n_classes - 1)

    def of(self, labels, rng, spread=0.04):
        """{trait: [n, 1, 1]}: the class's value plus the individual's, a share of the range."""
        individual = {}
        for name, (low, high) in self.limits.items():
            individual[name] = per(
                self.values[name][labels] + spread * (high - low) * rng.normal(0, 1, len(labels))
            )
        return individual


def joined(*distances):
    """The union of shapes: painted once, cheaper than one by one."""
    return functools.reduce(np.minimum, distances)


def colour(h, s, v):
    """Traits [n, 1, 1] to colours [n, 3]."""
    flat = (np.clip(np.ravel(a), 0, 1) for a in np.broadcast_arrays(np.mod(h, 1), s, v))
    return hsv(*flat)


def pose(rng, n, tilt=0.2, shift=0.1, zoom=(0.85, 1.1)):
    """Coordinates u, v in the frame of a thing, shifted, scaled, tilted, facing left or right."""
    x, y = grid()
    x = x * per(rng.choice([-1, 1], n)) - per(rng.uniform(-shift, shift, n))
    u, v = turned(x, y - per(rng.uniform(-shift, shift, n)), per(rng.uniform(-tilt, tilt, n)))
    zoom = per(rng.uniform(*zoom, n))
    return u / zoom, v / zoom


def backdrop(rng, n, hues=(0.0, 1.0)):
    """Two blurred colours, here and there a spot of a third."""
    pictures = blank(
        n, hsv(rng.uniform(*hues, n), rng.uniform(0.05, 0.35, n), rng.uniform(0.35, 0.9, n))
    )
    other = hsv(rng.uniform(*hues, n), rng.uniform(0.05, 0.35, n), rng.uniform(0.25, 0.85, n))
    paint(pictures, other, cover(per(rng.uniform(0.3, 0.7, n)) - noise(rng, n, 3, 2), 0.25))
    third = hsv(rng.uniform(*hues, n), rng.uniform(0.1, 0.5, n), rng.uniform(0.3, 0.95, n))
    return paint(pictures, third, 0.5 * cover(0.72 - noise(rng, n, 5), 0.2))


def photo(pictures, rng):
    """Light from one side, its colour and strength, camera grain."""
    n = len(pictures)
    x, y = grid()
    slope = turned(x, y, per(rng.uniform(0, 2 * np.pi, n)))[0] * per(rng.uniform(0, 0.3, n))
    light = rng.uniform(0.7, 1.15, (n, 1, 1, 1)) * rng.uniform(0.9, 1.1, (n, 1, 1, 3))
    return finish(np.clip(pictures * (1 + slope)[..., None] * light, 0, 1), rng, 0.02)
