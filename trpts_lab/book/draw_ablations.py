"""What chapter 08 shows: the switches of TR-PTS, one at a time."""

import numpy as np

from trpts_lab.book.draw import from_the_top, legend_above, name_rows
from trpts_lab.book.figures import show
from trpts_lab.book.tables import points
from trpts_lab.book.tables_ablations import gaps_of, not_there
from trpts_lab.compared import OURS

CROWDED = {"Fisher": 3, "true Fisher": -5}  # scores with a close neighbour on their right


def gaps(records, figure, base=OURS, question=""):
    """A row for each variant of an ablation's figure: a small mark for each task, a large one for
    the mean with its spread over seeds.

    records  {figure: its records}; where some are missing, a sentence says so
    """
    if (found := gaps_of(records, figure, base)) is None:
        return not_there(figure)
    found, means = found
    by_task = found.groupby(["variant", "task"])["difference"].mean()

    def draw(canvas):
        axes, y = canvas.subplots(), from_the_top(len(means))
        for nth, task in enumerate(sorted(set(found["task"]))):
            some = [100 * by_task.get((v, task), np.nan) for v in means.index]
            look = {"ls": "", "ms": 4, "alpha": 0.8, "color": f"C{nth + 1}"}
            axes.plot(some, y, marker="osD^"[nth % 4], label=task, **look)
        mark = {"marker": "|", "ms": 18, "mew": 3, "ls": "", "color": "C0"}
        spread = {"xerr": 100 * means["sd"], "label": "mean ± sd over seeds"}
        axes.errorbar(100 * means["mean"], y, **spread, **mark)
        xlabel = f"test accuracy minus that of {base} (points)"
        name_rows(axes, means.index, xlabel, zero=True)
        legend_above(canvas, ncols=3, fontsize=7)

    words = "; ".join(f"{v} {100 * row['mean']:+.1f}" for v, row in means.iterrows())
    return show(
        draw,
        size=(6.8, 1.6 + 0.28 * len(means)),
        alt=f"{question} Difference from {base} in points: {words}.",
    )


def gain_against_inputs(table):
    """Accuracy over Fisher's against the effective inputs of a layer, a mark for each score.

    table  columns effective_share, gain and sd, a row for each score
    """

    def draw(figure):
        axes = figure.subplots()
        x, y, sd = (100 * table[column] for column in ("effective_share", "gain", "sd"))
        axes.errorbar(x, y, yerr=sd, ls="", marker="o", lw=1)
        for name in table.index:
            side = {"xytext": (7, -3)}
            if name in CROWDED:
                side = {"xytext": (-7, CROWDED[name]), "ha": "right"}
            at = (x[name], y[name])
            axes.annotate(name, at, textcoords="offset points", fontsize=8, **side)
        axes.axhline(0, color="gray", lw=1)
        axes.set(xscale="log", xlabel="effective inputs of a layer (%)")
        axes.set_ylabel("accuracy minus Fisher's (points)")
        axes.margins(0.25, 0.15)

    words = "; ".join(
        f"{n} {100 * row['effective_share']:.1f} %, {100 * row['gain']:+.1f}"
        for n, row in table.iterrows()
    )
    show(draw, size=(6.0, 3.6), alt=f"Accuracy against effective inputs, by score. {words}.")


def gaps_by_condition(table):
    """Chance minus Fisher's score under each condition, with the spread over seeds."""

    def draw(figure):
        axes, y = figure.subplots(), from_the_top(len(table))
        mark = {"marker": "o", "ls": "", "color": "C0"}
        axes.errorbar(100 * table["mean"], y, xerr=100 * table["sd"], **mark)
        xlabel = "chance minus Fisher's score (points, ± sd over seeds)"
        name_rows(axes, table.index, xlabel, zero=True)

    words = "; ".join(f"{name} {100 * row['mean']:+.1f}" for name, row in table.iterrows())
    show(
        draw,
        size=(6.4, 1.1 + 0.26 * len(table)),
        alt=f"Chance minus Fisher's score, by condition. {words}.",
    )


def accuracy_by_amount(connections, samples):
    """Accuracy against trained parameters and scored images; rows: a variant, its `x`, mean, sd."""

    def draw(figure):
        panels = figure.subplots(1, 2)
        linear = 100 * connections.loc["linear", "mean"]
        panels[0].axhline(linear, color="gray", lw=1, ls="--")
        offset = {"fontsize": 7, "textcoords": "offset points"}
        where = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3)}
        panels[0].annotate("linear: none", (0.03, linear), **where, **offset)
        trained = connections.drop("linear")
        labels = "trained beside the head", "images scored"
        for axes, table, label in zip(panels, (trained, samples), labels, strict=True):
            axes.errorbar(table["x"], 100 * table["mean"], yerr=100 * table["sd"], marker="o")
            axes.set(xscale="log", xlabel=label)
            axes.margins(0.12)
        for nth, (variant, row) in enumerate(trained.iterrows()):
            name, at = variant.replace(OURS, "C = 2"), (row["x"], 100 * row["mean"])
            panels[0].annotate(name, at, ha="center", xytext=(0, -14 if nth % 2 else 8), **offset)
        panels[0].set_ylabel("test accuracy (%)")

    words = "; ".join(
        f"{variant} {100 * row['mean']:.0f} %"
        for table in (connections, samples)
        for variant, row in table.iterrows()
    )
    show(
        draw,
        size=(7.2, 3.2),
        alt=f"Mean accuracy against parameters trained, and images scored. {words}.",
    )


def loss_against_operations(placed):
    """What token selection costs in accuracy and saves in operations, a curve for each placement.

    placed  columns place, keep, flops, mean and sd, a row for each variant
    """

    def draw(figure):
        axes = figure.subplots()
        for nth, (place, rows) in enumerate(placed.groupby("place")):
            rows = rows.sort_values("keep")
            x, y = 100 * rows["flops"], 100 * rows["mean"]
            look = {"marker": "osD^"[nth], "ms": 6, "elinewidth": 1}
            axes.errorbar(x, y, yerr=100 * rows["sd"], label=place, **look)
            left = nth == 2
            beside = {"xytext": [(5, -10), (5, -10), (-4, 6), (5, 6)][nth], "fontsize": 7}
            beside |= {"ha": "right" if left else "left", "textcoords": "offset points"}
            for keep, *at in zip(rows["keep"], x, y, strict=True):
                axes.annotate(f"{keep:g}", at, **beside)
        axes.axhline(0, color="gray", lw=1, ls="--", label="all tokens")
        axes.margins(x=0.1)
        axes.set_xlabel("operations of a prediction (%)")
        axes.set_ylabel("accuracy minus that of all tokens (points)")
        legend_above(figure, ncols=5, fontsize=8)

    words = "; ".join(
        f"{r['place']}, ρ = {r['keep']:g}: {points(r['mean'], np.nan)} at {100 * r['flops']:.0f} %"
        for _, r in placed.iterrows()
    )
    show(
        draw,
        size=(6.4, 3.8),
        alt="Points lost against all tokens, and operations, "
        f"by placement of the token selection. {words}.",
    )
