"""Experiments: the same seed gives the same metrics, and other backbones take the same path."""

from dataclasses import replace

import pytest
import timm
import torch
from made import PLACED
from safetensors.torch import save_file

from trpts.data import digits
from trpts_lab.experiments import fisher_digits
from trpts_lab.experiments.fisher_digits import density, shares, top_shares
from trpts_lab.project import Project

CONFIG = {
    "backbone": "vit_small_digits",
    "weights": None,
    "epochs": 1,
    "n_fisher": 24,
    "seed": 4,
    "device": "cpu",
}
# Ten weights in two layers; the sum is 20.
SCORES = {
    "blocks.0.mlp.fc1": torch.tensor([[8.0, 1.0], [1.0, 0.0]]),
    "blocks.1.mlp.fc2": torch.tensor([[6.0, 1.0, 1.0], [1.0, 1.0, 0.0]]),
}


def test_shares_and_density_by_hand():
    assert shares(SCORES, fisher_digits.block_of) == {"0": 0.5, "1": 0.5}
    assert shares(SCORES, fisher_digits.kind_of_layer) == {"fc1": 0.5, "fc2": 0.5}
    assert density(SCORES) == pytest.approx(
        {"blocks.0.mlp.fc1": 2.5 / 2, "blocks.1.mlp.fc2": (10 / 6) / 2}
    )


def test_top_shares_by_hand():
    """Sorted: 8, 6, 1, 1, …: one of ten weights holds 0.4, three hold 0.75."""
    found = top_shares(SCORES)
    assert found["0.1"] == pytest.approx(8 / 20)
    assert found["0.3"] == pytest.approx(15 / 20)


@pytest.mark.slow
def test_same_seed_same_metrics():
    first, second = fisher_digits.run(PLACED | CONFIG), fisher_digits.run(PLACED | CONFIG)
    assert first == second
    assert fisher_digits.run(PLACED | CONFIG | {"seed": 5}) != first


@pytest.mark.slow
def test_a_timm_backbone_with_weights_from_a_file(project, tmp_path, monkeypatch):
    """The paper profile's path, with a tiny timm ViT of random weights at 224 pixels and three
    channels.
    """
    load = digits.load

    def few(*args):  # the real images at the model's size, but fewer
        task = load(*args)
        return replace(
            task, **{name: getattr(task, name).first(40) for name in ("train", "val", "test")}
        )

    monkeypatch.setattr(digits, "load", few)
    tag = "vit_tiny_patch16_224.augreg_in21k"
    save_file(timm.create_model(tag, pretrained=False).state_dict(), tmp_path / "tiny.safetensors")
    config = CONFIG | {"backbone": tag, "weights": "tiny.safetensors", "epochs": 0, "n_fisher": 4}
    here = {"project": Project(tmp_path)}
    metrics = fisher_digits.run(here | config)
    assert metrics["n_layers_scored"] == 48
    assert "upstream_test_accuracy" not in metrics
    assert sum(metrics["block_share"].values()) == pytest.approx(1)
    assert fisher_digits.inputs(here | config)["weights"] is not None
    assert fisher_digits.inputs(PLACED | CONFIG)["weights"] is None
