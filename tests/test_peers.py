"""The peers: each starts as the untouched model, trains what its paper counts, and leaves what its
docstring says.
"""

import copy
import inspect
import sys

import pytest
import torch

import trpts.peers  # noqa: F401 - registers them
from trpts.backbones import create_backbone
from trpts.data import Task, digits
from trpts.methods import METHODS, check_method
from trpts.peers.scale_and_shift import scaled_layers
from trpts.peers.token_reduction import evit_blocks, merge_pairs, token_merging
from trpts.probe import probe_head
from trpts.sparse import attached, sparse_layers
from trpts.tuning import tune

MERGED = ("lora", "shira", "ssf")  # plain models at the end
STAYING = ("adapter", "vpt-shallow", "vpt-deep")  # more to compute at inference
SELECTED = ("uniform", "gps", "fps", "magnitude", "random")
OTHERS = ("bitfit", "mask", "tome", "evit")
SMALL = {
    "mask": {"per_neuron": 2},
    "tome": {"r": 2, "per_neuron": 2},
    "evit": {"per_neuron": 2},
    "vpt-shallow": {"n_prompts": 4},
    "vpt-deep": {"n_prompts": 4},
    "lora": {"r": 2},
}
NOTHING = {
    "vpt-shallow": {"n_prompts": 0},
    "vpt-deep": {"n_prompts": 0},
    "tome": {"r": 0},
    "evit": {"keep": 1.0},
}
PEERS = (*MERGED, *STAYING, *SELECTED, *OTHERS)


@pytest.fixture(scope="module")
def task():
    whole = digits.load(range(5, 10))
    return Task("five digits", 5, whole.train.first(100), whole.val.first(50), whole.test.first(60))


@pytest.fixture(scope="module")
def probed(task):
    model = create_backbone("vit_small_digits", 5, seed=3)
    probe_head(model, task.train)
    return model.eval()


def prepared(name, model, task, **options):
    check_method(name, model, options)
    return METHODS[name].prepare(model, task, 0, **options)


def logits(model, task):
    with torch.no_grad():
        return model.eval()(task.val.images[:20])


def test_these_are_all():
    assert set(METHODS) == {"linear", "full", "trpts", *PEERS}
    for method in METHODS.values():  # what follows are its options
        assert list(inspect.signature(method.prepare).parameters)[:3] == ["model", "task", "seed"]


