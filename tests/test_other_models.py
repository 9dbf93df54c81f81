"""Models whose layers are used past their `forward`: nothing is scored zero, counted as trained,
and never moved.

timm's EVA, BeiT and SwinV2 call `F.linear(x, self.qkv.weight, …)`, SwinV2 sees windows as rows and
a table of places that no sample changes, `nn.MultiheadAttention` reads `out_proj.weight`, and a
layer may stand in two places.
"""

import copy
import functools

import pytest
import timm
import torch
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.prune import l1_unstructured

import trpts.peers  # noqa: F401 - registers them
from trpts.data import Split, Task
from trpts.data.reading import NORMALIZATIONS
from trpts.delta import backbone_hash, save_delta
from trpts.device import device_named
from trpts.fisher import fisher_scores
from trpts.layers import classifier, heads, scored_layers
from trpts.methods import METHODS, check_method
from trpts.own_images import check_saveable, reading_of
from trpts.probe import put_head
from trpts.scores import SCORES, score_named
from trpts.sparse import attach, detach, sparse_layers
from trpts.training import Training, train
from trpts.tuning import tune

X = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
SPLIT = Split(X, Y)
TASK = Task("six", 3, SPLIT, SPLIT, SPLIT)
SIZE = dict(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3)


class Encoder(nn.Module):
    """Attention of PyTorch's own, an encoder layer of PyTorch's own, one layer in two places, and a
    head.
    """

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(48, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.twice = nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def get_classifier(self):
        return self.head

    def forward_features(self, x):
        x = self.embed(
            x.unflatten(2, (4, 4))
            .unflatten(4, (4, 4))
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(len(x), 16, 48)
        )
        x = x + self.attention(x, x, x)[0]
        return self.twice(self.twice(self.encoder(x)).relu())

    def forward_head(self, x, pre_logits=False):
        return x.mean(1) if pre_logits else self.head(x.mean(1))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


MODELS = {
    "eva": lambda: Eva(**SIZE),
    "beit": lambda: Beit(**SIZE),
    "swin v2": lambda: SwinTransformerV2(
        img_size=16,
        patch_size=2,
        window_size=4,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        num_classes=3,
    ),
    "pytorch": Encoder,
}
PAST = {
    "eva": "blocks.0.attn.qkv",
    "beit": "blocks.0.attn.qkv",
    "swin v2": "layers.0.blocks.0.attn.qkv",
    "pytorch": "attention.out_proj",
}


@functools.cache
def made(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = MODELS[name]()
        for p in model.parameters():  # nothing stays at zero or one, where a fault could hide
            p.data += 0.2 * torch.randn_like(p)
        return model.eval()


def model_of(name):
    return copy.deepcopy(made(name))


def weight_gradients(model, images, labels):
    """Σ_s ∂L_s/∂W of the scored layers, by plain autograd."""
    model.requires_grad_(True)
    weights = {name: layer.weight for name, layer in scored_layers(model).items()}
    loss = cross_entropy(model(images), labels, reduction="sum")
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


@functools.cache
def of_each_sample(name):
    model = model_of(name).eval()
    return [weight_gradients(model, X[i : i + 1], Y[i : i + 1]) for i in range(len(X))]


def assert_near(scores, wanted):
    assert list(scores) == list(wanted)
    for name, score in scores.items():
        torch.testing.assert_close(
            score, wanted[name], rtol=1e-3, atol=1e-5 * wanted[name].max().item(), msg=name
        )
        assert score.any(), name


@pytest.mark.parametrize("name", MODELS)
def test_gradient_scores_are_those_of_autograd(name):
    each = of_each_sample(name)
    layers = each[0].keys()
    assert PAST[name] in layers
    batches = [(X[:4], Y[:4]), (X[4:], Y[4:])]
    assert_near(
        fisher_scores(model_of(name), batches),
        {n: sum(g[n].square() for g in each) / 6 for n in layers},
    )
    parts = [
        {n: (sum(g[n] for g in part) / len(part)).square() for n in layers}
        for part in (each[:4], each[4:])
    ]
    batch = {n: (parts[0][n] + parts[1][n]) / 2 for n in layers}
    assert_near(fisher_scores(model_of(name), batches, samples="batch"), batch)
    assert_near(
        SCORES["gradient"].function(model_of(name), batches),
        {n: sum(g[n] for g in each).abs() for n in layers},
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("score", ["fisher_true", "gps", "fps", "magnitude", "random"])
def test_no_layer_scores_zero(name, score):
    model = model_of(name)
    flags, modes = (
        [p.requires_grad for p in model.parameters()],
        [m.training for m in model.modules()],
    )
    if score == "fps" and name == "pytorch":
        with pytest.raises(
            ValueError, match=r"input of layer attention.out_proj is not to be seen"
        ):
            score_named(score)(model, [(X, Y)])
    else:
        scores = score_named(score)(model, [(X, Y)])
        assert list(scores) == list(scored_layers(model))
        assert not [n for n, s in scores.items() if not s.any()]
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [m.training for m in model.modules()] == modes


def test_fps_takes_the_input_of_a_weight_that_is_read_past_forward():
    model, seen = model_of("eva"), []
    model.blocks[1].norm1.register_forward_hook(lambda module, inputs, x: seen.append(x.detach()))
    scores = SCORES["fps"].function(model, [(X, Y)])
    wanted = model.blocks[1].attn.qkv.weight.abs() * seen[-1].abs().mean((0, 1))
    torch.testing.assert_close(scores["blocks.1.attn.qkv"], wanted)


def some(model, C=2):
    """C random connections of every neuron of every layer."""
    generator = torch.Generator().manual_seed(0)
    layers = scored_layers(model).items()
    return {
        n: torch.rand(m.weight.shape, generator=generator)
        .topk(min(C, m.weight.shape[1]))
        .indices.sort()
        .values
        for n, m in layers
    }


@pytest.mark.parametrize("name", MODELS)
def test_attached_values_have_the_gradient_of_their_entries_and_move(name):
    model = model_of(name)
    index, plain, before = some(model), model_of(name), copy.deepcopy(model.state_dict())
    attach(model, index)
    logits = model(X)
    torch.testing.assert_close(logits, plain(X))
    cross_entropy(logits, Y, reduction="sum").backward()
    for n, dense in weight_gradients(plain, X, Y).items():
        wanted = dense.gather(1, index[n])
        got = model.get_submodule(n).values.grad
        torch.testing.assert_close(
            got, wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max().item(), msg=n
        )
    train(model, SPLIT, epochs=2, lr=1e-2)
    with torch.no_grad():
        tuned = model.eval()(X)
    kinds = {n: type(m) for n, m in plain.named_modules()}
    detach(model)
    assert {n: type(m) for n, m in model.named_modules()} == kinds
    for n, places in index.items():
        moved = model.state_dict()[f"{n}.weight"] != before[f"{n}.weight"]
        assert moved.any(), n
        assert not (moved & ~torch.zeros_like(moved).scatter_(1, places, True)).any(), n
    torch.testing.assert_close(model(X), tuned)


def test_values_are_in_the_weight_that_is_read_without_gradients():
    """PyTorch's fast path takes the weights themselves, in eval mode without gradients: after a
    step, the new ones.
    """
    model = model_of("pytorch")
    attach(model, some(model))
    for layer in sparse_layers(model).values():
        layer.values.data += 1
    fresh = copy.deepcopy(model)
    detach(fresh)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(X), fresh.eval()(X))


@pytest.mark.parametrize("name", ["eva", "beit", "swin v2"])
@pytest.mark.parametrize("method", ["lora", "shira"])
def test_low_rank_and_random_entries_move_past_forward(name, method):
    model, options = model_of(name), {"layers": ("qkv",), "r": 1}
    before = {n: m.weight.detach().clone() for n, m in scored_layers(model).items()}
    check_method(method, model, options)
    prepared = METHODS[method].prepare(model, TASK, 0, **options)
    train(model, SPLIT, epochs=2, lr=1e-2)
    with torch.no_grad():
        learnt = model.eval()(X)
    prepared.finish()
    for n, m in scored_layers(model).items():
        assert torch.equal(m.weight, before[n]) == (not n.endswith("qkv")), n
    with torch.no_grad():
        torch.testing.assert_close(model(X), learnt, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["eva", "beit", "swin v2"])
def test_tune_moves_every_attached_layer(name):
    model = model_of(name)
    before = copy.deepcopy(model.state_dict())
    for method, options in (("trpts", {"keep": 1}), ("uniform", {"score": "fps"}), ("random", {})):
        tuned = copy.deepcopy(model)
        result = tune(tuned, TASK, method, epochs=2, lr=1e-2, **options)
        assert result.n_trainable == sum(p.numel() for p in tuned.parameters() if p.requires_grad)
        layers = sparse_layers(tuned)
        assert list(layers) == list(scored_layers(model))
        detach(tuned)
        still = [
            n
            for n in layers
            if torch.equal(tuned.state_dict()[f"{n}.weight"], before[f"{n}.weight"])
        ]
        assert not still, method


def with_spare(name):
    model = model_of(name)
    model.spare = nn.Linear(16, 16)
    return model


@pytest.mark.parametrize(
    ("name", "prepare", "named"),
    [
        ("beit", lambda m: attach(m, some(m)), "spare.bias"),
        ("beit", lambda m: attach(m, some(m), biases=False), "spare.values"),
        (
            "beit",
            lambda m: METHODS["lora"].prepare(m, TASK, 0, layers=("spare",)),
            "spare.lora_A.default.weight",
        ),
        (
            "beit",
            lambda m: METHODS["shira"].prepare(m, TASK, 0, layers=("spare",)),
            "spare.shira_weight.default",
        ),
        ("beit", lambda m: METHODS["random"].prepare(m, TASK, 0), "spare.bias"),
        ("pytorch", lambda m: METHODS["ssf"].prepare(m, TASK, 0), "attention.out_proj.gamma"),
        ("beit", lambda m: m.requires_grad_(True), "spare.weight"),
    ],
    ids=["attach", "attach without biases", "lora", "shira", "random", "ssf", "all"],
)
def test_what_would_never_move_is_named_before_the_first_step(name, prepare, named):
    model = with_spare(name)
    prepare(model)
    with pytest.raises(ValueError, match=f"^{named} would be trained and never move"):
        Training(model, SPLIT, epochs=1)


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_methods_that_train_what_is_there_leave_out_what_is_not_used(method):
    model = with_spare("beit")
    before = copy.deepcopy(model.state_dict())
    result = tune(model, TASK, method, epochs=2, lr=1e-2)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert result.n_trainable == sum(p.numel() for p in trained.values())
    assert not [n for n in trained if "spare" in n]
    assert not [n for n, p in trained.items() if torch.equal(p, before[n])]


class Tied(nn.Module):
    """An encoder that is called, and whose weight is read once more, as the decoder."""

    def __init__(self, grad=True):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head, self.grad = nn.Linear(768, 8), nn.Linear(768, 3), grad

    def get_classifier(self):
        return self.head

    def forward(self, x):
        with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
            z = self.encoder(x.flatten(1)).relu()
        return self.head(z @ self.encoder.weight if self.grad else z.repeat(1, 96))


def test_a_weight_that_is_called_and_read_once_more():
    """Of its gradient, what comes by way of the layer is a part."""
    model = Tied()
    each = [weight_gradients(model, X[i : i + 1], Y[i : i + 1])["encoder"] for i in range(6)]
    assert_near(fisher_scores(model, [(X, Y)]), {"encoder": sum(g.square() for g in each) / 6})
    assert_near(SCORES["gradient"].function(model, [(X, Y)]), {"encoder": sum(each).abs()})
    index = some(model)
    attach(model, index)
    cross_entropy(model(X), Y, reduction="sum").backward()
    torch.testing.assert_close(model.encoder.values.grad, sum(each).gather(1, index["encoder"]))


@pytest.mark.parametrize("score", ["fisher", "gradient"])
def test_a_layer_that_runs_without_gradients_is_named(score):
    model = Tied(grad=False)
    with pytest.raises(ValueError, match=r"the loss does not depend on layer encoder: .*no_grad"):
        SCORES[score].function(model, [(X, Y)])
    attach(model, some(model))
    with pytest.raises(ValueError, match=r"encoder.bias would be trained and never move"):
        train(model, SPLIT, epochs=1)


@pytest.mark.parametrize(
    "spoil", [nn.utils.parametrizations.weight_norm, lambda m: l1_unstructured(m, "weight", 0.3)]
)
def test_weights_that_are_made_of_others_are_not_attached(vit, spoil):
    """What is written into them would be gone with the next pass."""
    spoil(vit.blocks[0].mlp.fc1)
    with pytest.raises(
        ValueError, match=r"the weight of blocks.0.mlp.fc1 is made of other parameters"
    ):
        attach(vit, some(vit))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: nn.DataParallel(model_of("beit")),
            r"expected a timm classifier with one Linear layer as its head",
        ),
        (lambda: VisionTransformerDistilled(**SIZE), r"has 2 heads, as distilled models have"),
        (lambda: VisionTransformer(**SIZE | {"num_classes": 0}), r"gave a Identity"),
    ],
)
def test_tune_refuses_what_has_not_one_head(make, words):
    with pytest.raises(ValueError, match=words):
        tune(make(), TASK, "trpts", epochs=1)


