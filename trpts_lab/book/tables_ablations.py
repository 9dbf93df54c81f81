"""Chapter 08's numbers: what each variant has more than the method that it differs from."""

import numpy as np
import pandas as pd
from IPython.display import Markdown

from trpts.scores import SCORES
from trpts_lab import stats
from trpts_lab.book.pages import frame
from trpts_lab.book.tables import points
from trpts_lab.compared import ABLATIONS, OURS


def not_there(*figures):
    """The sentence that stands where runs of these figures are missing."""
    named = " ".join(f"'{figure}'" for figure in figures)
    return Markdown(f"*Not there yet*: its runs are made by `trpts sweep --ablations {named}`.")


def gaps_of(records, figure, base=OURS):
    """(differences from the base, their means) of a figure's variants, in its order; None: some are
    missing.

    records  {figure: its records}
    """
    if {r["config"]["variant"] for r in records[figure]} != set(ABLATIONS[figure]):
        return None
    found = stats.differences(records[figure], base)
    order = [variant for variant in ABLATIONS[figure] if variant != base]
    return found, stats.over_tasks_and_seeds(found).loc[order]


def gaps_in_words(records, figure, base=OURS):
    """The means of `gaps_of` with their spread, and what they rest on."""
    if (gaps := gaps_of(records, figure, base)) is None:
        return None
    means = gaps[1]
    parts = [f"{variant} {points(row['mean'], row['sd'])}" for variant, row in means.iterrows()]
    n = means.iloc[0]
    counts = f"{n['n_tasks']:.0f} tasks, seeds: {n['n_seeds']:.0f}"
    return Markdown(f"{'; '.join(parts)} points ({counts}).")


def gain_by_score(spread, means):
    """A row per score: effective share of the inputs, and gain over Fisher's accuracy where it was
    measured.

    spread  records of the experiment `concentration`
    means   of `gaps_of` the scores
    """
    shares = frame(spread, ("variant",)).groupby("variant")["effective_share"].mean()
    labels = {name: score.label for name, score in SCORES.items()}
    table = shares.rename(labels).to_frame()
    gains = means[["mean", "sd"]].rename(lambda name: name.removeprefix("score: "))
    gains.loc["Fisher"] = 0.0, np.nan
    return table.join(gains.rename(columns={"mean": "gain"})).sort_values("effective_share")


def gap_by_condition(records, pairs):
    """A row for each condition with as many tasks as the first, and seeds to spread over: what the
    second variant of its pair has more than the first, and the mean of each.

    pairs  {condition: (Fisher's variant, the drawn one)}
    """
    rows = {}
    for name, pair in pairs.items():
        some = [r for r in records if r["config"]["variant"] in pair]
        if {r["config"]["variant"] for r in some} == set(pair):
            row = stats.over_tasks_and_seeds(stats.differences(some, pair[0])).iloc[0]
            means = stats.summary(some)["task_mean"]
            rows[name] = row.to_dict() | {"Fisher": means[pair[0]], "drawn": means[pair[1]]}
    table = pd.DataFrame(rows).T
    if table.empty:
        return table
    return table[(table["n_tasks"] == table["n_tasks"].iloc[0]) & (table["n_seeds"] > 1)]


def accuracy_by_amount(records, x):
    """Mean and sd over seeds of the mean over tasks, by the number `x` reads from a record."""
    numbers = frame(records, ("variant", "task", "seed"))["test_accuracy"].reset_index()
    by_seed = stats.complete(numbers.assign(x=list(map(x, records)))).groupby(["variant", "seed"])
    found = by_seed.agg(x=("x", "mean"), a=("test_accuracy", "mean")).groupby("variant")
    return found.agg(x=("x", "mean"), mean=("a", "mean"), sd=("a", "std")).sort_values("x")


def placements(records, means):
    """A row for each variant: where tokens are selected and how many are kept, operations, gain.

    means  of `gaps_of` the placements
    """
    options = {r["config"]["variant"]: r["config"]["options"] for r in records}
    flops = frame(records, ("variant",))["flops_ratio"].groupby("variant").mean()
    return means.assign(
        flops=flops,
        place=[options[variant].get("placement", "sparse") for variant in means.index],
        keep=[options[variant]["keep"] for variant in means.index],
    )
