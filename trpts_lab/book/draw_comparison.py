"""What chapters 03, 04 and 06 show: methods side by side."""

from trpts_lab import stats
from trpts_lab.book.draw import from_the_top, legend_above, name_rows
from trpts_lab.book.figures import show


def accuracy_bars(full, variants, names):
    """Bars of test accuracy with their deviation over seeds, a panel for each task.

    full  a row for each variant, task and seed
    """
    mean, deviation = means_and_deviations(full)

    def draw(figure):
        grid = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(grid, names, strict=True):
            for nth, variant in enumerate(variants):
                accuracy, sd = 100 * mean[variant, name], 100 * deviation[variant, name]
                look = {"color": f"C{nth}", "error_kw": {"ecolor": "gray", "lw": 2}}
                axes.bar(nth, accuracy, yerr=sd, **look)
            axes.set_title(name, fontsize=9)
            axes.set_xticks(range(len(variants)), variants, rotation=40, ha="right")
        grid[0].set_ylabel("test accuracy (%)")

    words = "; ".join(
        f"{name}: " + ", ".join(f"{v} {100 * mean[v, name]:.0f} %" for v in variants)
        for name in names
    )
    alt = f"Bars of test accuracy, three methods for each task. {words}."
    show(draw, size=(7.2, 3.0), alt=alt)


def accuracy_against_flops(full, labels, names):
    """Accuracy against operations of the forward pass, a panel for each task.

    full    a row for each variant, task and seed
    labels  {variant: what it is called}
    """
    mean, deviation = means_and_deviations(full)
    cost = 100 * full.groupby(["variant", "task"])["flops_ratio"].mean()

    def draw(figure):
        grid = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(grid, names, strict=True):
            for nth, (variant, label) in enumerate(labels.items()):
                at = cost[variant, name], 100 * mean[variant, name]
                look = {"marker": "os"[nth], "ms": 7, "color": f"C{nth}"}
                look["label"] = label if axes is grid[0] else None
                axes.errorbar(*at, yerr=100 * deviation[variant, name], **look)
            axes.set_title(name, fontsize=9)
            axes.set(xlabel="FLOPs (%)", xlim=(0, 105))
            axes.margins(y=0.3)
        grid[0].set_ylabel("test accuracy (%)")
        legend_above(figure, ncols=2, fontsize=9)

    words = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{label} {100 * mean[v, name]:.0f} % at {cost[v, name]:.0f} % of the operations"
            for v, label in labels.items()
        )
        for name in names
    )
    alt = f"Accuracy against operations of the forward pass, by task. {words}."
    show(draw, size=(7.2, 3.4), alt=alt)


def means_and_deviations(full):
    """Mean and standard deviation over seeds of the test accuracy, by variant and task."""
    accuracy = full.groupby(["variant", "task"])["test_accuracy"]
    return accuracy.mean(), accuracy.std()


def gaps_to_rivals(gaps, ours):
    """The mean difference of our method from each rival, with its interval over tasks.

    gaps  {rival: (mean, low, high)}
    """

    def draw(figure):
        axes, places = figure.subplots(), from_the_top(len(gaps))
        for at, gap in zip(places, gaps.values(), strict=True):
            middle, low, high = (100 * x for x in gap)
            bar = {"xerr": [[middle - low], [high - middle]], "marker": "o", "ms": 7, "lw": 2}
            axes.errorbar(middle, at, color="C0", **bar)
        xlabel = f"{ours} is better by (points)"
        name_rows(axes, [f"against {m}" for m in gaps], xlabel, zero=True, fontsize=None)

    words = "; ".join(
        f"against {m} {100 * g[0]:+.1f} ({100 * g[1]:+.1f} to {100 * g[2]:+.1f})"
        for m, g in gaps.items()
    )
    alt = f"Mean difference in points with its interval over tasks: {words}."
    show(draw, size=(6.6, 2.8), alt=alt)


def accuracy_against_costs(table, ours):
    """Accuracy against parameters trained and against operations of a prediction; the methods that
    no other dominates are on a line, with their names.

    table  columns trained, flops, mean and sd, a row for each method
    ours   methods that are drawn as diamonds
    """
    accuracy = 100 * table["mean"]
    costs = {"trained": table["trained"].clip(lower=1), "FLOPs": 100 * table["flops"]}
    best = {
        name: stats.pareto({m: (x[m], accuracy[m]) for m in table.index})
        for name, x in costs.items()
    }

    def draw(figure):
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (name, x) in zip(panels, costs.items(), strict=True):
            for m in table.index:
                look = {"marker": "D", "color": "C1"} if m in ours else {"marker": "o"}
                look = {"color": "C0", "lw": 1, "ms": 7} | look
                full = {"mfc": None if m in best[name] else "none"}
                axes.errorbar(x[m], accuracy[m], yerr=100 * table.loc[m, "sd"], **look, **full)
            _name_the_line(axes, sorted((x[m], accuracy[m], m) for m in best[name]), name)
            axes.margins(0.15)
        panels[0].set(xscale="log", xlabel="trained beside the head", ylabel="test accuracy (%)")
        panels[1].set(xlabel="operations of a prediction (%)")

    words = "; ".join(f"by {name}: {', '.join(some)}" for name, some in best.items())
    show(
        draw,
        size=(7.4, 3.6),
        alt="Two panels, accuracy against parameters trained and against operations. Not "
        f"dominated, {words}. Diamonds are TR-PTS and its variants, full marks are those that no "
        "other method dominates, bars the deviation over seeds.",
    )


def _name_the_line(axes, line, name):
    """A line through (x, y, method) with stacked names, left of their marks where crowded."""
    axes.plot(*list(zip(*line, strict=True))[:2], color="gray", lw=1, zorder=0)
    above, arrow = 0.0, {"arrowstyle": "-", "lw": 0.4, "color": "gray"}
    for x, y, method in line:
        above, left = max(y + 1.5, above + 2.5), name == "trained" and x > 1
        place = {"xytext": (x / 4 if left else x, above), "ha": "right" if left else "left"}
        axes.annotate(method, (x, y), fontsize=7, arrowprops=arrow, **place)


def accuracy_by_task(means, methods, tasks):
    """The accuracy of each method on each task, with its deviation over seeds.

    means  columns mean and std, a row for each variant and task
    """

    def draw(figure):
        axes, y = figure.subplots(), from_the_top(len(tasks))
        for nth, method in enumerate(methods):
            part, places = 100 * means.loc[method].reindex(tasks), y + 0.3 - 0.12 * nth
            look = {"ls": "", "ms": 5, "marker": "osD^vX"[nth], "color": f"C{nth}"}
            axes.errorbar(part["mean"], places, xerr=part["std"], label=method, **look)
        name_rows(axes, tasks, "test accuracy (%)", xlim=(0, 100))
        axes.grid(axis="y", lw=0.4)
        legend_above(figure, ncols=3, fontsize=8)

    winner = means["mean"].unstack("task").idxmax()
    words = "; ".join(f"{task}: {method}" for task, method in winner.items())
    alt = f"Accuracy of each method on each task, with its spread. Best on {words}."
    show(draw, size=(6.6, 5.2), alt=alt)
