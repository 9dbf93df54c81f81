"""The training loop, the linear probe and accuracy."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.data import Split, digits
from trpts.tuning import accuracy, features, probe_head, train, warmup_cosine


def test_schedule_rises_then_falls_to_zero():
    """Four warm-up steps of ten: .25, .5, .75, 1, then half a cosine."""
    factors = [warmup_cosine(step, 4, 10) for step in range(11)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[7] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.0)


def test_training_learns_and_repeats():
    split = digits.load(range(3)).train.first(96)
    runs = []
    for _ in range(2):
        model = create_backbone("vit_small_digits", 3, seed=1)
        runs.append(train(model, split, epochs=15, seed=1))
    assert runs[0] == runs[1]
    assert runs[0][-1] < 0.85 * runs[0][0]
    other = train(create_backbone("vit_small_digits", 3, seed=1), split, epochs=15, seed=2)
    assert other != runs[0]


def test_training_refuses(vit, batch):
    split = Split(*batch)
    with pytest.raises(ValueError, match="epochs=0"):
        train(vit, split, epochs=0)
    with pytest.raises(ValueError, match="learning rate"):
        train(vit, split, epochs=3, lr=1e9)


def test_probe_is_the_minimum(vit):
    """At the minimum the gradient of  mean cross-entropy + l2/2 |W|^2  is zero, and it is a minimum of this task."""
    split = digits.load(range(5, 10)).train
    probe_head(vit, split, l2=1e-2)
    f = features(vit, split)
    loss = cross_entropy(vit.head(f), split.labels) + 1e-2 / 2 * vit.head.weight.square().sum()
    for gradient in torch.autograd.grad(loss, vit.head.parameters()):
        assert gradient.abs().max() < 1e-3
    assert accuracy(vit, split) > 2 / 5


def test_probe_with_two_classes():
    model, task = create_backbone("vit_small_digits", 2), digits.load([0, 1])
    probe_head(model, task.train)
    assert accuracy(model, task.test) > 0.9


def test_probe_without_images_of_some_classes(vit):
    """VTAB-1k's lists are not stratified: a class without an image is never the answer, the others are probed."""
    task = digits.load(range(3)).train
    spread_out = Split(task.images, task.labels * 2)  # classes 0, 2 and 4 of five
    probe_head(vit, spread_out)
    assert accuracy(vit, spread_out) > 0.6
    with torch.no_grad():
        assert set(vit.eval()(task.images).argmax(1).tolist()) <= {0, 2, 4}


def test_probe_refuses(vit):
    ten, one = digits.load().train, digits.load(range(2)).train
    with pytest.raises(ValueError, match="for a head of 5"):
        probe_head(vit, ten)
    with pytest.raises(ValueError, match="expected at least two"):
        probe_head(vit, Split(one.images, torch.zeros_like(one.labels)))


def test_accuracy_by_hand(vit, batch):
    images, _ = batch
    with torch.no_grad():
        labels = vit.eval()(images).argmax(1)
    labels[:4] = (labels[:4] + torch.tensor([1, -1, 2, -2])) % 5  # wrong on either side
    assert accuracy(vit, Split(images, labels), batch_size=3) == 4 / 8
