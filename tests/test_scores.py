"""Rival scores: worked by hand, against autograd, the model left alone."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

from trpts.fisher import fisher_scores
from trpts.layers import scored_layers
from trpts.scores import (
    SCORES,
    contrastive_loss,
    flipped_and_shifted,
    fps_scores,
    gps_scores,
    gradient_scores,
    magnitude_scores,
    score_named,
)

# The two samples of tests/test_fisher.py: gradients [[-.5, -1], [.5, 1]] and [[1, 0], [-1, 0]].
X, Y = torch.tensor([[1.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1])


def layer(weight):
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor(weight)
    return model


def test_gradient_by_hand():
    """The sum is [[.5, -1], [-.5, 1]]: signs cancel before the size is taken, over batches too."""
    zero = [[0.0, 0.0], [0.0, 0.0]]
    wanted = torch.tensor([[0.5, 1.0], [0.5, 1.0]])
    torch.testing.assert_close(gradient_scores(layer(zero), [(X, Y)])["0"], wanted)
    apart = [(X[:1], Y[:1]), (X[1:], Y[1:])]
    torch.testing.assert_close(gradient_scores(layer(zero), apart)["0"], wanted)


def test_fps_by_hand():
    """Mean sizes of the inputs (1, 2) and (-2, 0) are 1.5 and 1."""
    scores = fps_scores(layer([[1.0, -2.0], [0.5, 0.0]]), [(X * torch.tensor([[1.0], [-1.0]]), Y)])
    torch.testing.assert_close(scores["0"], torch.tensor([[1.5, 2.0], [0.75, 0.0]]))


def test_magnitude_by_hand():
    assert magnitude_scores(layer([[1.0, -2.0], [0.5, 0.0]]))["0"].tolist() == [
        [1.0, 2.0],
        [0.5, 0.0],
    ]


def test_contrastive_loss_by_hand():
    """Three views, two of one class, at right angles but for the pair: each of the pair sees
    e^{1/τ} against e^0.
    """
    f = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    of_pair = -math.log(math.e / (math.e + 1))  # τ = 1
    loss = contrastive_loss(f, torch.tensor([0, 0, 1]), temperature=1.0)
    # the third has no partner: it adds nothing
    assert loss.item() == pytest.approx(2 / 3 * of_pair)


def test_contrastive_loss_is_the_sum_over_pairs():
    generator = torch.Generator().manual_seed(0)
    f, labels = torch.randn(8, 5, generator=generator), torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])
    unit, total = f / f.norm(dim=1, keepdim=True), 0.0
    for i in range(8):
        others = [a for a in range(8) if a != i]
        below = sum(math.exp(unit[i] @ unit[a] / 0.07) for a in others)
        partners = [p for p in others if labels[p] == labels[i]]
        total -= sum(math.log(math.exp(unit[i] @ unit[p] / 0.07) / below) for p in partners) / len(
            partners
        )
    assert contrastive_loss(f, labels).item() == pytest.approx(total / 8, rel=1e-4)


def test_gradients_equal_autograd(vit, batch):
    images, labels = batch
    parameters = {name: p.detach() for name, p in vit.named_parameters()}
    vit.eval()
    dense = grad(lambda p: cross_entropy(functional_call(vit, p, images), labels, reduction="sum"))(
        parameters
    )
    for name, score in gradient_scores(vit, [(images, labels)]).items():
        wanted = dense[f"{name}.weight"].abs()
        torch.testing.assert_close(score, wanted, atol=1e-5 * wanted.max().item(), rtol=1e-4)


def test_gps_equals_autograd(vit, batch):
    """The second view is half as bright: the loss is that of both together, each with the label of
    its image.
    """
    images, labels = batch
    brightness = iter([1.0, 0.5])
    parameters = {name: p.detach() for name, p in vit.named_parameters()}
    vit.eval()

    def loss(parameters):
        both = torch.cat([images, 0.5 * images])
        tokens = functional_call(
            _Features(vit), {f"vit.{k}": v for k, v in parameters.items()}, both
        )
        return contrastive_loss(tokens, labels.repeat(2))

    dense = grad(loss)(parameters)
    for name, score in gps_scores(
        vit, [(images, labels)], views=lambda x, _: next(brightness) * x
    ).items():
        wanted = dense[f"{name}.weight"].abs()
        torch.testing.assert_close(score, wanted, atol=1e-4 * wanted.max().item(), rtol=1e-3)


class _Features(nn.Module):
    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, x):
        return self.vit.forward_head(self.vit.forward_features(x), pre_logits=True)


def test_gps_needs_no_head(vit, batch):
    before = gps_scores(vit, [batch])
    nn.init.zeros_(vit.head.weight)
    after = gps_scores(vit, [batch])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_views_by_hand():
    """Every row and column of a view is one of the image's, mirrored or not; some differ from the
    image.
    """
    images = torch.arange(2 * 1 * 8 * 8.0).view(2, 1, 8, 8).repeat(20, 1, 1, 1)
    views = flipped_and_shifted(images, torch.Generator().manual_seed(0))
    assert views.shape == images.shape
    steps = views[..., :, 1:] - views[..., :, :-1]
    # mirrored, repeated at the border, as it was
    assert set(steps.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert set((views[..., 1:, :] - views[..., :-1, :]).unique().tolist()) == {0.0, 8.0}
    assert (views != images).any(dim=(1, 2, 3)).float().mean() > 0.5


@pytest.mark.parametrize("name", SCORES)
def test_every_score_has_the_layers_of_fisher_and_leaves_the_model_alone(vit, batch, name):
    vit.train()
    vit.blocks[0].requires_grad_(False)
    vit.blocks[1].eval()
    modes = [m.training for m in vit.modules()]
    before = {k: v.clone() for k, v in vit.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in vit.parameters()]
    score = score_named(name, seed=1)
    first, again = score(vit, [batch]), score(vit, [batch])
    shapes = {n: m.weight.shape for n, m in scored_layers(vit).items()}
    assert {n: s.shape for n, s in first.items()} == shapes
    assert all(
        s.dtype == torch.float32 and (s >= 0).all() and torch.equal(s, again[n])
        for n, s in first.items()
    )
    assert [(p.requires_grad, p.grad) for p in vit.parameters()] == flags
    assert all(torch.equal(before[k], v) for k, v in vit.state_dict().items())
    assert [m.training for m in vit.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in vit.modules())


def test_seeds_matter_where_something_is_drawn(vit, batch):
    for name in (name for name, score in SCORES.items() if score.seeded):
        one, other = (score_named(name, seed)(vit, [batch]) for seed in (1, 2))
        assert any(not torch.equal(one[n], other[n]) for n in one), name


def test_true_fisher_by_hand():
    """Zero logits: both labels are equally likely, and either gives the same square; so no draw can
    change it.
    """
    scores = fisher_scores(layer([[0.0, 0.0], [0.0, 0.0]]), [(X, Y)], labels="model")["0"]
    torch.testing.assert_close(scores, torch.tensor([[0.625, 0.5]] * 2))


def test_true_fisher_draws_from_the_models_prediction():
    """Σ_k p_k G_k² with p = softmax(2, 0): the mean over many draws comes near, and the data's
    labels play no part.
    """
    model, x = layer([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0]]).repeat(4000, 1)
    p = torch.softmax(torch.tensor([2.0, 0.0]), 0)
    # the square of p - onehot, either row, first column
    wanted = p[0] * p[1] ** 2 + p[1] * p[0] ** 2
    for y in (torch.zeros(4000, dtype=torch.int64), torch.ones(4000, dtype=torch.int64)):
        score = fisher_scores(model, [(x, y)], labels="model")["0"]
        torch.testing.assert_close(score[:, 0], wanted.repeat(2), rtol=0.1, atol=0)
    data = fisher_scores(model, [(x, y)])["0"]
    assert data[0, 0] > 3 * wanted


def test_fps_averages_over_tokens_of_uneven_batches():
    """Five tokens (1, 0) and one (7, 6): (2, 1), whereas the mean of the two batches' means is (4,
    3).
    """
    tokens = [torch.tensor([1.0, 0.0]).repeat(1, 5, 1), torch.tensor([[[7.0, 6.0]]])]
    model = nn.Sequential(layer([[1.0, 1.0], [2.0, 2.0]])[0], nn.Flatten())
    scores = fps_scores(model, [(x, Y[:1]) for x in tokens])
    torch.testing.assert_close(scores["0"], torch.tensor([[2.0, 1.0], [4.0, 2.0]]))


@pytest.mark.parametrize("name", ["fisher", "fisher_batch", "fisher_true", "gradient", "fps"])
def test_a_layer_out_of_use_is_named(name):
    model = layer([[1.0, 2.0], [3.0, 4.0]])
    model.spare = nn.Linear(2, 2)
    model.forward = lambda x: model[0](x)
    with pytest.raises(ValueError, match=r"layer spare.* out of use"):
        SCORES[name].function(model, [(X, Y)])


def test_gradient_does_not_mind_rows_that_are_no_samples():
    """Tokens folded into rows, as in windows of attention: a sum over rows is the same sum."""
    scores = gradient_scores(Folded(), [(X.view(1, 2, 2), Y[:1])])
    # ½ · Σ_n x_n / 2
    torch.testing.assert_close(scores["layer"], torch.tensor([[0.75, 0.5], [0.75, 0.5]]))


class Folded(nn.Module):
    """A layer of zeros that sees each token as a row of its own; logits are means over the
    tokens.
    """

    def __init__(self):
        super().__init__()
        self.layer = layer([[0.0, 0.0], [0.0, 0.0]])[0]

    def forward(self, tokens):  # [B, N, 2]
        return self.layer(tokens.flatten(0, 1)).view(tokens.shape).mean(1)  # [B, 2]


READERS = ["fisher", "fisher_batch", "fisher_true", "gradient", "gps", "fps"]


@pytest.mark.parametrize("name", READERS)
def test_refuses_batches_without_samples(vit, batch, name):
    with pytest.raises(ValueError, match="batches is empty"):
        score_named(name)(vit, [])
    with pytest.raises(ValueError, match="a batch is empty"):
        score_named(name)(vit, [batch, (batch[0][:0], batch[1][:0])])


@pytest.mark.parametrize("name", [*READERS, "magnitude"])
def test_refuses_what_is_not_finite(vit, batch, name):
    assert name in SCORES
    if name == "magnitude":
        vit.blocks[2].mlp.fc1.weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"not finite: look for inf or NaN in weights and images"):
        score_named(name)(vit, [(batch[0] * float("nan"), batch[1])])


def test_gps_refuses_what_has_no_contrast_or_no_features(vit, batch):
    one = batch[0][:1], batch[1][:1]
    with pytest.raises(
        ValueError, match="every score is zero: the views of a batch do not contrast"
    ):
        gps_scores(vit, [one])
    with pytest.raises(ValueError, match="Sequential does not give its features before the head"):
        gps_scores(layer([[0.0, 0.0], [0.0, 0.0]]), [(X, Y)])


def test_refuses_a_head_of_zeros_and_unknown_names(vit, batch):
    nn.init.zeros_(vit.head.weight)
    with pytest.raises(ValueError, match="a head of zeros"):
        gradient_scores(vit, [batch])
    with pytest.raises(ValueError, match="score 'fischer' is unknown: expected one of fisher"):
        score_named("fischer")
    with pytest.raises(ValueError, match="expected one of data, model"):
        fisher_scores(vit, [batch], labels="teacher")
