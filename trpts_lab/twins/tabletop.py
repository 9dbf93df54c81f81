"""Twins of VTAB's structured solids on a plane: CLEVR counts and distances, SmallNORB views."""

import numpy as np

from trpts_lab import canvas
from trpts_lab.twins.rays import (
    BALL,
    BLOCK,
    NOTHING,
    TUBE,
    camera,
    colours,
    draw,
    grey,
    lamp,
    orbit,
    plain,
    solids,
)
from trpts_lab.twins.twin import Twin

FEWEST, MOST = 3, 10  # solids to be counted
DISTANCES = np.geomspace(3.2, 12.5, 7)  # edges of the six bins
AZIMUTHS = 18  # steps once around
ELEVATIONS = 10 + 9 * np.arange(9)  # degrees above the ground

# Five categories, each a few solids (kind, centre x y z, half sizes x y z); the front is +y.
FIGURES = (
    (  # animal: trunk, head, fore and hind legs, tail
        (BLOCK, 0, 0, 1.0, 0.35, 0.95, 0.3),
        (BALL, 0, 1.15, 1.5, 0.32, 0.42, 0.36),
        (BLOCK, 0, 0.75, 0.35, 0.3, 0.13, 0.36),
        (BLOCK, 0, -0.75, 0.35, 0.3, 0.13, 0.36),
        (TUBE, 0, -1.0, 1.35, 0.08, 0.08, 0.4),
    ),
    (  # person: legs, trunk, head, an arm held out forward, a pack on the back
        (BLOCK, 0, 0, 0.5, 0.38, 0.2, 0.5),
        (TUBE, 0, 0, 1.35, 0.48, 0.28, 0.42),
        (BALL, 0, 0.05, 2.1, 0.3, 0.3, 0.33),
        (BLOCK, -0.42, 0.6, 1.55, 0.12, 0.65, 0.12),
        (BLOCK, 0, -0.4, 1.4, 0.3, 0.2, 0.3),
    ),
    (  # aeroplane: body, wings, fin, tailplane, undercarriage
        (BALL, 0, 0.1, 0.8, 0.3, 1.5, 0.3),
        (BLOCK, 0, 0.35, 0.85, 1.5, 0.32, 0.06),
        (BLOCK, 0, -1.2, 1.15, 0.06, 0.25, 0.4),
        (BLOCK, 0, -1.2, 0.85, 0.6, 0.2, 0.05),
        (TUBE, 0, 0.6, 0.3, 0.12, 0.12, 0.3),
    ),
    (  # lorry: load, cab, chassis, wind screen, exhaust
        (BLOCK, 0, -0.45, 1.15, 0.55, 0.9, 0.65),
        (BLOCK, 0, 1.0, 0.8, 0.5, 0.35, 0.45),
        (BLOCK, 0, 0.1, 0.25, 0.45, 1.3, 0.2),
        (BALL, 0, 1.35, 0.7, 0.3, 0.15, 0.2),
        (TUBE, -0.55, 0.6, 1.3, 0.08, 0.08, 0.6),
    ),
    (  # car: body, cabin, bonnet's ball, rear wing, underside
        (BLOCK, 0, 0, 0.45, 0.65, 1.4, 0.28),
        (BLOCK, 0, -0.35, 0.95, 0.5, 0.6, 0.28),
        (BALL, 0, 0.9, 0.7, 0.4, 0.4, 0.25),
        (BLOCK, 0, -1.35, 1.05, 0.65, 0.15, 0.06),
        (BLOCK, 0, 0, 0.12, 0.55, 1.1, 0.12),
    ),
)


def primitives(rng, radius):
    """Standing balls, blocks, tubes of radii [n, K], of any colour and turn, matt or glossy."""
    shape = radius.shape
    parts = solids(*shape)
    parts["kind"] = rng.integers(0, 3, shape)
    parts["half"] = np.repeat(radius[..., None], 3, 2).astype(np.float32)
    parts["half"] *= np.where(parts["kind"] == BALL, 1, 0.85)[..., None].astype(np.float32)
    parts["turn"] = rng.uniform(0, np.pi, shape).astype(np.float32)
    parts["colour"] = colours(rng, shape, value=(0.6, 1.0))
    parts["gloss"] = (0.7 * rng.integers(0, 2, shape)).astype(np.float32)
    parts["centre"][..., 2] = parts["half"][..., 2]
    return parts


