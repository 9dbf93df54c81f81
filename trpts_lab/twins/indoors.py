"""Layers of the drawn places that have a roof."""

import numpy as np

from trpts_lab.canvas import hsv
from trpts_lab.twins.textures import tent

# times of day
LIGHTS = np.float32(
    [[1, 1, 1], [1.05, 0.8, 0.65], [0.45, 0.5, 0.75], [0.8, 0.8, 0.82], [1, 0.85, 0.9]]
)


def room(w):
    """A room seen along its axis: back wall, side walls, floor, ceiling; colours vary."""
    depth = np.maximum(np.abs(w.x) / 0.6, np.maximum(w.y / 0.4, -w.y / 0.5))
    wall, shade = w.tone("wall"), np.clip(depth * 0.3 + 0.4, 0.6, 1)
    w.pictures[:] = wall[:, None, None] * shade[..., None]
    w.put(
        np.where(w.rng.random((w.n, 1)) < 0.5, w.tone("wood"), w.tone("grey")),
        np.maximum(0.4 - w.y, np.abs(w.x) / 0.6 - w.y / 0.4),
    )
    w.put("white", np.maximum(w.y + 0.5, np.abs(w.x) / 0.6 + w.y / 0.5))


def panes(w, centres, top=-0.38, bottom=0.05, half=0.17):
    for at in centres:
        pane = np.maximum(
            np.abs(w.x - at) - half, np.abs(w.y - (top + bottom) / 2) - (bottom - top) / 2
        )
        w.put("wood", pane - 0.04)
        w.put("white", pane)
        w.put(
            "wood",
            np.maximum(pane, np.minimum(np.abs(w.x - at), np.abs(w.y - (top + bottom) / 2)) - 0.02),
        )


def shelves(w):
    boards = np.maximum(np.abs(w.x) - 0.9, np.abs(w.y + 0.02) - 0.62)
    w.put("wood", boards)
    k = (
        np.clip(((w.x + 1.1) * 9).astype(int), 0, 19),
        np.clip(((w.y + 0.64) * 3.9).astype(int), 0, 4),
    )
    colours = hsv(w.rng.random((w.n, 20, 5)), 0.6, w.rng.uniform(0.3, 0.9, (w.n, 20, 5)))
    books = np.maximum(
        boards + 0.03, np.maximum(0.3 - tent((w.x + 1.1) * 9), 0.3 - tent((w.y + 0.64) * 3.9)) * 0.1
    )
    w.put(colours[np.arange(w.n)[:, None, None], k[0], k[1]], books)


def doors(w):
    w.put("dark", np.maximum(np.abs(w.x) - 0.16, np.abs(w.y - 0.1) - 0.3))
    for near, far in ((1.05, 0.9), (0.8, 0.7)):
        u = np.abs(w.x)
        w.put(
            "wood",
            np.maximum(np.maximum(u - near, far - u), np.maximum(w.y - u * 0.64, -w.y - u * 0.45)),
        )


def board(w):
    desk = [("b", 0, 0, 0.2, 0.05), ("b", -0.15, 0.1, 0.03, 0.1), ("b", 0.15, 0.1, 0.03, 0.1)]
    w.put("leaf", np.maximum(np.abs(w.x) - 0.5, np.abs(w.y + 0.15) - 0.2))
    for foot in (0.45, 0.75):
        for at in (-0.6, 0.0, 0.6):
            w.thing(("wood", desk), at=at, foot=foot)


def vault(w):
    w.put("rock", -(np.hypot(w.x, w.y * 0.8 + 0.1) - 0.72))
    w.put("dark", np.abs(np.hypot(w.x, w.y * 0.8 + 0.1) - 0.6) - 0.03)
    panes(w, [0.0], -0.5, 0.0, 0.1)


def rows(tone, first=0.4):
    """Rows of seats, wider towards the front, with an aisle."""

    def draw(w):
        for k in range(3):
            y, half = first + 0.2 * k, 0.45 + 0.22 * k
            seats = np.maximum(
                np.abs(w.y - y) - 0.06,
                np.maximum(np.abs(w.x) - half, 0.08 + 0.03 * k - np.abs(w.x)),
            )
            w.put(tone, seats)

    return draw


