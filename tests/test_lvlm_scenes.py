"""Scenes: repeatable, apart between splits, and shown where the masks say."""

import numpy as np
import pytest

from trpts_lab.lvlm.scenes import (
    COLOURS,
    GRID,
    MOST_COUNTED,
    N_CLUTTER,
    N_OBJECTS,
    N_TOKENS,
    PATCH,
    SHAPES,
    SIDE,
    SIZE,
    cell_tokens,
    draw_scene,
)

SCENES = [draw_scene("val", n) for n in range(300)]


def patches(scene):
    """The image's patches as the vision tower cuts them: [N_TOKENS, pixels, 3]."""
    return (
        scene.image.reshape(SIDE, PATCH, SIDE, PATCH, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(N_TOKENS, PATCH * PATCH, 3)
    ).astype(int)


def test_a_scene_is_decided_by_its_arguments():
    again = draw_scene("val", 7)
    assert (again.image == SCENES[7].image).all()
    assert (again.things, again.clutter, again.counted) == (
        SCENES[7].things,
        SCENES[7].clutter,
        SCENES[7].counted,
    )
    assert (draw_scene("val", 7, seed=1).image != again.image).any()


def test_no_scene_of_one_split_is_drawn_for_another():
    drawn = [
        draw_scene(split, n, seed)
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for n in range(100)
    ]
    assert len({scene.image.tobytes() for scene in drawn}) == len(drawn)
    assert len({(scene.things, scene.clutter) for scene in drawn}) == len(drawn)


def test_an_unknown_split_is_named():
    with pytest.raises(
        ValueError, match=r"split='dev' is unknown: expected one of train, val, test"
    ):
        draw_scene("dev", 0)


def test_tokens_of_a_cell_by_hand():
    # the cell in row 1, column 2 covers patches in rows 2 and 3, columns 4 and 5
    assert np.flatnonzero(cell_tokens(1, 2)).tolist() == [
        2 * SIDE + 4,
        2 * SIDE + 5,
        3 * SIDE + 4,
        3 * SIDE + 5,
    ]
    assert (
        np.sum([cell_tokens(r, c) for r in range(GRID) for c in range(GRID)], axis=0).tolist()
        == [1] * N_TOKENS
    )


def test_objects_are_within_bounds_and_apart():
    for scene in SCENES:
        cells = [(t.row, t.column) for t in scene.things] + list(scene.clutter)
        assert len(set(cells)) == len(cells)
        assert len({(t.colour, t.shape) for t in scene.things}) == len(scene.things)
        assert N_OBJECTS[0] <= len(scene.things) <= N_OBJECTS[1]
        assert N_CLUTTER[0] <= len(scene.clutter) <= N_CLUTTER[1]
        assert scene.image.shape == (SIZE, SIZE, 3)


def test_masks_point_at_the_pixels_of_each_object():
    for scene in SCENES[:100]:
        for thing, tokens in zip(scene.things, scene.thing_tokens, strict=True):
            near = (abs(patches(scene) - COLOURS[thing.colour]) <= 16).all(2)  # [N_TOKENS, pixels]
            assert (near[tokens].sum(1) >= 4).all()  # each of its four patches shows a part of it
            others = [t for t in scene.things if t.colour == thing.colour]
            elsewhere = ~np.any([cell_tokens(t.row, t.column) for t in others], axis=0)
            assert near[elsewhere].sum() <= 20  # noise and gradient meet the colour by chance


def test_shapes_are_drawn_as_named():
    # symmetry, a corner and the width at the top tell them apart, without the masks they were drawn
    # with
    for scene in SCENES[:100]:
        for thing in scene.things:
            y, x = thing.row * SIZE // GRID, thing.column * SIZE // GRID
            cell = scene.image[y : y + SIZE // GRID, x : x + SIZE // GRID].astype(int)
            on = (abs(cell - COLOURS[thing.colour]) <= 16).all(2)
            if (on == on[::-1]).mean() <= 0.97:
                found = "triangle"
            elif on[1, 1]:
                found = "square"
            else:
                found = "cross" if on[on.any(1)][0].sum() <= 2 else "circle"
            assert found == thing.shape


def test_clutter_is_black_and_white_and_catches_the_eye_more_than_objects():
    contrast = {"clutter": [], "things": []}
    for scene in SCENES[:100]:
        assert np.isin(patches(scene)[scene.clutter_tokens], (20, 235)).all()
        contrast["clutter"].append(patches(scene)[scene.clutter_tokens].std())
        contrast["things"].append(patches(scene)[scene.thing_tokens.any(0)].std())
    assert np.mean(contrast["clutter"]) > 1.5 * np.mean(contrast["things"])


def test_the_counted_word_has_every_count_equally_often():
    scenes = [draw_scene("train", n) for n in range(1500)]
    counts = [sum(s.counted in (t.colour, t.shape) for t in s.things) for s in scenes]
    shares = np.bincount(counts, minlength=MOST_COUNTED + 1) / len(scenes)
    assert len(shares) == MOST_COUNTED + 1
    assert abs(shares - 1 / (MOST_COUNTED + 1)).max() < 0.04
    assert {s.counted for s in scenes} == {*COLOURS, *SHAPES}
