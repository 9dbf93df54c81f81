"""The experiment behind chapter 05: what is compared, at which price, and what recall and shares
count.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made import PLACED

from trpts.transprune import FASTV, Schedule, macs
from trpts_lab.experiments import pruning
from trpts_lab.lvlm import schedules
from trpts_lab.lvlm.model import create_lvlm
from trpts_lab.lvlm.questions import KINDS
from trpts_lab.lvlm.scenes import N_TOKENS, cell_tokens

COMMON = dict(
    weights="data/weights/lvlm_tiny.safetensors", n_questions=3, profile="quick", device="cpu"
)


@pytest.fixture(scope="module")
def config():
    return create_lvlm().config.text_config


@pytest.fixture
def untrained(monkeypatch):
    """No trained weights are needed to see what is run."""
    monkeypatch.setattr(pruning, "load_lvlm", lambda path: create_lvlm())
    monkeypatch.setattr(pruning, "weights_path", lambda config: None)


def test_every_variant_fits_the_model_and_its_record(config):
    for name, schedule in schedules.variants().items():
        if schedule is not None:
            schedule.check(schedules.N_LAYERS)
            switches = pruning.cell(name, 0, **COMMON)["schedule"]
            assert json.loads(json.dumps(switches)) == switches
            assert Schedule(**switches) == schedule
    assert pruning.cell("question alone", 0, **COMMON)["schedule"] is None


def test_criteria_of_a_budget_keep_as_many_tokens_at_the_same_stages():
    assert len(schedules.CRITERIA) > 5
    for budget in (*schedules.BUDGETS, "early"):
        plans = [
            schedules.early(schedules.schedule_of(c))
            if budget == "early"
            else schedules.schedule_of(c, budget)
            for c in schedules.CRITERIA
        ]
        assert len({(plan.prune_after, tuple(plan.n_kept(N_TOKENS))) for plan in plans}) == 1


def test_at_once_costs_what_stages_cost(config):
    """High behind 2, 3 and 4 of 8 leaves .875 + .625 + 4 · .125 in six layers: a third in each."""
    staged, once = schedules.schedule_of("random"), schedules.one_shot("random")
    assert once.keep == (pytest.approx(1 / 3),)
    assert once.prune_after == (2,)
    cost = [macs(config, N_TOKENS, plan) / macs(config, N_TOKENS) for plan in (staged, once)]
    assert cost[1] == pytest.approx(cost[0], rel=0.03)


def test_without_image_leaves_one_token():
    assert schedules.without_image(3).n_kept(N_TOKENS) == [1]


def test_a_run_and_its_repetition(untrained):
    config = pruning.cell("random, High", 1, **COMMON)
    metrics = pruning.run(PLACED | config)
    assert metrics == pruning.run(PLACED | config)
    assert metrics["accuracy"].keys() == set(KINDS)
    assert metrics["by_stage"].keys() == {"2", "3", "4"}
    assert 0 < metrics["macs_ratio"] < metrics["macs_ratio_all"] < 1
    assert sum(metrics["place"].values()) == pytest.approx(Schedule().n_kept(N_TOKENS)[-1])
    whole = pruning.run(PLACED | pruning.cell("unpruned", 1, **COMMON))
    assert whole["macs_ratio"] == whole["macs_ratio_all"] == 1
    assert "recall" not in whole


def test_fastv_ranks_as_fastv_does():
    found = schedules.schedule_of("fastv")
    assert (found.iga, found.iga_layer) == (FASTV.iga, FASTV.iga_layer)
    assert schedules.schedule_of("iga").iga_layer == "next"


def test_the_same_words_are_drawn_for_anew(untrained):
    """Questions of the same words about other scenes lose other tokens; the seed draws again."""
    plan = schedules.schedule_of("random")
    drawn = [
        pruning.own_draws(plan, 3, seed, 4, first).score
        for seed, first in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    ask = SimpleNamespace(index=torch.zeros(3, 1), of_tokens=lambda values: values)
    values = [score(ask).tolist() for score in drawn]
    assert values[0] == values[1] != values[2]
    assert values[0][1:] == values[3][:2]  # of the question, wherever its batch begins
    assert len({tuple(row) for row in values[0]}) == 3
    assert pruning.own_draws(schedules.schedule_of("ttv"), 3, 0, 4, 0).score == "ttv"


def test_the_oracle_is_told(untrained):
    metrics = pruning.run(PLACED | pruning.cell("oracle, High", 1, **COMMON))
    assert {share for kind, share in metrics["recall"].items() if kind != "count"} == {1.0}
    assert metrics["recall"]["count"] >= 12 / 16  # four objects of four tokens, where twelve stay


def test_recall_and_shares_by_hand():
    """Two tokens of a queried cell and six others stay; clutter holds two of those."""
    asked, other, clutter = cell_tokens(0, 0), cell_tokens(1, 1), cell_tokens(4, 4)
    kept = np.zeros(N_TOKENS, bool)
    kept[np.flatnonzero(asked)[:2]] = kept[np.flatnonzero(clutter)[:2]] = kept[other] = True
    scene = SimpleNamespace(thing_tokens=np.stack([asked, other]), clutter_tokens=clutter)
    none = SimpleNamespace(tokens=np.zeros(N_TOKENS, bool))  # "how many ... ?", "0"
    looks = [
        ("where", scene, SimpleNamespace(tokens=asked), {2: np.ones(N_TOKENS, bool), 4: kept}),
        ("count", scene, none, {2: np.ones(N_TOKENS, bool), 4: kept}),
    ]
    found = pruning.kept_metrics(looks)
    assert found["recall"] == {"where": 0.5}
    assert found["by_stage"] == {"2": 1.0, "4": 0.5}
    assert found["share"] == {"objects": 6 / 8, "clutter": 2 / 8}
    assert found["place"]["0"] == 1.0
    assert found["place"]["50"] == 0.0
