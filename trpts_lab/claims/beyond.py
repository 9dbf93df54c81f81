"""Claims on TR-PTS beyond one task; checks: (evidence) -> (verdict, words, what it rests on)."""

from collections import defaultdict
from statistics import fmean

from scipy.stats import ttest_ind

from trpts_lab.claims.evidence import FAILS, HOLDS, NotMeasured, check, decide, interval, points
from trpts_lab.twins import TWINS

OURS = "C = 2"  # the name of TR-PTS among the methods on text
CHEAP = 0.25  # of the time of training again: what selecting anew may take


@check("T19")
def late_layers(evidence):
    centre = defaultdict(lambda: defaultdict(list))  # {group: {task: [of each seed]}}
    for record in evidence.records("selection"):
        by_task = defaultdict(dict)
        for name, part in record["metrics"]["block_share"].items():
            task, block = name.rsplit("/", 1)
            by_task[task][int(block)] = part
        for task, parts_ in by_task.items():
            middle = sum(b * p for b, p in parts_.items()) / sum(parts_.values())
            centre[TWINS[task].group][task].append(middle)
    # The claim is about kinds of tasks, so that tasks are what varies; seeds draw the same ones
    # anew.
    by_task = {group: [fmean(seeds) for seeds in tasks.values()] for group, tasks in centre.items()}
    fine, structured = by_task["fgvc"], by_task["structured"]
    if min(len(fine), len(structured)) < 2:
        raise NotMeasured("two tasks of each kind: `trpts run --profile full`")
    later = ttest_ind(fine, structured, equal_var=False).confidence_interval()
    n_blocks = len(
        {
            name.rsplit("/", 1)[1]
            for name in evidence.records("selection")[0]["metrics"]["block_share"]
        }
    )
    words = ", ".join(f"{group} {fmean(found):.2f}" for group, found in by_task.items())
    words = (
        f"centre of the score over {n_blocks} blocks, from zero: {words}; fine-grained later than "
        f"structured by {fmean(fine) - fmean(structured):+.2f} ({later.low:+.2f} to "
        f"{later.high:+.2f}) blocks, over {len(fine)} and {len(structured)} tasks"
    )
    return decide(later.low, later.high), words, "records: selection"


@check("T28")
def a_delta_each(evidence):
    runs = [r["metrics"] for r in evidence.further("many_tasks")]
    moved = [abs(m["swapped"][task] - m["alone"][task]) for m in runs for task in m["alone"]]
    size = fmean(b / m["model_bytes"] for m in runs for b in m["delta_bytes"].values())
    n_changed = sum(m["n_changed"] for m in runs)
    words = (
        f"{len(runs[0]['alone'])} tasks in turn in one model, {len(runs)} draws: accuracies "
        f"differ from those alone by at most {max(moved):g}, {n_changed} weights are changed at "
        f"the end; a task takes {size:.1%} of the model's bytes"
    )
    return HOLDS if max(moved) == 0 and n_changed == 0 else FAILS, words, "records: many_tasks"


@check("T29")
def letters(evidence):
    best = best_by_validation(evidence.further("text"))
    ours = best[OURS]
    gaps = {
        rival: interval([ours[seed] - best[rival][seed] for seed in ours])
        for rival in best
        if rival != OURS
    }
    words = "; ".join(f"against {rival} {points(gap)}" for rival, gap in gaps.items())
    head = gaps["linear"]
    words = (
        f"a transformer on letters, new languages, two connections per neuron: {words}. "
        "Speech is not tried"
    )
    return decide(head[1], head[2]), words, "records: text"


def best_by_validation(records):
    """{variant: {seed: test accuracy}} at the learning rate of best mean validation accuracy."""
    by_rate = defaultdict(lambda: defaultdict(dict))
    for record in records:
        config, metrics = record["config"], record["metrics"]
        by_rate[config["variant"]][config["lr"]][config["seed"]] = (
            metrics["val_accuracy"],
            metrics["test_accuracy"],
        )
    found = {}
    for variant, rates in by_rate.items():
        best = max(rates.values(), key=lambda seeds: fmean(val for val, _ in seeds.values()))
        found[variant] = {seed: test for seed, (_, test) in best.items()}
    return found


@check("T30")
def protected(evidence):
    # {way: {seed: [accuracy that the first task lost]}}
    lost = defaultdict(lambda: defaultdict(list))
    second = defaultdict(list)
    for record in evidence.further("continual"):
        metrics, way = record["metrics"], record["config"]["way"]
        lost[way][record["config"]["seed"]].append(metrics["first_before"] - metrics["first_after"])
        second[way].append(metrics["second"])
    spared = interval(
        [fmean(lost["free"][seed]) - fmean(lost["protected"][seed]) for seed in lost["free"]]
    )
    words = ", ".join(
        f"{way} {100 * fmean(map(fmean, by_seed.values())):.1f}" for way, by_seed in lost.items()
    )
    price = 100 * (fmean(second["protected"]) - fmean(second["free"]))
    words = (
        f"protecting the first task's connections spares it {points(spared)}; it loses, in "
        f"points: {words}; the second task gains {price:+.1f} by it"
    )
    return decide(spared[1], spared[2]), words, "records: continual"


@check("T31")
def drifting(evidence):
    gains, shares, lost = defaultdict(list), [], []
    for record in evidence.further("drift"):
        metrics = record["metrics"]
        gains[record["config"]["seed"]].append(metrics["anew"] - metrics["old"])
        shares.append(metrics["phase_s"]["select"] / metrics["phase_s"]["train"])
        lost.append(metrics["old"] - metrics["unchanged"])
    gain, dear = interval([fmean(found) for found in gains.values()]), fmean(shares) > CHEAP
    words = (
        f"selecting anew takes {fmean(shares):.0%} of the time of training again, and gives "
        f"{points(gain)} over the old connections trained again; these give "
        f"{100 * fmean(lost):+.1f} over leaving it"
    )
    worth = decide(gain[1], gain[2])
    return FAILS if dear or worth == FAILS else worth, words, "records: drift"


@check("T32")
def density_and_redundancy(evidence):
    by_task = defaultdict(list)
    for record in evidence.records("selection"):
        for task, correlation in record["metrics"]["density_and_redundancy"].items():
            by_task[task].append(correlation)
    # few trained parameters, much redundancy: a negative correlation; tasks are what varies
    mean, low, high = interval([-fmean(found) for found in by_task.values()])
    words = (
        "rank correlation of trained connections and token redundancy over blocks, mean over "
        f"tasks: {-mean:+.2f} ({-high:+.2f} to {-low:+.2f})"
    )
    return decide(low, high), words, "records: selection"
