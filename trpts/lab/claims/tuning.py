"""The claims on what TR-PTS does: a check each, (evidence) -> (verdict, in words, what it rests on)."""

import inspect
from collections import defaultdict
from statistics import fmean

import torch

from trpts import allocation, sparse, tokens
from trpts.data.twins import TWINS
from trpts.lab.claims.evidence import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    INCONSISTENT,
    REPRODUCED,
    UNCONFIRMED,
    UNTESTABLE,
    NotMeasured,
    check,
    decide,
    interval,
    points,
    several_seeds,
)

OURS, WITH_TOKENS = "TR-PTS without tokens", "TR-PTS"


@check("T01")
def score_beats_chance(evidence):
    gap = evidence.ablation("score", "score: random", OURS)
    lead = tuple(-x for x in (gap[0], gap[2], gap[1]))
    return decide(lead[1], lead[2]), f"against random connections, equally many: {points(lead)}", "ablation: score"


@check("T02")
def few_samples(evidence):
    correlations = [r["metrics"]["rank_correlation"] for r in evidence.records("selection")]
    hundred = fmean(value for found in correlations for name, value in found.items() if name.endswith("/100"))
    gap = evidence.ablation("samples", "128 scored", "800 scored")
    words = f"128 scored images instead of 800: {points(gap)}; rank correlation of 100 images' scores with all: "
    f"{hundred:.3f}"
    return (
        decide(gap[1], gap[2], -0.01) if gap[1] > -0.01 or gap[2] < -0.01 else UNCONFIRMED,
        words,
        "ablation: samples",
    )


@check("T03")
def allocation_rule(evidence):
    scores = {f"blocks.{n}.x": torch.full((4, 8), float(n + 1)) for n in range(3)}
    found = allocation.allocate(scores, c_min=1.0, w="mean").connections
    assert list(found.values()) == sorted(found.values())
    return (CONTRADICTED, "both readings are built in; the public note takes w_l from the top-scored parameters, and "
            "its "
            f"equation has no floor. Layers of mean score 1, 2, 3 get {list(found.values())} connections: at least "
            f"one, more "
            "where it is more", "arithmetic; ablation: allocation")  # fmt: skip


@check("T04")
def token_rule(evidence):
    x = torch.tensor([[[1.0], [10.0], [20.0], [30.0], [40.0]]])  # CLS and four patches
    a = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    out, kept = tokens.keep_and_merge(x, a, 2)
    merged = (0.1 * 10 + 0.2 * 30) / 0.3
    assert kept.tolist() == [[1, 3]]
    assert abs(out[0, -1, 0].item() - merged) < 1e-5
    return (
        REPRODUCED,
        "the rule as public text has it, worked by hand and in the module; per layer, not in the last",
        "arithmetic",
    )


@check("T05")
def placement(evidence):
    gaps = {p: evidence.ablation("placement", WITH_TOKENS, f"{p}, ρ = 0.5") for p in ("dense", "random")}
    words = "; ".join(f"sparse against {p}: {points(g)}" for p, g in gaps.items())
    low, high = min(g[1] for g in gaps.values()), min(g[2] for g in gaps.values())
    return (
        decide(low, high),
        f"{words}. Early blocks save more: see the figure against operations",
        "ablation: placement",
    )


@check("T06")
def masked_update(evidence):
    generator = torch.Generator().manual_seed(0)
    g, x = torch.randn(6, 5, generator=generator), torch.randn(6, 32, generator=generator)
    index = torch.tensor([[0, 3], [1, 22], [4, 17], [25, 26], [0, 31]])
    gap = (sparse.selected_gradient(g, x, index) - (g.T @ x).gather(1, index)).abs().max().item()
    assert gap < 1e-5
    return (
        REPRODUCED,
        f"the selected entries alone, computed without the rest, differ by at most {gap:.0e}",
        "arithmetic",
    )


@check("T08")
def vtab_mean(evidence):
    full, lora = evidence.gap(OURS, "full"), evidence.gap(OURS, "LoRA, r = 2")
    return (CONTRADICTED, "the paper's LoRA has 72.63 and GPS, left out in the brief, 75.18: the lead over the "
            "strongest peer is "
            f"{75.92 - 75.18:.2f}. In the lab: against full tuning {points(full)}, against LoRA {points(lora)}",
            "arithmetic; comparison")  # fmt: skip


@check("T09")
def group_means(evidence):
    groups, sizes = (79.40, 83.45, 67.52), (7, 4, 8)
    by_task = sum(g * n for g, n in zip(groups, sizes, strict=True)) / sum(sizes)
    return (INCONSISTENT, f"the mean over 19 tasks would be {by_task:.2f}, over groups {fmean(groups):.2f}: neither "
            f"is 75.92; "
            "and GPS is better in two of the three", "arithmetic")  # fmt: skip


@check("T10")
def fgvc_mean(evidence):
    mean = fmean((87.79, 84.21, 99.23, 90.11, 93.17))
    return CONTRADICTED, f"the five numbers have the mean {mean:.2f}; the paper's five have 91.94", "arithmetic"