@pytest.mark.parametrize("name", PEERS)
def test_at_first_nothing_changes(name, probed, task):
    model, wanted = copy.deepcopy(probed), logits(probed, task)
    found = prepared(name, model, task, **NOTHING.get(name, {}))
    with found.around():
        assert torch.allclose(logits(model, task), wanted, atol=1e-6)
    if name in NOTHING or name in SELECTED:
        assert torch.equal(logits(model, task), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_each_learns_and_repeats(name, task):
    results = []
    for _ in range(2):
        model = create_backbone("vit_small_digits", 5, seed=3)
        results.append(tune(model, task, name, epochs=3, lr=3e-4, **SMALL.get(name, {})))
    assert results[0].losses == results[1].losses
    assert results[0].losses[-1] < results[0].losses[0]
    assert results[0].val_curve == results[1].val_curve


@pytest.mark.parametrize("name", MERGED)
def test_what_was_learnt_is_merged_into_a_plain_model(name, probed, task):
    model = copy.deepcopy(probed)
    found = prepared(name, model, task, **SMALL.get(name, {}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    learnt = logits(model, task)
    found.finish()
    assert torch.allclose(logits(model, task), learnt, atol=1e-4)
    assert not torch.allclose(learnt, logits(probed, task), atol=1e-2)
    assert {n: type(m) for n, m in model.named_modules()} == {
        n: type(m) for n, m in probed.named_modules()
    }
    assert model.state_dict().keys() == probed.state_dict().keys()
    assert not any(m._forward_hooks for m in model.modules())


def test_only_selecting_peers_stay_attached(probed, task):
    for name in PEERS:
        model = copy.deepcopy(probed)
        prepared(name, model, task, **SMALL.get(name, {}))
        assert attached(model) == (name in (*SELECTED, "tome", "evit")), name


COUNTS = {  # of ViT-B/16 without its head, by the papers' formulas; L = 12, D = 768
    ("bitfit", ()): 12 * 11 * 768 + 2 * 768,
    ("adapter", ()): 12 * (2 * 768 * 8 + 8 + 768),
    ("adapter", (("places", ("attn", "mlp")), ("size", 64))): 12 * 2 * (2 * 768 * 64 + 64 + 768),
    ("ssf", ()): 12 * 22 * 768 + 2 * 768 + 2 * 768,  # 2 · (1 + 3 + 1 + 1 + 4 + 1) a block
    ("vpt-shallow", ()): 50 * 768,
    ("vpt-deep", ()): 12 * 50 * 768,
    ("lora", ()): 12 * 8 * (4 + 2 + 5 + 5) * 768,
    ("lora", (("layers", ("qkv",)),)): 294_912,  # the 0.29 M of VTAB's tables
    ("shira", ()): 12 * 16 * 768,
    ("random", ()): 3 * 12 * (3 + 1 + 4 + 1) * 768,  # two connections and the bias of each neuron
}


@pytest.fixture(scope="module")
def vit_b():
    return create_backbone("vit_base_patch16_224.augreg_in21k", 20)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), COUNTS, ids=str)
def test_trained_parameters_are_the_papers(name, options, vit_b, task):
    model = copy.deepcopy(vit_b)
    METHODS[name].prepare(model, task, 0, **dict(options))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained - 20 * 769 == COUNTS[name, options]


def test_the_mask_is_what_the_selected_connections_are(probed, task):
    """The same training, step by step: dense and masked, or selected alone."""
    options = dict(epochs=2, lr=2e-3, per_neuron=3.0, head="keep")
    models = [copy.deepcopy(probed) for _ in range(2)]
    dense = tune(models[0], task, "mask", **options)
    sparse = tune(models[1], task, "trpts", keep=1, **options)
    assert dense.losses == pytest.approx(sparse.losses, abs=1e-4)
    assert dense.losses[0] > dense.losses[1]
    assert dense.plan.connections == sparse.plan.connections
    name, layer = next(iter(sparse_layers(models[1]).items()))
    before, after = (m.get_submodule(name).weight for m in (probed, models[0]))
    changed = torch.zeros_like(before, dtype=torch.bool).scatter_(1, layer.index, True)
    assert torch.equal(before[~changed], after[~changed])
    assert not any(p._backward_hooks for p in models[0].parameters())


@pytest.mark.parametrize("name", ["vpt-shallow", "vpt-deep"])
def test_prompts_stand_behind_the_class_token_and_are_gone_at_the_end(name, probed, task):
    model, seen = copy.deepcopy(probed), []
    prepared(name, model, task, n_prompts=4)
    for norm in (*(block.norm1 for block in model.blocks), model.norm):
        norm.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    logits(model, task)
    T = 1 + model.patch_embed.num_patches
    assert [x.shape[1] for x in seen] == [T + 4] * len(model.blocks) + [T]
    for block, x in zip(model.blocks, seen, strict=False):
        if hasattr(block, "prompts"):
            assert torch.equal(x[0, 1:5], block.prompts)
    assert sum(hasattr(block, "prompts") for block in model.blocks) == (
        len(model.blocks) if name == "vpt-deep" else 1
    )


def test_ssf_follows_every_layer_but_the_head(probed):
    names = scaled_layers(probed)
    assert len(names) == 1 + 6 * len(probed.blocks) + 1
    assert "patch_embed.proj" in names
    assert "head" not in names


def test_pairs_merged_by_hand():
    """Tokens 0, 2 look for the nearest of 1, 3: 0 finds 1 (cos 1), 2 finds 3 (cos 0.8). The closer
    pair becomes one.
    """
    keys = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.6, 0.8]]])
    x = torch.tensor([[[10.0], [40.0], [7.0], [9.0]]])
    merged, size = merge_pairs(x, torch.tensor([[1.0, 2.0, 1.0, 1.0]]), keys, 1)
    assert merged.flatten().tolist() == [7.0, 30.0, 9.0]  # (10 + 2 · 40) / 3
    assert size.tolist() == [[1.0, 3.0, 1.0]]
    merged, size = merge_pairs(x, torch.ones(1, 4), keys, 5)  # two pairs at most
    assert merged.flatten().tolist() == [25.0, 8.0]
    assert size.tolist() == [[2.0, 2.0]]
    alone = merge_pairs(x[:, :1], torch.ones(1, 1), keys[:, :1], 5)  # no partner
    assert torch.equal(alone[0], x[:, :1])