def clevr_count(labels, rng, split):
    """The number of solids (3 to 10) on a lit plane carries the class; their kind, size, colour,
    gloss and place, the camera and the light vary. Sizes shrink a little as the number grows, so
    that covered area tells little.
    """
    n = len(labels)
    count = labels + FEWEST
    scale = rng.uniform(0.42, 0.72, n) * (6.5 / count) ** 0.3
    parts = primitives(rng, scale[:, None] * rng.uniform(0.65, 1.25, (n, MOST)))
    radius = parts["half"][..., 0]
    place = np.zeros((n, MOST, 2))
    # of some random places take the first that is clear of the earlier solids, or the clearest
    for k in range(MOST):
        tries = rng.uniform((-2.3, -2.4), (2.3, 2.9), (n, 24, 2))
        gap = np.linalg.norm(tries[:, :, None] - place[:, None, :k], axis=-1) - radius[:, None, :k]
        clear = gap.min(2, initial=9.0) - radius[:, None, k]
        best = np.where((clear > 0.4).any(1), (clear > 0.4).argmax(1), clear.argmax(1))
        place[:, k] = tries[np.arange(n), best]
    parts["centre"][..., :2] = place
    parts["kind"][np.arange(MOST) >= count[:, None]] = NOTHING
    yaw, pitch = np.zeros(n), -rng.uniform(0.8, 1.1, n)
    light, ambient = lamp(rng, n, low=0.8)  # no long shadows: they would hide solids
    backdrop = plain(grey(rng, n, 0.3, 0.65), grey(rng, n, 0.3, 0.65), light, ambient)
    eye = orbit(yaw, pitch, rng.uniform(7.8, 8.6, n))
    pictures = draw(eye, camera(yaw, pitch, 0.43), parts, light, ambient, backdrop)
    return canvas.finish(pictures, rng, grain=0.015)


def clevr_dist(labels, rng, split):
    """The bin of the distance from the camera to the closest solid carries the class: seen from
    where it stands on the ground, for its size varies threefold. One to four solids, their looks,
    the camera's tilt and the light vary.
    """
    n, places = len(labels), 4
    parts = primitives(rng, rng.uniform(0.3, 0.9, (n, places)))
    inside = rng.uniform(0.1, 0.9, n)
    nearest = DISTANCES[labels] ** (1 - inside) * DISTANCES[labels + 1] ** inside
    distance = nearest[:, None] + rng.uniform(1, 7, (n, places))
    distance[:, 0] = nearest
    # each solid stands in a sector of its own, so that no farther one hides behind the closest by
    # chance of the draw
    sector = rng.permuted(np.tile(np.arange(places), (n, 1)), axis=1) - (places - 1) / 2
    angle = 0.21 * (sector + rng.uniform(-0.35, 0.35, (n, places)))
    parts["centre"][..., 0] = distance * np.sin(angle)
    parts["centre"][..., 1] = distance * np.cos(angle)
    parts["kind"][np.arange(places) > rng.integers(0, places, n)[:, None]] = NOTHING
    light, ambient = lamp(rng, n)
    backdrop = plain(grey(rng, n, 0.25, 0.6), grey(rng, n, 0.25, 0.75), light, ambient)
    eye = np.stack([np.zeros(n), np.zeros(n), rng.uniform(2.1, 2.5, n)], 1)
    aim = camera(np.zeros(n), -rng.uniform(0.26, 0.44, n), 0.48)
    return canvas.finish(draw(eye, aim, parts, light, ambient, backdrop), rng, grain=0.015)


