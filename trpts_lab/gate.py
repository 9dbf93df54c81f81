"""The gate: can a test bed show what is known? Only one that can may judge a method.

Two orderings are known from many papers (VTAB-1k's tables in VPT, NOAH, SSF, GPS), and a test bed
passes if both show in it: on structured tasks low-rank updates are far ahead of a linear probe, and
on natural images, of which a thousand are labelled, tuning everything is not ahead of them. It is
judged on tasks that no method is compared on, by validation images, over several seeds, each method
at its own best learning rate.

At most three beds are tried, and all of them are published, whether they pass or not.
"""

from typing import NamedTuple

import pandas as pd

from trpts_lab import grid, stats
from trpts_lab.compared import FULL, HEAD, LORA_8
from trpts_lab.experiments import tuned

METHODS = (HEAD, LORA_8, FULL)
AHEAD, NOT_AHEAD = 0.05, 0.01  # LoRA minus linear at least; full minus LoRA at most


class Bed(NamedTuple):
    """A test bed on real weights: the device of its records, the image size in pixels, epochs,
    images in a batch, and the learning rates that the choice of each method began with.
    """

    device: str
    image_size: int
    epochs: int
    batch_size: int
    rates: dict


# In the order in which they were tried. The profile holds the settings of the one that is being
# tried.
BEDS = (
    Bed("cuda", 84, 16, 32, {"linear": [0.00025, 0.0005, 0.001, 0.002, 0.004],
                             LORA_8: [0.0005, 0.001, 0.002, 0.004],
                             "full": [0.0000125, 0.000025, 0.00005, 0.0001, 0.0002]}),
)  # fmt: skip


def of_bed(profile: dict, bed: Bed) -> dict:
    """A profile with a bed's settings in place of its own."""
    benchmark = profile["benchmark"]
    settings = {
        "reading": benchmark["reading"] | {"image_size": bed.image_size},
        "sweep": benchmark["sweep"]
        | {name: getattr(bed, name) for name in ("epochs", "batch_size", "rates")},
    }
    return profile | {"benchmark": benchmark | settings}


def gate_runs(profile: dict, store, bed: Bed) -> list[dict]:
    """The records that judge a bed: its tuning tasks and seeds, each method at its chosen learning
    rate.

    raises  NotThere: the choice of a method's rate is not complete
    """
    profile, how = of_bed(profile, bed), grid.comparison_of(profile)
    rates = grid.chosen_rates(profile, store, METHODS, bed.device)
    shared, swept = grid.common(profile, bed.device), profile["benchmark"]["sweep"]
    cells = []
    for method in METHODS:
        head = {} if method == HEAD else {"head_lr": rates[HEAD][0]}
        cells += [
            (
                tuned,
                tuned.cell(
                    method, *how.methods[method], task, seed, rates[method][0], **shared, **head
                ),
            )
            for task in swept["tuning_tasks"]
            for seed in how.tuning_seeds
        ]
    return store.found(cells)


def judged(records: list[dict]) -> pd.DataFrame:
    """A row for each task: which condition it is asked, what was found, and whether it holds.

    difference   mean over seeds of LoRA minus linear (structured tasks), or of full minus LoRA (all
                 others)
    by seed      the same of each seed
    wanted       at least AHEAD, or at most NOT_AHEAD
    holds        whether the difference is that; differences are whole images, so rounding decides
                 nothing
    """
    frame = stats.complete(stats.scores(records, "val_accuracy"))
    rows = []
    for task in dict.fromkeys(r["config"]["task"] for r in records):
        wide = frame[frame["task"] == task].pivot(
            index="seed", columns="variant", values="val_accuracy"
        )
        structured = stats.group_of(task) == "structured"
        high, low = (LORA_8, HEAD) if structured else (FULL, LORA_8)
        difference = wide[high] - wide[low]
        found = round(difference.mean(), 9)
        rows.append(
            {
                "task": task,
                "asked": f"{high} − {low}",
                "difference": found,
                "by seed": difference.tolist(),
                "wanted": f"at least {100 * AHEAD:g}"
                if structured
                else f"at most {100 * NOT_AHEAD:g}",
                "holds": bool(found >= AHEAD if structured else found <= NOT_AHEAD),
            }
        )
    return pd.DataFrame(rows)
