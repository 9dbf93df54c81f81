"""The 24 twins: deterministic, balanced, answerable from the picture, and apart from the
pre-training.
"""

import numpy as np
import pytest
import torch
from made import loaded_by
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from trpts.data import vtab
from trpts.data.reading import NORMALIZATIONS
from trpts_lab import canvas
from trpts_lab.twins import GROUPS, TWINS
from trpts_lab.twins.natural import digit_sources
from trpts_lab.weights import formula

each = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
ANY_SIZE = {name: twin for name, twin in TWINS.items() if twin.any_size}
each_of_any_size = pytest.mark.parametrize("twin", ANY_SIZE.values(), ids=ANY_SIZE)


def test_nineteen_and_five():
    counts = {group: sum(twin.group == group for twin in TWINS.values()) for group in GROUPS}
    assert counts == {"natural": 7, "specialized": 4, "structured": 8, "fgvc": 5}
    real = {
        group: sum(source.group == group for source in vtab.TASKS.values()) for group in vtab.GROUPS
    }
    assert real == {group: counts[group] for group in vtab.GROUPS}


@each
def test_never_called_by_the_real_name(twin):
    assert twin.name.endswith("_twin")
    assert TWINS[twin.name] is twin
    assert twin.stands_for
    assert len(twin.differs.split()) >= 6, "say what is different"


@each
def test_deterministic_by_seed_and_split(twin):
    images, labels = twin.images("train", 40)
    again, same = twin.images("train", 40)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)
    assert images.shape == (40, 32, 32, 3)
    assert images.dtype == np.uint8
    for other in (twin.images("val", 40), twin.images("train", 40, seed=1)):
        assert not np.array_equal(images, other[0])


@each
def test_classes_are_balanced(twin):
    _, labels = twin.images("val", 5 * twin.n_classes)
    assert np.bincount(labels, minlength=twin.n_classes).tolist() == [5] * twin.n_classes


def features(images):
    """Block means and gradient orientations on a coarse grid: simple, but more than raw pixels."""
    grey = images.mean(3) / 255
    dy, dx = np.gradient(grey, axis=(1, 2))
    angle, strength = np.arctan2(dy, dx), np.hypot(dx, dy)
    parts = [images.reshape(len(images), 8, 4, 8, 4, 3).mean((2, 4)).reshape(len(images), -1) / 255]
    for k in range(8):
        near = strength * np.maximum(0, np.cos(angle - k * np.pi / 4)) ** 2
        parts.append(near.reshape(len(images), 4, 8, 4, 8).sum((2, 4)).reshape(len(images), -1))
    return np.concatenate(parts, 1)


@pytest.mark.slow
@each
def test_the_picture_holds_the_class(twin):
    """Logistic regression on simple features is above chance by more than the test's own noise, and
    not perfect.
    """
    (train, y), (test, z) = twin.images("train", 800), twin.images("test", 400)
    x, u = features(train), features(test)
    mean, deviation = x.mean(0), x.std(0) + 1e-3
    fit = LogisticRegression(C=0.02, max_iter=60, tol=1e-2).fit((x - mean) / deviation, y)
    accuracy = (fit.predict((u - mean) / deviation) == z).mean()
    chance = 1 / twin.n_classes
    assert accuracy > chance + 2.5 * np.sqrt(chance * (1 - chance) / len(z))
    assert accuracy < 0.95


def test_digits_are_split_by_source_image():
    """No handwritten digit that a train scene is made of is in a val or test scene, and all are
    used.
    """
    parts = {split: set(digit_sources(split).tolist()) for split in ("train", "val", "test")}
    assert (
        sum(map(len, parts.values()))
        == len(set().union(*parts.values()))
        == len(load_digits().target)
    )


def test_digit_scenes_take_only_their_part(monkeypatch):
    """The renderer asks for the sources of its own split and of no other."""
    from trpts_lab.twins import natural

    asked, real = [], natural.digit_sources
    monkeypatch.setattr(natural, "digit_sources", lambda split: asked.append(split) or real(split))
    TWINS["svhn_twin"].images("val", 10)
    assert set(asked) == {"val"}


def test_pretraining_shares_no_generator_with_the_twins():
    """Neither imports the other; in common they have the canvas alone."""
    twins, upstream = loaded_by("trpts_lab.twins"), loaded_by(formula.__name__)
    assert formula.__name__ not in twins
    assert not {name for name in upstream if name.startswith("trpts_lab.twins")}
    common = {name for name in twins & upstream if name.startswith("trpts_lab.")}
    assert common == {"trpts_lab.canvas"}


def test_task_has_the_protocol_of_vtab():
    task = TWINS["dsprites_loc_twin"].task()
    assert [len(split) for split in (task.train, task.val, task.test)] == [800, 200, 1000]
    assert task.train.images.shape[1:] == (3, 32, 32)
    assert task.train.images.min() >= -1
    assert task.train.images.max() <= 1
    assert task.n_classes == 16


