"""Row-sparse tuning: identities, gradients against dense autograd, exact inverses, and what it
refuses.
"""

import copy

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

from trpts import sparse_gradient
from trpts.fisher import SAMPLES, fisher_scores
from trpts.layers import pixels_of_patches, scored_layers
from trpts.signals import layer_signals
from trpts.sparse import attach, attached, detach, sparse_layers
from trpts.sparse_gradient import sampled_gradient, selected_gradient
from trpts_lab.bench.gradient import turned_at_once

X = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6) % 5


def vit(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        options = (
            dict(img_size=16, patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=5)
            | options
        )
        model = timm.models.VisionTransformer(**options)
        for p in model.parameters():  # nothing stays at zero or one, where a fault could hide
            p.data += 0.1 * torch.randn_like(p)
        return model


def some(model, C, seed=0):
    """C random connections of every neuron, in every Linear layer and the patch embedding."""
    generator = torch.Generator().manual_seed(seed)
    layers = scored_layers(model, patches=True)
    noise = {
        name: torch.rand(len(m.weight), m.weight[0].numel(), generator=generator)
        for name, m in layers.items()
    }
    return {name: r.topk(min(C, r.shape[1]), 1).indices.sort(1).values for name, r in noise.items()}


def steps(model, n, optimizer=torch.optim.AdamW, **options):
    """Losses of n optimiser steps on the parameters that ask for gradients."""
    optimizer = optimizer([p for p in model.parameters() if p.requires_grad], lr=1e-2, **options)
    losses = []
    for _ in range(n):
        loss = cross_entropy(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_by_hand():
    """Two tokens, two neurons, three inputs: Σ_n g[n, o] x[n, index[o, k]], entry by entry."""
    g = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    x = torch.tensor([[1.0, 0.0, 2.0], [4.0, 5.0, 6.0]])
    index = torch.tensor([[2], [0]])  # neuron 0: 1·2 + 3·6 = 20; neuron 1: 2·1 - 1·4 = -2
    for gradient in (selected_gradient, sampled_gradient):
        torch.testing.assert_close(gradient(g, x, index), torch.tensor([[20.0], [-2.0]]))


@pytest.mark.parametrize(
    ("C", "columns"), [(1, 16), (3, 16), (3, 300), (80, 300)]
)  # 300 columns: sampled at C = 3
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])  # backward() may be called inside the context
def test_operator_selects_from_the_dense_product(C, columns, kind, autocast):
    generator = torch.Generator().manual_seed(2)
    g, x = (
        torch.randn(50, 7, generator=generator).to(kind),
        torch.randn(50, columns, generator=generator).to(kind),
    )
    index = torch.rand(7, columns, generator=generator).topk(C, 1).indices.sort(1).values
    wide = torch.float64 if kind == torch.float64 else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = selected_gradient(g, x, index)
    torch.testing.assert_close(found, (g.to(wide).T @ x.to(wide)).gather(1, index))


def test_few_columns_take_the_dense_product_and_many_the_sampled_one(monkeypatch):
    sampled = []
    monkeypatch.setattr(
        sparse_gradient,
        "sampled_gradient",
        lambda g, x, i: sampled.append(x.shape[1]) or g.new_zeros(i.shape),
    )
    for columns, C in ((74, 2), (75, 2), (224, 32), (225, 32)):  # 64 + 5 C
        selected_gradient(
            torch.ones(3, 4), torch.ones(3, columns), torch.zeros(4, C, dtype=torch.int64)
        )
    assert sampled == [75, 225]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("T", "fan_in", "out"),
    [
        (130, 16, 7),
        (130, sparse_gradient.WIDE, 7),
        (130, 16, sparse_gradient.WIDE),
        (64, sparse_gradient.WIDE + 3, sparse_gradient.WIDE),
        (1, 768, 768),
    ],
)
def test_transposing_by_rows_changes_no_bit(T, fan_in, out, kind):
    """Against the product that transposes both sides itself, on which earlier records rest."""
    generator = torch.Generator().manual_seed(3)
    g, x = (
        torch.randn(T, out, generator=generator).to(kind),
        torch.randn(T, fan_in, generator=generator).to(kind),
    )
    index = torch.rand(out, fan_in, generator=generator).topk(3, 1).indices.sort(1).values
    wide = torch.promote_types(kind, torch.float32)
    g, x = g.to(wide), x.to(wide)
    assert torch.equal(sampled_gradient(g, x, index), turned_at_once(g, x, index))


def test_no_connections_is_the_linear_probe():
    model, probe = vit(), vit()
    probe.requires_grad_(False)
    probe.head.requires_grad_(True)
    attach(model, {})
    assert steps(model, 3) == steps(probe, 3)
    detach(model)
    assert same(model, probe)


