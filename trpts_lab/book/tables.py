"""Tables of the chapters, and how a number stands in them with its spread."""

import numpy as np
import pandas as pd
from IPython.display import Markdown

from trpts_lab.bench.clock import ratio
from trpts_lab.book.pages import spread


def markdown_table(rows, note="", columns=None, as_text=False):
    """A table in Markdown.

    rows     a DataFrame, or what one is made of
    note     a paragraph below
    as_text  numbers in texts stay as they are, to the left
    """
    words = pd.DataFrame(rows, columns=columns).to_markdown(index=False, disable_numparse=as_text)
    return Markdown(f"{words}\n\n{note}" if note else words)


def points(mean, sd, unit=""):
    """A difference of accuracies in points with its deviation; of one seed without."""
    return f"{100 * mean:+.1f}" + ("" if np.isnan(sd) else f" ± {100 * sd:.1f}") + unit


def ranged(middle, low, high):
    """A number with its range."""
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def means_by_key(full, name, tasks, keys=None):
    """Means over seeds of one table of the records, name[task/key]: a row for each task.

    full  of `pages.frame`
    keys  None: all of them, in the order of numbers
    """
    means = full[[column for column in full if column.startswith(f"{name}[")]].mean()
    if keys is None:
        keys = (key[:-1].split("/")[1] for key in means.index if f"[{tasks[0]}/" in key)
        keys = sorted(keys, key=int)
    return pd.DataFrame(
        {key: [means[f"{name}[{task}/{key}]"] for task in tasks] for key in keys}, index=tasks
    )


def accuracy_by_task(full, tasks, variants):
    """A table of test accuracies with their spread over seeds, a column for each task.

    full      a row for each variant, task and seed
    variants  {variant: the first columns of its row}
    """
    accuracy = full["test_accuracy"].sort_index()
    return markdown_table(
        [
            first | {task: spread(accuracy.loc[(variant, task)]) for task in tasks}
            for variant, first in variants.items()
        ]
    )


def cost_table(bench, columns, base="full", order=None):
    """What the works of a bench cost beside a base, a row each.

    columns  {title: one of time, peak_bytes and flops, which are over the base's, n_trainable,
             stored_bytes}
    """

    def told(name, what):
        if what == "time":
            return ranged(*ratio(bench, name, base))
        value = bench[name][what]
        if what == "n_trainable":
            return f"{value:,}"
        if what == "stored_bytes":
            return f"{value / 1e6:.2f}"
        return f"{value / bench[base][what]:.{3 if what == 'flops' else 2}f}"

    rows = [
        {"method": name} | {title: told(name, what) for title, what in columns.items()}
        for name in order or bench
    ]
    return markdown_table(rows, as_text=True)
