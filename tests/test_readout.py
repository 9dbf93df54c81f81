"""The probe that chooses the readout: what it reads, that it leaves test images alone, that it can
tell.
"""

import pytest
import torch
from made import PLACED

from trpts.backbones import create_backbone
from trpts.data import Split, Task
from trpts_lab.experiments import readout

SMALL = readout.COMMON | {
    "backbone": "vit_small_digits",
    "weights": None,
    "image_size": 8,
    "task": "x",
    "device": "cpu",
}


class Unseen:
    """A split that nobody may look at, but for the range of its labels: `Task` does."""

    labels = torch.arange(2)

    def __getattr__(self, name):
        raise AssertionError("the test images were looked at")


def images_of(labels, where):
    """Noise, with a bright patch at the upper left for label 1, or one anywhere: `where` draws its
    place.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(labels), 1, 8, 8, generator=generator) * 0.1
    for image, label in zip(images, labels, strict=True):
        y, x = where(generator)
        image[0, y : y + 2, x : x + 2] += 3.0 * label.item()
    return images


@pytest.fixture
def task(monkeypatch):
    labels = torch.arange(60) % 2
    images = images_of(labels, lambda g: (0, 0))
    task = Task(
        "bright", 2, Split(images[:40], labels[:40]), Split(images[40:], labels[40:]), Unseen()
    )
    monkeypatch.setattr(readout, "load", lambda config: task)
    return task


def test_blocks_and_tokens_are_those_of_the_model(task):
    """The last block's CLS is what timm's head reads, the mean is over patches alone, and both
    stand side by side.
    """
    model = create_backbone("vit_small_digits", 0, seed=1).eval()
    found = readout.block_features(model, task.val)
    with torch.no_grad():
        tokens = model.forward_features(task.val.images)  # after the last LayerNorm
        halfway = task.val.images
        halfway = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(halfway))))
        for block in model.blocks[:3]:
            halfway = block(halfway)
    assert {name: len(blocks) for name, blocks in found.items()} == {"cls": 6, "mean": 6, "both": 6}
    torch.testing.assert_close(found["cls"][-1], tokens[:, 0])
    torch.testing.assert_close(found["mean"][-1], tokens[:, 1:].mean(1))
    torch.testing.assert_close(
        found["both"][-1], torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
    )
    torch.testing.assert_close(found["mean"][2], model.norm(halfway)[:, 1:].mean(1))


def test_metrics(task):
    metrics = readout.run(PLACED | SMALL)
    assert metrics["n_classes"] == 2
    assert metrics["chance"] == 0.5
    for name in readout.READOUTS:
        found = metrics[f"{name}_val_accuracy"]
        assert list(found) == [str(block) for block in range(1, 7)]
        assert found[str(metrics[f"{name}_best_block"])] == max(found.values())
    # a bright patch shows in the mean of the first block
    assert metrics["mean_val_accuracy"]["1"] > 0.9
    assert readout.run(PLACED | SMALL) == metrics


def test_labels_at_random_give_chance(task, monkeypatch):
    """The planted fault: probes that are fitted to anything would show it here."""
    generator = torch.Generator().manual_seed(3)
    shuffled = Split(task.train.images, task.train.labels[torch.randperm(40, generator=generator)])
    monkeypatch.setattr(
        readout, "load", lambda config: Task("bright", 2, shuffled, task.val, Unseen())
    )
    assert abs(readout.run(PLACED | SMALL)["mean_val_accuracy"]["1"] - 0.5) <= 0.3


def test_inputs_follow_train_and_validation(task, monkeypatch):
    before = readout.inputs(PLACED | SMALL)
    assert before["weights"] is None
    changed = Split(task.val.images + 1, task.val.labels)
    monkeypatch.setattr(
        readout, "load", lambda config: Task("bright", 2, task.train, changed, Unseen())
    )
    assert readout.inputs(PLACED | SMALL)["data"] != before["data"]


def test_configurations_are_off_the_comparison():
    compared = {
        "caltech101",
        "oxford_flowers102",
        "gtsrb",
        "ucmerced",
        "ham10000",
        "nlvr_count",
        "nlvr_xpos",
        "coil20_azimuth",
        "stanford_dogs",
        "stanford_cars",
        "grocery_store",
    }
    configs = readout.configs()
    assert [config["task"] for config in configs] == list(readout.TASKS)
    assert not compared & {task.removeprefix("real/") for task in readout.TASKS}
    assert {config["image_size"] for config in configs} == {84}
