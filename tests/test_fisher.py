"""Fisher scores: worked by hand, against autograd, and what they refuse."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from trpts import fisher
from trpts.backbones import create_backbone
from trpts.fisher import fisher_scores
from trpts.layers import scored_layers

# Two samples through one 2 x 2 layer of zeros, worked by hand in chapter 01.
X, Y = torch.tensor([[1.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1])


def zero_layer():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    nn.init.zeros_(model[0].weight)
    return model


def per_sample_gradients(model, images, labels):
    """By torch.func, {layer name: [B, out, in]}."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, image, label):
        return cross_entropy(functional_call(model, parameters, image[None]), label[None])

    model.eval()
    grads = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    return {name: grads[f"{name}.weight"] for name in scored_layers(model)}


def reference(model, images, labels):
    """Mean of squared per-sample gradients, {layer name: [out, in]}."""
    return {
        name: g.square().mean(0) for name, g in per_sample_gradients(model, images, labels).items()
    }


def test_by_hand():
    """Gradients [[-.5, -1], [.5, 1]] and [[1, 0], [-1, 0]]: mean of squares, and square of the
    mean.
    """
    torch.testing.assert_close(
        fisher_scores(zero_layer(), [(X, Y)])["0"], torch.tensor([[0.625, 0.5]] * 2)
    )
    squares = fisher_scores(zero_layer(), [(X, Y)], samples="batch")["0"]
    torch.testing.assert_close(squares, torch.tensor([[0.0625, 0.25]] * 2))


def test_tokens_by_hand():
    """Two tokens (1, 2) and (3, -2), averaged after the layer: g = (-1/4, 1/4) for both, G = g (4,
    0)', F = G².

    Squaring each token's outer product first would give 0.625 where 1 is right.
    """

    class MeanOfTokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = zero_layer()[0]

        def forward(self, tokens):  # [B, N, 2]
            return self.layer(tokens).mean(1)  # [B, 2]

    tokens = torch.tensor([[[1.0, 2.0], [3.0, -2.0]]])
    scores = fisher_scores(MeanOfTokens(), [(tokens, torch.tensor([0]))])
    torch.testing.assert_close(scores["layer"], torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_batch_variant_averages_over_batches():
    """One sample per batch: squares of batch means are the per-sample squares."""
    singles = [(X[:1], Y[:1]), (X[1:], Y[1:])]
    per_sample = fisher_scores(zero_layer(), [(X, Y)])["0"]
    torch.testing.assert_close(
        fisher_scores(zero_layer(), singles, samples="batch")["0"], per_sample
    )


def test_equals_autograd_on_a_vit(vit, batch):
    images, labels = batch
    expected = reference(vit, images, labels)
    # uneven batches
    scores = fisher_scores(vit, [(images[:5], labels[:5]), (images[5:], labels[5:])])
    assert list(scores) == list(expected)
    assert len(scores) == 4 * len(vit.blocks)
    for name, score in scores.items():
        torch.testing.assert_close(
            score, expected[name], rtol=1e-4, atol=1e-6 * expected[name].max().item()
        )
        assert score.dtype == torch.float32
        assert score.min() >= 0


def test_model_is_left_as_it_was(vit, batch):
    vit.train()
    vit.blocks[1].eval()
    vit.blocks[2].requires_grad_(False)
    before = {name: p.clone() for name, p in vit.state_dict().items()}
    flags = [p.requires_grad for p in vit.parameters()], [m.training for m in vit.modules()]
    fisher_scores(vit, [batch])
    with pytest.raises(ValueError, match="labels run from"):
        fisher_scores(vit, [(batch[0], batch[1] + 5)])
    assert flags == (
        [p.requires_grad for p in vit.parameters()],
        [m.training for m in vit.modules()],
    )
    assert all(torch.equal(before[name], p) for name, p in vit.state_dict().items())
    assert all(p.grad is None for p in vit.parameters())
    assert not any(m._forward_hooks for m in vit.modules())


def test_head_is_left_out(vit, batch):
    assert "head" not in fisher_scores(vit, [batch])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m, b: (m, [], "per-sample"), "batches is empty"),
        (lambda m, b: (m, [(b[0][:0], b[1][:0])], "per-sample"), "a batch is empty"),
        (lambda m, b: (m, [b], "all"), "samples='all' is unknown"),
        (lambda m, b: (m, [(b[0], b[1][:3])], "per-sample"), "8 images but 3 labels"),
        (lambda m, b: (m, [(b[0] * float("nan"), b[1])], "per-sample"), "is not finite"),
        (
            lambda m, b: (nn.init.zeros_(m.head.weight) is not None and m, [b], "per-sample"),
            "head of zeros",
        ),
        (lambda m, b: (nn.Sequential(nn.Flatten()), [b], "per-sample"), "no Linear layer"),
    ],
)
def test_refuses(vit, batch, spoil, message):
    model, batches, samples = spoil(vit, batch)
    with pytest.raises(ValueError, match=message):
        fisher_scores(model, batches, samples=samples)


