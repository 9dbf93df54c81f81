"""Allocation: the equation by hand, the solver against its budget, ViT-B/16's counts, and what it
refuses.
"""

import math

import pytest
import timm
import torch

from trpts.allocation import allocate, layer_weights
from trpts.layers import scored_layers
from trpts.placement import block_of

# Ten weights in three layers; the top 50 % are the five marked ones: two in A, two in B, one in C.
HAND = {
    "blocks.0.A": torch.tensor([[9.0, 1.0], [8.0, 1.0]]),
    "blocks.1.B": torch.tensor([[7.0, 6.0]]),
    "blocks.2.C": torch.tensor([[5.0, 2.0], [1.0, 0.0]]),
}


@pytest.fixture(scope="module")
def vit_b():
    with torch.device("meta"):
        return timm.create_model("vit_base_patch16_224", num_classes=1)


def random_scores(model, seed=0, spread=2.0):
    """Heavy-tailed scores of the right shapes, each layer with a level of its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.exp(spread * torch.randn((), generator=generator))
        * torch.rand(m.weight.shape, generator=generator)
        for name, m in scored_layers(model).items()
    }


def small():
    return timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=16, depth=4, num_heads=2, num_classes=5
    )


def test_share_by_hand():
    """Top five of ten: w = (2, 2, 1)/5, ratios 2, 2, 1; C_min = 1 gives C = 2, 2, 1."""
    weights = layer_weights(HAND, "share", top_fraction=0.5)
    assert weights == pytest.approx({"blocks.0.A": 0.4, "blocks.1.B": 0.4, "blocks.2.C": 0.2})
    assert list(allocate(HAND, top_fraction=0.5, n_token_blocks=1).connections.values()) == [
        2,
        2,
        1,
    ]


def test_mean_by_hand():
    """Means 19/4, 13/2 and 8/4 are 2.375, 3.25 and 1 times the smallest."""
    weights = layer_weights(HAND, "mean")
    total = 19 / 4 + 13 / 2 + 8 / 4
    assert list(weights.values()) == pytest.approx([19 / 4 / total, 13 / 2 / total, 2 / total])
    plan = allocate(HAND, w="mean", n_token_blocks=0)
    # 2.375 down to 2, 3.25 capped at the fan-in
    assert list(plan.connections.values()) == [2, 2, 1]
    # the floor
    assert list(allocate(HAND, w="mean", c_min=0.4, n_token_blocks=0).connections.values()) == [
        1,
        1,
        1,
    ]


def test_rounding_of_the_quotient_costs_no_connection():
    """0.9 / (0.9 / 7) is 7, where the machine's shares say 6.999…"""
    scores = {
        n: torch.full((2, 8), x, dtype=torch.float64)
        for n, x in (("blocks.0.A", 0.9), ("blocks.1.B", 0.9 / 7))
    }
    plan = allocate(scores, w="mean", n_token_blocks=0)
    assert plan.w["blocks.0.A"] / plan.w["blocks.1.B"] < 7  # else this test shows nothing
    assert list(plan.connections.values()) == [7, 1]


def test_what_is_left_over_goes_to_weighted_layers_first():
    """The heavy layers jump together, so that nearly both of them are left over; the third has w =
    0.
    """
    top, none = torch.full((1, 16), 2.0), torch.full((1, 16), 1.0)
    scores = {"blocks.0.A": top, "blocks.1.B": top.clone(), "blocks.2.C": none}
    C = {
        n: allocate(scores, per_neuron=n / 3, top_fraction=2 / 3, n_token_blocks=0).connections
        for n in (8, 33, 40)
    }
    assert sorted(C[8].values()) == [1, 3, 4]
    assert list(C[33].values()) == [16, 16, 1]
    assert list(C[40].values()) == [16, 16, 8]  # only now


def test_selection_by_hand():
    plan = allocate(HAND, top_fraction=0.5, n_token_blocks=0)
    index = plan.select(HAND)
    assert index["blocks.0.A"].tolist() == [[0, 1], [0, 1]]
    assert index["blocks.2.C"].tolist() == [[0], [0]]
    assert plan.select({name: -score for name, score in HAND.items()})["blocks.2.C"].tolist() == [
        [1],
        [1],
    ]
    with pytest.raises(ValueError, match="other layers"):
        plan.select({"other": torch.ones(2, 2)})


