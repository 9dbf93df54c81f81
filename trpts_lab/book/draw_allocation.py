"""What chapter 02 shows: how many connections each layer trains, and which tasks share them.

Tables have a row for each task.
"""

import numpy as np

from trpts_lab.book.draw import heat_map, legend_above, legend_right
from trpts_lab.book.draw_fisher import LAYER_KINDS
from trpts_lab.book.figures import show
from trpts_lab.book.interactive import bar_slider


def budget_slider(plans, task):
    """A slider over budgets, a bar for each layer's connections per neuron.

    plans  {connections per neuron: the plan of `trpts.allocate`}
    """
    layers = list(next(iter(plans.values())).connections)
    return bar_slider(
        layers,
        [[plan.connections[name] for name in layers] for plan in plans.values()],
        [
            f"{budget:g} connections per neuron, {plan.trainable_fraction:.1%} of the backbone: "
            f"layers train from {min(plan.connections.values())} to "
            f"{max(plan.connections.values())} of a neuron's inputs"
            for budget, plan in plans.items()
        ],
        title=f"Connections per neuron in each layer, {task}",
        axis="budget",
        alt="A bar for each layer of the backbone, as high as it has connections per neuron.",
        groups=[(n, f"block {n // 4}") for n in range(0, len(layers), 4)],
        start=3,
    )


def shares_of_blocks(share):
    """The part of the Fisher information that each block holds, a column for each block."""

    def draw(figure):
        look = {"label": "Fisher information (%)", "low": 0, "fontsize": 9, "number_size": 11}
        axes = heat_map(figure, 100 * share, share.index, range(share.shape[1]), "{:.0f}", **look)
        axes.set_xlabel("block")

    leading = ", ".join(f"{block} for {name}" for name, block in share.idxmax(axis=1).items())
    show(
        draw,
        size=(6.4, 3.6),
        alt=f"Heat map of {len(share)} tasks by {share.shape[1]} blocks. "
        f"The block that holds most is {leading}.",
    )


def connections_by_layer(connections):
    """Connections per neuron of every layer, a row for each task, a panel for each reading of w.

    connections  {"share" and "mean": a column for each layer}
    """
    labels = {"share": "share of the top 1 %", "mean": "mean score"}
    by_share = connections["share"]
    n_kinds, n_layers = len(LAYER_KINDS), by_share.shape[1]

    def draw(figure):
        grid = figure.subplots(len(by_share), 2, sharex=True, sharey=True)
        for row, name in zip(grid, by_share.index, strict=True):
            for axes, (w, label) in zip(row, labels.items(), strict=True):
                C = connections[w].loc[name].tolist()
                for nth, kind in enumerate(LAYER_KINDS.values()):
                    places = range(nth, n_layers, n_kinds)
                    axes.bar(places, C[nth::n_kinds], label=kind if axes is grid[0, 0] else None)
                axes.set_title(f"{name}, w = {label}", fontsize=9)
                blocks = range(n_layers // n_kinds)
                axes.set_xticks([n_kinds * b + 1.5 for b in blocks], blocks)
                axes.set_yscale("log", base=2)
        for axes in grid[-1]:
            axes.set_xlabel("block")
        for axes in grid[:, 0]:
            axes.set_ylabel("connections\nper neuron")
        legend_above(figure, ncols=4, fontsize=9)

    words = " ".join(
        f"For {name} the layer with most is {layer}."
        for name, layer in by_share.idxmax(axis=1).items()
    )
    show(
        draw,
        size=(7.0, 4.4),
        alt="Bars of connections per neuron for every Linear layer, two tasks, two readings of the "
        f"layer weight. {words}",
    )


def correlation_by_images(study):
    """Rank correlation of the scores with those of all images, a curve for each task.

    study  a column for each number of images, and "halves"
    """
    sizes = [int(size) for size in study.columns[:-1]]
    apart = max(sizes) * 1.6

    def draw(figure):
        axes = figure.subplots()
        for nth, (name, row) in enumerate(study.iterrows()):
            color, line = f"C{nth % 6}", ("-o", "--o")[nth // 6]
            axes.plot(sizes, row.iloc[:-1], line, ms=4, color=color, label=name)
            axes.plot(apart, row["halves"], "D", ms=5, color=color)
        axes.set(xscale="log", xlabel="images that the scores are taken over")
        axes.set_ylabel("rank correlation with\nall images")
        axes.set_xticks([*sizes, apart], [*map(str, sizes), "two\nhalves"])
        axes.minorticks_off()
        legend_right(figure, fontsize=8)

    few = study.columns[0]
    ends = {size: (study[size].min(), study[size].max()) for size in (few, "100", "halves")}
    show(
        draw,
        size=(7.0, 3.2),
        alt=f"Rising curves, one per task: at {few} images the rank correlation is between "
        f"{ends[few][0]:.2f} and {ends[few][1]:.2f}, at 100 between {ends['100'][0]:.2f} and "
        f"{ends['100'][1]:.2f}; two halves without a common image reach "
        f"{ends['halves'][0]:.2f} to {ends['halves'][1]:.2f}.",
    )


def overlaps_of(full, names):
    """[tasks, tasks]: the overlap of two tasks' selections, mean over seeds.

    On the diagonal: of a task's selections by two halves of its images.
    """
    overlaps = np.diag([full[f"overlap_with_itself[{name}/halves]"].mean() for name in names])
    for i, j in zip(*np.tril_indices(len(names), -1), strict=True):
        overlaps[i, j] = overlaps[j, i] = full[f"overlap[{names[j]} and {names[i]}]"].mean()
    return overlaps


def overlap_of_tasks(overlaps, names, chance):
    """How much of their selections two tasks share; see `overlaps_of`."""

    def draw(figure):
        look = {"low": 0, "top": 1, "aspect": "equal", "fontsize": 9, "slanted": True}
        heat_map(figure, overlaps, names, names, "{:.2f}", "overlap", **look)

    pairs, same = overlaps[~np.eye(len(names), dtype=bool)], overlaps.diagonal()
    show(
        draw,
        size=(6.4, 4.8),
        alt=f"Heat map of the overlap between the selections of {len(names)} tasks. Between tasks "
        f"it lies between {pairs.min():.2f} and {pairs.max():.2f}; on the diagonal, the same task "
        f"on two halves of its images, between {same.min():.2f} and {same.max():.2f}. By chance it "
        f"would be {chance:.2f}.",
    )


def correlation_by_task(correlation):
    """A correlation over blocks, a dot for each draw of a task's images and a line for their mean.

    correlation  a row for each draw, a column for each task
    """
    means = correlation.mean()

    def draw(figure):
        axes = figure.subplots()
        axes.axvline(0, color="gray", lw=1)
        for nth, (name, values) in enumerate(correlation.items()):
            axes.plot(values, [nth] * len(values), "o", color="C0", ms=5)
            axes.plot(means[name], nth, "|", color="C1", ms=16, mew=3)
        axes.set(xlim=(-1, 1), xlabel="rank correlation over blocks")
        axes.set_yticks(range(len(means)), means.index, fontsize=9)

    show(
        draw,
        size=(6.0, 3.0),
        alt=f"One row per task with a dot per draw: correlations between {means.min():.2f} and "
        f"{means.max():.2f}, {(means < 0).sum()} of {len(means)} below zero.",
    )
