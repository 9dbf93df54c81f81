"""What each chapter's own figures and tables show."""

import numpy as np
import pandas as pd
import pytest
from made import cells, ticks

from trpts_lab import grid
from trpts_lab.ablations import ABLATIONS
from trpts_lab.book import draw_ablations, draw_comparison, tables_ablations, tables_comparison

BASE = tables_ablations.BASE
TASKS = ("cub_twin", "dtd_twin")


def record(variant, accuracy, task="cub_twin", seed=0, **metrics):
    """A made-up record of a comparison."""
    return {
        "config": {"variant": variant, "task": task, "seed": seed, "options": {}},
        "metrics": {"test_accuracy": accuracy, **metrics},
        "provenance": {"machine": {"processor": "one"}},
    }


def over_seeds(variant, accuracy, **metrics):
    """Records on two tasks and two seeds, 2 points apart."""
    return [
        record(variant, accuracy + 0.02 * seed, task, seed, **metrics)
        for task in TASKS
        for seed in (0, 1)
    ]


@pytest.fixture
def of_biases():
    """{figure: records} where only the base's accuracy is the same on both seeds."""
    base, other = ABLATIONS["biases"]
    even = [record(base, 0.5, task, seed) for task in TASKS for seed in (0, 1)]
    return {"biases": even + over_seeds(other, 0.55)}


def test_gaps_have_a_mark_for_each_task_and_one_for_the_mean(of_biases, shown):
    other = list(ABLATIONS["biases"])[1]
    (axes,), alt = shown(draw_ablations.gaps, of_biases, "biases", question="Are they needed?")
    assert [one.get_label() for one in axes.lines[:2]] == list(TASKS)
    assert [one.get_xdata()[0] for one in axes.lines[:3]] == pytest.approx([6, 6, 6])
    (bar,) = axes.containers[0].lines[2][0].get_segments()
    assert bar[:, 0] == pytest.approx([6 - 2**0.5, 6 + 2**0.5])
    assert ticks(axes.yaxis) == [other]
    assert f"Are they needed? Difference from {BASE} in points: {other} +6.0." in alt
    words = tables_ablations.gaps_in_words(of_biases, "biases").data
    assert words == f"{other} +6.0 ± 1.4 points (2 tasks, seeds: 2)."


def test_a_figure_without_its_runs_says_so():
    records = {"biases": over_seeds(BASE, 0.5)}
    assert "--ablations 'biases'" in draw_ablations.gaps(records, "biases").data
    assert tables_ablations.gaps_in_words(records, "biases") is None
    assert "'connections' 'samples'" in tables_ablations.not_there("connections", "samples").data


def test_gain_by_score(shown):
    spread = [record(v, 0, effective_share=x) for v, x in (("gps", 0.4), ("fisher", 0.1))]
    spread.append(record("fps", 0, effective_share=0.2))
    means = pd.DataFrame({"mean": [0.03], "sd": [0.01], "n_seeds": [2]}, ["score: GPS"])
    table = tables_ablations.gain_by_score(spread, means)
    assert list(table.index) == ["Fisher", "FPS", "GPS"]
    assert table["gain"].tolist() == pytest.approx([0, np.nan, 0.03], nan_ok=True)
    (axes,), alt = shown(draw_ablations.gain_against_inputs, table)
    assert axes.lines[0].get_xdata() == pytest.approx([10, 20, 40])
    assert {text.get_text(): text.xy for text in axes.texts}["GPS"] == pytest.approx((40, 3))
    assert "GPS 40.0 %, +3.0" in alt


