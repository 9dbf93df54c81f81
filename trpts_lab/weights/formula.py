"""Formula-driven images for pre-training: several hundred classes, no photograph, no label by hand.

The line of Kataoka et al., "Pre-training without Natural Images" (IJCV 2022): a class is a formula
with fixed parameters, an image one drawing of it. Three families:

contours   concentric outlines r(φ) = r₀ (1 + Σ_k a_k cos(kφ + p_k)); the class fixes a_k, p_k and
           the number of rings
fractals   the attractor of an iterated function system; the class fixes its affine maps and their
           probabilities
textures   white noise through a sum of oriented band-pass filters, then a bend; the class fixes
           filters and bend

None of them is used by the twins (`trpts_lab.twins`), whose pictures are composed of shapes, scenes
and real digits.
"""

import numpy as np

from trpts_lab.canvas import S, cover, finish, grid, hsv, noise, per, turned

FAMILIES = {"contours": 200, "fractals": 150, "textures": 150}
N_CLASSES = sum(FAMILIES.values())
CLASS_SEED = 20_251  # the formulas are part of the data set: fixed, whatever the seed of the images
N_HARMONICS = 8
N_MAPS = 4
CHAINS, STEPS, WARM_UP = 64, 70, 10
PLAIN_FRACTION = 0.5


def render(labels, rng):
    """Draw one image per label, 0 <= label < N_CLASSES: uint8 [n, 32, 32, 3]; random by `rng`."""
    density = np.zeros((len(labels), S, S), np.float32)
    start = 0
    for (_, n), draw in zip(FAMILIES.items(), (contours, fractals, textures), strict=True):
        mine = (labels >= start) & (labels < start + n)
        if mine.any():
            density[mine] = draw(labels[mine] - start, rng)
        start += n
    return finish(coloured(density, rng), rng, grain=0.02)


def contours(classes, rng):
    """Coverage [n, S, S] of concentric wobbly outlines."""
    fixed = np.random.default_rng([CLASS_SEED, 0])
    n_classes = FAMILIES["contours"]
    k = np.arange(1, N_HARMONICS + 1)
    amplitudes = fixed.exponential(0.22, (n_classes, N_HARMONICS)) / np.sqrt(k)
    amplitudes *= fixed.random((n_classes, N_HARMONICS)) < 0.5
    amplitudes /= np.maximum(1, amplitudes.sum(1, keepdims=True) / 0.75)  # outlines stay outlines
    phases = fixed.uniform(0, 2 * np.pi, (n_classes, N_HARMONICS))
    n_rings = fixed.integers(1, 6, n_classes)
    n = len(classes)
    x, y = grid()
    x, y = x - per(rng.uniform(-0.3, 0.3, n)), y - per(rng.uniform(-0.3, 0.3, n))
    x, y = turned(x, y, per(rng.uniform(-0.6, 0.6, n)))
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    wobble = 1 + sum(
        per(amplitudes[classes, j]) * np.cos(k[j] * angle + per(phases[classes, j]))
        for j in range(N_HARMONICS)
    )
    outer, width = per(rng.uniform(0.45, 0.8, n)), per(rng.uniform(0.03, 0.08, n))
    total = np.zeros((n, S, S), np.float32)
    for ring in range(n_rings.max()):
        r = outer * (1 - ring / per(n_rings[classes]))
        line = cover(np.abs(radius - r * wobble) - width / 2)
        total = np.maximum(total, line * per(ring < n_rings[classes]))
    return total


