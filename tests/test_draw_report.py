"""What the first and the last chapters show: tasks, costs, claims, a reader's own images."""

import numpy as np
import pandas as pd
from made import cells, ticks

from trpts_lab.bench.scale import SIZES
from trpts_lab.book import draw_efficiency, draw_own_images, draw_report, draw_start
from trpts_lab.twins import TWINS


def test_operations_by_blocks(shown):
    table = pd.DataFrame({"ρ = 0.5": [0.9, 0.4], "ρ = 0.7": [0.95, 0.6]}, [1, 12])
    (axes,), alt = shown(draw_efficiency.operations_by_blocks, table)
    assert axes.lines[0].get_xydata().tolist() == [[1, 90], [12, 40]]
    assert "ρ = 0.7: 1 blocks 95 %, 12 blocks 60 %" in alt


def test_parts_of_a_step_stand_side_by_side(shown):
    parts = dict(zip(draw_efficiency.PARTS, (0.4, 0.3, 0.2, 0.1), strict=True))
    of_step = {"full": parts, "limit": parts | {"weight gradient": -0.01}}
    (axes,), alt = shown(draw_efficiency.parts_of_a_step, of_step)
    found = [(bar.get_x(), bar.get_width()) for bar in axes.patches[::2]]
    assert np.allclose(found, [(0, 40), (40, 30), (70, 20), (90, 10)])
    assert axes.patches[5].get_width() == 0  # less than nothing is not drawn
    assert "full: forward 40 %" in alt


def test_costs_by_size(shown):
    scale = {}
    for nth, size in enumerate(SIZES, 1):
        scale[f"{size}: full"] = {"s": [2.0, 2.0], "peak_bytes": 10}
        scale[f"{size}: lora"] = {"s": [1.0 * nth, 2.0 * nth], "peak_bytes": nth}
    (left, right), alt = shown(draw_efficiency.costs_by_size, scale, ["lora"])
    assert [bar.get_width() for bar in left.patches] == [0.75, 1.5, 2.25]
    assert [bar.get_width() for bar in right.patches] == [0.1, 0.2, 0.3]
    assert (ticks(left.yaxis), left.get_xlabel()) == (["lora"], "seconds / full")
    assert f"{list(SIZES)[1]}, lora: 1.50 and 0.20" in alt


def test_twins_are_shown_and_listed(shown):
    axes, alt = shown(draw_start.contact_sheet, 2)
    name, twin = next(iter(TWINS.items()))
    assert len(axes) == len(TWINS)
    assert axes[0].get_title() == f"{name}, {twin.n_classes} classes"
    picture = axes[0].images[0].get_array()
    assert picture.shape == (32, 66, 3)
    assert (picture[:, 34:] == twin.images("train", 2)[0][1]).all()
    assert f"each of the {len(TWINS)} twins" in alt
    rows = cells(draw_start.twins_table())
    assert rows[1][:3] == [f"{name}", twin.stands_for, f"{twin.n_classes}"]


def test_formulas(shown):
    (axes,), _ = shown(draw_start.formulas)
    assert axes.images[0].get_array().shape == (5 * 34 - 2, 8 * 34 - 2, 3)


def test_learning_curve(shown):
    card = {"curve": [{"epoch": n, "held_out_accuracy": n / 4} for n in (1, 2, 3)]}
    (axes,), alt = shown(draw_start.learning_curve, card)
    assert axes.lines[0].get_xydata().tolist() == [[1, 25], [2, 50], [3, 75]]
    assert "from 25% of the held-out images right after the first epoch to 75%" in alt


def test_starting_points(shown):
    index = pd.MultiIndex.from_product([["a", "b"], [0, 1]], names=["task", "seed"])
    full = pd.DataFrame({"chance": 0.1, "random_probe_test_accuracy": [0.2, 0.4, 0.5, 0.5]}, index)
    full = full.assign(probe_test_accuracy=[0.5, 0.5, 0.3, 0.3], full_test_accuracy=0.9)
    (axes,), alt = shown(draw_start.starting_points, full, ["b", "a"])
    assert dict(zip(ticks(axes.yaxis), axes.get_yticks())) == {"b": 1, "a": 0}
    marks = {c.get_label(): c.lines[0].get_xydata() for c in axes.containers}
    assert np.allclose(marks["probe, random"], [[50, 1], [30, 0]])
    assert np.allclose(marks["full tuning"], [[90, 1], [90, 0]])
    assert "right of the random one for 1 of 2 tasks" in alt
    rows = cells(draw_start.starting_points_table(full, ["a"]))
    assert rows[1][2:] == ["0.30 ± 0.14", "0.50 ± 0.00", "0.90 ± 0.00"]


CLAIMS = [
    {"id": "T01", "claim": "a | b", "verdict": "holds", "words": "yes"},
    {"id": "T02", "claim": "c", "verdict": "holds", "words": "two * three"},
    {"id": "P01", "claim": "d", "verdict": "fails", "words": "no"},
]


def test_scoreboard(shown):
    counts = draw_report.counts_by_verdict(CLAIMS, ["fails", "never", "holds"])
    assert list(counts.index) == ["fails", "holds"]
    (axes,), alt = shown(draw_report.scoreboard, counts)
    found = {c.get_label(): [bar.get_width() for bar in c] for c in axes.containers}
    assert found == {"TR-PTS": [0, 2], "TransPrune": [1, 0]}
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["2", "1"]
    assert "holds: TR-PTS 2, TransPrune 0" in alt


def test_table_of_claims():
    text = draw_report.claims_table(CLAIMS, ("holds",), "why").data
    assert "claim" in text.splitlines()[0]
    assert "why" in text.splitlines()[0]
    assert r"a \| b" in text
    assert r"two \* three" in text
    assert "P01" not in text
    assert draw_report.claims_table(CLAIMS, ("never",)).data == "*None.*"


def test_samples_of_classes(shown):
    image = np.zeros((4, 4, 3))
    axes, alt = shown(draw_own_images.samples_of_classes, {"cat": [image] * 6, "dog": [image]})
    assert [panel.get_ylabel() for panel in axes[::6]] == ["cat", "dog"]
    assert [len(panel.images) for panel in axes] == [1] * 7 + [0] * 5
    assert "Six images of each of the classes cat, dog" in alt


def test_confusion(shown):
    report = {"classes": ["cat", "dog"], "confusion": [[3, 1], [0, 0]]}
    report["per_class"] = {"cat": 0.75, "dog": 0.0}
    (axes,), alt = shown(draw_own_images.confusion, report)
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    found = [(text.get_text(), text.get_color()) for text in axes.texts]
    assert found[:2] == [("3", "black"), ("1", "white")]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert "cat 75% right" in alt