def test_gap_by_condition(shown):
    pairs = {"as compared": ("a", "b"), "C = 8": ("c", "d"), "not run": ("e", "f")}
    records = over_seeds("a", 0.5) + over_seeds("b", 0.6) + over_seeds("c", 0.7)
    table = tables_ablations.gap_by_condition(records + over_seeds("d", 0.4), pairs)
    assert table["mean"].tolist() == pytest.approx([0.1, -0.3])
    assert table.loc["C = 8", ["Fisher", "drawn"]].tolist() == pytest.approx([0.71, 0.41])
    (axes,), alt = shown(draw_ablations.gaps_by_condition, table)
    assert axes.lines[0].get_xydata().tolist() == [pytest.approx([10, 1]), pytest.approx([-30, 0])]
    assert "C = 8 -30.0" in alt
    few = [r for r in records + over_seeds("d", 0.4)[:2] if r["config"]["variant"] in "abcd"]
    assert list(tables_ablations.gap_by_condition(few, pairs).index) == ["as compared"]
    assert tables_ablations.gap_by_condition([], pairs).empty


def test_accuracy_by_amount(shown):
    records = over_seeds("linear", 0.3, n=1) + over_seeds(BASE, 0.5, n=20)
    trained = tables_ablations.accuracy_by_amount(records, lambda r: r["metrics"]["n"])
    assert trained.loc[BASE].tolist() == pytest.approx([20, 0.51, 0.02 / 2**0.5])
    scored = pd.DataFrame({"x": [5, 50], "mean": [0.2, 0.4], "sd": 0.1}, ["few", "many"])
    (left, right), alt = shown(draw_ablations.accuracy_by_amount, trained, scored)
    assert left.lines[0].get_ydata()[0] == pytest.approx(31)  # linear
    assert left.lines[1].get_xydata().tolist() == [pytest.approx([20, 51])]
    assert [text.get_text() for text in left.texts] == ["linear: none", "C = 2"]
    assert right.lines[0].get_ydata() == pytest.approx([20, 40])
    assert "many 40 %" in alt


def test_placements(shown):
    records = [record("early", 0.5, flops_ratio=0.4), record("TR-PTS", 0.6, flops_ratio=0.6)]
    records[0]["config"]["options"] = {"placement": "dense", "keep": 0.5}
    records[1]["config"]["options"] = {"keep": 0.7}
    means = pd.DataFrame({"mean": [-0.02, -0.01], "sd": [0.01, 0.01]}, ["early", "TR-PTS"])
    placed = tables_ablations.placements(records, means)
    assert placed["place"].tolist() == ["dense", "sparse"]
    (axes,), alt = shown(draw_ablations.loss_against_operations, placed)
    curves = {c.get_label(): c.lines[0].get_xydata().tolist() for c in axes.containers}
    assert curves == {"dense": [[40, -2]], "sparse": [[60, -1]]}
    assert [text.get_text() for text in axes.texts] == ["0.5", "0.7"]
    assert "dense, ρ = 0.5: -2.0 at 40 %" in alt


@pytest.fixture
def full():
    """Two variants, two tasks, two seeds."""
    rows = over_seeds("few", 0.5, flops_ratio=0.6) + over_seeds("all", 0.7, flops_ratio=1.0)
    index = [[r["config"][name] for r in rows] for name in ("variant", "task", "seed")]
    names = ["variant", "task", "seed"]
    return pd.DataFrame([r["metrics"] for r in rows], pd.MultiIndex.from_arrays(index, names=names))


def test_bars_of_accuracy(full, shown):
    axes, alt = shown(draw_comparison.accuracy_bars, full, ("few", "all"), list(TASKS))
    assert [bar.get_height() for bar in axes[0].patches] == pytest.approx([51, 71])
    assert [a.get_title() for a in axes] == list(TASKS)
    assert "cub_twin: few 51 %, all 71 %" in alt


def test_accuracy_against_flops(full, shown):
    labels = {"all": "all tokens", "few": "half of them"}
    axes, alt = shown(draw_comparison.accuracy_against_flops, full, labels, list(TASKS))
    points = {c.get_label(): c.lines[0].get_xydata().tolist()[0] for c in axes[0].containers}
    assert points == {"all tokens": pytest.approx([100, 71]), "half of them": [60, 51]}
    assert "half of them 51 % at 60 % of the operations" in alt