def test_rows_that_are_no_samples():
    """Tokens folded into rows: a row's own square would be silently wrong, a sample's gradient is
    the sum over its.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(2, 2), nn.Unflatten(0, (-1, 2)), nn.Flatten())
    tokens = torch.randn(2, 2, 2)
    torch.testing.assert_close(fisher_scores(model, [(tokens, Y)]), reference(model, tokens, Y))
    mean = per_sample_gradients(model, tokens, Y)["1"].mean(0)
    torch.testing.assert_close(
        fisher_scores(model, [(tokens, Y)], samples="batch")["1"], mean.square()
    )


@pytest.mark.slow
def test_true_fisher_comes_near_the_exact_expectation_on_a_vit(vit, batch):
    """Σ_k p_k G_k² of torch.func, K gradients a sample, against 100 draws, no further off than
    chance.

    The squared distance of a mean of n draws is Σ_k p_k G_k⁴ − (Σ_k p_k G_k²)² over n, summed over
    all weights.
    """
    (images, y), n = batch, 100
    vit.head.weight.data *= (
        100  # predictions that are far from even, and differ from image to image
    )
    with torch.no_grad():
        p = vit.eval()(images).softmax(1)  # [B, K]
    by_class = [
        per_sample_gradients(vit, images, torch.full_like(y, k)).values() for k in range(p.shape[1])
    ]
    # K of [B, weights]
    squares = [torch.cat([g.square().flatten(1) for g in grads], 1) for grads in by_class]
    exact = sum(p[:, k, None] * g for k, g in enumerate(squares))  # [B, weights]
    variance = sum(p[:, k, None] * g.square() for k, g in enumerate(squares)) - exact.square()
    chance = (variance.sum() / n).sqrt() / len(y)

    def distance(scores):
        return (torch.cat([score.flatten() for score in scores.values()]) - exact.mean(0)).norm()

    assert distance(fisher_scores(vit, [batch] * n, labels="model")) < 3 * chance
    assert distance(fisher_scores(vit, [batch])) > 10 * chance


def test_shared_layers(batch):
    """The gradient of a weight that is used twice is the sum over both uses, squared once."""
    torch.manual_seed(0)
    shared = nn.Linear(64, 64)
    model = nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared)
    scores, wanted = fisher_scores(model, [batch]), reference(model, *batch)
    torch.testing.assert_close(scores["1"], wanted["1"])


def test_refuses_what_is_changed_in_place(batch):
    """Behind an in-place operation the kept tensor is another one: its gradient would be silently
    wrong.
    """
    torch.manual_seed(0)

    def model(inplace):
        layers = [
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.ReLU(inplace),
            nn.Linear(32, 5),
        ]
        return nn.Sequential(*layers)

    assert fisher_scores(model(False), [batch])
    with pytest.raises(ValueError, match="output of layer 3 is changed in place"):
        fisher_scores(model(True), [batch])


def test_patch_embedding_is_a_linear_layer_over_pixels(vit, batch):
    images, labels = batch
    scores = fisher_scores(vit, [(images, labels)], patches=True)
    parameters = {name: p.detach() for name, p in vit.named_parameters()}

    def loss(parameters, image, label):
        return cross_entropy(functional_call(vit, parameters, image[None]), label[None])

    dense = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)[
        "patch_embed.proj.weight"
    ]
    wanted = dense.square().mean(0).flatten(1)
    torch.testing.assert_close(
        scores["patch_embed.proj"], wanted, atol=1e-5 * wanted.max().item(), rtol=1e-3
    )
    assert list(scores) == ["patch_embed.proj", *scored_layers(vit)]


@pytest.mark.parametrize("samples", fisher.SAMPLES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_under_autocast(vit, batch, samples, kind):
    """The forward pass is as rough as autocast makes it; gradients are formed in float32 from what
    it keeps.
    """
    exact = fisher_scores(vit, [batch], samples=samples)
    with torch.autocast("cpu", kind):
        rough = fisher_scores(vit, [batch], samples=samples)
    for name, score in rough.items():
        assert score.dtype == torch.float32
        assert (score - exact[name]).norm() < 0.1 * exact[name].norm(), name


def test_a_model_in_half_precision_under_autocast(vit, batch):
    exact = fisher_scores(vit, [batch])
    vit.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rough = fisher_scores(vit, [batch])
    assert all(
        (score - exact[name]).norm() < 0.1 * exact[name].norm() for name, score in rough.items()
    )


@pytest.mark.parametrize(
    "kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32]
)
def test_labels_of_any_whole_number_type(vit, batch, kind):
    images, labels = batch
    wanted = fisher_scores(vit, [batch])
    assert all(
        torch.equal(s, wanted[n])
        for n, s in fisher_scores(vit, [(images, labels.to(kind))]).items()
    )


@pytest.mark.parametrize(
    "spoil", [torch.Tensor.float, lambda y: y[:, None], lambda y: torch.eye(5)[y]]
)
def test_labels_that_are_no_class_numbers(vit, batch, spoil):
    with pytest.raises(ValueError, match=r"labels are torch\..*: expected whole numbers"):
        fisher_scores(vit, [(batch[0], spoil(batch[1]))])


@pytest.mark.parametrize("switch", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("patches", [False, True])
def test_where_gradients_are_off(vit, batch, switch, patches):
    wanted = fisher_scores(vit, [batch], patches=patches)
    with switch():
        made_inside = [tuple(t + 0 for t in batch)]
        scores = fisher_scores(vit, made_inside, patches=patches)
    assert all(torch.equal(s, wanted[n]) for n, s in scores.items())
    assert not any(s.is_inference() for s in scores.values())
    assert all(p.requires_grad for p in vit.parameters())


def test_a_model_made_in_inference_mode_is_refused(batch):
    with torch.inference_mode():
        model = create_backbone("vit_small_digits", 5)
    with pytest.raises(ValueError, match="the model was made in inference mode"):
        fisher_scores(model, [batch])


def test_gradient_checkpointing_is_off_while_scoring(vit, batch):
    wanted, calls = fisher_scores(vit, [batch]), []
    vit.blocks[1].register_forward_pre_hook(lambda *_: calls.append(vit.grad_checkpointing))
    vit.set_grad_checkpointing()
    scores = fisher_scores(vit, [batch])
    assert all(torch.equal(s, wanted[n]) for n, s in scores.items())
    assert calls == [False, False]  # a look at which layers are called, and the pass
    assert vit.grad_checkpointing


class OwnCheckpoint(nn.Module):
    """A model that checkpoints a part by itself, with no switch to turn off."""

    def __init__(self, reentrant):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.reentrant = reentrant

    def part(self, x):
        return self.second(self.first(x).relu()).relu()

    def forward(self, x):
        x = x.flatten(1)
        if self.reentrant is None:
            return self.head(self.part(x))
        return self.head(checkpoint(self.part, x, use_reentrant=self.reentrant))


def test_a_checkpoint_of_the_model_s_own(batch):
    torch.manual_seed(0)
    model = OwnCheckpoint(None)
    wanted = reference(model, *batch)
    model.reentrant = False
    for name, score in fisher_scores(model, [batch]).items():
        torch.testing.assert_close(score, wanted[name])
    model.reentrant = True
    with pytest.raises(
        ValueError, match=r"does not depend on layer first: .* reentrant checkpointing"
    ):
        fisher_scores(model, [batch])


def test_a_model_that_gives_no_tensor(vit, batch):
    model = nn.Sequential(vit)
    model.forward = lambda x: {"logits": vit(x)}
    with pytest.raises(ValueError, match=r"the model gives a dict: expected logits \[B, K\]"):
        fisher_scores(model, [batch])