def stairs(w):
    for k in range(6):
        step = np.maximum(np.abs(w.x) - 0.3 - 0.07 * k, np.abs(w.y + 0.15 - 0.19 * k) - 0.1)
        w.put(w.tone("white") * (0.45 + 0.1 * k), step)


def frames(w):
    for at in (-0.62, 0.0, 0.62):
        w.thing(
            ("wood", [("b", 0, 0, 0.24, 0.2)]),
            ("cloth", [("b", 0, 0, 0.18, 0.14)]),
            at=at,
            foot=-0.12,
        )


def machines(w):
    for at in (-0.68, -0.23, 0.23, 0.68):
        w.put("white", np.maximum(np.abs(w.x - at) - 0.2, np.abs(w.y - 0.25) - 0.27))
        w.put("dark", np.hypot(w.x - at, w.y - 0.27) - 0.13)


def tunnel(w):
    r = np.hypot(w.x, w.y * 1.1)
    shade = (0.4 + 0.6 * np.clip(r, 0, 1)) * (0.75 + 0.25 * tent(1.5 / (r + 0.2)))
    w.pictures[:] = w.tone("rock")[:, None, None] * shade[..., None]
    w.put("white", r - 0.16)


def counter(w):
    w.put("wall", np.maximum(np.abs(w.y - 0.35) - 0.22, 0.05 - tent(w.x * 1.7) * 0.5))
    w.put("dark", np.abs(w.y - 0.13) - 0.04)
    w.put("wall", np.maximum(np.abs(w.y + 0.45) - 0.15, 0.3 - np.abs(w.x)))


def tiles(w):
    w.put("white", np.maximum(w.y - 0.4, 0.12 - np.minimum(tent(w.x * 3), tent(w.y * 3))))


def cinema(w):
    w.pictures *= 0.3
    w.put("snow", np.maximum(np.abs(w.x) - 0.55, np.abs(w.y + 0.15) - 0.28))


def standing(*layers, **place):
    """A layer that is one thing; see View.thing."""
    return lambda w: w.thing(*layers, **place)


INDOORS = {
    "room": room,
    "shelves": shelves,
    "doors": doors,
    "board": board,
    "vault": vault,
    "window": lambda w: panes(w, [0.0]),
    "windows": lambda w: panes(w, [-0.42, 0.0, 0.42], -0.42, 0.1, 0.13),
    "pews": rows("wood"),
    "seats": rows("cloth", 0.35),
    "stairs": stairs,
    "frames": frames,
    "machines": machines,
    "tunnel": tunnel,
    "counter": counter,
    "tiles": tiles,
    "cinema": cinema,
    "pool": lambda w: w.put("water", np.maximum(0.42 - w.y, np.abs(w.x) - 0.8 * w.y)),
    "bed": standing(
        ("wood", [("b", 0, -0.2, 0.48, 0.3)]),
        ("cloth", [("b", 0, 0.15, 0.5, 0.3)]),
        ("white", [("b", 0, -0.15, 0.4, 0.1)]),
        foot=0.45,
    ),
    "sofa": standing(
        ("cloth", [("b", 0, -0.1, 0.6, 0.2), ("b", -0.6, 0, 0.13, 0.2), ("b", 0.6, 0, 0.13, 0.2)]),
        ("dark", [("b", 0, 0.05, 0.46, 0.03)]),
        foot=0.45,
    ),
    "picture": standing(
        ("wood", [("b", 0, 0, 0.3, 0.16)]), ("cloth", [("b", 0, 0, 0.24, 0.1)]), foot=-0.2
    ),
    "table": standing(
        (
            "wood",
            [
                ("e", 0, -0.05, 0.65, 0.15),
                ("b", -0.4, 0.2, 0.05, 0.25),
                ("b", 0.4, 0.2, 0.05, 0.25),
            ],
        ),
        foot=0.4,
    ),
    "lamp": standing(
        ("dark", [("b", 0, -0.25, 0.02, 0.3)]), ("sand", [("t", 0, 0, 0.25, 0.12)]), foot=-0.35
    ),
    "bath": standing(
        ("white", [("h", 0, -0.1, 0.6, 0.4, np.pi), ("b", 0, -0.1, 0.68, 0.06)]),
        ("dark", [("b", -0.5, -0.4, 0.03, 0.3)]),
        foot=0.5,
    ),
}
