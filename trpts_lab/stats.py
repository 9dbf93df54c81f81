"""From records to tables: means over tasks by both conventions, their spread over seeds, intervals
and ranks.

The field has two "VTAB means": of the 19 tasks (GPS, SSF, TR-PTS) and of the three groups' means
(SPT, SNELL, FacT); they differ by a point or more, and every table here says which it is.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap, ttest_1samp

from trpts.errors import TrptsError
from trpts_lab.named_tasks import FILES, GROUPS
from trpts_lab.twins import TWINS

N_RESAMPLES = 9999
# below, all differences have one sign by chance too often (2 in 2^n) for resampling to be believed
FEW_TASKS = 6


def group_of(task):
    """natural, specialized, structured or fgvc (fine-grained); a task without one is its own."""
    if task in TWINS:
        return TWINS[task].group
    kind, name = FILES.get(task, (None, None))
    return GROUPS[kind][name].group if kind in GROUPS else kind or task


def scores(records, metric="test_accuracy"):
    """A frame with a row for each (variant, task, seed) and its metric, sorted.

    raises  TrptsError: two records of the same run, which a table would count twice; one without
            the metric
    """
    for record in records:
        if metric not in record["metrics"]:
            what = "diverged" if "diverged" in record["metrics"] else f"has no {metric}"
            raise TrptsError(
                " ".join(str(record["config"][k]) for k in ("variant", "task", "seed"))
                + f" {what}: no mean can be taken over it"
            )
    rows = [
        {**{k: r["config"][k] for k in ("variant", "task", "seed")}, metric: r["metrics"][metric]}
        for r in records
    ]
    frame = pd.DataFrame(rows, columns=["variant", "task", "seed", metric])
    double = frame[frame.duplicated(["variant", "task", "seed"])]
    if len(double):
        raise TrptsError(
            f"two records of {' '.join(map(str, double.iloc[0][:3]))}: expected one of each run"
        )
    return frame.sort_values(["variant", "task", "seed"], ignore_index=True)


def complete(frame):
    """Only runs that every variant has, and of these only seeds with the same tasks: the largest
    such set.

    Means over different tasks cannot be compared: neither between variants, nor between seeds.
    """
    n = frame["variant"].nunique()
    shared = frame.groupby(["task", "seed"]).filter(lambda part: part["variant"].nunique() == n)
    tasks = shared.groupby("seed")["task"].agg(frozenset)
    counts = tasks.value_counts()  # of equally large sets, the one that more seeds have
    if counts.empty:
        return shared
    most = max(counts.index, key=lambda found: (len(found), counts[found], sorted(found)))
    return shared[shared["seed"].isin(tasks.index[tasks == most])]


def summary(records, metric="test_accuracy"):
    """A row for each variant: mean over tasks, mean over groups, each with its standard deviation
    over seeds; rank.

    Columns: task_mean, task_sd, group_mean, group_sd (NaN with one seed), rank (mean over tasks; 1
    is best, ties share), n_tasks, n_seeds. Over what `complete` leaves.
    """
    frame = complete(scores(records, metric))
    frame["group"] = frame["task"].map(group_of)
    by_task = frame.groupby(["variant", "seed"])[metric].mean()
    by_group = (
        frame.groupby(["variant", "seed", "group"])[metric]
        .mean()
        .groupby(["variant", "seed"])
        .mean()
    )
    table = pd.DataFrame(
        {
            "task_mean": by_task.groupby("variant").mean(),
            "task_sd": by_task.groupby("variant").std(),
            "group_mean": by_group.groupby("variant").mean(),
            "group_sd": by_group.groupby("variant").std(),
            "rank": ranks(frame, metric).mean(),
        }
    )
    counts = frame.groupby("variant").agg(n_tasks=("task", "nunique"), n_seeds=("seed", "nunique"))
    return table.join(counts).sort_values("task_mean", ascending=False)


def ranks(frame, metric="test_accuracy"):
    """Rank of each variant (column) on each task (row), by the mean over seeds."""
    means = frame.pivot_table(index="task", columns="variant", values=metric)
    return means.rank(axis=1, ascending=False)


def paired_interval(records, variant, rival, metric="test_accuracy", seed=0):
    """(mean difference variant − rival, low, high): a 95 % bootstrap interval (BCa) over tasks;
    below FEW_TASKS of them Student's t.

    Seeds are averaged first: what is resampled are the tasks, so that the interval says what other
    tasks of the kind might bring, not how well these were measured. Only seeds with all the tasks
    that both have are averaged.
    raises  TrptsError: fewer than two tasks in common
    """
    some = [r for r in records if r["config"]["variant"] in (variant, rival)]
    means = complete(scores(some, metric)).pivot_table(
        index="task", columns="variant", values=metric
    )
    if not {variant, rival} <= set(means) or len(means) < 2:
        raise TrptsError(
            f"{variant} and {rival} have {len(means)} tasks in common: expected two or more"
        )
    difference = (means[variant] - means[rival]).to_numpy()
    if np.ptp(difference) < 1e-12:  # but for rounding
        return difference[0], difference[0], difference[0]
    if len(difference) < FEW_TASKS:
        found = ttest_1samp(difference, 0).confidence_interval()
        return difference.mean(), found.low, found.high
    found = bootstrap(
        (difference,), np.mean, n_resamples=N_RESAMPLES, rng=np.random.default_rng(seed)
    )
    return difference.mean(), found.confidence_interval.low, found.confidence_interval.high


def strongest_alike(records, ours, besides=()):
    """Of the variants that train about as many parameters beside the head as `ours`, the one with
    the best mean.

    About as many: neither has a quarter more. `besides`: variants of the same method, which are no
    rivals.
    returns  (variant, `paired_interval` of ours − variant, seeds that it rests on); None where
             there is no such variant
    """
    trained = {r["config"]["variant"]: r["metrics"]["n_trainable_without_head"] for r in records}
    alike = {
        v
        for v, n in trained.items()
        if v not in (ours, *besides) and 4 * max(n, trained[ours]) <= 5 * min(n, trained[ours])
    }
    best = next((v for v in summary(records).index if v in alike), None)
    if best is None:
        return None
    pair = complete(scores([r for r in records if r["config"]["variant"] in (ours, best)]))
    return best, paired_interval(records, ours, best), pair["seed"].nunique()


def differences(records, base, metric="test_accuracy"):
    """What each variant has more than `base` on the same task and seed: a frame of variant, task,
    seed, difference.

    Over what `complete` leaves, so that two variants' differences are of the same tasks and seeds.
    raises  TrptsError: no record of `base`
    """
    frame = scores(records, metric)
    if base not in (names := frame["variant"].unique()):
        raise TrptsError(f"no record of {base!r} to compare with: found {', '.join(names)}")
    wide = complete(frame).pivot(index=["task", "seed"], columns="variant", values=metric)
    long = (
        wide.drop(columns=base).sub(wide[base], axis=0).stack().rename("difference").reset_index()
    )
    return long[["variant", "task", "seed", "difference"]]


def over_tasks_and_seeds(found):
    """Of `differences`: mean over tasks by seed, then its mean and standard deviation (NaN of one
    seed) over seeds.

    Columns mean, sd, n_tasks, n_seeds, a row for each variant.
    """
    by_seed = found.groupby(["variant", "seed"])["difference"].mean().groupby("variant")
    counts = found.groupby("variant").agg(n_tasks=("task", "nunique"), n_seeds=("seed", "nunique"))
    return pd.DataFrame({"mean": by_seed.mean(), "sd": by_seed.std()}).join(counts)


def pareto(points):
    """Of {name: (cost, accuracy)}, names with no better one as cheap and no cheaper one as good."""
    return [
        name
        for name, (cost, accuracy) in points.items()
        if not any(
            c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points.values()
        )
    ]


def share_interval(share, n):
    """Wilson's 95 % interval of a share of n independent trials: (low, high)."""
    return binomtest(round(share * n), n).proportion_ci(method="wilson")
