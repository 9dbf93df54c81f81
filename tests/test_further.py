"""Runs beside the comparison: which there are, how concentrated a selection is, what the claims
read from them.
"""

import json
from dataclasses import replace

import pytest
import torch
from made import PLACED
from torch import nn

from trpts.errors import TrptsError
from trpts_lab import compared, further, grid
from trpts_lab.book import shown
from trpts_lab.claims import beyond as claims
from trpts_lab.claims.evidence import FAILS, HOLDS, UNDECIDED
from trpts_lab.experiments import concentration, pruning, remedy, subtle, text, tuned
from trpts_lab.experiments.concentration import effective_inputs
from trpts_lab.further import FURTHER, LVLM, further_cells
from trpts_lab.lvlm import schedules
from trpts_lab.profiles import load_profile
from trpts_lab.records import kind_of, record_name
from trpts_lab.store import Store


class Two(nn.Module):
    """A layer of two neurons behind two inputs, and a head."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.layer(x))


BATCHES = [
    (torch.tensor([[1.0, 10.0], [3.0, 20.0]]), torch.tensor([0, 1])),
    (torch.tensor([[2.0, -10.0]]), torch.tensor([1])),
]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ([[0], [0], [0], [0]], 1.0),  # every neuron takes the same input
        ([[0], [1], [2], [3]], 4.0),  # each its own
        ([[0, 1], [0, 2]], 1 / (0.5**2 + 2 * 0.25**2)),
    ],
)
def test_effective_inputs_by_hand(index, expected):
    assert effective_inputs(torch.tensor(index), 5) == pytest.approx(expected)


def test_mean_squares_by_hand():
    """(1 + 9 + 4) / 3 and (100 + 400 + 100) / 3, whatever the batches."""
    found = concentration.mean_squares(Two(), BATCHES)
    assert found["layer"].tolist() == pytest.approx([14 / 3, 200.0])
    assert list(found) == ["layer"]


def test_dividing_the_inputs_out_undoes_their_scale():
    """An input ten times as large behind weights a tenth as large: Fisher's score grows, the
    divided one does not.
    """
    torch.manual_seed(0)
    model, scaled = Two(), Two()
    scaled.load_state_dict(model.state_dict())
    with torch.no_grad():
        scaled.layer.weight[:, 0] /= 10
    louder = [(images * torch.tensor([10.0, 1.0]), labels) for images, labels in BATCHES]
    fisher = [
        concentration.fisher_scores(*pair)["layer"] for pair in ((model, BATCHES), (scaled, louder))
    ]
    divided = [
        concentration.fisher_per_input(*pair)["layer"]
        for pair in ((model, BATCHES), (scaled, louder))
    ]
    torch.testing.assert_close(fisher[1][:, 0], 100 * fisher[0][:, 0])
    torch.testing.assert_close(divided[1], divided[0])


def test_drawn_connections_come_in_proportion_to_their_score(monkeypatch):
    scores = torch.tensor([1.0, 2.0, 7.0]).repeat(20_000, 1)
    monkeypatch.setattr(concentration, "fisher_scores", lambda model, batches: {"layer": scores})
    drawn = concentration.fisher_drawn(None, None, seed=0)["layer"]
    assert (drawn > 0).all()
    share = torch.bincount(drawn.argmax(1), minlength=3) / len(drawn)
    # ±0.003 by chance
    torch.testing.assert_close(share, torch.tensor([0.1, 0.2, 0.7]), atol=0.01, rtol=0)
    again = concentration.fisher_drawn(None, None, seed=0)["layer"]
    assert torch.equal(drawn, again)


def test_cells_of_all_experiments(project, monkeypatch):
    profile, store = load_profile(project, "full"), project.store("full")
    cells = further_cells(profile, store, seeds=[0, 1], device="cpu")
    assert {e for e, _ in cells} == {experiment for experiment, _, _ in FURTHER.values()}
    names = [record_name({"kind": kind_of(e), **config}) for e, config in cells]
    assert len(set(names)) == len(names)
    rate = grid.chosen_rates(profile, store, [compared.OURS], "cpu")[compared.OURS][0]
    for experiment, config in cells:
        assert experiment is not remedy or config["lr"] == rate
        assert {"task", "method", "variant", "seed", "profile", "device"} <= config.keys()
    ablations = grid.ablation_cells(profile, store, ["connections", "biases"], [0, 1], "cpu")
    same = {config["variant"] for cell in ablations if (config := cell[1]) and cell in cells}
    assert same == {"C = 8", "no biases"}  # made once
    alone = {
        c["lr"]
        for _, c in grid.ablation_cells(profile, store, ["parts"], [0], "cpu")
        if "alone" in c["variant"]
    }
    # it trains the head, as that
    assert alone == {grid.chosen_rates(profile, store, ["linear"], "cpu")["linear"][0]}
    assert rate not in alone
    longer = {
        config["epochs"]
        for _, config in cells
        if config["variant"].endswith("four times the epochs")
    }
    assert longer == {4 * profile["benchmark"]["sweep"]["epochs"]}
    slower = {
        config["lr"] for _, config in cells if config["variant"].endswith("a third of the rate")
    }
    assert slower == {rate / 3}
    weaker = {
        config["weights"] for _, config in cells if config["variant"].endswith("a weaker backbone")
    }
    assert weaker == {"data/weights/vit_lab_short.safetensors"}
    # whose weights are none of these
    other = profile | {"benchmark": profile["benchmark"] | {"backbone": "another"}}
    monkeypatch.setattr(
        grid, "chosen_rates", lambda *_: {m: (rate, {}) for m in (compared.OURS, "full", "linear")}
    )
    variants = {
        config["variant"] for _, config in further_cells(other, store, ["causes"], device="cpu")
    }
    assert "C = 8" in variants
    assert not any("backbone" in variant for variant in variants)
    monkeypatch.undo()
    real, empty = load_profile(project, "real"), project.store("real")
    cells = further_cells(real, empty, seeds=[0], device="cpu")  # no rate is needed
    assert {kind_of(experiment) for experiment, _ in cells} == {"concentration"}
    assert {c["image_size"] for _, c in cells} == {real["benchmark"]["reading"]["image_size"]}
    assert {c["task"] for _, c in cells} == {*real["benchmark"]["sweep"]["tuning_tasks"]}
    with pytest.raises(
        TrptsError, match="--further causes: the profile 'real' has concentration alone"
    ):
        further_cells(real, empty, ["causes"])
    with pytest.raises(
        TrptsError, match="experiment 'luck' is unknown: expected some of concentration, remedy, "
    ):
        further_cells(profile, store, ["luck"])


def test_a_remedy_is_tuned_with_its_score_and_nothing_else(monkeypatch):
    seen = {}
    monkeypatch.setattr(tuned, "run", lambda config: seen.update(config) or {"x": 1})
    config = {"score": "fisher_per_input", "seed": 3, "options": {"per_neuron": 2.0}, "lr": 0.1}
    remedy.run(PLACED | config)
    assert seen["options"].pop("score") is concentration.fisher_per_input
    assert seen == PLACED | config
    assert json.dumps(config)  # the record's own stays plain


@pytest.mark.slow
@pytest.mark.parametrize("score", ["magnitude", "fisher_per_input"])
def test_a_selection_of_the_laboratorys_backbone(project, monkeypatch, score):
    monkeypatch.chdir(project.root)
    config = {
        "profile": "quick",
        "device": "cpu",
        "backbone": "vit_lab",
        "weights": "data/weights/vit_lab.safetensors",
        "seed": 0,
        "task": "eurosat_twin",
        "variant": score,
        "per_neuron": 2.0,
        "n_scored": 32,
    }
    found = concentration.run(PLACED | config)
    assert set(found) == {"effective_share", "used_share", "largest_share", "by_kind"}
    assert set(found["by_kind"]) == {"qkv", "proj", "fc1", "fc2"}
    assert 0 < found["effective_share"] <= found["used_share"] <= 1
    assert set(concentration.inputs(PLACED | config)) == {"data", "weights"}


def test_how_far_a_distribution_moved_by_hand():
    """Two rows keep their word, with half of |.1| + |.1| and nothing moved; one changes it."""
    p = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    q = torch.tensor([[0.7, 0.3], [0.9, 0.1], [0.8, 0.2]])
    changed, distance = subtle.compare(p, q)
    assert changed == pytest.approx(1 / 3)
    assert distance == pytest.approx(0.05)
    assert subtle.compare(p, p) == (0.0, 0.0)


def test_a_schedule_that_keeps_all_moves_nothing(project, monkeypatch):
    monkeypatch.chdir(project.root)
    config = {
        "device": "cpu",
        "weights": LVLM,
        "n_questions": 3,
        "seed": 0,
        "variant": "transprune, High",
    }
    moved = subtle.run(PLACED | config)
    assert moved["mean_distance"] > 0
    everything = {
        "transprune, High": replace(schedules.schedule_of("transprune"), keep=(1.0, 1.0, 1.0))
    }
    monkeypatch.setattr(pruning, "variants", lambda: everything)
    still = subtle.run(PLACED | config)
    assert (still["mean_changed"], still["mean_distance"]) == (0.0, 0.0)


class Given:
    """Evidence that holds made-up records."""

    def __init__(self, records):
        self.records = [{"config": config, "metrics": metrics} for config, metrics in records]

    def further(self, name):
        return self.records


def test_a_task_that_notices_the_others_fails_its_claim():
    metrics = {
        "alone": {"a": 0.5, "b": 0.7},
        "swapped": {"a": 0.5, "b": 0.7},
        "delta_bytes": {"a": 1, "b": 3},
        "model_bytes": 100,
        "n_changed": 0,
    }
    verdict, words, _ = claims.a_delta_each(Given([({}, metrics)]))
    assert verdict == HOLDS
    assert "2.0% of the model's bytes" in words
    for planted in ({"n_changed": 1}, {"swapped": {"a": 0.5, "b": 0.69}}):
        assert claims.a_delta_each(Given([({}, metrics | planted)]))[0] == FAILS


def test_text_is_compared_at_the_best_rate_by_validation():
    def runs(variant, gain):
        return [
            (
                {"variant": variant, "lr": lr, "seed": seed},
                {
                    "val_accuracy": 0.5 + (lr == 0.1),
                    "test_accuracy": 0.5 + gain + 0.01 * seed + (lr != 0.1),
                },
            )
            for lr in (0.1, 0.2)
            for seed in (0, 1, 2)
        ]

    better = Given(runs("linear", 0.0) + runs("C = 2", 0.1))
    assert claims.best_by_validation(better.records)["C = 2"] == pytest.approx(
        {0: 0.6, 1: 0.61, 2: 0.62}
    )
    assert claims.letters(better)[0] == HOLDS
    assert claims.letters(Given(runs("linear", 0.0) + runs("C = 2", -0.1)))[0] == FAILS


def test_protection_and_reselection_are_decided_over_seeds():
    def forgetting(free, kept):
        return Given(
            [
                (
                    {"way": way, "seed": seed},
                    {"first_before": 0.9, "first_after": 0.9 - lost, "second": 0.5},
                )
                for seed in (0, 1, 2)
                for way, lost in (("free", free + 0.01 * seed), ("protected", kept))
            ]
        )

    assert claims.protected(forgetting(0.3, 0.1))[0] == HOLDS
    assert claims.protected(forgetting(0.1, 0.3))[0] == FAILS
    assert claims.protected(forgetting(0.1, 0.11))[0] == UNDECIDED

    def drifting(anew):
        phase_s = {"select": 1.0, "train": 10.0}
        return Given(
            [
                (
                    {"seed": s},
                    {"unchanged": 0.3, "old": 0.5, "anew": anew + 0.01 * s, "phase_s": phase_s},
                )
                for s in (0, 1, 2)
            ]
        )

    verdict, words, _ = claims.drifting(drifting(0.6))
    assert verdict == HOLDS
    assert words.startswith("selecting anew takes 10% of the time")
    assert claims.drifting(drifting(0.4))[0] == FAILS
    dear = drifting(0.6)
    for record in dear.records:
        record["metrics"]["phase_s"] = {"select": 3.0, "train": 1.0}
    assert claims.drifting(dear)[0] == FAILS  # the claim is that it is cheap enough


def test_a_text_run_that_diverges_is_the_last_to_choose(monkeypatch):
    def diverge(*_, **__):
        raise text.Diverged("the loss is nan")

    monkeypatch.setattr(text, "tune", diverge)
    config = {
        "variant": "full",
        "seed": 0,
        "n_upstream": 80,
        "upstream_epochs": 1,
        "device": "cpu",
        "epochs": 1,
    }
    found = text.run(PLACED | config | {"lr": 9.0, "batch_size": 8})
    assert found == {"diverged": 1, "val_accuracy": 0.0, "test_accuracy": 0.0}


def test_continual_takes_tasks_two_by_two():
    with pytest.raises(TrptsError, match="expected an even number, found 3"):
        further._continual(["a", "b", "c"], {}, {})


def test_a_page_goes_on_without_records_but_not_with_broken_ones(project, tmp_path, monkeypatch):
    profile = load_profile(project, "full")
    monkeypatch.setattr(shown, "_published", lambda: (profile, Store(tmp_path)))
    assert shown.records_there(["linear"], ["digits"]) == shown.ablation_runs("biases") == []
    cells = [
        grid.tuning_cells(profile, Store(tmp_path), [method], "cpu")[0]
        for method in ("linear", compared.OURS)
    ]
    for experiment, config in cells:
        (tmp_path / record_name({"kind": kind_of(experiment), **config})).write_text("{")
    for ask in (
        lambda: shown.records_there(["linear"], ["digits"]),
        shown.published_rates,
        lambda: shown.ablation_runs("biases"),
        lambda: shown.further_runs("causes"),
        lambda: grid.chosen_rates(profile, Store(tmp_path), ["full", "linear"], "cpu"),
    ):
        with pytest.raises(TrptsError, match="not a readable record"):
            ask()
