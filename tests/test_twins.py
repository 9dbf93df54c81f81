"""The 24 twins: deterministic, balanced, answerable from the picture, and apart from the pre-training."""

import numpy as np
import pytest
from made import loaded_by
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from trpts.data import formula, vtab
from trpts.data.twins import GROUPS, TWINS
from trpts.data.twins.natural import digit_sources

each = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)


def test_nineteen_and_five():
    counts = {group: sum(twin.group == group for twin in TWINS.values()) for group in GROUPS}
    assert counts == {"natural": 7, "specialized": 4, "structured": 8, "fgvc": 5}
    real = {group: sum(source.group == group for source in vtab.TASKS.values()) for group in vtab.GROUPS}
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


@each
def test_the_picture_holds_the_class(twin):
    """Logistic regression on simple features is above chance by more than the test's own noise, and not perfect."""
    (train, y), (test, z) = twin.images("train", 800), twin.images("test", 400)
    x, u = features(train), features(test)
    mean, deviation = x.mean(0), x.std(0) + 1e-3
    fit = LogisticRegression(C=0.02, max_iter=60, tol=1e-2).fit((x - mean) / deviation, y)
    accuracy = (fit.predict((u - mean) / deviation) == z).mean()
    chance = 1 / twin.n_classes
    assert accuracy > chance + 2.5 * np.sqrt(chance * (1 - chance) / len(z))
    assert accuracy < 0.95


def test_digits_are_split_by_source_image():
    """No handwritten digit that a train scene is made of is in a val or test scene, and all are used."""
    parts = {split: set(digit_sources(split).tolist()) for split in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == len(load_digits().target)


def test_digit_scenes_take_only_their_part(monkeypatch):
    """The renderer asks for the sources of its own split and of no other."""
    from trpts.data.twins import natural

    asked, real = [], natural.digit_sources
    monkeypatch.setattr(natural, "digit_sources", lambda split: asked.append(split) or real(split))
    TWINS["svhn_twin"].images("val", 10)
    assert set(asked) == {"val"}


def test_pretraining_shares_no_generator_with_the_twins():
    """Neither imports the other; in common they have the canvas alone."""
    twins, upstream = loaded_by("trpts.data.twins"), loaded_by(formula.__name__)
    assert formula.__name__ not in twins
    assert not {name for name in upstream if name.startswith("trpts.data.twins")}
    common = {name for name in twins & upstream if name.count(".") == 2}
    assert common == {"trpts.data.canvas", "trpts.data.task"}


def test_task_has_the_protocol_of_vtab():
    task = TWINS["dsprites_loc_twin"].task()
    assert [len(split) for split in (task.train, task.val, task.test)] == [800, 200, 1000]
    assert task.train.images.shape[1:] == (3, 32, 32)
    assert task.train.images.min() >= -1
    assert task.train.images.max() <= 1
    assert task.n_classes == 16