def test_gaps_to_rivals(shown):
    gaps = {"full": (-0.1, -0.2, 0.1), "LoRA": (0.02, 0.01, 0.03)}
    (axes,), alt = shown(draw_comparison.gaps_to_rivals, gaps, "ours")
    marks = dict(zip(ticks(axes.yaxis), axes.containers, strict=True))
    assert marks["against LoRA"].lines[0].get_xydata().tolist() == [[2, 0]]
    (bar,) = marks["against full"].lines[2][0].get_segments()
    assert bar[:, 0] == pytest.approx([-20, 10])
    assert "against full -10.0 (-20.0 to +10.0)" in alt


def test_accuracy_against_costs_names_what_no_other_dominates(shown):
    table = pd.DataFrame(
        {"mean": [0.5, 0.7, 0.6], "sd": 0.01, "trained": [0, 900, 1000], "flops": [1, 1, 0.5]},
        ["linear", "ours", "LoRA"],
    )
    (left, right), alt = shown(draw_comparison.accuracy_against_costs, table, ("ours",))
    assert "by trained: linear, ours; by FLOPs: ours, LoRA" in alt
    assert {text.get_text() for text in left.texts} == {"linear", "ours"}
    assert left.containers[0].lines[0].get_xydata().tolist() == [[1, 50]]  # no log of zero
    marks = [c.lines[0] for c in right.containers]
    assert [m.get_marker() for m in marks] == ["o", "D", "o"]
    assert [m.get_markerfacecolor() == "none" for m in marks] == [True, False, False]


def test_accuracy_by_task(full, shown):
    means = full.groupby(["variant", "task"])["test_accuracy"].agg(["mean", "std"])
    (axes,), alt = shown(draw_comparison.accuracy_by_task, means, ["few", "all"], TASKS[::-1])
    few, all_ = (c.lines[0].get_xydata() for c in axes.containers)
    assert few[:, 0] == pytest.approx([51, 51])
    assert all_[:, 0] == pytest.approx([71, 71])
    assert few[0, 1] > all_[0, 1] > few[1, 1]
    assert "Best on cub_twin: all; dtd_twin: all." in alt


def test_rates_table():
    published = {"full": (0.01, {0.001: 0.5, 0.01: 0.6}), "linear": (0.1, {0.1: 0.4, 1.0: 0.3})}
    assert "full" not in grid.FAMILY
    assert cells(tables_comparison.rates_table(published)) == [
        ["method", "0.001", "0.01", "0.1", "1", "at the edge"],
        ["full", "0.500", "**0.600**", "", "", "highest"],
        ["linear", "", "", "**0.400**", "0.300", "lowest"],
    ]


def test_results_and_groups():
    cost = {"n_trainable_without_head": 7, "flops_ratio": 0.5}
    records = over_seeds("few", 0.5, **cost) + over_seeds("all", 0.7, **cost)
    found = tables_comparison.results_table(records, "Below.", "")
    assert [row[:2] for row in cells(found)[1:]] == [["all", "71.0 ± 1.4"], ["few", "51.0 ± 1.4"]]
    assert found.data.endswith("\n\nBelow.")
    one = tables_comparison.results_table([r for r in records if r["config"]["seed"] == 0])
    assert "**One seed so far**" in one.data
    groups = tables_comparison.accuracy_by_group(records, ["few", "all"], 24)
    assert cells(groups)[1:] == [["fgvc", "50.0", "70.0", "1"], ["natural", "50.0", "70.0", "1"]]
    assert groups.data.endswith("That is 2 of 24 tasks.")


def test_seconds_are_of_one_processor():
    phases = {"probe": 1.0, "select": 2.0, "train": 3.0}
    records = over_seeds("ours", 0.5, phase_s=phases)
    records += over_seeds("LoRA", 0.5, phase_s=phases | {"train": 9.0})[:3]
    records += [record("LoRA", 0.5, "dtd_twin", 1, phase_s=phases)]
    records[-1]["provenance"] = {"machine": {"processor": "other"}}
    seconds, processor = tables_comparison.seconds_of(records)
    assert processor == "one"
    assert tables_comparison.time_against(seconds["total"], "ours", "LoRA") == (0.5, 0.5, 0.5, 3)
