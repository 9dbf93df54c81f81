"""Patterns over the plane, of which the drawn textures are made."""

import numpy as np

from trpts_lab.canvas import turned

PI2 = np.float32(2 * np.pi)


def lot(i, j, salt):
    """Random numbers in [0, 1) per cell (i, j) and picture, by hashing: equal on all machines."""
    h = (
        np.asarray(i).astype(np.int64) * 73856093
        ^ np.asarray(j).astype(np.int64) * 19349663
        ^ salt.astype(np.int64) * 83492791
    )
    h = (h ^ h >> 13) * 1274126177 & 0x7FFFFFFF
    return ((h ^ h >> 15) % 4096 / np.float32(4096)).astype(np.float32)


def saw(t):
    """Sawtooth: 0 to 1 in each unit."""
    return t - np.floor(t)


def tent(t):
    """Triangle wave: 0 at whole numbers, 1 half-way."""
    return 1 - np.abs(2 * saw(t) - 1)


def wave(t):
    """Sine wave between 0 and 1, one period in each unit."""
    return 0.5 + 0.5 * np.sin(PI2 * t)


def over(t, level, soft=0.08):
    """Soft step: 1 where t is above the level."""
    return np.clip((t - level) / soft + 0.5, 0, 1)


def bricks(u, v):
    """Coordinates shifted by half a cell in every second row."""
    return u + 0.5 * (np.floor(v) % 2), v


def local(u, v):
    """Coordinates from the centre of the cell, each in [-0.5, 0.5)."""
    return saw(u) - 0.5, saw(v) - 0.5


def centre(u, v):
    """Distance to the centre of the cell."""
    return np.hypot(*local(u, v))


def scattered(u, v, salt, jitter=0.9):
    """One point per cell: distances to the two nearest, and a random number of the nearest."""
    first, second, owner = np.float32(9), np.float32(9), np.float32(0)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            i, j = np.floor(u) + di, np.floor(v) + dj
            a, b = lot(i, j, salt), lot(i, j, salt + 1)
            d = np.hypot(u - i - 0.5 - jitter * (a - 0.5), v - j - 0.5 - jitter * (b - 0.5))
            owner = np.where(d < first, saw(a * 7 + b * 3), owner)
            first, second = np.minimum(first, d), np.maximum(first, np.minimum(second, d))
    return first, second, owner


def hexagons(u, v):
    """Distance to a hexagonal cell's border (0 there, 0.5 at its middle), two naming integers."""
    k = np.float32(3**0.5)
    a = np.round(u), np.round(v / k)
    b = np.floor(u) + 0.5, np.floor(v / k) + 0.5
    near_a = (u - a[0]) ** 2 + (v - a[1] * k) ** 2 < (u - b[0]) ** 2 + (v - b[1] * k) ** 2
    i, j = np.where(near_a, a[0], b[0]), np.where(near_a, a[1], b[1])
    x, y = np.abs(u - i), np.abs(v - j * k)
    return 0.5 - np.maximum(x, x / 2 + y * k / 2), 2 * i, 2 * j


def rods(u, v, salt):
    """Short strokes, one to a cell, each at its own angle."""
    a, b = turned(*local(u, v), PI2 / 2 * lot(np.floor(u), np.floor(v), salt))
    return over(-np.maximum(np.abs(a) - 0.33, np.abs(b) - 0.09), 0)


def arcs(u, v, salt):
    """Tiles with two quarter circles, turned at random: winding bands."""
    a, b = local(u, v)
    a = np.where(lot(np.floor(u), np.floor(v), salt) < 0.5, a, -a)
    return over(
        -np.abs(np.minimum(np.hypot(a - 0.5, b - 0.5), np.hypot(a + 0.5, b + 0.5)) - 0.5), -0.15
    )


def maze(u, v, salt):
    """Tiles with one diagonal stroke, this or that way at random."""
    a, b = local(u, v)
    a = np.where(lot(np.floor(u), np.floor(v), salt) < 0.5, a, -a)
    return over(-np.abs(a - b), -0.2)


def scales(u, v, ringed):
    """Rows of overlapping discs; `ringed`: concentric arcs in each."""
    height = np.float32(0)
    for row in (0, 1, 2):  # the lower rows lie over the upper ones
        j = np.floor(2 * v) + row - 1
        a = saw(u + 0.5 * (j % 2)) - 0.5
        d = np.hypot(a, v - j / 2 - 0.1)
        inside = over(-d, -0.56)
        height = height * (1 - inside) + inside * (
            over(tent(d * 5), 0.5, 0.4) if ringed else 1 - d * 1.6
        )
    return height


def polar(u, v, twist, rings, rays):
    """Rings, rays or spirals around one centre."""
    r, angle = np.hypot(u, v), np.arctan2(v, u) / PI2
    return wave(r * rings + angle * twist) if not rays else wave(angle * rays)


def cobweb(u, v, salt):
    """Rays and sagging rings around one centre."""
    r, angle = np.hypot(u, v), np.arctan2(v, u) / PI2
    sag = r * (1 + 0.18 * tent(angle * 10 + 0.5))
    return np.maximum(
        over(-tent(angle * 10) * np.maximum(r, 0.3), -0.3, 0.15),
        over(-tent(sag * 1.1), -0.25, 0.15),
    )


def warped(u, v, salt, strength):
    """A lazy, irregular shift made of a few sines."""
    s = salt % 97 / 15
    return strength * (
        np.sin(1.3 * v + s)
        + np.sin(1.9 * u + 1.1 * v + 2 * s)
        + 0.6 * np.sin(2.9 * u - 2.3 * v + 3 * s)
    )


def woven(u, v, salt):
    """Strands of three threads, over and under in turn."""
    across = (np.floor(u) + np.floor(v)) % 2 < 1
    a, b = np.where(across, u, v), np.where(across, v, u)
    return (0.35 + 0.65 * wave(3 * b - 0.25)) * (0.45 + 0.55 * np.sin(np.pi * saw(a)))


def tartan(u, v, salt):
    """Three kinds of stripes, the same both ways."""
    return (
        sum(0.5 * over(tent(t / 2), 0.55) - 0.25 * over(-tent(t / 2 + 0.5), -0.12) for t in (u, v))
        + 0.15
    )


def triangles(u, v, salt):
    """Triangles of two tones."""
    return (np.floor(u + v / 2) + np.floor(v) + np.floor(u - v / 2)) % 2


def framed(u, v):
    """Distance to the centre of the cell, in squares."""
    return np.maximum(*np.abs(local(u, v)))