@check("T14")
def parts(evidence):
    return (CONTRADICTED, "the paper has this ablation by task: tokens alone reach 14.8 on dSprites location, with a "
            "frozen "
            "backbone whose linear mean is 52.94; 68.92 cannot be its mean. In the lab: chapter "
            "08", "public numbers")  # fmt: skip


@check("T15")
def gradient(evidence):
    gap = evidence.ablation("score", "score: gradient", OURS)
    lead = tuple(-x for x in (gap[0], gap[2], gap[1]))
    return decide(lead[1], lead[2]), f"Fisher against the summed gradient: {points(lead)}", "ablation: score"


@check("T18")
def tome(evidence):
    pair = WITH_TOKENS, "TR-PTS with ToMe"
    gap = several_seeds(evidence.compared(*pair), *pair, "`trpts sweep`", evidence.gap(*pair))
    return (decide(gap[1], gap[2]), f"with the same connections and about the same operations, against ToMe: "
            f"{points(gap)}",
            "comparison")  # fmt: skip


@check("T19")
def late_layers(evidence):
    centre = defaultdict(list)
    for record in evidence.records("selection"):
        by_task = defaultdict(dict)
        for name, part in record["metrics"]["block_share"].items():
            task, block = name.rsplit("/", 1)
            by_task[task][int(block)] = part
        means = defaultdict(list)
        for task, parts_ in by_task.items():
            means[TWINS[task].group].append(sum(b * p for b, p in parts_.items()) / sum(parts_.values()))
        for group, found in means.items():
            centre[group].append(fmean(found))
    later = interval([a - b for a, b in zip(centre["fgvc"], centre["structured"], strict=True)])
    words = ", ".join(f"{group} {fmean(found):.2f}" for group, found in centre.items())
    return (decide(later[1], later[2]), f"centre of the score over blocks 0 to 7: {words}; fine-grained later than "
            f"structured by "
            f"{later[0]:+.2f} ({later[1]:+.2f} to {later[2]:+.2f}) blocks", "records: selection")  # fmt: skip


@check("T20")
def kept_on_objects(evidence):
    return (UNTESTABLE, "needs photographs with outlines of their objects and a backbone that knows photographs; "
            "chapter 04 shows "
            "what the laboratory's backbone keeps, which need not be the object", "pictures")  # fmt: skip


@check("T21")
def defaults(evidence):
    gap = evidence.ablation("placement", "sparse, ρ = 0.7", OURS)
    return (decide(gap[1], gap[2], -0.01) if gap[1] > -0.01 or gap[2] < -0.01 else UNCONFIRMED,
            f"70 % of the tokens in three blocks against all: {points(gap)}; a share of the parameters does not carry "
            f"over to "
            "narrower models, connections per neuron do", "ablation: placement")  # fmt: skip


@check("T22")
def hyper_parameters(evidence):
    switches = [n for n in inspect.signature(allocation.allocate).parameters if n not in ("scores", "model", "seed")]
    switches += [
        n for n in inspect.signature(tokens.token_selection).parameters if n not in ("model", "blocks", "shortcut")
    ]
    named = ("top_fraction", "c_min", "n_token_blocks", "keep")
    assert set(named) <= set(switches)
    return (FAILS, f"its own equations need at least M, C_min, the number of selecting blocks and ρ; what the public "
            f"text leaves "
            f"open makes it {len(switches)} switches here", "arithmetic")  # fmt: skip


@check("T27")
def independent_layers(evidence):
    scores = {f"blocks.{n}.x": torch.full((4, 8), 1.0) for n in range(3)}
    before = allocation.allocate(scores, per_neuron=2.0, w="mean").connections
    raised = scores | {"blocks.0.x": torch.full((4, 8), 9.0)}
    after = allocation.allocate(raised, per_neuron=2.0, w="mean").connections
    moved = [name for name in before if name != "blocks.0.x" and before[name] != after[name]]
    return (FAILS if moved else HOLDS, "the best-scored inputs of a neuron are its own affair, but how many there are "
            "depends on "
            f"all layers: raising one layer's score changed {len(moved)} of 2 others", "arithmetic")  # fmt: skip


@check("T32")
def density_and_redundancy(evidence):
    by_seed = [fmean(r["metrics"]["density_and_redundancy"].values()) for r in evidence.records("selection")]
    mean, low, high = interval([-x for x in by_seed])  # few trained parameters, much redundancy: a negative correlation
    return (decide(low, high), f"rank correlation of trained connections and token redundancy over blocks, mean over "
            f"tasks: "
            f"{-mean:+.2f} ({-high:+.2f} to {-low:+.2f})", "records: selection")  # fmt: skip


@check("T33")
def three_runs(evidence):
    return UNCONFIRMED, "no public number of the paper comes with a deviation; this book's do", "public numbers"


@check("T34")
def outlook(evidence):
    return UNTESTABLE, "an outlook, not a result", "nothing"


def _waits_for(experiment):
    def wait(evidence):
        raise NotMeasured(experiment)

    return wait


for _name, _experiment in {
    "T28": "an experiment of several tasks' deltas on one backbone",
    "T29": "an experiment on a small text transformer",
    "T30": "an experiment on tasks one after another",
    "T31": "an experiment on a task that drifts",
}.items():
    check(_name)(_waits_for(_experiment))
