"""What chapter 00 shows: the drawn tasks, the pre-training, and where each task starts."""

import numpy as np
import pandas as pd

from trpts_lab.book.draw import from_the_top, legend_above, name_rows, sheet
from trpts_lab.book.figures import show
from trpts_lab.book.pages import spread
from trpts_lab.book.tables import markdown_table
from trpts_lab.twins import TWINS
from trpts_lab.weights import formula

STARTS = {
    "chance": ("chance", "|"),
    "random_probe_test_accuracy": ("probe, random", "x"),
    "probe_test_accuracy": ("probe, pre-trained", "o"),
    "full_test_accuracy": ("full tuning", "D"),
}  # {column: (its name, its mark)}


def contact_sheet(n_shown=8):
    """A strip of training images of each twin."""

    def draw(figure):
        grid = figure.subplots(12, 2)
        for axes, (name, twin) in zip(grid.T.flat, TWINS.items(), strict=True):
            axes.imshow(sheet(twin.images("train", n_shown)[0], n_shown))
            axes.set_title(f"{name}, {twin.n_classes} classes", fontsize=8, pad=2)
            axes.axis("off")

    show(
        draw,
        size=(7.2, 9.6),
        alt="Contact sheet: one strip of eight drawn images of 32 by 32 pixels for each of the "
        f"{len(TWINS)} twins, from objects and textures over land seen from above and tissue to "
        "corridors, roads, birds and cars.",
    )


def twins_table():
    """What each twin stands for, and how it differs from that."""
    rows = [(name, twin.stands_for, twin.n_classes, twin.differs) for name, twin in TWINS.items()]
    return markdown_table(rows, columns=["twin", "stands for", "classes", "what is different"])


def formulas():
    """Forty of the classes that the backbone was pre-trained on, an image each."""
    labels = np.arange(0, formula.N_CLASSES, 500 // 40)[:40]

    def draw(figure):
        axes = figure.subplots()
        axes.imshow(sheet(formula.render(labels, np.random.default_rng(0)), 8))
        axes.axis("off")

    show(
        draw,
        size=(5.4, 3.4),
        alt="Forty images of the pre-training, one class each: concentric wobbly outlines, dotted "
        "fractals and noise textures, some light on dark, some in colour.",
    )


def learning_curve(card):
    """Accuracy on held-out images of the pre-training, epoch by epoch.

    card  what stands beside the weights
    """
    curve = pd.DataFrame(card["curve"]).set_index("epoch")["held_out_accuracy"]

    def draw(figure):
        axes = figure.subplots()
        axes.plot(curve.index, 100 * curve, "-o", ms=4)
        axes.set(xlabel="epoch", ylabel="held-out accuracy (%)")
        axes.set(ylim=(0, None), xticks=curve.index)

    show(
        draw,
        size=(5.0, 2.6),
        alt=f"Learning curve of the pre-training: from {curve.iloc[0]:.0%} of the held-out images "
        f"right after the first epoch to {curve.iloc[-1]:.0%} after the last, flattening.",
    )


def starting_points(full, names):
    """Where each task starts: chance, two probes, full tuning, with deviations over seeds.

    full  a row for each task and seed
    """
    by_task = full[list(STARTS)].groupby("task")
    means, deviations = by_task.mean().loc[names], by_task.std().loc[names]

    def draw(figure):
        axes, y = figure.subplots(), from_the_top(len(names))
        for nth, (column, (label, marker)) in enumerate(STARTS.items()):
            look = {"ls": "", "marker": marker, "ms": 6, "color": f"C{nth}" if nth else "gray"}
            xerr = 100 * deviations[column]
            axes.errorbar(100 * means[column], y, xerr=xerr, label=label, **look)
        name_rows(axes, names, "test accuracy (%)", xlim=(0, 100))
        axes.grid(axis="y", lw=0.5)
        legend_above(figure, ncols=4, fontsize=9)

    wins = (means["probe_test_accuracy"] > means["random_probe_test_accuracy"]).sum()
    show(
        draw,
        size=(6.4, 7.2),
        alt=f"For each of {len(names)} tasks four marks: chance, probe on a random backbone, probe "
        "on the pre-trained one, full tuning. The pre-trained probe is right of the random one for "
        f"{wins} of {len(names)} tasks.",
    )


def starting_points_table(full, names):
    """The same as a table."""
    rows = [
        {"task": name, "chance": f"{full.loc[name, 'chance'].mean():.2f}"}
        | {label: spread(full.loc[name, column]) for column, (label, _) in [*STARTS.items()][1:]}
        for name in names
    ]
    return markdown_table(rows)
