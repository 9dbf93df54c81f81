"""Twins of VTAB's structured tasks along a way: a room with a reward (DMLab), a road (KITTI)."""

import numpy as np

from trpts_lab import canvas
from trpts_lab.twins.rays import (
    BALL,
    BLOCK,
    CONE,
    FAR,
    TUBE,
    camera,
    colours,
    draw,
    grey,
    lamp,
    light_from,
    solids,
    stand,
)
from trpts_lab.twins.twin import Twin

REWARDS = ((1.7, 2.3), (3.0, 3.9), (5.2, 6.8))  # distance to the object: near, middle, far
# metres to the nearest: near, middle, far, none
VEHICLES = ((6.0, 8.5), (11.0, 15.0), (18.0, 25.0), (1e3, 1e3))
NEAR, NONE = 0, 3  # rows of VEHICLES, and so KITTI's classes
CARS, TREES, HOUSES = 3, 2, 2  # the most on one road


def corridor(rng, n, light, ambient):
    """A backdrop: a long room whose walls, floor, ceiling have bricks or tiles of any colour."""
    side, height, length = rng.uniform(1.5, 2.3, n), rng.uniform(2.3, 3.2, n), rng.uniform(8, 13, n)
    # walls, floor, ceiling
    tones = colours(rng, (n, 3), (0.1, 0.6), (0.35, 0.85)).astype(np.float32)
    brick = rng.uniform(0.5, 1.4, (n, 3, 2)).astype(np.float32)
    joint, patchy = rng.uniform(0.4, 0.9, (n, 3)), rng.uniform(0.1, 0.5, (n, 3))
    dusk = rng.uniform(0.02, 0.09, n)
    seed = rng.uniform(0, 100, n)

    def backdrop(rows, eye, d):
        def own(values):
            return values[rows].astype(np.float32).reshape(-1, 1)

        dx, dy, dz = d.transpose(1, 0, 2)
        walls = (np.copysign(own(side), dx) - eye[:, :1]) / dx
        level = (np.where(dz < 0, 0, own(height)) - eye[:, 2:]) / dz
        back = np.where(dy > 0, (own(length) - eye[:, 1:2]) / dy, FAR)
        depth = np.minimum(np.minimum(walls, level), back).astype(np.float32)
        x, y, z = (eye[:, i, None] + depth * d[:, i] for i in range(3))
        flat = level <= depth
        surface = np.where(flat, np.where(dz < 0, 1, 2), 0)
        c = np.arange(len(rows))[:, None]
        u = np.where(back <= depth, x, y) / brick[rows][c, surface, 0]
        v = np.where(flat, x, z) / brick[rows][c, surface, 1]
        u = u + 0.5 * np.mod(np.floor(v), 2)  # every other course is shifted by half a brick
        # a hash per brick
        patch = np.mod(np.sin(np.floor(u) * 12.99 + np.floor(v) * 78.23 + own(seed)) * 437.5, 1)
        seam = np.minimum(np.mod(u, 1), np.mod(v, 1)) < 0.12
        bright = (1 - patchy[rows][c, surface] * patch) * np.where(seam, joint[rows][c, surface], 1)
        bright = bright * np.where(walls <= depth, 0.85, 1) * np.exp(-own(dusk) * depth)
        colour = (tones[rows][c, surface] * bright[..., None]).transpose(0, 2, 1)
        return depth, colour.astype(np.float32), flat & (dz < 0)

    return backdrop


