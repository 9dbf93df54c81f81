"""Tasks and the real digits."""

import pytest
import torch
from sklearn.datasets import load_digits

from trpts.data import Split, Task, digits
from trpts.data.load import load_task
from trpts_lab.twins import TWINS, twin


def test_splits_part_the_data():
    task = digits.load()
    sizes = [len(s) for s in (task.train, task.val, task.test)]
    assert sum(sizes) == len(load_digits().target) == 1797
    assert [round(n / 1797, 1) for n in sizes] == [0.6, 0.2, 0.2]
    rows = [
        tuple(image.flatten().tolist())
        for s in (task.train, task.val, task.test)
        for image in s.images
    ]
    everything = {
        tuple((row / 8 - 1).tolist())
        for row in torch.tensor(load_digits().data, dtype=torch.float32)
    }
    assert set(rows) == everything


def test_labels_follow_the_classes_given():
    task, raw = digits.load([7, 3]), load_digits()
    assert len(task.train) + len(task.val) + len(task.test) == sum(
        (raw.target == 7) | (raw.target == 3)
    )
    assert sum((s.labels == 0).sum().item() for s in (task.train, task.val, task.test)) == sum(
        raw.target == 7
    )


def test_same_split_every_time():
    assert torch.equal(digits.load().test.images, digits.load().test.images)


def test_size_channels_and_range():
    images = digits.load(range(2), image_size=16, channels=3).train.images
    assert images.shape[1:] == (3, 16, 16)
    assert images.min() >= -1
    assert images.max() <= 1
    assert torch.equal(images[:, 0], images[:, 2])


def test_batches_cover_each_sample_once():
    split = Split(torch.arange(10).reshape(10, 1, 1, 1).float(), torch.arange(10))
    in_order = [labels.tolist() for _, labels in split.batches(4)]
    assert in_order == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shuffled = [
        y
        for _, labels in split.batches(4, torch.Generator().manual_seed(0))
        for y in labels.tolist()
    ]
    assert sorted(shuffled) == list(range(10))
    assert shuffled != list(range(10))


@pytest.mark.parametrize("classes", [[1], [1, 1], [0, 10], []])
def test_refuses_classes(classes):
    with pytest.raises(ValueError, match="expected at least two different digits"):
        digits.load(classes)


def test_refuses_sizes():
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        Split(torch.zeros(3, 1, 8, 8), torch.zeros(2).long())
    with pytest.raises(ValueError, match="expected 1 to 2"):
        Split(torch.zeros(2, 1, 8, 8), torch.zeros(2).long()).first(3)


def test_data_hash_covers_images_labels_and_splits():
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    split = Split(images, labels)
    others = [
        Split(images + 1e-6, labels),
        Split(images, 1 - labels),
        Split(images.flip(0), labels),
        split.first(3),
    ]
    assert len({s.data_hash() for s in [split, *others]}) == 5
    assert Split(images.clone(), labels.clone()).data_hash() == split.data_hash()
    first, second, third = split, *others[:2]
    tasks = [
        Task("t", 2, *splits)
        for splits in ((first, second, third), (second, first, third), (first, second, first))
    ]
    assert len({task.data_hash() for task in tasks}) == 3
    assert tasks[0].data_hash() == Task("other name", 2, first, second, third).to("cpu").data_hash()


def test_load_task_by_name():
    task = load_task("digits")
    assert (task.n_classes, task.train.images.shape[1:]) == (10, (3, 32, 32))
    assert load_task("digits", image_size=8).train.images.shape[1:] == (3, 8, 8)
    assert load_task("digits", seed=1).data_hash() == task.data_hash()


def test_load_task_of_a_twin(monkeypatch):
    monkeypatch.setattr(twin, "SPLITS", {"train": 20, "val": 10, "test": 10})
    task = load_task("eurosat_twin", image_size=32)
    assert (task.name, len(task.train)) == ("eurosat_twin", 20)
    assert torch.equal(
        load_task("eurosat_twin", seed=1).train.images, TWINS["eurosat_twin"].task(1).train.images
    )
    assert load_task("eurosat_twin", seed=1).data_hash() != task.data_hash()
    with pytest.raises(
        ValueError, match="eurosat_twin cannot be had with image_size=64: expected none"
    ):
        load_task("eurosat_twin", image_size=64)
    with pytest.raises(
        ValueError, match="; twins that have them are clevr_count_twin, clevr_dist_twin, dsprites_"
    ):
        load_task("eurosat_twin", image_size=32, normalization="imagenet")
    with pytest.raises(ValueError, match="digits cannot be had with normalization: expected none"):
        load_task("digits", normalization="imagenet")
    # as a backbone of 32 pixels asks
    unchanged = {"image_size": 32, "normalization": "half", "resize": "squash"}
    for name in ("eurosat_twin", "digits"):
        assert load_task(name, **unchanged).data_hash() == load_task(name).data_hash()


def test_load_task_draws_some_twins_at_any_size(monkeypatch):
    monkeypatch.setattr(twin, "SPLITS", {"train": 8, "val": 4, "test": 4})
    name, settings = "dsprites_ori_twin", {"image_size": 84, "normalization": "imagenet"}
    task = load_task(name, seed=2, resize="crop", **settings)
    assert [len(split) for split in (task.train, task.val, task.test)] == [8, 4, 4]
    assert task.data_hash() == TWINS[name].task(2, 84, "imagenet").data_hash()
    assert task.data_hash() == load_task(name, seed=2, resize="squash", **settings).data_hash(), (
        "nothing is resized"
    )
    assert task.train.images.shape == (8, 3, 84, 84)
    assert load_task(name).data_hash() == TWINS[name].task().data_hash()
    assert (
        load_task(name, image_size=32, normalization="half").data_hash()
        == load_task(name).data_hash()
    )
    for wrong, message in (
        ({"resize": "stretch"}, "resize='stretch' is unknown: expected one of squash, crop"),
        ({"normalization": "other"}, "normalization='other' is unknown"),
        ({"image_size": 0}, "image_size=0: expected at least 1 pixel"),
        (
            {"colour": 1},
            f"{name} cannot be had with colour: expected image_size, normalization or resize",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            load_task(name, **wrong)
