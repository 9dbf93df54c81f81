"""Twins of VTAB's specialised group: tissue, views from above (`aerial_tables`), the retina."""

import numpy as np

from trpts_lab.canvas import (
    S,
    blank,
    cover,
    disc,
    ellipse,
    finish,
    grid,
    hsv,
    in_parts,
    noise,
    paint,
    per,
    segment,
    turned,
)
from trpts_lab.twins.aerial import Scene
from trpts_lab.twins.aerial_tables import eurosat, resisc45
from trpts_lab.twins.twin import Twin


def _strewn(rng, n, x, y, most, counts, radius, place):
    """Signed distance to `counts` [n] small discs, at most `most`, at points of `place(n)`."""
    nearest = np.full((n, S, S), 9.0, np.float32)
    for j in range(most):
        px, py = place(n)
        size = per(np.where(j < counts, rng.uniform(*radius, n), -9.0))
        np.minimum(nearest, np.hypot(x - per(px), y - per(py)) - size, out=nearest)
    return nearest


@in_parts
def camelyon(labels, rng, split):
    """Positive if tumour nuclei (larger, irregular, darker) lie in the centre patch; their number,
    all over the picture, is drawn alike for both classes, and large pale or small dark nuclei, gaps
    and the stain vary.
    """
    n = len(labels)
    x, y = grid()
    hue = rng.uniform(0.78, 0.97, n)
    pictures = blank(n, hsv(hue, rng.uniform(0.15, 0.45, n), rng.uniform(0.75, 0.95, n)))
    pictures *= (0.75 + 0.4 * noise(rng, n, 7, 2))[..., None]
    paint(
        pictures, (0.95, 0.92, 0.95), cover(per(rng.uniform(0.62, 0.8, n)) - noise(rng, n, 4), 0.08)
    )
    stain = hsv(
        hue - rng.uniform(0.04, 0.14, n), rng.uniform(0.4, 0.65, n), rng.uniform(0.42, 0.6, n)
    )
    # makes every outline irregular
    warp_x, warp_y = (0.16 * (noise(rng, n, 7) - 0.5) for _ in range(2))

    tissue = Scene(n, rng)
    du, dv, chance, shade = tissue.cells(0.25, 0.55)
    normal = np.hypot(du, dv * 1.15) + 9.0 * (chance > per(rng.uniform(0.3, 0.75, n))) - 0.085
    paint(pictures, stain[:, None, None] * (0.75 + 0.5 * shade)[..., None], cover(normal))

    def anywhere(n):
        return rng.uniform(-0.95, 0.95, (2, n))

    def centre(n):
        return rng.uniform(-0.26, 0.26, (2, n))

    def around(n):
        # on a square frame, a nucleus' width outside of the centre patch, |x| and |y| < 1/3
        far = rng.uniform(0.56, 0.92, n) * rng.choice([-1, 1], n)
        along = rng.uniform(-0.92, 0.92, n)
        return np.where(rng.random(n) < 0.5, (far, along), (along, far))

    # large, but not dark
    pale = _strewn(rng, n, x, y, 3, rng.integers(0, 4, n), (0.14, 0.19), anywhere)
    paint(pictures, stain * 1.25, 0.7 * cover(pale))
    # dark, but small and round
    dark = _strewn(rng, n, x, y, 5, rng.integers(0, 6, n), (0.07, 0.11), centre)
    paint(pictures, stain * 0.5, cover(dark))
    total = rng.integers(2, 6, n)
    inside = np.where(labels == 1, rng.integers(1, 3, n), 0)
    for counts, place, most in ((inside, centre, 2), (total - inside, around, 5)):
        tumour = _strewn(rng, n, x + warp_x, y + warp_y, most, counts, (0.13, 0.18), place)
        paint(pictures, stain * 0.5, cover(tumour))
    return finish(np.clip(pictures, 0, 1), rng, 0.02)