def dmlab(labels, rng, split):
    """What stands in the room and how far off carries the class: a positive object (a ball on a
    stem: wide above) or a negative one (a cone: wide below), near, middle or far. Colours, sizes,
    textures, room, heading and light vary.
    """
    n = len(labels)
    negative, reach = labels // len(REWARDS), np.array(REWARDS)[labels % len(REWARDS)]
    parts = solids(n, 2)
    distance = rng.uniform(reach[:, 0], reach[:, 1])
    yaw = rng.uniform(-0.3, 0.3, n)
    angle = yaw + rng.uniform(-0.3, 0.3, n)
    size, wide = rng.uniform(0.75, 1.2, (n, 1)), rng.uniform(0.4, 0.55, (n, 1))
    eye = np.stack([rng.uniform(-0.5, 0.5, n), np.zeros(n), rng.uniform(1.1, 1.4, n)], 1)
    x, y = np.clip(eye[:, 0] + distance * np.sin(angle), -1.1, 1.1), distance * np.cos(angle)
    cone, ball = np.flatnonzero(negative == 1), np.flatnonzero(negative == 0)
    one = np.ones((n, 1))
    stand(
        parts,
        cone,
        0,
        CONE,
        x[cone],
        y[cone],
        (size * np.hstack([wide * 1.2, wide * 1.2, 0.65 * one]))[cone],
    )
    stand(parts, ball, 0, TUBE, x[ball], y[ball], (size * [[0.1, 0.1, 0.4]])[ball])
    stand(
        parts,
        ball,
        1,
        BALL,
        x[ball],
        y[ball],
        (size * wide * one)[ball].repeat(3, 1),
        z=0.85 * size[ball, 0],
    )
    parts["colour"][:] = colours(rng, (n, 1), (0.6, 1.0), (0.7, 1.0))
    parts["gloss"][:] = rng.uniform(0, 0.6, (n, 1))
    light, ambient = lamp(rng, n)
    aim = camera(yaw, rng.uniform(-0.14, 0.02, n), 0.56)
    return canvas.finish(
        draw(eye, aim, parts, light, ambient, corridor(rng, n, light, ambient)), rng, grain=0.015
    )


def road(rng, n, light, ambient):
    """A backdrop: sky, verge, pavement, a bending road with lane marks; and the road's middle."""
    bend = rng.uniform(-0.004, 0.004, n)
    middle = rng.uniform(-2.2, -1.2, n)
    width = rng.uniform(3.4, 4.4, n)
    verge = canvas.hsv(
        rng.uniform(0.08, 0.36, n), rng.uniform(0.1, 0.5, n), rng.uniform(0.25, 0.6, n)
    )
    asphalt, kerb = grey(rng, n, 0.22, 0.5), grey(rng, n, 0.45, 0.75)
    pavement = rng.choice([0.3, 1.5, 2.5], n)
    sky = canvas.hsv(
        rng.uniform(0.52, 0.64, n), rng.uniform(0.0, 0.45, n), rng.uniform(0.6, 1.0, n)
    )
    bright = (ambient + (1 - ambient) * light[:, 2])[:, None]
    dash = rng.choice([3.0, 5.0, 400.0], n)

    def axis(y, rows=slice(None)):
        return middle[rows][:, None] + bend[rows][:, None] * y * y

    def backdrop(rows, eye, d):
        ground = d[:, 2] < -2e-3
        depth = np.where(ground, -eye[:, 2, None] / d[:, 2], FAR)
        x, y = eye[:, :1] + depth * d[:, 0], depth * d[:, 1]
        across = np.abs(x - axis(np.minimum(y, 90), rows))
        lane = (across < 0.14) & (np.mod(y / dash[rows][:, None], 2) < 1)
        w = width[rows][:, None]
        lane |= np.abs(across - w + 0.3) < 0.1
        kinds = np.where(
            lane, 3, np.where(across < w, 0, np.where(across < w + pavement[rows][:, None], 1, 2))
        )
        kinds[~ground] = 4
        tones = np.stack([asphalt, kerb, verge, np.full((n, 3), 0.85)], 1) * bright[:, None]
        tones = np.concatenate([tones, sky[:, None]], 1)[rows]
        colour = tones[np.arange(len(rows))[:, None], kinds].transpose(0, 2, 1)
        return depth.astype(np.float32), colour.astype(np.float32), ground

    return backdrop, axis, width