class Plain(nn.Module):
    """A model that is not timm's, with heads under the names that others use."""

    def __init__(self, **heads):
        super().__init__()
        self.body = nn.Linear(4, 6)
        for name, head in heads.items():
            setattr(self, name, head)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("name", ["head", "classifier", "fc"])
def test_a_head_is_found_by_its_name(name):
    model = Plain(**{name: nn.Linear(6, 3)})
    assert classifier(model) is getattr(model, name)
    assert list(scored_layers(model)) == ["body"]


def test_a_distilled_model_s_second_head_is_a_head():
    model = Plain(head=nn.Linear(6, 3), head_dist=nn.Linear(6, 3))
    assert heads(model) == [model.head, model.head_dist]
    assert list(scored_layers(model)) == ["body"]


WITHOUT_A_HEAD = {
    "none": (dict, "gave a Identity, expected a Linear layer"),
    "two": (
        lambda: {"head": nn.Linear(6, 3), "head_dist": nn.Linear(6, 3)},
        "has 2 heads, as distilled models have",
    ),
    "a stack": (lambda: {"fc": nn.Sequential(nn.Linear(6, 3))}, "gave a Sequential"),
    "a convolution": (lambda: {"classifier": nn.Conv2d(6, 3, 1)}, "gave a Conv2d"),
}
ASKED = {
    "probe_head": lambda model, path: put_head(model, (torch.zeros(3, 6), torch.zeros(3))),
    "backbone_hash": lambda model, path: backbone_hash(model),
    "save_delta": lambda model, path: (
        attach(model, {"body": torch.zeros(6, 1, dtype=torch.int64)}),
        save_delta(model, path),
    ),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("kind", WITHOUT_A_HEAD)
def test_a_model_without_one_head_is_said_to_be_so(kind, asked, tmp_path):
    """No AttributeError of something inside."""
    make, words = WITHOUT_A_HEAD[kind]
    with pytest.raises(ValueError, match=words):
        ASKED[asked](Plain(**make()), tmp_path / "d.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("convnext_atto", "cuts no patches from images of one size"),
        ("efficientnet_b0", "cuts no patches from images of one size"),
        ("test_resnet", "cuts no patches from images of one size"),
        ("mixer_s16_224", "cuts no patches from images of one size"),
        ("deit_tiny_distilled_patch16_224", "has 2 heads, as distilled models have"),
        ("crossvit_9_240", "cuts no patches from images of one size"),
    ],
)
def test_backbones_that_prediction_cannot_take_are_named(tag, words):
    with pytest.raises(ValueError, match=f"backbone '{tag}'.*{words}"):
        reading_of(tag)


