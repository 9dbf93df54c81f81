"""What each chapter's own figures and tables show."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made import cells, ticks

from trpts_lab.book import (
    draw_ablations,
    draw_allocation,
    draw_comparison,
    draw_fisher,
    draw_tokens,
    tables,
    tables_ablations,
    tables_comparison,
)
from trpts_lab.compared import ABLATIONS, FAMILY, OURS

BASE = OURS
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
    records = [record("early", 0.5, flops_ratio=0.25), record("TR-PTS", 0.6, flops_ratio=0.6)]
    records[0]["config"]["options"] = {"placement": "dense", "keep": 0.5}
    records[1]["config"]["options"] = {"keep": 0.7}
    records.append(records[0] | {"metrics": {"test_accuracy": 0.5, "flops_ratio": 0.55}})
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
    assert "full" not in FAMILY
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


def test_density_of_layers(shown):
    density = torch.tensor([[0.5, 1.0], [1.0, 3.0], [0.1, 0.2], [0.3, 0.4]])
    (axes, bar), alt = shown(draw_fisher.density_of_layers, density)
    assert axes.images[0].get_array().tolist() == density.tolist()
    assert (ticks(axes.xaxis), ticks(axes.yaxis)[1]) == (["0", "1"], "attention output")
    assert bar.get_ylabel().startswith("Fisher information")
    assert "the attention output layer of block 1 with 3.0 times the average" in alt
    assert "qkv 0.8, attention output 2.0" in alt


def test_shares_of_blocks(shown):
    shares = pd.DataFrame([[0.2, 0.8], [0.4, 0.6]])
    (axes,), alt = shown(draw_fisher.shares_of_blocks, shares, pd.Series([0.1, 0.9]))
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.3, 0.7])
    assert [one.get_ydata()[0] for one in axes.lines] == [0.2, 0.4, 0.1, 0.5]
    assert axes.get_ylim()[1] == pytest.approx(1.4 * 0.9)
    assert "Block 1 holds most, 70% on average, block 0 least" in alt


def test_information_in_the_top(shown):
    tops = pd.DataFrame([[30.0, 90.0], [40.0, 80.0]], columns=[0.1, 10.0])
    (axes,), alt = shown(draw_fisher.information_in_the_top, tops)
    assert [one.get_ydata()[0] for one in axes.lines] == [30, 40, 0.1]
    assert ticks(axes.xaxis) == ["0.1", "10"]
    assert "the top 0.1 % hold 35 %, 10 % hold 85 %" in alt


def test_means_by_key():
    full = pd.DataFrame(
        {"s[b/10]": [1, 3], "s[b/9]": [5, 5], "s[a/9]": 0, "s[a/10]": 1, "t[a/9]": 9}
    )
    found = tables.means_by_key(full, "s", ["b", "a"])
    assert list(found) == ["9", "10"]
    assert found.to_numpy().tolist() == [[5, 2], [0, 1]]
    assert tables.means_by_key(full, "s", ["a"], ["10"]).loc["a", "10"] == 1


def test_figures_of_the_allocation(shown):
    share = pd.DataFrame({"0": [0.2, 0.7], "1": [0.8, 0.3]}, TASKS)
    (axes, _), alt = shown(draw_allocation.shares_of_blocks, share)
    assert axes.images[0].get_array().tolist() == [[20, 80], [70, 30]]
    assert [text.get_text() for text in axes.texts] == ["20", "80", "70", "30"]
    assert "is 1 for cub_twin, 0 for dtd_twin" in alt


def test_connections_by_layer(shown):
    layers = [f"blocks.{b}.{kind}" for b in range(2) for kind in draw_fisher.LAYER_KINDS]
    by_share = pd.DataFrame([range(1, 9), range(8, 0, -1)], TASKS, layers)
    connections = {"share": by_share, "mean": by_share + 8}
    axes, alt = shown(draw_allocation.connections_by_layer, connections)
    heights = [{p.get_x() + 0.4: p.get_height() for p in panel.patches} for panel in axes]
    assert heights[1] == pytest.approx({n: n + 9 for n in range(8)})
    assert heights[2] == pytest.approx({n: 8 - n for n in range(8)})
    assert axes[3].get_title() == "dtd_twin, w = mean score"
    assert "For cub_twin the layer with most is blocks.1.mlp.fc2." in alt


def test_correlation_by_images(shown):
    study = pd.DataFrame({"10": [0.1, 0.2], "100": [0.5, 0.6], "halves": [0.8, 0.9]}, TASKS)
    (axes,), alt = shown(draw_allocation.correlation_by_images, study)
    assert axes.lines[2].get_xydata().tolist() == [[10, 0.2], [100, 0.6]]
    assert axes.lines[3].get_xydata().tolist() == [[160, 0.9]]
    assert "at 10 images the rank correlation is between 0.10 and 0.20" in alt
    assert "reach 0.80 to 0.90" in alt


def test_overlap_of_tasks(shown):
    full = pd.DataFrame({"overlap[a and b]": [0.1, 0.3]})
    full[["overlap_with_itself[a/halves]", "overlap_with_itself[b/halves]"]] = 0.8, 0.6
    overlaps = draw_allocation.overlaps_of(full, ["a", "b"])
    assert overlaps.ravel() == pytest.approx([0.8, 0.2, 0.2, 0.6])
    (axes, _), alt = shown(draw_allocation.overlap_of_tasks, overlaps, ["a", "b"], 0.05)
    assert np.allclose(axes.images[0].get_array(), overlaps)
    assert "between 0.20 and 0.20; on the diagonal" in alt
    assert "between 0.60 and 0.80. By chance it would be 0.05." in alt


def test_correlation_by_task(shown):
    correlation = pd.DataFrame({"a": [-0.5, -0.3], "b": [0.2, 0.4]})
    (axes,), alt = shown(draw_allocation.correlation_by_task, correlation)
    assert axes.lines[4].get_xydata() == pytest.approx(np.array([[0.3, 1]]))
    assert ticks(axes.yaxis) == ["a", "b"]
    assert "between -0.40 and 0.30, 1 of 2 below zero" in alt


def test_budget_slider():
    plans = {b: SimpleNamespace(connections={"blocks.0.x": b, "blocks.0.y": 2 * b},
                                trainable_fraction=b / 10) for b in (1, 2, 3, 4)}  # fmt: skip
    text = draw_allocation.budget_slider(plans, "cub_twin").data
    assert "Connections per neuron in each layer, cub_twin" in text
    assert "2 connections per neuron, 20.0% of the backbone: layers train from 2 to 4" in text
    assert "[[1, 2], [2, 4], [3, 6], [4, 8]]" in text


def test_kept_tokens(shown):
    mask = np.arange(64).reshape(8, 8) < 5
    images = {"a": np.full((16, 16, 3), 0.25)}
    axes, alt = shown(draw_tokens.kept_by_block, images, {"a": [mask, ~mask]}, (2, 4))
    assert [panel.get_title() for panel in axes] == ["image", "after block 2", "after block 4"]
    assert (axes[1].images[0].get_array()[..., 0] == 0.25).sum() == 5 * 4
    assert "a keeps 5, 59 of 64 patches" in alt
    masks = {0.1 * n: [mask] for n in range(10)}
    assert "ρ = 0.90: 5 of 64 patches stay" in draw_tokens.share_slider([images["a"]], masks).data


def test_table_of_accuracy_by_task(full):
    first = {"few": {"trained": "9"}, "all": {"trained": "99"}}
    assert cells(tables.accuracy_by_task(full, ["dtd_twin"], first)) == [
        ["trained", "dtd_twin"],
        ["9", "0.51 ± 0.01"],
        ["99", "0.71 ± 0.01"],
    ]
