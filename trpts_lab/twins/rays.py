"""An engine for small scenes of lit solids: one analytic ray per drawn pixel.

World coordinates are right-handed with z up; the ground is z = 0. A solid is a unit solid (ball,
block, tube or cone, reaching from -1 to 1 on each axis) that is stretched by half sizes, turned
about the vertical and moved. Rays are carried into the unit solid's frame, where each intersection
is one formula; the ray parameter t stays the same.
"""

import numpy as np

from trpts_lab import canvas

BALL, BLOCK, TUBE, CONE = range(4)
NOTHING = -1  # an empty place in a scene's list of solids
# pictures drawn at once, fewer if they are larger than 32 pixels: their rays stay in the
# processor's cache
CHUNK = 16
FAR = np.float32(1e6)


def view() -> np.ndarray:
    """[3, P]: how far right, up, forward each of P drawn pixels lies, before the camera turns."""
    x, y = canvas.grid()
    return np.stack([x.ravel(), -y.ravel(), np.ones(x.size, np.float32)])


def camera(yaw, pitch, field):
    """[n, 3, 3]: `view` to ray directions; yaw 0 is +y, pitch > 0 is up, field is a half angle."""
    n = len(yaw)
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    wide = np.broadcast_to(np.tan(field), n)[:, None]
    right = np.stack([cy, -sy, np.zeros(n)], 1)
    forward = np.stack([cp * sy, cp * cy, sp], 1)
    up = np.stack([-sp * sy, -sp * cy, cp], 1)
    return np.stack([right * wide, up * wide, forward], 2).astype(np.float32)


def orbit(yaw, pitch, distance):
    """[n, 3]: the eye of a camera of this yaw and pitch, centred on the origin at `distance`."""
    cp = np.cos(pitch)
    return np.asarray(-distance)[..., None] * np.stack(
        [cp * np.sin(yaw), cp * np.cos(yaw), np.sin(pitch)], 1
    )


def light_from(rng, n, low=0.6, high=1.2):
    """[n, 3] unit vectors to a light, any azimuth, `low` to `high` radians above the horizon."""
    azimuth, height = rng.uniform(0, 2 * np.pi, n), rng.uniform(low, high, n)
    flat = np.cos(height)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(height)], 1).astype(
        np.float32
    )


def colours(rng, shape, saturation=(0.4, 1.0), value=(0.45, 1.0)):
    """Random colours [*shape, 3] of any hue."""
    return canvas.hsv(
        rng.random(shape), rng.uniform(*saturation, shape), rng.uniform(*value, shape)
    )


def solids(n, places):
    """An empty list of solids for n pictures."""
    return {
        "kind": np.full((n, places), NOTHING),
        "centre": np.zeros((n, places, 3), np.float32),
        "half": np.ones((n, places, 3), np.float32),
        "turn": np.zeros((n, places), np.float32),
        "colour": np.zeros((n, places, 3), np.float32),
        "gloss": np.zeros((n, places), np.float32),
    }


def enter(kind, o, d):
    """t where the rays o + t d ([c, 3, P or 1]) enter the unit solid, FAR where they miss it."""
    if kind == BLOCK:
        a, b = (-1 - o) / d, (1 - o) / d
        near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    else:  # a quadric in x, y and z; the cone's radius falls from 1 at the bottom to 0 at the top
        (ox, oy, oz), (dx, dy, dz) = o.transpose(1, 0, 2), d.transpose(1, 0, 2)
        qa, qb, qc = dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy
        if kind == BALL:
            qa, qb, qc = qa + dz * dz, qb + oz * dz, qc + oz * oz - 1
        elif kind == TUBE:
            qc = qc - 1
        else:
            radius = 0.5 - 0.5 * oz
            qa, qb, qc = qa - 0.25 * dz * dz, qb + 0.5 * radius * dz, qc - radius * radius
        under = qb * qb - qa * qc
        root = np.sqrt(np.maximum(under, 0))
        near, far = (-qb - root) / qa, np.where(under > 0, (-qb + root) / qa, -FAR)
        if kind == CONE:
            # a ray steeper than the side leaves through the bottom
            far = np.where(qa < 0, FAR, far)
        if kind != BALL:
            a, b = (-1 - oz) / dz, (1 - oz) / dz
            near, far = np.maximum(near, np.minimum(a, b)), np.minimum(far, np.maximum(a, b))
    return np.where((near < far) & (near > 1e-3), near, FAR)


def unit_normal(kind, q):
    """Outward direction at points q [m, 3] on the unit solid, in its own frame; any length."""
    if kind == BLOCK:
        axis = np.abs(q).argmax(1)
        return np.eye(3, dtype=np.float32)[axis] * np.sign(np.take_along_axis(q, axis[:, None], 1))
    if kind == BALL:
        return q
    side = np.array([1, 1, 0], np.float32) * q
    if kind == CONE:
        side[:, 2] = 0.25 * (1 - q[:, 2])
    return np.where(np.abs(q[:, 2:]) > 0.999, np.array([0, 0, 1], np.float32) * q, side)


