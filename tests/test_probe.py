"""The linear probe and accuracy."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.data import Split, digits
from trpts.probe import accuracy, features, fit_probe, probe_head


def test_probe_is_the_minimum(vit):
    """At the minimum the gradient of  mean cross-entropy + l2/2 |V|^2  is zero, V the weights on
    scaled features.
    """
    split = digits.load(range(5, 10)).train
    probe_head(vit, split, l2=1e-2)
    f = features(vit, split)
    scale, mean = f.std(0, correction=0), f.mean(0)
    V = (vit.head.weight.detach() * scale).requires_grad_()
    c = (vit.head.bias + vit.head.weight @ mean).detach().requires_grad_()
    loss = cross_entropy((f - mean) / scale @ V.T + c, split.labels) + 1e-2 / 2 * V.square().sum()
    for gradient in torch.autograd.grad(loss, (V, c)):
        assert gradient.abs().max() < 1e-3
    assert accuracy(vit, split) > 2 / 5


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int8])
def test_labels_of_any_whole_number_type(kind):
    f, y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    for found, wanted in zip(fit_probe(f, y.to(kind), 4), fit_probe(f, y, 4), strict=True):
        assert torch.equal(found, wanted)


def test_probe_does_not_depend_on_the_features_scale(vit):
    split = digits.load(range(5, 10)).train
    f = features(vit, split)
    W, b = fit_probe(f, split.labels, 5)
    scaled_W, scaled_b = fit_probe(1e-3 * f + 7, split.labels, 5)
    with_first = f.double() @ W.T + b
    with_other = (1e-3 * f + 7).double() @ scaled_W.T + scaled_b
    torch.testing.assert_close(with_first, with_other, atol=0.05, rtol=0.01)


def test_probe_with_two_classes():
    model, task = create_backbone("vit_small_digits", 2), digits.load([0, 1])
    probe_head(model, task.train)
    assert accuracy(model, task.test) > 0.9


def test_probe_without_images_of_some_classes(vit):
    """VTAB-1k's lists are not stratified: a class without an image is never the answer, the others
    are probed.
    """
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


def test_the_penalty_is_the_documented_one_for_two_classes_too():
    """At the minimum, the gradient of the documented sum is zero; the penalty is seen, being
    large.
    """
    generator = torch.Generator().manual_seed(0)
    for n_classes in (2, 3):
        f = torch.randn(60, 4, generator=generator).double()
        labels = torch.arange(60) % n_classes
        f = (f - f.mean(0)) / f.std(0, correction=0)  # so that V is W
        W, b = (t.requires_grad_() for t in fit_probe(f, labels, n_classes, l2=0.3))
        loss = torch.nn.functional.cross_entropy(f @ W.T + b, labels) + 0.3 / 2 * (W**2).sum()
        loss.backward()
        assert W.grad.abs().max() < 1e-4, n_classes
        assert W.detach().abs().max() > 0.01