def test_all_connections_is_full_tuning_of_those_layers():
    model, full = vit(), vit()
    index = some(model, 10**6)
    attach(model, index)
    full.requires_grad_(False)
    full.head.requires_grad_(True)
    for name in index:
        full.get_submodule(name).requires_grad_(True)
    # Plain SGD: Adam would blow the rounding of gradients that are zero, such as a key's bias, up
    # to whole steps.
    for ours, theirs in zip(
        steps(model, 5, torch.optim.SGD), steps(full, 5, torch.optim.SGD), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-6)
    detach(model)
    for (name, a), b in zip(model.named_parameters(), full.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("C", [1, 2, 5])
def test_gradients_are_the_selected_entries_of_the_dense_ones(C):
    model, dense = vit(), vit()
    index = some(model, C)
    attach(model, index)
    cross_entropy(model(X), Y).backward()
    cross_entropy(dense(X), Y).backward()
    for name, layer in sparse_layers(model).items():
        other = dense.get_submodule(name)
        wanted = other.weight.grad.view(len(other.weight), -1).gather(1, index[name])
        torch.testing.assert_close(
            layer.values.grad, wanted, atol=1e-5 * wanted.abs().max().item(), rtol=1e-5
        )
        torch.testing.assert_close(layer.bias.grad, other.bias.grad)
        assert dict(layer.named_parameters())["weight"].grad is None


def test_steps_equal_those_of_a_masked_dense_gradient():
    """M ⊙ ∇L with plain SGD is the update of the paper, word for word."""
    model, dense = vit(), vit()
    index = some(model, 2)
    attach(model, index)
    mine = steps(model, 4, torch.optim.SGD)
    dense.requires_grad_(False)
    dense.head.requires_grad_(True)
    for name, places in index.items():
        layer = dense.get_submodule(name).requires_grad_(True)
        mask = (
            torch.zeros(len(places), layer.weight[0].numel())
            .scatter_(1, places, 1.0)
            .view_as(layer.weight)
        )
        layer.weight.register_hook(lambda grad, mask=mask: grad * mask)
    assert mine == pytest.approx(steps(dense, 4, torch.optim.SGD), abs=1e-6)
    detach(model)
    for (name, a), b in zip(model.named_parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


def test_the_optimiser_sees_only_the_values():
    model = vit()
    index = some(model, 2)
    attach(model, index)
    n_values = sum(places.numel() for places in index.values())
    n_biases = sum(len(places) for places in index.values())
    n_head = sum(p.numel() for p in model.head.parameters())
    assert (
        sum(p.numel() for p in model.parameters() if p.requires_grad)
        == n_values + n_biases + n_head
    )
    steps(model, 1)
    detach(model)
    attach(model, index, biases=False)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == n_values + n_head


def test_attach_and_detach_are_inverses():
    model, untouched = vit(), vit()
    model.blocks[0].requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    shape = [(name, type(m), sorted(vars(m))) for name, m in model.named_modules()]
    attach(model, some(model, 2))
    assert attached(model)
    assert torch.equal(model(X), untouched(X))
    detach(model)
    assert not attached(model)
    assert same(model, untouched)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [(name, type(m), sorted(vars(m))) for name, m in model.named_modules()] == shape


def test_a_detached_model_is_a_plain_one_with_the_tuned_weights():
    model, untouched = vit(), vit()
    index = some(model, 2)
    attach(model, index)
    steps(model, 3)
    logits = model(X)
    detach(model)
    plain = vit()
    plain.load_state_dict(model.state_dict())  # strict: the same names
    assert torch.equal(plain(X), logits)
    for name, places in index.items():
        a, b = model.get_submodule(name).weight, untouched.get_submodule(name).weight
        changed = (a != b).view(len(places), -1)
        inside = torch.zeros_like(changed).scatter_(1, places, True)
        assert changed.any(), name
        assert not (changed & ~inside).any(), name


def test_values_reach_the_weight_whoever_reads_it():
    """The last step is followed by no forward pass: state_dict, a deep copy and detach must show it
    all the same.
    """
    model = vit()
    index = some(model, 1)
    attach(model, index)
    steps(model, 2)
    name = "blocks.1.mlp.fc1"
    values = model.get_submodule(name).values.detach()
    assert torch.equal(model.state_dict()[f"{name}.weight"].gather(1, index[name]), values)
    steps(model, 1)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(X), model(X))
    steps(model, 1)
    detach(model)
    assert torch.equal(model.get_submodule(name).weight.gather(1, index[name]), values)


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}, {"foreach": False}])
def test_every_step_is_seen_whatever_the_optimiser(options):
    """Fused optimisers do not raise the version of what they change."""
    model, full = vit(), vit()
    index = some(model, 10**6)
    attach(model, index, biases=False)
    full.requires_grad_(False)
    full.head.requires_grad_(True)
    for name in index:
        full.get_submodule(name).weight.requires_grad_(True)
    assert steps(model, 4, **options) == pytest.approx(steps(full, 4, **options), abs=1e-5)


def test_two_forward_passes_before_one_backward():
    model, dense = vit(), vit()
    index = some(model, 2)
    attach(model, index)
    steps(model, 1)
    detach(model)
    dense.load_state_dict(model.state_dict())
    attach(model, index)
    for m in (model, dense):
        (cross_entropy(m(X[:3]), Y[:3]) + cross_entropy(m(X[3:]), Y[3:])).backward()
    layer, other = model.blocks[1].mlp.fc1, dense.blocks[1].mlp.fc1
    torch.testing.assert_close(
        layer.values.grad, other.weight.grad.gather(1, index["blocks.1.mlp.fc1"])
    )


