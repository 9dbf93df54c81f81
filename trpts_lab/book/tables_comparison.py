"""The tables of chapter 06: every method of the comparison."""

import pandas as pd

from trpts_lab import stats
from trpts_lab.book.pages import results
from trpts_lab.book.tables import markdown_table
from trpts_lab.compared import FAMILY


def rates_table(published):
    """The accuracy of each learning rate on validation images, the chosen one in bold.

    published  {method: (learning rate, {rate: mean validation accuracy})}
    """
    rows = []
    for method, (chosen, means) in published.items():
        if method not in FAMILY:
            marks = {lr: "**" if lr == chosen else "" for lr in means}
            told = {f"{lr:g}": f"{marks[lr]}{x:.3f}{marks[lr]}" for lr, x in means.items()}
            edge = {min(means): "lowest", max(means): "highest"}.get(chosen, "")
            rows.append({"method": method} | told | {"at the edge": edge})
    rates = sorted({lr for _, means in published.values() for lr in means})
    columns = ["method", *(f"{lr:g}" for lr in rates), "at the edge"]
    return markdown_table(pd.DataFrame(rows, columns=columns).fillna(""), as_text=True)


def results_table(records, *notes):
    """The table of `pages.results` and its notes: what must be said, means without a spread."""
    table, rows = results(records)
    if rows["n_seeds"].min() == 1:
        notes = ("**One seed so far**: no spread over seeds yet, and no result either.", *notes)
    return markdown_table(table.reset_index(), "\n\n".join(filter(None, notes)), as_text=True)


def accuracy_by_group(records, methods, n_wanted):
    """A row per group of tasks, a column per method: on tasks that all have, first seed."""
    table = stats.complete(stats.scores([r for r in records if r["config"]["seed"] == 0]))
    table["group"] = table["task"].map(stats.group_of)
    wide = table.pivot_table(index="group", columns="variant", values="test_accuracy")[methods]
    words = wide.map(lambda x: f"{100 * x:.1f}")
    words = words.assign(tasks=table.groupby("group")["task"].nunique()).reset_index()
    note = f"That is {table['task'].nunique()} of {n_wanted} tasks."
    return markdown_table(words, note, as_text=True)


def seconds_of(records):
    """(seconds of each phase and in total, a row for each method, task and seed; the processor):
    of the processor that took the most methods.
    """
    rows = [
        {name: r["config"][key] for name, key in
         (("method", "variant"), ("task", "task"), ("seed", "seed"))}
        | {"processor": r["provenance"]["machine"]["processor"]}
        | r["metrics"]["phase_s"]
        for r in records
    ]  # fmt: skip
    seconds = pd.DataFrame(rows).set_index(["method", "task", "seed"])
    seconds["total"] = seconds[["probe", "select", "train"]].sum(axis=1)
    machines = seconds.reset_index().groupby("processor")["method"].agg(["nunique", "count"])
    processor = machines.sort_values(["nunique", "count"]).index[-1]
    return seconds[seconds["processor"] == processor].drop(columns="processor"), processor


def time_against(seconds, ours, rival):
    """Quartiles of our seconds over a rival's on the same task and seed, and how many pairs."""
    pairs = (seconds.loc[ours] / seconds.loc[rival]).dropna()
    return *pairs.quantile([0.25, 0.5, 0.75]), len(pairs)