def draw(eye, aim, parts, light, ambient, backdrop, shadows=True):
    """Pictures [n, S, S, 3] of `parts` before a backdrop, chunk by chunk.

    eye [n, 3], aim [n, 3, 3] from `camera`, parts from `solids`, light [n, 3] towards the light,
    ambient [n] in [0, 1]. backdrop(rows, eye, d) -> depth [c, P], lit colour [c, 3, P], and where
    the ground is, [c, P].
    """
    eye, ambient = eye.astype(np.float32), ambient.astype(np.float32)
    pixels, side = view(), canvas.drawn_side()
    chunk = max(1, min(CHUNK, CHUNK * canvas.S**2 // side**2))
    pictures = np.empty((len(eye), side * side, 3), np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for start in range(0, len(eye), chunk):
            rows = np.arange(start, min(start + chunk, len(eye)))
            own = {key: value[rows] for key, value in parts.items()}
            d = aim[rows] @ pixels  # [c, 3, P]
            pictures[rows] = _draw(
                eye[rows], d, own, light[rows], ambient[rows], rows, backdrop, shadows
            )
    return pictures.reshape(-1, side, side, 3)


def _draw(eye, d, parts, light, ambient, rows, backdrop, shadows):
    depth, colour, ground = backdrop(rows, eye, d)
    colour = colour.transpose(0, 2, 1).copy()  # [c, P, 3]
    shade = (ambient / (ambient + (1 - ambient) * light[:, 2]))[:, None, None]
    floor = eye[:, :, None] + depth[:, None] * d if shadows else None
    for k in range(parts["kind"].shape[1]):
        for kind in np.unique(parts["kind"][:, k]):
            if kind == NOTHING:
                continue
            at = np.flatnonzero(parts["kind"][:, k] == kind)
            c, s = np.cos(parts["turn"][at, k]), np.sin(parts["turn"][at, k])
            zero = np.zeros_like(c)
            into = np.stack([c, s, zero, -s, c, zero, zero, zero, zero + 1], 1).reshape(-1, 3, 3)
            # world directions into the unit solid's frame
            into = into / parts["half"][at, k][:, :, None]
            o = into @ (eye[at] - parts["centre"][at, k])[:, :, None]
            if shadows:
                across = into @ floor[at] - into @ parts["centre"][at, k][:, :, None]
                dark = (enter(kind, across, into @ light[at][:, :, None]) < FAR) & ground[at]
                i, j = np.nonzero(dark)
                ground[at[i], j] = False  # no ground is darkened twice
                colour[at[i], j] *= shade[at[i], 0]
            turned = into @ d[at]
            t = enter(kind, o, turned)
            i, j = np.nonzero(t < depth[at])  # few pixels: shade only these
            row, t = at[i], t[i, j]
            normal = unit_normal(kind, o[i, :, 0] + t[:, None] * turned[i, :, j])
            normal = np.einsum("mi,mij->mj", normal, into[i])
            normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
            lit = np.maximum((normal * light[row]).sum(1), 0)
            half = light[row] - d[row, :, j] / np.linalg.norm(d[row, :, j], axis=1, keepdims=True)
            half /= np.linalg.norm(half, axis=1, keepdims=True) + 1e-9
            glint = parts["gloss"][row, k] * np.maximum((normal * half).sum(1), 0) ** 30
            lit = ambient[row] * (0.75 + 0.25 * normal[:, 2]) + (1 - ambient[row]) * lit
            depth[row, j] = t
            ground[row, j] = False
            colour[row, j] = parts["colour"][row, k] * lit[:, None] + glint[:, None]
    return colour


def plain(tone, sky, light, ambient):
    """A backdrop: an even ground of colour `tone` [n, 3] under an even `sky` [n, 3]."""
    lit = tone * (ambient + (1 - ambient) * light[:, 2])[:, None]

    def backdrop(rows, eye, d):
        depth = np.where(d[:, 2] < -1e-3, -eye[:, 2, None] / d[:, 2], FAR)
        ground = depth < 80
        colour = np.where(ground[:, None], lit[rows][:, :, None], sky[rows][:, :, None])
        return np.where(ground, depth, FAR), colour.astype(np.float32), ground

    return backdrop


def stand(parts, rows, k, kind, x, y, half, turn=0.0, z=None):
    """Put solid number k of pictures `rows` at x, y; it stands on the ground unless z is given."""
    half = np.broadcast_to(half, (len(rows), 3))
    parts["kind"][rows, k], parts["half"][rows, k], parts["turn"][rows, k] = kind, half, turn
    parts["centre"][rows, k] = np.stack(
        np.broadcast_arrays(x, y, half[:, 2] if z is None else z), 1
    )


def lamp(rng, n, low=0.6):
    """(direction [n, 3], ambient share [n]) of a random light."""
    return light_from(rng, n, low), rng.uniform(0.25, 0.5, n)


def grey(rng, n, low, high, tint=0.04):
    """Nearly grey colours [n, 3]."""
    return (rng.uniform(low, high, (n, 1)) + rng.uniform(-tint, tint, (n, 3))).astype(np.float32)
