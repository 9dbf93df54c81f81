"""What a drawn place is seen with: its tones, and the layers that any place may stand before."""

from dataclasses import dataclass

import numpy as np

from trpts_lab.canvas import cover, hsv, noise, paint, per
from trpts_lab.twins.studio import silhouette

TONES = {  # (hue, saturation, value); hue None: any
    "grass": (0.27, 0.55, 0.5),
    "leaf": (0.31, 0.6, 0.3),
    "sand": (0.12, 0.4, 0.85),
    "earth": (0.08, 0.45, 0.45),
    "rock": (0.07, 0.2, 0.45),
    "snow": (0.58, 0.06, 0.95),
    "water": (0.56, 0.5, 0.55),
    "grey": (0.6, 0.05, 0.4),
    "white": (0.1, 0.05, 0.92),
    "dark": (0.6, 0.15, 0.12),
    "wood": (0.07, 0.55, 0.4),
    "wall": (None, 0.3, 0.7),
    "cloth": (None, 0.6, 0.55),
    "roof": (None, 0.5, 0.35),
}


@dataclass
class View:
    pictures: np.ndarray
    x: np.ndarray
    y: np.ndarray
    edge: np.ndarray
    rng: np.random.Generator

    @property
    def n(self):
        return len(self.pictures)

    def tone(self, name):
        """A colour of this name for each picture, [n, 3]."""
        hue, s, v = TONES[name]
        hue = self.rng.random(self.n) if hue is None else hue + self.rng.normal(0, 0.05, self.n)
        return hsv(
            hue % 1,
            s * self.rng.uniform(0.6, 1.2, self.n),
            np.clip(v * self.rng.uniform(0.6, 1.25, self.n), 0, 1),
        )

    def any(self, low, high):
        """A random number for each picture, [n, 1, 1]."""
        return per(self.rng.uniform(low, high, self.n))

    def near(self, far):
        """Repeats per unit of height on the ground; perspective makes more towards the horizon."""
        return 1 / np.maximum(self.y + far, 0.05)

    def put(self, tone, distance):
        """Paint where distance < 0 in a tone's name or a colour."""
        paint(
            self.pictures,
            self.tone(tone) if isinstance(tone, str) else tone,
            cover(distance, self.edge),
        )

    def thing(self, *layers, at=0.0, foot=0.3, size=1.0):
        """Layers of (tone, parts) at x = `at`, y = `foot`, with small random shifts and scale."""
        k = size * self.any(0.7, 1.2)
        u = (self.x - at - self.any(-0.25, 0.25)) / k
        v = (self.y - foot - self.any(-0.06, 0.06)) / k
        for tone, parts in layers:
            self.put(tone, silhouette(u, v, parts) * k)


def sky(w):
    top, low = w.rng.uniform(0.25, 0.9, w.n), w.rng.uniform(0.65, 1, w.n)
    hue, s = w.rng.choice([0.58, 0.6, 0.08], w.n, p=[0.5, 0.3, 0.2]), w.rng.uniform(0.05, 0.7, w.n)
    high, low = hsv(hue, s, top)[:, None, None], hsv(hue, s * 0.4, low)[:, None, None]
    w.pictures[:] = high + (low - high) * np.clip(w.y + 1, 0, 1)[..., None]
    # clouds
    paint(
        w.pictures,
        w.tone("white"),
        0.7 * np.clip(noise(w.rng, w.n, 4, 2) * 4 - 2.3, 0, 1) * w.any(0, 1),
    )


def ground(tone):
    def draw(w):
        w.put(tone, -w.y)
        paint(w.pictures, w.tone(tone) * 0.6, 0.5 * cover(-w.y) * noise(w.rng, w.n, 5, 2))

    return draw


def ocean(w, bottom=9.0):
    w.put("water", np.maximum(-w.y, w.y - bottom))
    glint = np.sin(
        w.any(10, 14) * np.log(np.abs(w.y) + 0.15) * 1.5 + 2 * np.sin(3 * w.x + w.any(0, 6))
    )
    paint(w.pictures, w.tone("white"), 0.3 * cover(np.maximum(-w.y, w.y - bottom)) * (glint > 0.4))
