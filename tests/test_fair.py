"""The fair comparison: rates that are bracketed, a head of its own rate, scores of held-out heads,
Fisher's counts.
"""

from statistics import fmean

import pytest
import torch
from test_sweep import record

from trpts.backbones import create_backbone
from trpts.data import Split, Task
from trpts.errors import TrptsError
from trpts.methods import METHODS
from trpts.probe import probe_head
from trpts.scores import SCORES
from trpts.sparse import sparse_layers
from trpts.training import Training
from trpts_lab import grid
from trpts_lab.profiles import load_profile
from trpts_lab.store import Store

N = 48


@pytest.fixture(scope="module")
def task():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 3
    images = torch.randn(N, 3, 32, 32, generator=generator) + labels[:, None, None, None] / 2
    split = Split(images, labels)
    return Task("three", 3, split, split.first(12), split.first(12))


@pytest.fixture
def model(task):
    model = create_backbone("vit_lab", 3, seed=1)
    probe_head(model, task.train)
    return model


# learning rates


def fill(profile, store, accuracy_of):
    """Give every cell that the tuning asks for a record, until it asks for no more; how often it
    asked.
    """
    for asked in range(1, 30):
        before = len(store.records())
        for _, config in grid.tuning_cells(profile, store, device="cpu"):
            if store.find({"kind": "tuned", **config}) is None:
                store.add(record(config, accuracy_of(config), 0.0))
        if len(store.records()) == before:
            return asked
    raise AssertionError("it never ends")


@pytest.mark.slow
def test_rates_are_extended_until_the_best_has_a_worse_one_on_both_sides(project, tmp_path):
    profile, store = load_profile(project, "real"), Store(tmp_path)
    best = {"linear": 0.001, "full": 0.0000125 / 8, "LoRA, r = 8": 0.016}
    fill(
        profile,
        store,
        lambda c: (
            0.9 / (1 + abs(torch.tensor(c["lr"] / best.get(c["variant"], 0.01)).log2().item()))
        ),
    )
    rates = grid.chosen_rates(profile, store, device="cpu")
    for method, (rate, means) in rates.items():
        assert rate == pytest.approx(best.get(method, 0.01))
        assert min(means) < rate < max(means)
        assert means[rate / 2] < means[rate] > means[rate * 2]
    cells = grid.comparison_cells(profile, store, device="cpu")
    assert len(cells) == 11 * 8 * 2
    assert {c.get("head_lr") for _, c in cells if c["variant"] != "linear"} == {0.001}
    assert not any("head_lr" in c for _, c in cells if c["variant"] == "linear")
    assert {c["task"] for _, c in cells}.isdisjoint(profile["benchmark"]["sweep"]["tuning_tasks"])


def test_the_heads_rate_comes_first(project, tmp_path):
    cells = grid.tuning_cells(load_profile(project, "real"), Store(tmp_path), device="cpu")
    assert {c["variant"] for _, c in cells} == {"linear"}
    assert len(cells) == 3 * 4 * 2


@pytest.mark.slow
def test_a_rate_without_an_end_is_an_error(project, tmp_path):
    profile, store = load_profile(project, "real"), Store(tmp_path)
    with pytest.raises(
        TrptsError,
        match=r"linear: no learning rate from 0\.0005 to .* has a worse one on both sides",
    ):
        fill(profile, store, lambda c: min(1.0, 0.001 + c["lr"] / 100))


@pytest.mark.parametrize(
    ("means", "wanted"),
    [
        ({1.0: 0.5, 2.0: 0.7, 4.0: 0.6}, []),
        ({1.0: 0.8, 2.0: 0.7}, [0.5]),
        ({1.0: 0.6, 2.0: 0.7}, [4.0]),
        ({1.0: 0.7, 2.0: 0.7, 4.0: 0.6}, []),
        ({1.0: 0.7}, [0.5, 2.0]),
    ],
)
def test_rates_to_try(means, wanted):
    assert grid.rates_to_try(means) == wanted


# the head


def test_the_head_has_a_rate_of_its_own(model, task):
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.requires_grad_(True)
    Training(
        model, task.train, 1, lr=0.001, head_lr=0.0, optimizer="adam", weight_decay=0.0
    ).run_epoch()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == before.keys() - {"head.weight", "head.bias"}
    Training(
        model, task.train, 1, lr=0.0, head_lr=0.001, optimizer="adam", weight_decay=0.0
    ).run_epoch()
    assert not torch.equal(model.head.weight, before["head.weight"])


def test_a_rate_of_the_head_below_zero_is_refused(model, task):
    with pytest.raises(ValueError, match=r"head_lr=-1: expected a number from 0"):
        Training(model, task.train, 1, head_lr=-1)


# scores and selections


def prepared(model, task, **options):
    METHODS["trpts"].prepare(
        model, task, 0, **{"n_scored": 12, "per_neuron": 2.0, "keep": 1} | options
    )
    return {name: layer.index for name, layer in sparse_layers(model).items()}


def test_scores_are_taken_with_a_head_of_other_images(model, task):
    seen, head = [], model.head.weight.detach().clone()

    def score(model, batches):
        seen.append(model.head.weight.detach().clone())
        return SCORES["magnitude"].function(model)

    prepared(model, task, score=score, held_out=True)
    assert torch.equal(model.head.weight, head), "it is put back"
    other = create_backbone("vit_lab", 3, seed=1)
    probe_head(other, task.train.after(12))
    assert torch.equal(seen[0], other.head.weight)
    assert not torch.equal(seen[0], head)


def test_a_held_out_head_needs_other_images(model, task):
    with pytest.raises(
        ValueError,
        match=r"held_out=True with n_scored=48, which are all training images: expected few",
    ):
        prepared(model, task, n_scored=500, held_out=True)


def test_another_score_allocates(task):
    def fresh(**options):
        model = create_backbone("vit_lab", 3, seed=1)
        probe_head(model, task.train)
        return prepared(model, task, **options)

    fisher, chance = fresh(), fresh(score="random", allocated_by="fisher")
    assert {n: x.shape for n, x in chance.items()} == {n: x.shape for n, x in fisher.items()}
    assert any(not torch.equal(chance[n], fisher[n]) for n in fisher)
    assert {n: x.shape for n, x in fresh(score="random").items()} != {
        n: x.shape for n, x in fisher.items()
    }


def test_shuffled_fisher_wants_the_same_inputs_as_often(task):
    def fresh(score):
        model = create_backbone("vit_lab", 3, seed=1)
        probe_head(model, task.train)
        return prepared(model, task, score=score)

    fisher, shuffled = fresh("fisher"), fresh("fisher_shuffled")
    for name, index in fisher.items():
        assert torch.equal(index.flatten().bincount(), shuffled[name].flatten().bincount())
    same = [
        (index == shuffled[name]).all(1).float().mean().item() for name, index in fisher.items()
    ]
    assert fmean(same) < 0.9