def fractals(classes, rng):
    """Brightness [n, S, S] of attractors, drawn by the chaos game with CHAINS points at once."""
    fixed = np.random.default_rng([CLASS_SEED, 1])
    n_classes, n = FAMILIES["fractals"], len(classes)
    turn, shear = fixed.uniform(0, 2 * np.pi, (2, n_classes, N_MAPS))
    stretch = fixed.uniform(0.25, 0.75, (n_classes, N_MAPS, 2))
    maps = _rotation(turn) @ (stretch[..., None] * _rotation(shear))  # [classes, maps, 2, 2]
    shift = fixed.uniform(-1, 1, (n_classes, N_MAPS, 2))
    odds = np.cumsum(fixed.dirichlet(np.full(N_MAPS, 2.0), n_classes), 1)
    A = maps[classes] * rng.uniform(0.93, 1.07, (n, N_MAPS, 1, 1))
    b = shift[classes] + rng.normal(0, 0.03, (n, N_MAPS, 2))
    points, rows, cloud = np.zeros((n, CHAINS, 2)), np.arange(n)[:, None], []
    for step in range(STEPS):
        choice = (rng.random((n, CHAINS, 1)) > odds[classes][:, None, :-1]).sum(2)  # [n, CHAINS]
        points = np.einsum("ncij,ncj->nci", A[rows, choice], points) + b[rows, choice]
        if step >= WARM_UP:
            cloud.append(points)
    cloud = np.concatenate(cloud, 1)  # [n, points, 2]
    low, high = np.quantile(cloud, [0.02, 0.98], axis=1)  # [n, 2] each
    scale = rng.uniform(1.1, 1.7, (n, 1)) / np.maximum((high - low).max(1, keepdims=True), 1e-6)
    cloud = (cloud - ((low + high) / 2)[:, None]) * scale[:, None] + rng.uniform(
        -0.2, 0.2, (n, 1, 2)
    )
    pixel = np.floor((cloud + 1) / 2 * S).astype(int)
    inside = ((pixel >= 0) & (pixel < S)).all(2)
    flat = (np.arange(n)[:, None] * S + pixel[..., 1]) * S + pixel[..., 0]
    counts = np.bincount(flat[inside], minlength=n * S * S).reshape(n, S, S).astype(np.float32)
    return np.clip(np.sqrt(counts) / 2, 0, 1)


def _rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def textures(classes, rng):
    """Brightness [n, S, S] of band-passed noise."""
    fixed = np.random.default_rng([CLASS_SEED, 2])
    n_classes, n = FAMILIES["textures"], len(classes)
    f = np.fft.fftfreq(S) * S
    # the half plane of rfft2
    fy, fx = np.meshgrid(f, [*f[f >= 0].tolist(), -S // 2], indexing="ij")
    filters = np.zeros((n_classes, *fx.shape), np.float32)
    for _ in range(2):
        frequency = fixed.uniform(2, 12, (n_classes, 1, 1))
        spread = fixed.uniform(0.6, 2.5, (n_classes, 1, 1))
        direction = fixed.uniform(0, np.pi, (n_classes, 1, 1))
        opening = fixed.uniform(0.1, 1.2, (n_classes, 1, 1))
        off = np.mod(np.arctan2(fy, fx) - direction + np.pi / 2, np.pi) - np.pi / 2
        filters += np.exp(-(((np.hypot(fx, fy) - frequency) / spread) ** 2) - (off / opening) ** 2)
    bend = fixed.integers(0, 3, n_classes)[classes]
    waves = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(n, S, S))) * filters[classes], s=(S, S))
    waves = (waves / waves.std((1, 2), keepdims=True)).astype(np.float32)
    bent = [0.5 + waves / 4, np.abs(waves) / 2, 0.5 + np.sign(waves) * np.sqrt(np.abs(waves)) / 3]
    return np.clip(np.choose(bend[:, None, None], bent), 0, 1)


def coloured(density, rng):
    """Density [n, S, S] as pictures [n, S, S, 3]: half of them plain, half between two random
    colours.

    A plain picture is light on dark. The others have any two colours that differ in brightness,
    either one in front, and uneven lighting: colour and polarity must not matter. The plain ones
    are the easier start of that lesson.
    """
    n = len(density)
    plain, swap = rng.random(n) < PLAIN_FRACTION, rng.random(n) < 0.5
    saturation = np.where(plain, 0, rng.uniform(0, 0.8, n))
    dark = hsv(rng.random(n), saturation, rng.uniform(0, 0.3, n))
    light = hsv(rng.random(n), saturation, rng.uniform(0.75, 1.0, n))
    swap = (swap & ~plain)[:, None]
    back, front = np.where(swap, light, dark), np.where(swap, dark, light)
    mix = density[..., None]
    picture = back[:, None, None] * (1 - mix) + front[:, None, None] * mix
    lighting = 0.75 + 0.25 * noise(rng, n, 2)
    return picture * np.where(per(plain), 1, lighting)[..., None]