@in_parts
def retinopathy(labels, rng, split):
    """The grade is the kind and number of small lesions: none; a few red dots; more dots and a
    blot; many blots and yellow exudates; new vessels and a large bleeding. Light, colour, side,
    vessels and the frame vary.
    """
    n = len(labels)
    x, y = grid()
    side = per(rng.choice([-1, 1], n))
    x, y = turned(
        x * side - per(rng.uniform(-0.06, 0.06, n)),
        y - per(rng.uniform(-0.06, 0.06, n)),
        per(rng.uniform(-0.2, 0.2, n)),
    )
    frame = disc(x, y, per(rng.uniform(0.88, 1.0, n)))
    flesh = hsv(rng.uniform(0.02, 0.09, n), rng.uniform(0.55, 0.85, n), rng.uniform(0.55, 0.9, n))
    pictures = blank(n, flesh) * (0.88 + 0.24 * noise(rng, n, 4, 2))[..., None]
    nerve_x, nerve_y = per(rng.uniform(0.42, 0.55, n)), per(rng.uniform(-0.1, 0.1, n))
    paint(pictures, flesh * 0.6, 0.7 * cover(disc(x + 0.12, y, 0.06), 0.3))  # the macula

    bend = 0.25 * (noise(rng, n, 4) - 0.5)
    vessels = np.full((n, S, S), 9.0, np.float32)
    for a, b in ((0.8, 0.62), (0.6, 0.33)):  # two arcades from the optic nerve around the macula
        a, b = per(rng.uniform(0.9, 1.1, n) * a), per(rng.uniform(0.85, 1.15, n) * b)
        arcade = np.abs(ellipse(x - nerve_x + a, y - nerve_y + bend, a, b)) + 0.03 * np.maximum(
            nerve_x - x, 0
        )
        vessels = np.minimum(vessels, arcade)
    for tip in (-0.5, 0.5):
        vessels = np.minimum(
            vessels,
            segment(
                x, y + bend, nerve_x, nerve_y, 1.0, nerve_y + tip * per(rng.uniform(0.4, 1.2, n))
            ),
        )
    blood = flesh * np.array([0.62, 0.3, 0.4], np.float32)
    paint(pictures, blood, 0.8 * cover(vessels - 0.022))
    paint(
        pictures,
        (1.0, 0.9, 0.6),
        0.85 * cover(disc(x - nerve_x, y - nerve_y, per(rng.uniform(0.13, 0.17, n))), 0.08),
    )

    def retina(n):
        r, angle = 0.78 * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
        return r * np.cos(angle) - 0.1, r * np.sin(angle)

    def drawn(least, most):  # how many, by grade
        return rng.integers(np.array(least)[labels], np.array(most)[labels] + 1)

    dots = _strewn(rng, n, x, y, 9, drawn((0, 2, 4, 5, 2), (0, 4, 7, 9, 9)), (0.04, 0.055), retina)
    blots = _strewn(rng, n, x, y, 6, drawn((0, 0, 1, 3, 0), (0, 0, 2, 6, 5)), (0.08, 0.12), retina)
    exudates = _strewn(
        rng, n, x, y, 6, drawn((0, 0, 0, 2, 0), (0, 0, 1, 6, 6)), (0.05, 0.075), retina
    )
    pool_x, pool_y = (per(p) for p in retina(n))
    pool = ellipse(
        x - pool_x, y - pool_y, per(rng.uniform(0.25, 0.4, n)), per(rng.uniform(0.15, 0.22, n))
    )
    tuft = np.abs(np.mod(noise(rng, n, 8) * 4, 1) - 0.5) * 0.2 - 0.03  # a tangle of fine lines
    tuft = np.maximum(
        tuft, disc(x - nerve_x + 0.12, y - nerve_y - per(rng.choice([-0.25, 0.25], n)), 0.24)
    )
    worst = per(labels == 4)
    paint(pictures, (1.0, 0.9, 0.45), 0.9 * cover(exudates))
    for lesion, strength in ((dots, 0.9), (blots, 0.9), (pool, worst), (tuft, 0.85 * worst)):
        paint(pictures, blood * 0.75, strength * cover(lesion))

    fall, angle = per(rng.uniform(0.0, 0.45, n)), per(rng.uniform(0, 2 * np.pi, n))
    pictures *= (1 - fall * (0.5 + 0.5 * turned(x, y, angle)[0]))[..., None] * rng.uniform(
        0.8, 1.15, (n, 1, 1, 1)
    )
    paint(pictures, rng.uniform(0, 0.08, (n, 1)) * np.ones(3), 1 - cover(frame))
    return finish(np.clip(pictures, 0, 1), rng, 0.015)


TWINS = (
    Twin(
        name="camelyon_twin",
        group="specialized",
        stands_for="Patch Camelyon",
        differs="stylised nuclei on a stained ground, not scanned lymph node sections; "
        "32 pixels instead of 96",
        n_classes=2,
        render=camelyon,
    ),
    Twin(
        name="eurosat_twin",
        group="specialized",
        stands_for="EuroSAT",
        differs="drawn layouts of the same ten land uses, not Sentinel-2 tiles, "
        "with shifted hues on purpose",
        n_classes=10,
        render=eurosat,
    ),
    Twin(
        name="resisc45_twin",
        group="specialized",
        stands_for="Resisc45",
        differs="the same 45 names as simple layered drawings at 32 pixels, "
        "not aerial photographs at 256",
        n_classes=45,
        render=resisc45,
    ),
    Twin(
        name="retinopathy_twin",
        group="specialized",
        stands_for="Diabetic Retinopathy",
        differs="drawn fundi, grades equally frequent and free of label noise; lesions are "
        "larger than real ones",
        n_classes=5,
        render=retinopathy,
    ),
)