def test_gradient_accumulation():
    model, whole = vit(), vit()
    for m in (model, whole):
        attach(m, some(m, 2))
    cross_entropy(whole(X), Y, reduction="sum").backward()
    for half in (slice(3), slice(3, 6)):
        cross_entropy(model(X[half]), Y[half], reduction="sum").backward()
    for a, b in zip(sparse_layers(model).values(), sparse_layers(whole).values(), strict=True):
        torch.testing.assert_close(a.values.grad, b.values.grad)


def test_gradient_checkpointing():
    model, plain = vit(), vit()
    for m in (model, plain):
        attach(m, some(m, 2))
    model.set_grad_checkpointing()
    assert steps(model, 3) == pytest.approx(steps(plain, 3), abs=1e-6)


def test_autocast():
    """Products in bfloat16, the gradient of the values in float32."""
    model, plain = vit(), vit()
    for m in (model, plain):
        attach(m, some(m, 2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(model(X), Y)
    loss.backward()
    cross_entropy(plain(X), Y).backward()
    for a, b in zip(sparse_layers(model).values(), sparse_layers(plain).values(), strict=True):
        assert a.values.grad.dtype == torch.float32
        assert torch.cosine_similarity(a.values.grad.flatten(), b.values.grad.flatten(), 0) > 0.99


def test_double_precision_stays_double():
    model = vit().double()
    attach(model, some(model, 2))
    cross_entropy(model(X.double()), Y).backward()
    layer = model.blocks[0].mlp.fc1
    assert layer.values.dtype == layer.values.grad.dtype == torch.float64


@pytest.mark.slow
def test_compiled_model_trains_alike():
    model, plain = vit(), vit()
    for m in (model, plain):
        attach(m, some(m, 2))
    assert torch._dynamo.explain(model)(X).graph_break_count == 0
    compiled = torch.compile(model, backend="aot_eager")
    assert steps(compiled, 3) == pytest.approx(steps(plain, 3), abs=1e-5)


def test_a_layer_that_is_used_for_patches_by_a_bare_convolution():
    """The patch embedding's rows are its pixels in the weight's own order, odd sizes included."""
    conv = torch.nn.Conv2d(2, 5, (3, 2), (3, 2))
    x = torch.randn(2, 2, 6, 8)
    rows = pixels_of_patches(x, (3, 2)) @ conv.weight.view(5, -1).T + conv.bias
    torch.testing.assert_close(rows, conv(x).flatten(2).transpose(1, 2))


BROKEN = {
    "no such layer": (
        lambda index: index | {"blocks.9.mlp.fc1": index["blocks.0.mlp.fc1"]},
        "no such layer",
    ),
    "not Linear": (
        lambda index: index | {"norm": index["blocks.0.mlp.fc1"]},
        "a LayerNorm: expected a Linear",
    ),
    "rows": (
        lambda index: index | {"blocks.0.mlp.fc1": torch.zeros(3, 1, dtype=torch.int64)},
        r"expected int64 \[64",
    ),
    "type": (
        lambda index: index | {"blocks.0.mlp.fc1": index["blocks.0.mlp.fc1"].int()},
        "expected int64",
    ),
    "range": (
        lambda index: index | {"blocks.0.mlp.fc1": index["blocks.0.mlp.fc1"] + 16},
        "from 0 to 15",
    ),
    "repeats": (
        lambda index: index | {"blocks.0.mlp.fc1": torch.zeros(64, 2, dtype=torch.int64)},
        "without repeats",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_bad_index_leaves_the_model_alone(fault):
    model = vit()
    flags = [p.requires_grad for p in model.parameters()]
    change, sentence = BROKEN[fault]
    with pytest.raises(ValueError, match=sentence):
        attach(model, change(some(model, 2)))
    assert not attached(model)
    assert not sparse_layers(model)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert same(model, vit())


def test_overlapping_convolution_is_refused():
    model = vit()
    model.patch_embed.proj.stride = (2, 2)
    with pytest.raises(ValueError, match="windows overlap"):
        attach(model, some(model, 1))


@pytest.mark.parametrize("samples", SAMPLES)
def test_scores_of_an_attached_model_are_those_of_the_plain_one(samples):
    """To the bit: that the values are written into the weights is no second use of them."""
    model, plain = vit(), vit()
    attach(model, some(model, 2))
    found, wanted = (
        fisher_scores(m, [(X, Y)], samples=samples, patches=True) for m in (model, plain)
    )
    assert all(torch.equal(score, wanted[name]) for name, score in found.items())
    with layer_signals(model, patches=True) as captured:
        captured.parts(model, X, Y, each=True)
        assert not captured.others


def test_attach_twice_and_detach_twice():
    model = vit()
    attach(model, some(model, 1))
    with pytest.raises(ValueError, match="detach it first"):
        attach(model, some(model, 1))
    detach(model)
    with pytest.raises(ValueError, match="nothing to detach"):
        detach(model)
