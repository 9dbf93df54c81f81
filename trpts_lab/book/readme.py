"""The README's numbers from committed records, between two marks: table, picture, chapter times."""

import io
import itertools
import re
import statistics
import textwrap

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from trpts.errors import TrptsError
from trpts_lab import stats
from trpts_lab.bench.files import read_bench
from trpts_lab.book.figures import THEMES, style
from trpts_lab.book.pages import results, strongest_alike_sentence
from trpts_lab.book.shown import records_there
from trpts_lab.compared import CORE, METHODS, WITH_TOKENS
from trpts_lab.files import write_whole
from trpts_lab.profiles import load_profile
from trpts_lab.twins import TWINS

BEGIN, END = "<!-- results: written by `trpts refresh` -->", "<!-- end of results -->"
# a row of the list of chapters
A_CHAPTER = r"^(\| \[(\w+)\]\(notebooks/\2\.ipynb\) \| [^|\n]+ \|)[^|\n]*\|$"
PICTURES = {theme: f"book/_static/results-{theme}.svg" for theme in THEMES}


def refresh_readme(project):
    """Rewrite table and pictures; returns the changed files. Without a README, writes nothing."""
    path = project.root / "README.md"
    if not path.is_file():
        return []
    table, rows, cost, n_twins, strongest = _comparison(project)
    page = with_results(path.read_text(encoding="utf-8"), text_of(table, rows, n_twins, strongest))
    wanted = {path: with_times(page, read_bench(project, "chapters"))}
    wanted |= {project.root / name: draw(rows, cost, theme) for theme, name in PICTURES.items()}
    changed = [
        p for p, text in wanted.items() if not p.is_file() or p.read_text(encoding="utf-8") != text
    ]
    for p in changed:
        write_whole(p, wanted[p])
    return changed


def _comparison(project):
    tasks = load_profile(project, "full")["benchmark"]["sweep"]["compared_tasks"]
    records = records_there(CORE, tasks)
    if not records:
        raise TrptsError("no committed record of the comparison: make them with `trpts sweep`")
    table, rows = results(records)
    cost = {r["config"]["variant"]: r["metrics"]["n_trainable_without_head"] for r in records}
    n_twins = sum(task in TWINS for task in set(stats.complete(stats.scores(records))["task"]))
    return table, rows, cost, n_twins, strongest_alike_sentence(records_there(METHODS, tasks))


def with_results(page, text):
    """The page with `text` between its marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise TrptsError(f"README.md: expected one {BEGIN} and behind it one {END}")
    return (
        page[: page.index(BEGIN)] + f"{BEGIN}\n{text}\n{END}" + page[page.index(END) + len(END) :]
    )


def with_times(page, bench):
    """The page with each chapter's time, to 5 seconds, in the last column of its chapter list."""
    seconds = {name: 5 * round(statistics.median(row["s"]) / 5) for name, row in bench.items()}
    return re.sub(
        A_CHAPTER, lambda row: f"{row[1]} {seconds.get(row[2], '?')} s |", page, flags=re.MULTILINE
    )


def text_of(table, rows, n_twins, strongest):
    """What stands between the marks; `strongest`: `strongest_alike_sentence`."""
    n_tasks, n_seeds = rows["n_tasks"].min(), rows["n_seeds"].min()
    twins = f"{n_twins} of them twins" if n_twins < n_tasks else "all of them twins"
    alt = (
        f"Accuracy against trained parameters, {len(rows)} methods; "
        f"the best mean has {rows.index[0]}."
    )
    return f"""<picture>
  <source media="(prefers-color-scheme: dark)" srcset="{PICTURES["dark"]}">
  <img src="{PICTURES["light"]}" alt="{alt}">
</picture>

{table.drop(columns="tasks × seeds").to_markdown(disable_numparse=True)}

Test accuracy in per cent on {n_tasks} tasks, {twins}, mean ± standard deviation over {n_seeds}
seeds; parameters trained beside the head; operations of a prediction. A small backbone, a few
epochs, one protocol for all methods: these are not the papers' numbers. The other methods,
intervals and what does not hold are in the book.
{textwrap.fill(strongest, 120, break_on_hyphens=False)}"""


def apart(places, gap):
    """{name: label height}, at least `gap` apart where points {name: (x, y)} are stacked."""
    heights, column = {}, []
    for name in [*sorted(places, key=places.get), None]:
        if column and (name is None or places[name][0] > 3 * places[column[-1]][0]):
            column.sort(key=lambda one: places[one][1])
            middle = sum(places[one][1] for one in column) / len(column)
            spaced = [middle + gap * (k - (len(column) - 1) / 2) for k in range(len(column))]
            own = [places[one][1] for one in column]
            close = any(b - a < gap for a, b in itertools.pairwise(own))
            heights |= dict(zip(column, spaced if close else own, strict=True))
            column = []
        column.append(name)
    return heights


def draw(rows, cost, theme):
    """Accuracy against trained parameters, as SVG text."""
    with matplotlib.rc_context(style(theme) | {"svg.fonttype": "none"}):
        figure = plt.figure(figsize=(6.4, 3.0))
        axes = figure.subplots()
        places = {
            name: (max(1, cost[name]), 100 * row["task_mean"]) for name, row in rows.iterrows()
        }
        heights = apart(places, 0.09 * 100 * np.ptp(rows["task_mean"]))
        for name, (x, y) in places.items():
            ours = WITH_TOKENS in name
            axes.errorbar(
                x,
                y,
                yerr=100 * rows.loc[name, "task_sd"],
                marker="D" if ours else "o",
                color="C1" if ours else "C0",
            )
            axes.annotate(
                name,
                (x, y),
                xytext=(2 * x, heights[name]),
                va="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "gray"},
            )
        axes.set(
            xscale="log", xlabel="parameters trained beside the head", ylabel="test accuracy (%)"
        )
        axes.margins(0.2)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()