def kitti(labels, rng, split):
    """The bin of the distance to the nearest vehicle (near, middle, far, none) carries the class.
    Other vehicles, colours and lanes, the bend, road, kerbs, trees, houses, sky and light vary.
    """
    n = len(labels)
    light, ambient = light_from(rng, n, 0.5, 1.2), rng.uniform(0.35, 0.65, n)
    backdrop, axis, width = road(rng, n, light, ambient)
    parts = solids(n, 3 * CARS + 2 * TREES + HOUSES)

    reach = np.array(VEHICLES)[labels]
    y = np.cumsum(rng.uniform(5, 16, (n, CARS)), 1)
    y += (rng.uniform(reach[:, 0], reach[:, 1]) - y[:, 0])[:, None]  # the first is the nearest
    # oncoming, our own, parked
    lane = rng.choice([-0.5, 0.5, 0.5, 0.78], (n, CARS)) * width[:, None]
    # near vehicles stay in the picture
    lane[:, 0] = np.where(labels == NEAR, rng.choice([0.15, 0.35, 0.6], n) * width, lane[:, 0])
    x = axis(y) + lane
    number = np.where(labels == NONE, 0, rng.integers(1, CARS + 1, n))
    bright = colours(rng, (n, CARS), (0.4, 0.9), (0.3, 0.9))
    dull = rng.choice([0.1, 0.3, 0.6, 0.95], (n, CARS, 1))
    paint = np.where(rng.random((n, CARS, 1)) < 0.5, bright, dull)
    for k in range(CARS):
        rows = np.flatnonzero(number > k)
        tall = rng.uniform(0.9, 1.3, n)[rows]
        size = np.stack(
            [rng.uniform(0.8, 1.0, len(rows)), rng.uniform(1.8, 2.3, len(rows)), 0.32 * tall], 1
        )
        at = x[rows, k], y[rows, k]
        stand(parts, rows, 3 * k, BLOCK, *at, size, z=0.3 + 0.32 * tall)
        stand(parts, rows, 3 * k + 1, BLOCK, *at, size * [0.85, 0.6, 0.9], z=0.3 + 0.9 * tall)
        stand(parts, rows, 3 * k + 2, BLOCK, *at, size * [0.92, 0.95, 0] + [0, 0, 0.2])
        parts["colour"][rows, 3 * k] = paint[rows, k]
        parts["colour"][rows, 3 * k + 1] = 0.35 * paint[rows, k] + 0.08
        parts["colour"][rows, 3 * k + 2] = 0.04
        parts["gloss"][rows, 3 * k] = 0.4

    for k in range(TREES):
        rows, place = np.flatnonzero(rng.random(n) < 0.8), 3 * CARS + 2 * k
        far, size = rng.uniform(9, 45, len(rows)), rng.uniform(1.0, 2.2, len(rows))
        off = (width[rows] + rng.uniform(2.5, 6, len(rows))) * rng.choice([-1, 1], len(rows))
        at = axis(far[:, None], rows)[:, 0] + off, far
        crown = np.stack([size, size, size * rng.uniform(0.9, 1.6, len(rows))], 1)
        stand(parts, rows, place, TUBE, *at, np.stack([size * 0.12, size * 0.12, size], 1))
        stand(
            parts,
            rows,
            place + 1,
            rng.choice([BALL, CONE], len(rows)),
            *at,
            crown,
            z=1.2 + size + crown[:, 2] * 0.5,
        )
        parts["colour"][rows, place] = [0.25, 0.18, 0.12]
        parts["colour"][rows, place + 1] = colours(rng, len(rows), (0.3, 0.7), (0.2, 0.5)) * [
            0.6,
            1,
            0.5,
        ]
    for k in range(HOUSES):
        rows, place = np.flatnonzero(rng.random(n) < 0.75), 3 * CARS + 2 * TREES + k
        far, m = rng.uniform(14, 60, len(rows)), len(rows)
        size = np.stack([rng.uniform(2, 5, m), rng.uniform(3, 8, m), rng.uniform(1, 5, m)], 1)
        off = (width[rows] + size[:, 0] + rng.uniform(2.5, 7, m)) * rng.choice([-1, 1], m)
        stand(parts, rows, place, BLOCK, axis(far[:, None], rows)[:, 0] + off, far, size)
        parts["colour"][rows, place] = colours(rng, m, (0.0, 0.5), (0.3, 0.9))
    eye = np.stack([np.zeros(n), np.zeros(n), rng.uniform(1.5, 1.8, n)], 1)
    aim = camera(rng.uniform(-0.06, 0.06, n), rng.uniform(-0.1, -0.02, n), 0.39)
    return canvas.finish(draw(eye, aim, parts, light, ambient, backdrop), rng, grain=0.015)


TWINS = (
    Twin(
        name="dmlab_twin",
        group="structured",
        stands_for="DMLab",
        differs="A straight room with one object whose shape, not colour, says whether it "
        "rewards; the original shows mazes from a game engine with several objects of many kinds.",
        n_classes=2 * len(REWARDS),
        render=dmlab,
    ),
    Twin(
        name="kitti_twin",
        group="structured",
        stands_for="KITTI, distance",
        differs="A rendered road with block-shaped vehicles, gaps between the distance bins and "
        "a narrower view; the original is camera footage of German streets with bins that touch.",
        n_classes=len(VEHICLES),
        render=kitti,
    ),
)