# other sizes than 32


def test_which_twins_are_drawn_at_any_size():
    solids = {"clevr_count_twin", "clevr_dist_twin", "smallnorb_azi_twin", "smallnorb_ele_twin"}
    assert set(ANY_SIZE) == solids | {"dsprites_loc_twin", "dsprites_ori_twin"}


def cells(images):
    """Pictures of 96 pixels as [n, 32, 3, 32, 3]: grey values of the 3 x 3 pixels of each pixel at
    32.
    """
    return images.astype(float).mean(3).reshape(-1, 32, 3, 32, 3)


def drawn_finer(images, small):
    """Whether pixels that share one pixel of `small` step by nearly as much as neighbours in
    `small` do.

    In an interpolated picture a step between two pixels of `small` is spread over three steps.
    """
    fine, coarse = cells(images), small.astype(float).mean(3)
    inside = max(np.abs(np.diff(fine, axis=axis)).max() for axis in (2, 4))
    between = max(np.abs(np.diff(coarse, axis=axis)).max() for axis in (1, 2))
    return inside > 0.7 * between


@each_of_any_size
def test_another_size_is_drawn_and_not_resized(twin):
    small, labels = twin.images("train", 12)
    large, same = twin.images("train", 12, size=96)
    assert (large.shape, large.dtype) == ((12, 96, 96, 3), np.uint8)
    assert np.array_equal(labels, same)
    assert drawn_finer(large, small)
    for mode in ("nearest", "bilinear", "bicubic"):
        planted = functional.interpolate(
            torch.tensor(small).permute(0, 3, 1, 2).float(), scale_factor=3, mode=mode
        )
        assert not drawn_finer(planted.permute(0, 2, 3, 1).numpy(), small)
    distance = np.abs(cells(large).mean((2, 4))[:, None] - small.astype(float).mean(3)[None]).mean(
        (2, 3)
    )
    assert distance.argmin(1).tolist() == list(range(12)), (
        "a seed gives the same scenes at all sizes"
    )


@each_of_any_size
def test_the_default_size_is_32(twin):
    """Also after pictures of another size were drawn, and after drawing failed."""
    images, _ = twin.images("val", 5)
    twin.images("val", 5, size=20)
    with pytest.raises(KeyError), canvas.at_size(20):
        raise KeyError
    assert np.array_equal(twin.images("val", 5, size=32)[0], images)
    assert torch.equal(
        twin.split("val", 5).images, torch.tensor(images).permute(0, 3, 1, 2) / 127.5 - 1
    )


def test_a_soft_edge_is_one_pixel_wide_at_every_size():
    for size in (32, 84):
        with canvas.at_size(size):
            x, _ = canvas.grid()
            (row,) = canvas.finish(
                canvas.paint(canvas.blank(1), (1, 1, 1), canvas.cover(x - 0.37))
            )[:, 0, :, 0]
            assert canvas.noise(np.random.default_rng(0), 2, 3).shape == (2, 2 * size, 2 * size)
        assert len(row) == size
        assert ((row > 0) & (row < 255)).sum() <= 2
        assert abs(row.sum() / 255 - 1.37 / 2 * size) < 0.1


def test_camera_noise_is_as_strong_at_every_size():
    for size in (32, 84):
        with canvas.at_size(size):
            images = canvas.finish(
                canvas.blank(4, (0.5, 0.5, 0.5)), np.random.default_rng(0), grain=0.04
            )
        assert images.shape == (4, size, size, 3)
        assert images.std() == pytest.approx(0.04 * 255, rel=0.03)


def test_other_twins_refuse_another_size():
    twin = TWINS["dtd_twin"]
    assert twin.images("val", 3, size=32)[0].shape == (3, 32, 32, 3)
    with pytest.raises(ValueError, match="dtd_twin cannot be drawn at 84 pixels: expected 32"):
        twin.images("val", 3, size=84)
    with pytest.raises(ValueError, match="size=0: expected at least 1 pixel"):
        TWINS["clevr_dist_twin"].images("val", 3, size=0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations_of_a_twin(normalization):
    twin = TWINS["smallnorb_ele_twin"]
    images, labels = twin.images("val", 6, size=40)
    split = twin.split("val", 6, size=40, normalization=normalization)
    mean, deviation = torch.tensor(NORMALIZATIONS[normalization]).reshape(2, 3, 1, 1)
    torch.testing.assert_close(
        split.images * deviation + mean, torch.tensor(images).permute(0, 3, 1, 2) / 255
    )
    assert (split.images.dtype, split.labels.tolist()) == (torch.float32, labels.tolist())
    with pytest.raises(
        ValueError, match="normalization='other' is unknown: expected one of half, imagenet, clip"
    ):
        twin.split("val", 6, normalization="other")
