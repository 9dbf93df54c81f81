"""Tables of land use, kinds of place, from above; a row is a class, a short chain of layers."""

import numpy as np

from trpts_lab.canvas import SIZE, finish
from trpts_lab.twins.aerial import Scene


def _views(labels, rng, table, grain=0.015):
    """Scenes by a table, one chain per class; light, haze and camera grain vary by picture."""
    images = np.zeros((len(labels), SIZE, SIZE, 3), np.uint8)
    for k, layers in enumerate(table.values()):
        rows = np.flatnonzero(labels == k)
        if len(rows):
            pictures = layers(Scene(len(rows), rng)).pictures
            pictures *= rng.uniform(0.75, 1.15, (len(rows), 1, 1, 3)).astype(np.float32) ** 0.7
            haze = rng.uniform(0, 0.25, (len(rows), 1, 1, 1)).astype(np.float32)
            images[rows] = finish(np.clip(pictures * (1 - haze) + 0.75 * haze, 0, 1), rng, grain)
    return images


def _town(s):
    return s.ground("any", 0.2, 8)


LAND_USE = {
    "annual crop": lambda s: s.parcels((1.1, 0.75), rows=0.14),
    "forest": lambda s: s.ground("dark").dots("dark", 0.2, 0.1, 0.6),
    "herbaceous": lambda s: (
        s.ground("land").patches("land", 4, 0.5, 0.2).patches("dark", 9, 0.62, 0.05)
    ),
    "highway": lambda s: (
        s.parcels((1.5, 1.1)).band("tarmac", 0.15, wiggle=0.06).band("shadow", 0.02, wiggle=0.06)
    ),
    "industrial": lambda s: (
        s.ground("tarmac")
        .roofs((0.8, 0.55), (0.33, 0.2), 0.85, 0.1)
        .dots("dark", 0.5, 0.08, 1, 0.2)
    ),
    "pasture": lambda s: s.parcels((1.3, 1.0), hedge=0.045, contrast=0.15).dots(
        "dark", 0.6, 0.06, 0.9, 0.25
    ),
    "permanent crop": lambda s: s.parcels((1.6, 1.3), contrast=0.3).dots("dark", 0.22, 0.07, 0.1),
    "residential": lambda s: (
        s.ground("green").dashes("tarmac", 0.72, 0.06, 9).roofs(0.24, (0.075, 0.065), 0.8)
    ),
    "river": lambda s: (
        s.ground("land", 0.3).band("land", 0.28, wiggle=0.22).band("water", 0.17, wiggle=0.22)
    ),
    "sea or lake": lambda s: s.ground("water", 0.12, 3).shore("land", s.rng.uniform(0.5, 1.6)),
}

