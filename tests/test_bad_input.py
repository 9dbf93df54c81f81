"""What the library's functions are given and cannot take: one sentence, before any work."""

import os
from dataclasses import replace

import pytest
import torch

from trpts.backbones import create_backbone
from trpts.data import fgvc, vtab
from trpts.data.task import Split, Task
from trpts.files import read_header
from trpts.probe import Diverged, accuracy, fit_probe
from trpts.scores import SCORES, score_named
from trpts.sparse_gradient import sampled_gradient, selected_gradient
from trpts.training import train
from trpts.tuning import tune

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(12, 1, 8, 8, generator=GENERATOR)
LABELS = torch.arange(12) % 3
HUGE = 10**30


def model():
    return create_backbone("vit_small_digits", 3, seed=0)


def task(**splits):
    usual = Split(IMAGES, LABELS)
    return Task("t", 3, **{"train": usual, "val": usual, "test": usual} | splits)


# splits and tasks


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        ((IMAGES * 9).to(torch.uint8), LABELS, "images are torch.uint8: expected floating-point"),
        (IMAGES.long(), LABELS, "images are torch.int64: expected floating-point"),
        (IMAGES > 0, LABELS, "images are torch.bool: expected floating-point"),
        (IMAGES.numpy(), LABELS, "images are of type ndarray: expected a tensor"),
        (IMAGES.tolist(), LABELS, "images are of type list: expected a tensor"),
        (IMAGES, LABELS.tolist(), "labels are of type list: expected a tensor"),
        (IMAGES, None, "labels are of type NoneType: expected a tensor"),
        (IMAGES, LABELS.float(), r"labels are torch.float32 \[12\]: expected whole numbers"),
        (IMAGES, LABELS[:, None], r"labels are torch.int64 \[12, 1\]: expected whole numbers"),
        (IMAGES, torch.tensor(3), "labels are of type Tensor: expected a tensor"),
        (IMAGES, LABELS[:5], "12 images but 5 labels"),
    ],
)
def test_what_is_no_split(images, labels, says):
    with pytest.raises(ValueError, match=says):
        Split(images, labels)
    for name in ("fisher", "gps", "fps"):
        with pytest.raises(ValueError, match=says):
            score_named(name)(model(), [(images, labels)])


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool])
def test_labels_of_small_numbers_are_labels(kind):
    tuned = tune(model(), Task("t", 3, *[Split(IMAGES, (LABELS % 2).to(kind))] * 3), "linear", 1)
    assert 0 <= tuned.test_accuracy <= 1


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: Split(s.images[:0], s.labels[:0]), "split's labels are none: expected one"),
        (
            lambda s: Split(s.images, s.labels + 1),
            "split's labels run from 1 to 3: expected 0 to 2",
        ),
        (lambda s: Split(s.images, s.labels - 1), "labels run from -1 to 1: expected 0 to 2"),
        (lambda s: Split(s.images, s.labels - 100), "labels run from -100 to -98"),
        (lambda s: Split(s.images, s.labels * 2**40), "labels run from 0 to 2199023255552"),
    ],
)
def test_what_is_no_task(split, change, says):
    with pytest.raises(ValueError, match=f"t: the {split} {says}" if "split" in says else says):
        task(**{split: change(Split(IMAGES, LABELS))})


def test_names_and_numbers_of_classes():
    for changed, says in (
        ({"n_classes": 3.0}, "n_classes=3.0: expected a whole number"),
        ({"n_classes": 0}, "n_classes=0: expected"),
        ({"class_names": ("a", "b")}, "t names 2 classes: expected 3"),
    ):
        with pytest.raises(ValueError, match=says):
            replace(task(), **changed)


# images that the model cannot take


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (IMAGES.double(), r"cannot take the images of t, torch.float64 \[1, 8, 8\]: "),
        (IMAGES.half(), r"cannot take the images of t, torch.float16 \[1, 8, 8\]: "),
        (torch.randn(12, 1, 16, 16), r"cannot take the images of t, torch.float32 \[1, 16, 16\]: "),
        (torch.randn(12, 3, 8, 8), r"cannot take the images of t, torch.float32 \[3, 8, 8\]: "),
        (torch.randn(12, 8, 8), r"cannot take the images of t, torch.float32 \[8, 8\]: "),
        (torch.randn(12, 1, 8, 8, 1), "cannot take the images of t"),
    ],
)
def test_images_are_tried_before_any_work(images, says, monkeypatch, tmp_path):
    monkeypatch.setattr("trpts.tuning.probe_head", lambda *_: pytest.fail("work was begun"))
    whole = model()
    whole.train()
    with pytest.raises(ValueError, match=says):
        tune(whole, Task("t", 3, *[Split(images, LABELS)] * 3), "linear", checkpoint=tmp_path / "c")
    assert whole.training
    for name in ("val", "test"):
        with pytest.raises(ValueError, match=f"t: the {name} images are .*: expected them alike"):
            tune(model(), task(**{name: Split(images, LABELS)}), "linear")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["patch_embed.proj.weight", "blocks.2.mlp.fc1.bias", "images"])
def test_what_is_not_finite_is_said(value, where):
    whole, images = model(), IMAGES.clone()
    changed = images if where == "images" else whole.get_parameter(where).data
    changed.view(-1)[0] = value
    with pytest.raises(ValueError, match=r"^the features are not finite numbers: look for inf or"):
        tune(whole, task(train=Split(images, LABELS)), "linear", epochs=1)