def test_every_vision_transformer_of_timm_has_a_normalization():
    """One that is missing would be refused by `reading_of`."""
    missing = [
        tag
        for tag in timm.list_pretrained(["vit*", "deit*", "eva*", "beit*", "flexivit*", "aimv2*"])
        if (cfg := timm.get_pretrained_cfg(tag))
        and (tuple(cfg.mean), tuple(cfg.std)) not in NORMALIZATIONS.values()
    ]
    assert missing == []


def test_running_statistics_are_refused_before_training():
    check_saveable(VisionTransformer(**SIZE))
    model = VisionTransformer(**SIZE)
    model.blocks[1].norm1 = nn.BatchNorm1d(16)
    with pytest.raises(ValueError, match=r"blocks.1.norm1 is batch normalisation, whose running"):
        check_saveable(model)
    model.blocks[1].norm1 = nn.BatchNorm1d(16, track_running_stats=False)
    check_saveable(model)


def test_mps_is_a_device_where_there_is_one(monkeypatch):
    with pytest.raises(ValueError, match="--device mps is not there"):
        device_named("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_named("mps") == "mps"


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda m: nn.DataParallel(nn.DataParallel(m)),
        lambda m: torch.optim.swa_utils.AveragedModel(m),
    ],
)
def test_a_wrapped_model_s_head_is_not_scored(vit, batch, wrap):
    plain = fisher_scores(vit, [batch])
    wrapped = fisher_scores(wrap(vit), [batch])
    assert [n.split("module.")[-1] for n in wrapped] == list(plain)
    for a, b in zip(wrapped.values(), plain.values(), strict=True):
        assert torch.equal(a, b)


def test_two_heads_of_a_distilled_model_are_not_scored():
    model = VisionTransformerDistilled(**SIZE)
    assert not [n for n in fisher_scores(model, [(X, Y)]) if n.startswith("head")]


@pytest.mark.parametrize("name", ["head", "heads", "classifier", "fc"])
def test_heads_by_name(name):
    model = nn.Sequential()
    model.add_module("body", nn.Linear(4, 4))
    model.add_module(name, nn.Sequential(nn.Linear(4, 3)))
    assert list(scored_layers(model)) == ["body"]
