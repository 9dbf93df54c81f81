"""Land seen from above, painted in layers.

The colours of a layer vary so much, and shift together in hue, that the layout has to tell scenes
apart.
"""

import numpy as np

from trpts_lab.canvas import EDGE, blank, box, cover, grid, hsv, noise, paint, per, segment, turned

TONES = {  # hue, saturation, value: from, to
    "green": ((0.15, 0.38), (0.20, 0.55), (0.30, 0.62)),
    "dark": ((0.20, 0.45), (0.20, 0.55), (0.12, 0.28)),
    "soil": ((0.04, 0.16), (0.20, 0.50), (0.40, 0.75)),
    "land": ((0.05, 0.38), (0.15, 0.50), (0.35, 0.70)),
    "water": ((0.40, 0.68), (0.25, 0.65), (0.18, 0.48)),
    "tarmac": ((0.00, 1.00), (0.00, 0.08), (0.35, 0.60)),
    "white": ((0.00, 1.00), (0.00, 0.08), (0.85, 1.00)),
    "roof": ((0.00, 0.12), (0.00, 0.50), (0.60, 0.98)),
    "shadow": ((0.00, 1.00), (0.00, 0.10), (0.05, 0.15)),
    "any": ((0.00, 1.00), (0.10, 0.50), (0.35, 0.80)),
}


