"""Small generated parts of a chapter: tables and sentences from records, never typed by hand."""

import numpy as np
import pandas as pd
from IPython.display import Markdown

from trpts_lab import gate, stats
from trpts_lab.book.words import plain
from trpts_lab.compared import METHODS, OURS, WITH_TOKENS
from trpts_lab.records import flat_metrics
from trpts_lab.store import NotThere


def results(records):
    """The comparison's table, a row per method, best first, in words; and `stats.summary`, which it
    is made of.

    Accuracies in per cent, mean over tasks and over groups ± standard deviation over seeds, mean
    rank, what is trained beside the head, operations of a prediction; over tasks and seeds that all
    methods have.
    """
    rows = stats.summary(records)
    metrics = ("n_trainable_without_head", "flops_ratio")
    cost = pd.DataFrame(
        [
            {"variant": r["config"]["variant"]} | {k: r["metrics"][k] for k in metrics}
            for r in records
        ]
    )
    cost = cost.groupby("variant").mean().loc[rows.index]
    table = pd.DataFrame(
        {
            "mean over tasks": [
                plus_minus(*x) for x in zip(rows["task_mean"], rows["task_sd"], strict=True)
            ],
            "over groups": [
                plus_minus(*x) for x in zip(rows["group_mean"], rows["group_sd"], strict=True)
            ],
            "rank": rows["rank"].map("{:.1f}".format).values,
            "trained": cost["n_trainable_without_head"].map("{:,.0f}".format).values,
            "FLOPs": cost["flops_ratio"].map("{:.0%}".format).values,
            "tasks × seeds": [
                f"{t} × {s}" for t, s in zip(rows["n_tasks"], rows["n_seeds"], strict=True)
            ],
        },
        index=rows.index.rename("method"),
    )
    return table, rows


def plus_minus(mean, sd):
    """An accuracy and its deviation in per cent; of one seed the accuracy alone."""
    return f"{100 * mean:.1f}" + ("" if np.isnan(sd) else f" ± {100 * sd:.1f}")


def strongest_alike_sentence(records):
    """The strongest method that trains about as many parameters, and TR-PTS' difference from it, in
    Markdown.

    One seed is no result, and says so; the rival is chosen by the means that it is compared by, and
    that is said too.
    """
    found = stats.strongest_alike(records, OURS, [m for m in METHODS if m.startswith(WITH_TOKENS)])
    if found is None:
        return ""
    name, (middle, low, high), n_seeds = found
    n_methods = len({r["config"]["variant"] for r in records})
    words = (
        f"of all {n_methods} methods the strongest that trains about as many parameters is {name}"
    )
    words = f"One seed, so not yet a result: {words}" if n_seeds == 1 else f"**O{words[1:]}**"
    return (
        f"{words}. {OURS} minus {name} is {100 * middle:+.1f} points ({100 * low:+.1f} to "
        f"{100 * high:+.1f} over tasks{'' if n_seeds == 1 else f', {n_seeds} seeds'}). It is "
        "picked as the strongest by these same means, which flatters it a little."
    )


def gate_table(beds):
    """What each test bed shows of what is known, and which of them pass, in Markdown.

    beds  {name of a test bed: its records}
    """
    rows, words = [], []
    for bed, records in beds.items():
        found = gate.judged(records)
        for row in found.to_dict("records"):
            seeds = ", ".join(f"{100 * x:+.1f}" for x in row["by seed"])
            rows.append(
                {
                    "test bed": bed,
                    "task": row["task"],
                    "asked": row["asked"],
                    "wanted": row["wanted"],
                    "points": f"{100 * row['difference']:+.1f}",
                    "by seed": seeds,
                    "holds": "yes" if row["holds"] else "**no**",
                }
            )
        passes = "passes" if found["holds"].all() else "does not pass"
        words.append(f"*{bed}* {passes}: {found['holds'].sum()} of {len(found)} conditions hold.")
    if not any(" passes: " in sentence for sentence in words):
        words.append("**No test bed passes, so this chapter draws no verdict on TR-PTS.**")
    return (
        pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
        + "\n\n"
        + " ".join(words)
    )


def frame(records, by=("seed",)):
    """A table of metrics, one row per record, indexed by the settings named in `by`.

    Lists and tables are opened into columns such as block_share[3].
    """
    settings = pd.DataFrame([{name: r["config"][name] for name in by} for r in records])
    return pd.DataFrame([flat_metrics(r) for r in records]).set_index(list(map(settings.get, by)))


def spread(values, digits=2):
    """Mean and sd over seeds with a value, "0.24 ± 0.01"; marks a single seed, and none at all."""
    values = values.dropna()
    if values.empty:
        return "not run"
    if len(values) == 1:
        return f"{values.iloc[0]:.{digits}f} (one seed)"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def expected(find, metric, words):
    """A line for the head of a chapter: what to expect, with its range over runs, and how long a
    full run took.

    find  () -> the committed records
    """
    try:
        records = find()
    except NotThere as error:  # the full profile's own first run makes them further down the page
        return Markdown(f"**Expect**: {error}.")
    values, made = frame(records)[metric], [r["provenance"]["machine"] for r in records]
    machines = {(machine["cores"], machine["processor"]) for machine in made}
    cores, processor = machines.pop()
    where = (
        f"on {plain(cores)} cores ({plain(processor)})" if not machines else "on several machines"
    )
    runs = "seeds" if values.index.is_unique else "runs"
    minutes = sum(r["time_s"] for r in records) / 60
    return Markdown(
        f"**Expect**: {words} {spread(values)} (mean ± standard deviation over {len(values)} "
        f"{runs}, range {values.min():.2f} to {values.max():.2f}). **Time**: the full profile's "
        f"{len(records)} runs took {minutes:.1f} minutes, added up, {where}; the time of this "
        "page's own run is on the status page."
    )


def paper_and_ours(rows):
    """The table of what the paper says, what the brief says and what we measured.

    rows  (question, quote of trpts_lab.paper, our measurement in words)
    """
    cells = [
        (q, f"{quote['paper']} ({quote['source']})", quote["brief"], ours)
        for q, quote, ours in rows
    ]
    table = pd.DataFrame(cells, columns=["question", "paper says", "brief says", "we measured"])
    return Markdown(table.to_markdown(index=False))