SCENES = {
    "airplane": lambda s: s.ground("tarmac").band("white", 0.02, 0.8).plane(0.65),
    "airport": lambda s: (
        s.ground("green")
        .band("tarmac", 0.13, 0.55)
        .band("tarmac", 0.08, -0.5, np.pi / 2)
        .block("tarmac", (0.6, 0.45), (0.2, -0.35))
        .block("roof", (0.55, 0.1), (0.2, -0.7))
        .plane(0.22, (0.0, -0.3))
        .plane(0.22, (0.5, -0.3))
    ),
    "baseball diamond": lambda s: s.ground("land").diamond(),
    "basketball court": lambda s: (
        s.ground("any")
        .block("any", (0.8, 0.45))
        .block("white", (0.7, 0.37), line=0.03)
        .block("white", (0.03, 0.37))
        .oval("white", 0.15, line=0.025)
        .block("any", (0.14, 0.14), (0.55, 0.0))
        .block("any", (0.14, 0.14), (-0.55, 0.0))
    ),
    "beach": lambda s: (
        s.ground("water", 0.1).shore("white", -0.1).shore("soil", 0.0).shore("green", 0.55, 0.2)
    ),
    "bridge": lambda s: (
        s.ground("green")
        .band("water", 0.5)
        .band("shadow", 0.1, 0.06, np.pi / 2)
        .band("tarmac", 0.09, 0, np.pi / 2)
    ),
    "chaparral": lambda s: s.ground("soil", 0.15).dots("dark", 0.26, 0.07, 0.9, 0.75),
    "church": lambda s: (
        _town(s)
        .block("shadow", (0.64, 0.24), (0.08, 0.08))
        .block("roof", (0.6, 0.17))
        .block("roof", (0.15, 0.45), (0.2, 0.0))
        .block("white", (0.12, 0.12), (-0.55, 0.0))
    ),
    "circular farmland": lambda s: s.ground("soil").dots("green", 0.95, 0.45, 0.0, 0.9),
    "cloud": lambda s: s.ground("land").patches("white", 3, 0.5, 0.3),
    "commercial area": lambda s: (
        s.ground("tarmac").roofs((0.62, 0.5), (0.26, 0.18), 1, 0.1).roofs(0.31, (0.1, 0.1), 0.5)
    ),
    "dense residential": lambda s: (
        s.ground("dark").dashes("tarmac", 0.8, 0.06, 9).roofs(0.2, (0.08, 0.07))
    ),
    "desert": lambda s: s.ground("soil", 0.1).ripples("soil", 0.36, 0.1, 0.5, 0.7, 0.16),
    "forest": lambda s: s.ground("dark").dots("dark", 0.2, 0.1, 0.6),
    "freeway": lambda s: (
        s.ground("green")
        .band("tarmac", 0.4)
        .band("green", 0.06)
        .dashes("white", 0.3, 0.08, 0.02, 0.22)
        .dashes("white", 0.3, 0.08, 0.02, -0.22)
    ),
    "golf course": lambda s: (
        s.ground("dark")
        .patches("green", 3, 0.48, 0.05)
        .blob("white", 0.17, 0.4, (0.3, 0.3))
        .blob("white", 0.16, 0.4, (-0.4, 0.1))
        .blob("white", 0.13, 0.4, (0.1, -0.5))
    ),
    "ground track field": lambda s: (
        _town(s)
        .oval("any", 0.48, 0.42)
        .oval("green", 0.3, 0.42)
        .oval("white", 0.39, 0.42, line=0.02)
    ),
    "harbor": lambda s: (
        s.ground("water", 0.1)
        .band("tarmac", 0.2, -0.9)
        .dashes("tarmac", 0.6, 0.05, 0.75, -0.1)
        .roofs((0.2, 0.17), (0.07, 0.03), 0.75, 0)
    ),
    "industrial area": lambda s: (
        s.ground("tarmac")
        .roofs((1.1, 0.42), (0.48, 0.14), 0.9, 0.05)
        .dots("white", 0.5, 0.1, 1, 0.2)
    ),
    "intersection": lambda s: (
        s.ground("green")
        .roofs(0.4, (0.12, 0.1))
        .band("tarmac", 0.17)
        .band("tarmac", 0.17, 0, np.pi / 2)
    ),
    "island": lambda s: s.ground("water", 0.1).blob("soil", 0.55).blob("green", 0.36),
    "lake": lambda s: s.ground("green").dots("dark", 0.24, 0.08, 0.9, 0.5).blob("water", 0.55),
    "meadow": lambda s: s.ground("land", 0.15, 3).ripples("land", 0.5, 0.1, 0.1, 0.3, 0.3),
    "medium residential": lambda s: (
        s.ground("green").roofs((0.45, 0.4), (0.13, 0.1), 0.9).dots("dark", 0.33, 0.08, 0.9, 0.5)
    ),
    "mobile home park": lambda s: (
        s.ground("tarmac")
        .roofs((0.17, 0.42), (0.05, 0.16), 0.95, 0.05, 0.35)
        .dashes("tarmac", 0.84, 0.06, 9, turn=np.pi / 2)
    ),
    "mountain": lambda s: s.ground("land").relief(),
    "overpass": lambda s: (
        s.ground("green")
        .oval("tarmac", 0.45, line=0.06)
        .band("tarmac", 0.15)
        .band("shadow", 0.24, 0, np.pi / 2)
        .band("tarmac", 0.17, 0, np.pi / 2)
    ),
    "palace": lambda s: (
        s.ground("green")
        .dots("dark", 0.3, 0.09, 0, 0.6)
        .block("soil", (0.75, 0.7))
        .block("roof", (0.5, 0.42), line=0.12)
        .block("roof", (0.14, 0.14))
    ),
    "parking lot": lambda s: (
        s.ground("tarmac", 0.1)
        .dashes("white", 0.5, 0.02, 9, turn=np.pi / 2)
        .roofs((0.14, 0.25), (0.045, 0.09), 0.75, 0.1)
    ),
    "railway": lambda s: (
        s.ground("land")
        .band("tarmac", 0.22)
        .band("shadow", 0.03, 0.11)
        .band("shadow", 0.03, -0.11)
        .dots("dark", 0.4, 0.1, 0.9, 0.3)
    ),
    "railway station": lambda s: (
        _town(s)
        .band("soil", 0.62)
        .dashes("shadow", 0.25, 0.035, 9, turn=np.pi / 2)
        .block("white", (0.8, 0.1), (0, 0.25))
        .block("white", (0.8, 0.1), (0.1, -0.25))
    ),
    "rectangular farmland": lambda s: s.parcels((0.9, 0.5), rows=0.1),
    "river": lambda s: (
        s.ground("green").dots("dark", 0.24, 0.08, 0.9, 0.4).band("water", 0.17, wiggle=0.24)
    ),
    "roundabout": lambda s: (
        s.ground("green")
        .band("tarmac", 0.12)
        .band("tarmac", 0.12, 0, np.pi / 2)
        .oval("tarmac", 0.52)
        .oval("green", 0.28)
    ),
    "runway": lambda s: (
        s.ground("green")
        .band("tarmac", 0.3)
        .dashes("white", 0.42, 0.12, 0.025)
        .dashes("white", 0.14, 0.035, 0.22, 0.6, np.pi / 2, 0.25)
    ),
    "sea ice": lambda s: s.ground("water", 0.1).patches("white", 6, 0.45, 0.03, 2),
    "ship": lambda s: s.ground("water", 0.1).ship(0.65).block("any", (0.2, 0.1), (-0.3, 0.0)),
    "snowberg": lambda s: s.ground("white").relief(7).patches("shadow", 5, 0.62, 0.05),
    "sparse residential": lambda s: (
        s.ground("land").dots("dark", 0.3, 0.1, 0.9, 0.5).roofs((1.1, 0.9), (0.17, 0.12), 0.9, 0.4)
    ),
    "stadium": lambda s: (
        s.ground("tarmac")
        .oval("shadow", 0.68, 0.25, (0.08, 0.08))
        .oval("white", 0.66, 0.25)
        .oval("any", 0.5, 0.25)
        .block("green", (0.46, 0.28))
    ),
    "storage tank": lambda s: s.ground("land").dots("white", 0.62, 0.22, 0.1, 0.85),
    "tennis court": lambda s: (
        s.ground("any")
        .block("any", (0.3, 0.6), (-0.4, 0))
        .block("any", (0.3, 0.6), (0.4, 0))
        .block("white", (0.2, 0.46), (-0.4, 0), line=0.03)
        .block("white", (0.2, 0.46), (0.4, 0), line=0.03)
        .block("white", (0.6, 0.02))
    ),
    "terrace": lambda s: s.ground("green").ripples("dark", 0.24, 0.045, 0.7),
    "thermal power station": lambda s: (
        s.ground("tarmac")
        .roofs((0.6, 0.4), (0.22, 0.12), 0.6)
        .oval("white", 0.34, at=(-0.4, -0.3))
        .oval("shadow", 0.2, at=(-0.4, -0.3))
        .oval("white", 0.34, at=(0.35, -0.3))
        .oval("shadow", 0.2, at=(0.35, -0.3))
        .blob("white", 0.35, 0.5, (0.1, 0.4), 0.4, 0.8)
    ),
    "wetland": lambda s: (
        s.ground("water").patches("green", 4, 0.48, 0.08).patches("dark", 8, 0.6, 0.08)
    ),
}


def eurosat(labels, rng, split):
    """Class = land use (layout, texture from above); colours, hue, direction, scale, haze vary."""
    return _views(labels, rng, LAND_USE)


def resisc45(labels, rng, split):
    """Class = kind of scene, by what stands where; colours, direction, place, scale, haze vary."""
    return _views(labels, rng, SCENES)
