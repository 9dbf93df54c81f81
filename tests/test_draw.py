"""What the chapters' figures and tables show, drawn from hand-made numbers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made import cells, ticks

from trpts_lab.book import draw, draw_pruning, tables, tables_pruning
from trpts_lab.lvlm.questions import KINDS
from trpts_lab.lvlm.scenes import N_TOKENS, SIDE
from trpts_lab.lvlm.schedules import BUDGETS
from trpts_lab.stats import share_interval


def lines(axes):
    """{label: points} of the curves of a panel."""
    return {
        one.get_label(): list(zip(*(np.asarray(x, float).tolist() for x in one.get_data())))
        for one in axes.lines
    }


def test_a_heat_map_writes_each_number_into_its_cell(figure):
    axes = draw.heat_map(figure, [[0.0, 1.0], [0.5, 0.7]], "ab", "xy", "{:.1f}", label="share")
    found = {t.get_position(): (t.get_text(), t.get_color()) for t in axes.texts}
    assert found == {
        (0, 0): ("0.0", "white"),
        (1, 0): ("1.0", "black"),
        (0, 1): ("0.5", "white"),
        (1, 1): ("0.7", "black"),
    }
    assert (ticks(axes.xaxis), ticks(axes.yaxis)) == (["x", "y"], ["a", "b"])
    assert figure.axes[1].get_ylabel() == "share"


def test_rows_are_named_from_the_top(figure):
    axes = figure.subplots()
    axes.plot([3, 5], draw.from_the_top(2))
    draw.name_rows(axes, ["first", "second"], "points", zero=True)
    names = dict(zip(ticks(axes.yaxis), axes.get_yticks()))
    assert {
        x: name for x, y in zip(*axes.lines[0].get_data()) for name, at in names.items() if at == y
    } == {3: "first", 5: "second"}
    assert list(axes.lines[1].get_xdata()) == [0, 0]


def test_greyed_keeps_the_patches_of_the_mask():
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    mask = np.array([[True, False], [False, False]])
    found = draw.greyed(picture, mask)
    assert (found[:2, :2] == picture[:2, :2]).all()
    assert (found[2:] == 128).all()
    assert (found[:, 2:] == 128).all()
    assert found.dtype == np.uint8
    assert (draw.greyed(picture / 48, mask)[2:] == 0.5).all()


def test_a_sheet_pastes_row_by_row():
    images = [np.full((2, 2, 3), n, np.uint8) for n in (1, 2, 3)]
    found = draw.sheet(images, n_columns=2)
    assert found.shape == (6, 6, 3)
    assert [found[y, x, 0] for y, x in ((0, 0), (1, 5), (5, 1), (5, 5), (2, 0))] == [
        1,
        2,
        3,
        255,
        255,
    ]


def test_picture_rows_have_names_and_titles(figure):
    pictures = [np.full((2, 2, 3), n / 4) for n in range(3)]
    mask = np.array([[True, False], [True, True]])
    draw.kept_rows(figure, {"cub": (pictures[1], [mask])}, ["after block 2"])
    whole, left = figure.axes
    assert (whole.get_ylabel(), whole.get_title(), left.get_title()) == (
        "cub",
        "image",
        "after block 2",
    )
    assert left.images[0].get_array()[..., 0].tolist() == [[0.25, 0.5], [0.25, 0.25]]


def test_numbers_with_their_spread():
    assert tables.points(0.0123, 0.004) == "+1.2 ± 0.4"
    assert tables.points(-0.02, float("nan"), " points") == "-2.0 points"
    assert tables.ranged(0.5, 0.4, 0.612) == "0.50 (0.40 to 0.61)"


def test_a_table_and_its_note():
    found = tables.markdown_table([{"a": "0.50", "b": "x"}], "Below.", as_text=True)
    assert cells(found) == [["a", "b"], ["0.50", "x"]]
    assert found.data.endswith("\n\nBelow.")


def test_costs_stand_over_those_of_the_base():
    bench = {
        "full": {"s": [2.0, 2.0], "peak_bytes": 10, "n_trainable": 4000, "flops": 8},
        "mask": {"s": [1.0, 1.0], "peak_bytes": 5, "n_trainable": 1000, "flops": 6},
    }
    columns = {"memory": "peak_bytes", "time": "time", "trains": "n_trainable", "FLOPs": "flops"}
    found = cells(tables.cost_table(bench, columns, order=["mask", "full"]))
    assert found[1:] == [
        ["mask", "0.50", "0.50 (0.50 to 0.50)", "1,000", "0.750"],
        ["full", "1.00", "1.00 (1.00 to 1.00)", "4,000", "1.000"],
    ]


def test_wilsons_interval():
    """Worked by hand: 8 of 10, z = 1.96, centre 0.7167, half width 0.2268."""
    assert np.allclose(tuple(share_interval(0.8, 10)), (0.4902, 0.9433), atol=1e-4)


@pytest.fixture
def pruned():
    """Means of chapter 05's variants, each number its own."""
    names = [f"{c}, {b}" for c in tables_pruning.CRITERIA for b in BUDGETS] + ["unpruned"]
    columns = [*tables_pruning.COLUMNS.values(), "mean_accuracy", "macs_ratio_all"]
    columns += [f"recall[{kind}]" for kind in KINDS[1:]] + ["share[objects]", "share[clutter]"]
    numbers = np.linspace(0, 1, len(names) * len(columns)).reshape(len(names), -1)
    return pd.DataFrame(numbers, names, columns)