def test_a_layer_outside_the_top_gets_one_connection():
    scores = HAND | {"blocks.2.C": HAND["blocks.2.C"] / 100}
    plan = allocate(scores, top_fraction=0.4, c_min=2, n_token_blocks=0)
    assert plan.w["blocks.2.C"] == 0
    assert list(plan.connections.values()) == [2, 2, 1]


def test_ties_do_not_enlarge_the_top_set():
    weights = layer_weights(
        {"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, "share", top_fraction=0.5
    )
    assert sum(weights.values()) == pytest.approx(1)


def test_per_block_gives_the_layers_of_a_block_the_same_number():
    model = small()
    plan = allocate(random_scores(model), model, per_neuron=3.0, per="block")
    for block in range(4):
        names = [name for name in plan.connections if block_of(name) == block]
        assert len(names) == 4
        assert len({plan.w[name] for name in names}) == 1
        # the remainder
        assert (
            max(plan.connections[n] for n in names) - min(plan.connections[n] for n in names) <= 1
        )


@pytest.mark.parametrize("w", ["share", "mean"])
@pytest.mark.parametrize("wanted", [1.0, 1.3, 2.0, 5.5, 11.0])
def test_solver_meets_the_budget(w, wanted):
    """Never above, and below by less than one more connection in a layer that could take one.

    At 11 the layers in the top 1 % are full and the others take the rest.
    """
    model = small()
    scores = random_scores(model)
    plan = allocate(scores, model, per_neuron=wanted, w=w)
    rows = {name: len(score) for name, score in scores.items()}
    room = [rows[n] for n, C in plan.connections.items() if scores[n].shape[1] > C]
    left = wanted * sum(rows.values()) - plan.counted["weights"]
    assert 0 <= left < max(room)
    assert plan.connections_per_neuron <= wanted
    assert all(1 <= C <= scores[n].shape[1] for n, C in plan.connections.items())


def test_solver_keeps_to_the_equation():
    """What it returns is the equation at the C_min it names, up to one connection of the
    remainder.
    """
    model = small()
    plan = allocate(random_scores(model), model, per_neuron=2.5, top_fraction=0.05)
    smallest = min(x for x in plan.w.values() if x > 0)
    for name, C in plan.connections.items():
        wanted = max(1.0, plan.w[name] / smallest * plan.c_min)
        assert (
            C in (math.floor(wanted), math.floor(wanted) + 1)
            or scored_layers(model)[name].in_features == C
        )


def test_budget_pays_for_what_is_counted():
    model = small()
    scores = random_scores(model)
    n_backbone = sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for p in model.head.parameters()
    )
    everything = allocate(scores, model, budget=0.2)
    weights = allocate(scores, model, budget=0.2, count=("weights",))
    assert everything.counted["head"] == 5 * 17
    assert everything.counted["biases"] == everything.n_neurons
    assert weights.counted["head"] == weights.counted["biases"] == 0
    assert weights.counted["weights"] > everything.counted["weights"]
    for plan in (everything, weights):
        assert plan.n_backbone == n_backbone
        assert 0.19 < plan.trainable_fraction <= 0.2


def test_counts_of_vit_b_are_the_papers(vit_b):
    """Mean C = 2 with biases is 0.334 % at VTAB-1k's mean head (940 classes in 19 tasks), 0.337 %
    with the patches.
    """
    ones = {name: torch.ones(m.weight.shape) for name, m in scored_layers(vit_b).items()}
    plan = allocate(ones, vit_b, per_neuron=2.0, w="mean", count=("weights", "biases"))
    assert plan.n_neurons == 82_944
    assert plan.n_backbone == 85_798_656
    assert plan.connections_per_neuron == 2.0
    assert set(plan.connections.values()) == {2}
    mean_head = 940 / 19 * 769
    assert round(100 * (plan.n_trainable + mean_head) / plan.n_backbone, 3) == 0.334
    patches = ones | {"patch_embed.proj": torch.ones(768, 768)}
    with_patches = allocate(patches, vit_b, per_neuron=2.0, w="mean", count=("weights", "biases"))
    assert with_patches.n_trainable == 3 * 83_712
    assert round(100 * (with_patches.n_trainable + mean_head) / with_patches.n_backbone, 3) == 0.337


