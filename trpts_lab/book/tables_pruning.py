"""The tables of chapter 05; `mean` as in `trpts_lab.book.draw_pruning`."""

import torch

from trpts_lab.book.tables import markdown_table
from trpts_lab.lvlm.questions import CHANCE, KINDS

CRITERIA = {
    "oracle": "oracle",
    "transprune": "TransPrune",
    "released": "released code",
    "ttv": "TTV alone",
    "iga": "IGA alone",
    "fastv": "FastV's",
    "norm": "norm",
    "uniform": "evenly spread",
    "random": "random",
}  # in the order of tables and legends, as they call them
COLUMNS = {kind: f"accuracy[{kind}]" for kind in KINDS}


def accuracy_by_kind(title, mean, rows, chance=False):
    """A table of accuracies in per cent by kind of question.

    rows  {variant: its name in the table}
    """
    lines = [
        {title: label}
        | {kind: f"{100 * mean.loc[v, column]:.0f}" for kind, column in COLUMNS.items()}
        | {
            "mean": f"{100 * mean.loc[v, 'mean_accuracy']:.1f}",
            "cost": f"{mean.loc[v, 'macs_ratio_all']:.0%}",
        }
        for v, label in rows.items()
    ]
    last = {title: "chance", "mean": "", "cost": ""}
    by_chance = [last | {kind: f"{100 * CHANCE[kind]:.0f}" for kind in KINDS}] if chance else []
    return markdown_table(lines + by_chance)


def changes_by_kind(mean, changes):
    """A table of what a change of the schedule does, in points by kind of question.

    changes  [(variant, changed variant, the change in words)]
    """

    def gained(a, b, column):
        return f"{100 * (mean.loc[b, column] - mean.loc[a, column]):+.1f}"

    columns = COLUMNS | {"mean": "mean_accuracy"}
    rows = [
        {"change": words}
        | {"cost": " -> ".join(f"{mean.loc[v, 'macs_ratio_all']:.3f}" for v in (a, b))}
        | {title: gained(a, b, column) for title, column in columns.items()}
        for a, b, words in changes
    ]
    note = "Percentage points of right answers, against the schedule as it was."
    return markdown_table(rows, note)


def kept_on_objects(mean):
    """A table of where the tokens lie that each criterion keeps: on any object, on clutter."""
    share = mean.loc[[f"{c}, High" for c in CRITERIA]]
    return markdown_table(
        {
            "at High": CRITERIA.values(),
            "of what stays, on any object": share["share[objects]"].map("{:.0%}".format),
            "on clutter": share["share[clutter]"].map("{:.0%}".format),
        }
    )


def spreads(trace, stages):
    """A table of both parts of TransPrune's score, with their weights, over the tokens that a stage
    ranks: mean ± standard deviation, pooled over the rows of the batch, and whose spread is larger.
    """
    lines = []
    for stage in stages:
        each = {
            name: torch.stack([part[~part.isnan()].std(correction=0) for part in parts]).mean()
            for name, parts in trace.parts[stage].items()
        }
        means = {name: torch.cat(parts).nanmean() for name, parts in trace.parts[stage].items()}
        ttv, iga = float(each["ttv"]), float(each["iga"])
        lines.append(
            {
                "behind layer": stage,
                "α · TTV": f"{means['ttv']:.2g} ± {ttv:.1g}",
                "(1 − α) · IGA": f"{means['iga']:.2g} ± {iga:.1g}",
                "spread of TTV over IGA's": f"{ttv / iga:.1f}",
            }
        )
    note = "Of the six questions above: mean ± standard deviation over the tokens of a question."
    return markdown_table(lines, note)