# settings


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("epochs", (0, -1, 0.5, True, "3", None, HUGE)),
        ("batch_size", (0, -1, 2.5, "8", HUGE, 2**63)),
        ("seed", (-1, 0.5, "a", HUGE, 2**32, 2**64)),
        ("lr", (-1, float("nan"), float("inf"), 1e308, "x", None, 1001, 10**400)),
        ("head_lr", (-1, float("nan"), 1e308, "x")),
        ("weight_decay", (-1, float("nan"), float("inf"), 1e308)),
        ("warmup_fraction", (-0.1, 1.1, float("nan"), float("inf"))),
        ("keep", (0, 1.5, float("nan"), "x", None)),
        ("n_scored", (0, -5, 2.5, HUGE)),
        ("n_token_blocks", (-1, 1.5, HUGE, "3")),
    ],
)
def test_settings_are_named(option, values, monkeypatch):
    monkeypatch.setattr("trpts.tuning.probe_head", lambda *_: pytest.fail("work was begun"))
    for value in values:
        with pytest.raises(ValueError, match=f"^{option}=.*: expected a"):
            tune(model(), task(), **{option: value})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": HUGE}, "seed="),
        ({"seed": -1}, "seed=-1"),
        ({"n_classes": -1}, "n_classes=-1"),
        ({"n_classes": HUGE}, "n_classes=1000"),
        ({"n_classes": 1.5}, "n_classes=1.5"),
        ({"image_size": HUGE}, "vit_lab, image_size=1000"),
        ({"image_size": 4_000_000}, "vit_lab, image_size=4000000"),
        ({"image_size": 0}, "vit_lab, image_size=0"),
        ({"image_size": "32"}, "vit_lab, image_size='32'"),
        ({"name": "vit_base_patch16_224.nope"}, "backbone 'vit_base_patch16_224.nope' is unknown"),
        ({"name": "nope"}, "backbone 'nope' is unknown"),
    ],
)
def test_backbones_that_cannot_be_made(options, says):
    with pytest.raises(ValueError, match=says):
        create_backbone(**{"name": "vit_lab", "n_classes": 3} | options)


def test_a_step_that_was_too_long_is_blamed_on_the_rate(capsys):
    """Behind it, token selection meets scores that are NaN, and knows nothing of a rate."""
    with pytest.raises(Diverged, match=r"the learning rate 999\.0 is too high"):
        tune(model(), task(), "trpts", epochs=3, lr=999.0, batch_size=4, keep=0.5, seed=1)


# labels and empty splits, past a task


@pytest.mark.parametrize("shift", [-1, 1, 100])
def test_labels_that_the_head_does_not_know(shift):
    split = Split(IMAGES, LABELS + shift)
    says = f"run from {shift} to {2 + shift}: expected 0 to 2"
    with pytest.raises(ValueError, match=says):
        accuracy(model(), split)
    with pytest.raises(ValueError, match=says):
        train(model(), split, 1)
    with pytest.raises(ValueError, match="for a head of 3"):
        fit_probe(torch.randn(12, 4), LABELS + shift, 3)


def test_empty_splits():
    empty = Split(IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match="the split is empty"):
        accuracy(model(), empty)
    with pytest.raises(ValueError, match="the labels to train on are none"):
        train(model(), empty, 1)
    for name in SCORES.keys() - {"magnitude", "random"}:
        with pytest.raises(ValueError, match="a batch is empty"):
            score_named(name)(model(), [(IMAGES[:0], LABELS[:0])])


# the selected gradient


@pytest.mark.parametrize("columns", [40, 4000], ids=["dense", "sampled"])
@pytest.mark.parametrize("wrong", [-1, 4000, 4001, 2**40, -(2**40)])
def test_an_index_out_of_range_reads_no_foreign_memory(columns, wrong):
    g, x = torch.randn(5, 3), torch.randn(5, columns)
    index = torch.tensor([[0, 1], [2, 3], [4, 5]])
    expected = (g.T @ x).gather(1, index)
    torch.testing.assert_close(selected_gradient(g, x, index), expected)
    torch.testing.assert_close(sampled_gradient(g, x, index), expected)
    for row in range(3):
        spoiled = index.clone()
        spoiled[row, 1] = wrong
        with pytest.raises(ValueError, match=f"expected columns from 0 to {columns - 1}"):
            selected_gradient(g, x, spoiled)


@pytest.mark.parametrize("columns", [40, 4000], ids=["dense", "sampled"])
@pytest.mark.parametrize(
    ("g", "x", "index"),
    [
        ((5, 3), (4, 0), (3, 2)),
        ((5, 3), (5, 0), (2, 2)),
        ((5, 3), (5, 0), (4, 2)),
        ((5, 3), (5, 0), (3,)),
    ],
)
def test_shapes_of_the_selected_gradient(columns, g, x, index):
    g, x = torch.randn(g), torch.randn(x[0], columns)
    with pytest.raises(ValueError, match=r"expected \[T, out\], \[T, columns\] and \[out, C\]"):
        selected_gradient(g, x, torch.zeros(index, dtype=torch.int64))


# pipes in place of files, which would be waited for, for ever


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_pipes(tmp_path):
    (tmp_path / "dtd").mkdir()
    (tmp_path / "CUB_200_2011").mkdir()
    for name in ("dtd/train800.txt", "CUB_200_2011/train.json", "w.safetensors"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"train800\.txt cannot be read .*no regular file"):
        vtab.load(tmp_path, "dtd")
    with pytest.raises(ValueError, match=r"train\.json cannot be read .*no regular file"):
        fgvc.load(tmp_path, "cub")
    with pytest.raises(ValueError, match="is not a delta: it is no regular file"):
        read_header(tmp_path / "w.safetensors", "a delta")