def test_token_blocks_by_hand():
    """Blocks train 4, 2 and 2 connections; blocks 1 and 2 are told apart by w."""
    plans = {
        p: allocate(HAND, top_fraction=0.5, n_token_blocks=1, placement=p)
        for p in ("sparse", "dense", "every")
    }
    assert {p: plan.token_blocks for p, plan in plans.items()} == {
        "sparse": (2,),
        "dense": (0,),
        "every": (0, 1, 2),
    }
    two = allocate(HAND, top_fraction=0.5, n_token_blocks=2).token_blocks
    assert two == (1, 2)
    drawn = {
        allocate(HAND, n_token_blocks=1, placement="random", seed=seed).token_blocks
        for seed in range(20)
    }
    assert drawn == {(0,), (1,), (2,)}


def test_layers_outside_the_blocks_select_no_tokens():
    plan = allocate(HAND | {"patch_embed.proj": torch.ones(2, 2)}, n_token_blocks=3)
    assert plan.token_blocks == (0, 1, 2)
    assert "patch_embed.proj" in plan.connections


FAULTS = {
    "unknown w": (dict(w="median"), "expected one of share, mean"),
    "unknown per": (dict(per="head"), "expected one of layer, block"),
    "unknown placement": (dict(placement="deep"), "expected one of sparse, dense, random, every"),
    "unknown count": (
        dict(count=("weights", "norms")),
        r"count=\('weights', 'norms'\): expected weights, and",
    ),
    "count without weights": (
        dict(count=("biases",)),
        "expected weights, and beside it biases and head or not",
    ),
    "too many blocks": (dict(n_token_blocks=4), "n_token_blocks=4: expected 0 to 3"),
    "budget without model": (dict(budget=0.1), "expected `model` with it"),
    "fraction of a connection": (dict(per_neuron=0.5), "per_neuron=0.5: expected a finite number"),
    "no number of connections": (
        dict(per_neuron=math.nan),
        "per_neuron=nan: expected a finite number",
    ),
    "endless connections": (dict(per_neuron=math.inf), "per_neuron=inf: expected a finite number"),
    "c_min": (dict(c_min=0), "c_min=0: expected a finite number above 0"),
    "no number as c_min": (dict(c_min=math.nan), "c_min=nan: expected a finite number above 0"),
    "top of nothing": (
        dict(top_fraction=0.0),
        r"top_fraction=0.0: expected a share of the weights in \(0, 1\]",
    ),
    "top of more than all": (
        dict(top_fraction=5),
        r"top_fraction=5: expected a share of the weights in \(0, 1\]",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_arguments(fault):
    options, sentence = FAULTS[fault]
    with pytest.raises(ValueError, match=sentence):
        allocate(HAND, **options)


@pytest.mark.parametrize("budget", [0, 1.5, -0.1])
def test_budget_outside(budget):
    model = small()
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        allocate(random_scores(model), model, budget=budget)


def test_budget_below_one_connection_names_the_least():
    model = small()
    scores = random_scores(model)
    with pytest.raises(
        ValueError, match="below one connection per neuron: expected at least"
    ) as error:
        allocate(scores, model, budget=0.001)
    least = float(str(error.value).rsplit(" ", 1)[1])
    assert set(allocate(scores, model, budget=1.01 * least).connections.values()) <= {1, 2}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_bad_scores(bad):
    broken = HAND | {"blocks.1.B": torch.tensor([[bad, 1.0]])}
    with pytest.raises(ValueError, match=r"blocks\.1\.B has NaN"):
        allocate(broken)
    with pytest.raises(ValueError, match="every score is zero"):
        allocate({name: torch.zeros_like(s) for name, s in HAND.items()})
    with pytest.raises(ValueError, match="scores are empty"):
        allocate({})