class Scene:
    """n views from above of one class, each in a frame u, v of its own: turned, shifted and scaled.

    Every layer paints over what is there and returns the scene, so that a class is a chain of
    layers. Lengths are in half picture widths; `turn` turns a layer against the frame.
    """

    def __init__(self, n, rng, shift=0.15, zoom=(0.85, 1.15)):
        self.n, self.rng = n, rng
        u, v = turned(*grid(), per(rng.uniform(0, 2 * np.pi, n)))
        zoom = per(rng.uniform(*zoom, n))
        self.u, self.v = (u / zoom - per(rng.uniform(-shift, shift, n)) for u in (u, v))
        self.phase = [per(rng.uniform(0, 2 * np.pi, n)) for _ in range(2)]
        self.hue = rng.uniform(-0.12, 0.12, n)
        self.pictures = blank(n)

    def colours(self, tone):
        """[n, 3]: one colour of a tone for each picture."""
        h, s, v = (self.rng.uniform(*limits, self.n) for limits in TONES[tone])
        return hsv(h + self.hue, s, v)

    def put(self, tone, distance, soft=EDGE, amount=1.0):
        paint(self.pictures, self.colours(tone), amount * cover(distance, soft))
        return self

    def cells(self, pitch, jitter, turn=0.0):
        """A grid of cells: offsets from each cell's point, 2 random numbers per cell: [n, S, S]."""
        pitch_u, pitch_v = pitch if isinstance(pitch, tuple) else (pitch, pitch)
        u, v = turned(self.u, self.v, turn)
        i, j = np.floor(u / pitch_u), np.floor(v / pitch_v)
        flat = (np.mod(i, 48) * 48 + np.mod(j, 48)).astype(np.int32).reshape(self.n, -1)
        tables = self.rng.random((4, self.n, 48 * 48), dtype=np.float32)
        a, b, c, d = (np.take_along_axis(table, flat, 1).reshape(u.shape) for table in tables)
        du = (u / pitch_u - i - 0.5 - jitter * (a - 0.5)) * pitch_u
        return du, (v / pitch_v - j - 0.5 - jitter * (b - 0.5)) * pitch_v, c, d

    def ground(self, tone, mottle=0.25, cells=5, octaves=2):
        """One colour, mottled."""
        self.pictures[:] = self.colours(tone)[:, None, None]
        self.pictures *= (1 + mottle * (noise(self.rng, self.n, cells, octaves) * 2 - 1))[..., None]
        return self

    def band(self, tone, width, at=0.0, turn=0.0, wiggle=0.0):
        """A road, a river: a straight or winding band along u. Bands of one scene wind together."""
        a, b = turned(self.u, self.v, turn)
        if wiggle:
            b = b + wiggle * (
                np.sin(2.6 * a + self.phase[0]) + 0.6 * np.sin(5.1 * a + self.phase[1])
            )
        return self.put(tone, np.abs(b - at) - width)

    def dashes(self, tone, pitch, length, width, at=0.0, turn=0.0, reach=3.0):
        """A broken line along u, or a comb of bars where `width` is longer than `length`."""
        a, b = turned(self.u, self.v, turn)
        inside = np.maximum(np.abs(b - at) - width, np.abs(a) - reach)
        return self.put(tone, np.maximum(np.abs(np.mod(a, pitch) - pitch / 2) - length, inside))

    def dots(self, tone, pitch, radius, jitter=0.5, share=1.0, turn=0.0):
        """Trees, bushes, tanks: a disc with a shadow in a share of the cells."""
        du, dv, chance, size = self.cells(pitch, jitter, turn)
        here = 9.0 * (chance > share) - radius * (0.75 + 0.5 * size)
        self.put("shadow", np.hypot(du - 0.3 * radius, dv - 0.3 * radius) + here, amount=0.6)
        return self.put(tone, np.hypot(du, dv) + here)

    def roofs(self, pitch, half, share=1.0, jitter=0.25, turn=0.0):
        """Buildings: a rectangle with a shadow in a share of the cells, of random brightness."""
        du, dv, chance, shade = self.cells(pitch, jitter, turn)
        a, b = half
        here = 9.0 * (chance > share)
        self.put("shadow", box(du - 0.03, dv - 0.03, a, b) + here, amount=0.7)
        colour = self.colours("roof")[:, None, None] * (0.6 + 0.4 * shade)[..., None]
        paint(self.pictures, colour, cover(box(du, dv, a, b) + here))
        return self

    def parcels(self, pitch, rows=0.0, hedge=0.0, contrast=0.5):
        """Fields: a patchwork of tints, ploughed in rows of random direction, between hedges."""
        du, dv, tint, lie = self.cells(pitch, 0.0)
        mix = np.clip((tint - 0.5) * 2 * contrast + 0.5, 0, 1)[..., None]
        first, second = (self.colours(tone)[:, None, None] for tone in ("land", "land"))
        self.pictures[:] = first * mix + second * (1 - mix)
        if rows:
            along = np.where(lie < 0.5, du, dv)
            self.pictures *= (1 + rows * np.sin(along * 2 * np.pi / 0.2))[..., None]
        if hedge:
            half = pitch if isinstance(pitch, tuple) else (pitch, pitch)
            self.put("dark", -box(du, dv, half[0] / 2, half[1] / 2) - hedge)
        return self

    def block(self, tone, half, at=(0.0, 0.0), turn=0.0, line=None):
        """One rectangle; with `line`, only its outline of that width."""
        u, v = turned(self.u, self.v, turn)
        d = box(u - at[0], v - at[1], *half)
        return self.put(tone, d if line is None else np.abs(d) - line)

    def oval(self, tone, radius, straight=0.0, at=(0.0, 0.0), line=None):
        """A disc, or with `straight` a running track; with `line`, only its outline."""
        d = segment(self.u, self.v, at[0] - straight, at[1], at[0] + straight, at[1]) - radius
        return self.put(tone, d if line is None else np.abs(d) - line)

    def blob(self, tone, radius, wobble=0.5, at=(0.0, 0.0), soft=EDGE, amount=1.0):
        """An irregular patch: island, lake, bunker, smoke."""
        d = np.hypot(self.u - at[0], self.v - at[1]) - radius
        return self.put(tone, d + wobble * (noise(self.rng, self.n, 5, 2) - 0.5), soft, amount)

    def shore(self, tone, at=0.0, wobble=0.4):
        """Everything beyond an uneven line. Lines of one scene run together."""
        uneven = wobble * (
            np.sin(2.6 * self.u + self.phase[0]) + 0.6 * np.sin(5.1 * self.u + self.phase[1])
        )
        return self.put(tone, at - self.v + 0.5 * uneven)

    def ripples(self, tone, pitch, width, warp=0.3, amount=1.0, soft=EDGE):
        """Parallel lines that bend together: dunes, terraces, waves."""
        w = self.v + warp * 2 * (noise(self.rng, self.n, 3, 1) - 0.5)
        return self.put(tone, np.abs(np.mod(w, pitch) - pitch / 2) - width, soft, amount)

    def patches(self, tone, cells, level=0.5, soft=0.1, octaves=3, amount=1.0):
        """Cloud, ice, marsh: wherever smooth noise exceeds a level."""
        return self.put(tone, level - noise(self.rng, self.n, cells, octaves), soft, amount)

    def relief(self, strength=9.0, cells=3):
        """Mountains: ridged heights lit from one side."""
        ridge = np.abs(noise(self.rng, self.n, cells, 3) - 0.5)
        light = np.clip(1 + strength * (np.roll(ridge, 2, 2) - ridge), 0.2, 1.8)
        self.pictures *= light[..., None]
        return self

    def plane(self, size, at=(0.0, 0.0)):
        """An aeroplane: body, swept wings and tail."""
        u, v = (self.u - at[0]) / size, (np.abs(self.v - at[1])) / size
        body = segment(u, v, -1.0, 0.0, 0.95, 0.0) - 0.13
        wing = np.maximum(np.abs(u - 0.15 + 0.55 * v) - 0.17, v - 0.95)
        tail = np.maximum(np.abs(u + 0.75 + 0.55 * v) - 0.12, v - 0.4)
        return self.put("white", np.minimum(np.minimum(body, wing), tail) * size)

    def ship(self, length, at=(0.0, 0.0)):
        """A hull pointed at one end."""
        u, v = self.u - at[0], self.v - at[1]
        width = length * 0.24 * np.clip((length - u) / (0.5 * length), 0, 1)
        return self.put("roof", np.maximum(np.abs(v) - width, np.abs(u) - length))

    def diamond(self):
        """A baseball field: an outfield sector, the square of the bases standing on its corner."""
        r, angle = np.hypot(self.u + 0.7, self.v), np.abs(np.arctan2(self.v, self.u + 0.7))
        sector = (angle - np.pi / 4) * r
        self.put("green", np.maximum(r - 1.45, sector)).put("soil", np.maximum(r - 0.85, sector))
        a, b = turned(self.u + 0.25, self.v, np.pi / 4)
        return self.put("green", box(a, b, 0.23, 0.23))