def test_accuracy_against_cost(pruned, shown):
    (axes,), alt = shown(draw_pruning.accuracy_against_cost, pruned, 100)
    assert [c.get_label() for c in axes.containers] == list(tables_pruning.CRITERIA.values())
    x, y = axes.containers[1].lines[0].get_data()
    wanted = pruned.loc[[f"transprune, {b}" for b in BUDGETS]]
    assert np.allclose(x, 100 * wanted["macs_ratio_all"])
    assert np.allclose(y, 100 * wanted["mean_accuracy"])
    assert f"TransPrune {y[0]:.0f} %" in alt


def test_accuracy_by_depth(shown):
    horizon = pd.DataFrame({kind: [0.1 * n, 0.9] for n, kind in enumerate(KINDS)}, [1, 8])
    grey = pd.Series({kind: 0.05 * n for n, kind in enumerate(KINDS)})
    (axes,), alt = shown(draw_pruning.accuracy_by_depth, horizon, grey, (8,))
    assert lines(axes)[KINDS[1]] == [(1, 10), (8, 90)]
    assert np.allclose([one.get_ydata()[0] for one in axes.lines[1:12:2]], 100 * grey)
    assert f"{KINDS[2]} 90 %" in alt


def test_recall_by_kind(pruned, shown):
    (axes, _), alt = shown(draw_pruning.recall_by_kind, pruned)
    assert ticks(axes.xaxis) == list(KINDS[1:])
    wanted = 100 * pruned.loc["released, High", f"recall[{KINDS[2]}]"]
    assert axes.images[0].get_array()[2, 1] == pytest.approx(wanted)
    assert "released code" in alt


def test_tables_of_pruning(pruned):
    rows = {"unpruned": "all", "ttv, Low": "TTV"}
    found = cells(tables_pruning.accuracy_by_kind("at Low", pruned, rows, chance=True))
    assert found[0] == ["at Low", *KINDS, "mean", "cost"]
    assert found[2][:2] == ["TTV", f"{100 * pruned.iloc[10, 0]:.0f}"]
    assert (found[3][0], found[3][-1]) == ("chance", "")
    changes = [("ttv, High", "iga, High", "the other")]
    (row,) = cells(tables_pruning.changes_by_kind(pruned, changes))[1:]
    a, b = pruned.loc["ttv, High"], pruned.loc["iga, High"]
    assert row[:2] == ["the other", f"{a['macs_ratio_all']:.3f} -> {b['macs_ratio_all']:.3f}"]
    assert float(row[-1]) == pytest.approx(100 * (b - a)["mean_accuracy"], abs=0.05)
    shares = cells(tables_pruning.kept_on_objects(pruned))
    assert shares[1][1:] == [f"{pruned.loc['oracle, High', f'share[{p}]']:.0%}" for p in
                             ("objects", "clutter")]  # fmt: skip


def test_what_is_left_of_a_scene(shown):
    tokens, first = (np.arange(N_TOKENS) < n for n in (4, 3))
    image = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    scene, question = SimpleNamespace(image=image), SimpleNamespace(words="where ?", tokens=tokens)
    kept = {"oracle": [tokens, first], "random": [~tokens, ~first], "IGA": [tokens, tokens]}
    axes, alt = shown(draw_pruning.left_of_a_scene, scene, question, kept, (2, 3))
    assert "oracle 3, random 1, IGA 4" in alt
    assert [a.get_title() for a in axes[:3]] == ["image", "behind layer 2", "behind layer 3"]
    assert (np.asarray(axes[2].images[0].get_array())[::2, ::2, 0].ravel() == 0).sum() == 3
    slider = draw_pruning.stage_slider(scene, question, kept, (2, 3)).data
    assert "behind layer 3: 3 of 100 tokens; of the object&#x27;s 4, oracle keeps 3" in slider
    assert "where? Left: oracle; middle: random; right: IGA" in slider


def test_scenes_with_their_answers(shown):
    scene = SimpleNamespace(image=np.zeros((2, 2, 3), np.uint8))
    examples = [(scene, SimpleNamespace(words="how many ?", answer="two"))] * 6
    axes, alt = shown(draw_pruning.answered_scenes, examples, ["two"] * 5 + ["one"])
    assert [a.get_title() for a in axes[4:]] == ["how many?\ntwo", "how many?\none (right: two)"]
    assert alt.count("how many ? two") == 5


def test_maps_of_places(shown):
    places = {"ttv": np.linspace(0, 1, N_TOKENS), "iga": np.zeros(N_TOKENS)}
    axes, alt = shown(draw_pruning.maps_of_places, places, {"ttv": 1.5, "iga": 0.25})
    assert axes[0].images[0].get_array()[SIDE - 1, SIDE - 1] == 100
    assert axes[1].images[0].get_clim() == (0, 100)
    assert "TTV alone 1.50, IGA alone 0.25" in alt