def norb(azimuth, elevation, rng):
    """Grey pictures of a random figure; proportions, grey, place, size, light and ground vary."""
    n = len(azimuth)
    table = np.array(FIGURES, np.float32)[rng.integers(0, len(FIGURES), n)]  # [n, solids, 7]
    parts = solids(n, table.shape[1])
    stretch = rng.uniform(0.85, 1.15, (n, 1, 3)).astype(np.float32)
    parts["kind"] = table[..., 0].astype(int)
    parts["centre"] = table[..., 1:4] * stretch
    parts["half"] = table[..., 4:]
    parts["half"] = parts["half"] * stretch
    parts["centre"][..., :2] += rng.uniform(-0.25, 0.25, (n, 1, 2))
    parts["colour"] = rng.uniform(0.35, 0.95, (n, 1, 1)) * rng.uniform(
        0.8, 1.1, (*table.shape[:2], 1)
    )
    parts["colour"] = parts["colour"].repeat(3, 2).astype(np.float32)
    parts["gloss"] += rng.uniform(0, 0.3, (n, 1)).astype(np.float32)
    light, ambient = lamp(rng, n)
    tone = grey(rng, n, 0.25, 0.8, tint=0)
    lit = tone * (ambient + (1 - ambient) * light[:, 2])[:, None]
    # the camera looks at the figure's middle
    eye = orbit(azimuth, -elevation, rng.uniform(6.2, 7.4, n)) + np.array([0, 0, 0.7])
    aim, backdrop = camera(azimuth, -elevation, 0.36), plain(tone, lit, light, ambient)
    pictures = draw(eye, aim, parts, light, ambient, backdrop)
    pictures *= 0.85 + 0.3 * canvas.noise(rng, n, 2)[..., None]
    grain = rng.standard_normal((*pictures.shape[:3], 1), dtype=np.float32)
    return canvas.finish((pictures.mean(3, keepdims=True) + 0.02 * grain).repeat(3, 3))


def smallnorb_azi(labels, rng, split):
    """The direction from which a figure is seen, one of 18 steps of 20 degrees around it, carries
    the class; elevation, category, proportions, greys, place and light vary.
    """
    return norb(labels * (2 * np.pi / AZIMUTHS), np.deg2rad(rng.uniform(25, 65, len(labels))), rng)


def smallnorb_ele(labels, rng, split):
    """The height from which a figure is seen, one of 9 steps from 10 to 82 degrees above the
    ground, carries the class; azimuth, category, proportions, greys, place and light vary.
    """
    return norb(rng.uniform(0, 2 * np.pi, len(labels)), np.deg2rad(ELEVATIONS[labels]), rng)


TWINS = (
    Twin(
        name="clevr_count_twin",
        group="structured",
        stands_for="CLEVR, counting",
        differs="Untextured ray-traced solids of any size and hue from a steeper camera; CLEVR "
        "has two sizes, eight colours, real materials, soft shadows and 480 x 320 pixels.",
        n_classes=MOST - FEWEST + 1,
        render=clevr_count,
        any_size=True,
    ),
    Twin(
        name="clevr_dist_twin",
        group="structured",
        stands_for="CLEVR, distance",
        differs="One to four solids whose sizes vary threefold, and bins that grow in proportion "
        "to distance; CLEVR has three to ten solids of two sizes and a fixed camera but for "
        "jitter.",
        n_classes=len(DISTANCES) - 1,
        render=clevr_dist,
        any_size=True,
    ),
    Twin(
        name="smallnorb_azi_twin",
        group="structured",
        stands_for="SmallNORB, azimuth",
        differs="Figures composed of five simple solids, seen from any elevation between 25 and "
        "65 degrees on an unevenly lit ground; the original has photographs of fifty toys at "
        "nine elevations.",
        n_classes=AZIMUTHS,
        render=smallnorb_azi,
        any_size=True,
    ),
    Twin(
        name="smallnorb_ele_twin",
        group="structured",
        stands_for="SmallNORB, elevation",
        differs="Figures composed of five simple solids, and steps of 9 degrees from 10 to 82; "
        "the original has photographs of fifty toys and steps of 5 degrees from 30 to 70.",
        n_classes=len(ELEVATIONS),
        render=smallnorb_ele,
        any_size=True,
    ),
)
