"""What chapter 07 shows: operations, and where a training step's time and memory go."""

import numpy as np

from trpts_lab.bench.clock import ratio
from trpts_lab.bench.scale import SIZES
from trpts_lab.book.draw import legend_above
from trpts_lab.book.figures import show

PARTS = ("forward", "input gradient", "weight gradient", "optimiser")


def operations_by_blocks(table):
    """The share of the operations that is left, by number of selecting blocks, a curve for each ρ.

    table  a row for each number of blocks, a column for each ρ
    """

    def draw(figure):
        axes = figure.subplots()
        for nth, name in enumerate(table):
            axes.plot(table.index, 100 * table[name], marker="osD"[nth % 3], label=name)
        axes.set(xlabel="blocks that select tokens", ylabel="operations (%)")
        axes.set(ylim=(0, 104), xticks=table.index)
        legend_above(figure, ncols=table.shape[1])

    words = "; ".join(
        f"{name}: " + ", ".join(f"{n} blocks {100 * x:.0f} %" for n, x in row.items())
        for name, row in table.items()
    )
    alt = f"Operations of ViT-B/16 by number of selecting blocks. {words}."
    show(draw, size=(5.6, 3.2), alt=alt)


def parts_of_a_step(of_step):
    """Where the time of a training step goes, a bar for each method.

    of_step  {method: {part: its share of full tuning's step}}
    """

    def draw(figure):
        axes, left = figure.subplots(), np.zeros(len(of_step))
        for nth, part in enumerate(PARTS):
            width = [max(0, 100 * parts[part]) for parts in of_step.values()]
            axes.barh(list(of_step), width, left=left, color=f"C{nth}", label=part)
            left += width
        axes.invert_yaxis()
        axes.set(xlabel="of full tuning's step (%)")
        legend_above(figure, ncols=4, fontsize=8)

    words = "; ".join(
        f"{method}: " + ", ".join(f"{part} {100 * parts[part]:.0f} %" for part in PARTS)
        for method, parts in of_step.items()
    )
    alt = f"Bars of where a step's time goes, by method. {words}."
    show(draw, size=(6.6, 2.6), alt=alt)


def costs_by_size(scale, methods):
    """Seconds and peak memory of a step over full tuning's, by size of the backbone.

    scale  rows of the bench of the same name
    """
    seconds, peaks = {}, {}
    for size in SIZES:
        full = f"{size}: full"
        seconds[size] = [ratio(scale, f"{size}: {method}", full) for method in methods]
        of_methods = [scale[f"{size}: {method}"]["peak_bytes"] for method in methods]
        peaks[size] = [peak / scale[full]["peak_bytes"] for peak in of_methods]

    def draw(figure):
        left, right = figure.subplots(1, 2, sharey=True)
        for nth, size in enumerate(SIZES):
            places, color = np.arange(len(methods)) + 0.26 * (nth - 1), f"C{nth}"
            middle, low, high = np.array(seconds[size]).T
            bars = {
                "xerr": [middle - low, high - middle],
                "error_kw": {"ecolor": "gray", "lw": 1.5},
            }
            left.barh(places, middle, 0.24, color=color, label=size, **bars)
            right.barh(places, peaks[size], 0.24, color=color)
        left.set_yticks(range(len(methods)), methods)
        left.invert_yaxis()
        for axes, words in ((left, "seconds / full"), (right, "peak memory / full")):
            axes.axvline(1, color="gray", lw=1)
            axes.set_xlabel(words)
        legend_above(figure, ncols=len(SIZES))

    words = "; ".join(
        f"{size}, {method}: {seconds[size][nth][0]:.2f} and {peaks[size][nth]:.2f}"
        for size in SIZES
        for nth, method in enumerate(methods)
    )
    alt = f"Seconds and peak memory of a step over full tuning's. {words}."
    show(draw, size=(7.0, 3.6), alt=alt)
