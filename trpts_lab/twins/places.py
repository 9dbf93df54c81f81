"""Twin of VTAB's Sun397 (Natural): rooms and landmarks; more outdoor layers are in `outdoors`."""

import numpy as np

from trpts_lab.canvas import finish
from trpts_lab.twins.indoors import INDOORS, LIGHTS, standing
from trpts_lab.twins.outdoors import OUTDOORS
from trpts_lab.twins.studio import class_by_class, lit, pose
from trpts_lab.twins.twin import Twin
from trpts_lab.twins.view import View

LANDMARKS = {  # out of doors
    "boat": standing(
        ("dark", [("h", 0, -0.1, 0.5, 0.2, np.pi)]), ("white", [("t", 0.12, -0.55, 0.3, 0.4)])
    ),
    "lighthouse": standing(
        ("rock", [("h", 0, 0.15, 0.7, 0.3)]),
        ("white", [("b", 0, -0.5, 0.13, 0.5)]),
        (
            "cloth",
            [("b", 0, -0.25, 0.13, 0.12), ("b", 0, -0.7, 0.13, 0.12), ("t", 0, -1.1, 0.2, 0.12)],
        ),
        size=0.8,
    ),
    "barn": standing(
        ("cloth", [("b", 0, -0.25, 0.5, 0.28), ("h", 0, -0.5, 0.52, 0.35)]),
        ("white", [("b", 0, -0.15, 0.18, 0.18)]),
    ),
    "church": standing(
        ("wall", [("b", 0.2, -0.2, 0.45, 0.25), ("b", -0.35, -0.5, 0.16, 0.55)]),
        ("roof", [("t", 0.2, -0.6, 0.5, 0.16), ("t", -0.35, -1.2, 0.2, 0.3)]),
        size=0.75,
    ),
    "castle": standing(
        (
            "rock",
            [("b", 0, -0.2, 0.6, 0.3), ("b", -0.6, -0.4, 0.17, 0.5), ("b", 0.6, -0.4, 0.17, 0.5)],
        ),
        ("rock", [("b", u, -0.55, 0.06, 0.1) for u in (-0.3, 0, 0.3)]),
        ("dark", [("h", 0, 0.1, 0.15, 0.4)]),
        size=0.85,
    ),
    "temple": standing(
        ("sand", [("t", 0, -0.85, 0.8, 0.18), ("b", 0, -0.65, 0.75, 0.05), ("b", 0, 0, 0.8, 0.08)]),
        ("white", [("b", u, -0.33, 0.08, 0.3) for u in (-0.6, -0.2, 0.2, 0.6)]),
        size=0.85,
    ),
    "pagoda": standing(
        ("wall", [("b", 0, -0.5, 0.25, 0.6)]),
        ("roof", [("t", 0, y, h, 0.13) for y, h in ((-0.3, 0.65), (-0.7, 0.5), (-1.1, 0.38))]),
        size=0.8,
    ),
    "goal": standing(
        (
            "white",
            [
                ("b", -0.5, -0.3, 0.04, 0.35),
                ("b", 0.5, -0.3, 0.04, 0.35),
                ("b", 0, -0.63, 0.54, 0.04),
            ],
        ),
        ("white", [("e", 0.2, 0.3, 0.1, 0.1)]),
    ),
    "igloo": standing(("white", [("h", 0, 0, 0.65, 0.6)]), ("dark", [("h", 0.1, 0, 0.2, 0.3)])),
}


PLACES = [  # the layers of each, from far to near
    "sky bay sand palm",
    "sky ocean",
    "sky ocean boat",
    "sky ocean lighthouse",
    "sky dunes sand",
    "sky sand pyramids",
    "sky peaks grass",
    "sky firs snow",
    "sky peaks snow",
    "sky peaks ocean",
    "sky forest grass road",
    "sky sand road",
    "sky skyline asphalt",
    "sky skyline ocean",
    "sky crops",
    "sky hills crops",
    "sky hills grass barn",
    "sky grass houses",
    "sky grass church",
    "sky hills grass castle",
    "sky grass windmill",
    "sky hills grass turbines",
    "sky ocean bridge",
    "sky forest grass river",
    "sky hills dirt rails",
    "sky firs grass tents",
    "sky rocks temple",
    "sky forest grass pagoda",
    "sky grass trees",
    "sky grass goal",
    "sky asphalt wheel",
    "sky dirt canyon river",
    "sky forest waterfall",
    "sky ocean pier",
    "sky snow igloo",
    "room window bed",
    "room picture sofa",
    "room lamp table",
    "room shelves",
    "room window counter",
    "room doors",
    "room board",
    "room vault pews",
    "room frames",
    "room tiles bath",
    "room stairs",
    "room cinema seats",
    "room windows pool",
    "room machines",
    "tunnel road",
]
LAYERS = OUTDOORS | LANDMARKS | INDOORS


def sun397_twin(labels, rng, split):
    """Class = which elements form a place and where; hour, weather, colours, viewpoint vary."""

    def draw(c, n, rng):
        x, y, edge = pose(rng, n, 0.3, (0.8, 1.3), 0.08)
        view = View(np.zeros((n, *x.shape[1:], 3), np.float32), x, y, edge, rng)
        for layer in PLACES[c].split():
            LAYERS[layer](view)
        for _ in range(2):  # passers-by and other small things in front
            spot = np.hypot(
                x - view.any(-1, 1), (y - view.any(0, 0.9)) * view.any(0.4, 1)
            ) - view.any(-0.05, 0.09)
            view.put("cloth", spot)
        light = LIGHTS[rng.integers(0, len(LIGHTS), n)]
        return finish(lit(rng, view.pictures * light[:, None, None]), rng, 0.03)

    return class_by_class(labels, rng, draw)


TWINS = (
    Twin(
        name="sun397_twin",
        group="natural",
        stands_for="Sun397",
        differs="50 places put together from drawn layers instead of photographs of 397 kinds of "
        "place.",
        n_classes=50,
        render=sun397_twin,
    ),
)