def test_a_token_that_stands_for_two_counts_as_two(probed):
    """Twice the same image tokens, merged in the first block: the class token learns what it would
    from all of them.
    """
    T = 1 + probed.patch_embed.num_patches
    x = torch.randn(1, T, probed.embed_dim, generator=torch.Generator().manual_seed(0))
    x[:, 2::2] = x[:, 1::2][:, : x[:, 2::2].shape[1]]
    with torch.no_grad():
        wanted = x
        for block in probed.blocks[:2]:
            wanted = block(wanted)
        with token_merging(probed, (T - 1) // 2):
            merged = probed.blocks[1](probed.blocks[0](x))
    assert merged.shape[1] < T - 1
    assert torch.allclose(merged[:, 0], wanted[:, 0], atol=1e-5)


def test_merging_leaves_no_trace(probed, task):
    wanted = logits(probed, task)
    with pytest.raises(RuntimeError, match="stop"), token_merging(probed, 3):  # noqa: PT012 - what happens inside counts
        assert not torch.allclose(logits(probed, task), wanted, atol=1e-4)
        raise RuntimeError("stop")
    assert torch.equal(logits(probed, task), wanted)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", ["tome", "evit"])
def test_tokens_are_all_that_token_reduction_adds(probed, task, name, biases):
    """What is trained is TR-PTS', with biases and without: the same layers, connections and
    parameters.
    """
    ours, theirs = copy.deepcopy(probed), copy.deepcopy(probed)
    plan = prepared("trpts", ours, task, keep=1, biases=biases).plan
    assert prepared(name, theirs, task, biases=biases).plan.connections == plan.connections
    trained = [{n: p for n, p in m.named_parameters() if p.requires_grad} for m in (ours, theirs)]
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(p, trained[1][n]) for n, p in trained[0].items())
    indices = [{n: layer.index for n, layer in sparse_layers(m).items()} for m in (ours, theirs)]
    assert len(indices[0]) > 0
    assert all(torch.equal(index, indices[1][n]) for n, index in indices[0].items())


def test_evits_blocks():
    assert evit_blocks(12) == [3, 6, 9]
    assert evit_blocks(8) == [2, 4, 6]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lora", {"r": 0}, r"r=0: expected a rank from 1 to"),
        ("lora", {"layers": ("key",)}, r"layers=\('key',\): the model has no such Linear layers"),
        ("lora", {"alpha": -1}, "alpha=-1: expected a scale above 0"),
        ("shira", {"r": 1.5}, "r=1.5: expected a rank"),
        ("adapter", {"size": 0}, "size=0: expected a width"),
        ("adapter", {"places": ("norm",)}, "expected some of attn, mlp"),
        ("vpt-deep", {"n_prompts": -1}, "n_prompts=-1: expected a number of tokens"),
        ("gps", {"per_neuron": 1.5}, "per_neuron=1.5: expected a whole number"),
        ("uniform", {"score": "taste"}, "score 'taste' is unknown"),
        ("tome", {"r": -1}, "r=-1: expected a number of pairs"),
        ("evit", {"keep": 0.0}, "expected shares of the tokens in"),
        ("mask", {"placement": "sideways"}, "sideways"),
        ("ssf", {"size": 3}, "method 'ssf' has no option size"),
    ],
)
def test_unfit_options_are_refused_before_any_work(name, options, words, probed):
    model = copy.deepcopy(probed)
    with pytest.raises(ValueError, match=words):
        check_method(name, model, options)
    assert model.state_dict().keys() == probed.state_dict().keys()


def test_without_peft_it_is_named(probed, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ImportError, match=r"LoRA and SHiRA need PEFT: `pip install trpts\[peers\]`"
    ):
        check_method("lora", probed, {})
