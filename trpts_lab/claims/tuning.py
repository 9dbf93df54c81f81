"""The claims on what TR-PTS does; checks: (evidence) -> (verdict, words, what it rests on)."""

import inspect
from collections import defaultdict
from statistics import fmean

import torch
from scipy.stats import ttest_ind

from trpts import allocation, sparse_gradient, tokens
from trpts_lab import paper
from trpts_lab.claims.evidence import (
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
)
from trpts_lab.compared import (
    ALL_SCORED,
    FEWER_SCORED,
    FULL,
    GPS,
    LORA_2,
    OURS,
    RANDOM,
    TOKENS_ALONE,
    WITH_TOKENS,
    WITH_TOME,
    placed,
    scored_by,
)
from trpts_lab.twins import TWINS

FEW = 100
MARGIN = 0.01  # a loss of accuracy that is called none


def loses_less_than(margin, gap):
    """Whether a (mean, low, high) gap is no loss; undecided where the interval holds the margin."""
    return decide(gap[1], gap[2], -margin)


@check("T01")
def score_beats_chance(evidence):
    gap = evidence.ablation("score", scored_by("random"), OURS)
    lead = tuple(-x for x in (gap[0], gap[2], gap[1]))
    return (
        decide(lead[1], lead[2]),
        f"against random connections, equally many: {points(lead)}",
        "ablation: score",
    )


@check("T02")
def few_samples(evidence):
    correlations = [r["metrics"]["rank_correlation"] for r in evidence.records("selection")]
    some = fmean(
        x for found in correlations for name, x in found.items() if name.endswith(f"/{FEW}")
    )
    gap = evidence.ablation("samples", FEWER_SCORED, ALL_SCORED)
    words = (
        f"{FEWER_SCORED} images instead of {ALL_SCORED}: {points(gap)}; rank correlation of the "
        f"scores of {FEW} with those of all: {some:.3f}"
    )
    return loses_less_than(MARGIN, gap), words, "ablation: samples; records: selection"


@check("T03")
def allocation_rule(evidence):
    means = [1.0, 2.0, 3.0]
    scores = {f"blocks.{n}.x": torch.full((4, 8), mean) for n, mean in enumerate(means)}
    found = allocation.allocate(scores, c_min=1.0, w="mean").connections
    assert list(found.values()) == sorted(found.values())
    words = (
        "both readings are built in; the public note takes w_l from the top-scored parameters, "
        f"and its equation has no floor. Layers of mean score {means} get {list(found.values())} "
        "connections: at least one, more where it is more"
    )
    return CONTRADICTED, words, "arithmetic; ablation: allocation"


@check("T04")
def token_rule(evidence):
    x = torch.tensor([[[1.0], [10.0], [20.0], [30.0], [40.0]]])  # CLS and four patches
    a = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    out, kept = tokens.keep_and_merge(x, a, 2)
    merged = (0.1 * 10 + 0.2 * 30) / 0.3
    assert kept.tolist() == [[1, 3]]
    assert abs(out[0, -1, 0].item() - merged) < 1e-5
    words = (
        "the rule as public text has it, worked by hand and in the module; per layer, "
        "not in the last"
    )
    return REPRODUCED, words, "arithmetic"


@check("T05")
def placement(evidence):
    gaps = {p: evidence.ablation("placement", WITH_TOKENS, placed(p)) for p in ("dense", "random")}
    words = "; ".join(f"sparse against {p}: {points(g)}" for p, g in gaps.items())
    low, high = min(g[1] for g in gaps.values()), min(g[2] for g in gaps.values())
    words += ". Early blocks save more: see the figure against operations"
    return decide(low, high), words, "ablation: placement"


@check("T06")
def masked_update(evidence):
    generator = torch.Generator().manual_seed(0)
    g, x = torch.randn(6, 5, generator=generator), torch.randn(6, 32, generator=generator)
    index = torch.tensor([[0, 3], [1, 22], [4, 17], [25, 26], [0, 31]])
    # the 9 of 32 inputs that some neuron selects
    columns, local = index.unique(return_inverse=True)
    selected, sampled = sparse_gradient.selected_gradient, sparse_gradient.sampled_gradient
    ways = selected(g, x[:, columns], local), sampled(g, x, index)
    gap = max((found - (g.T @ x).gather(1, index)).abs().max().item() for found in ways)
    assert gap < 1e-5
    words = f"the selected entries alone, computed without the rest, differ by at most {gap:.0e}"
    return REPRODUCED, words, "arithmetic"


@check("T08")
def vtab_mean(evidence):
    means = paper.VTAB_MEANS
    words = (
        f"the paper's LoRA has {means['LoRA']}, and GPS, left out in the brief, {means['GPS']}: "
        f"the lead over the strongest peer is {means['TR-PTS'] - means['GPS']:.2f}"
    )
    try:
        gaps = {rival: evidence.gap(OURS, rival) for rival in (FULL, LORA_2, GPS, RANDOM)}
        words += ". In the lab: " + ", ".join(
            f"against {rival} {points(gap)}" for rival, gap in gaps.items()
        )
    except NotMeasured as missing:
        words += f". In the lab: needs {missing}"
    return CONTRADICTED, words, "arithmetic; comparison"


@check("T09")
def group_means(evidence):
    groups = paper.BRIEF_GROUPS.values()
    by_task = sum(mean * n for mean, n in groups) / sum(n for _, n in groups)
    words = (
        f"the mean over tasks would be {by_task:.2f}, over groups "
        f"{fmean(mean for mean, _ in groups):.2f}: neither is {paper.VTAB_MEANS['TR-PTS']}; and "
        "GPS is better in two of the three"
    )
    return INCONSISTENT, words, "arithmetic"


@check("T10")
def fgvc_mean(evidence):
    mean = fmean(paper.BRIEF_FGVC.values())
    return (
        CONTRADICTED,
        f"the five numbers have the mean {mean:.2f}; the paper's five {paper.FGVC_MEAN}",
        "arithmetic",
    )


@check("T14")
def parts(evidence):
    alone, mean = paper.TOKENS_ALONE.values()
    words = (
        f"the paper has this ablation by task: tokens alone reach {alone} on dSprites location, "
        f"with a frozen backbone whose linear mean is {paper.VTAB_MEANS['linear']}; {mean} cannot "
        "be its mean"
    )
    try:
        gaps = {v: evidence.ablation("parts", v, OURS) for v in (TOKENS_ALONE, WITH_TOKENS)}
        words += ". In the lab, against parameters alone: " + "; ".join(
            f"{v} {points(g)}" for v, g in gaps.items()
        )
    except NotMeasured as missing:
        words += f". In the lab: needs {missing}"
    return CONTRADICTED, words, "public numbers; ablation: parts"


@check("T15")
def gradient(evidence):
    gap = evidence.ablation("score", scored_by("gradient"), OURS)
    lead = tuple(-x for x in (gap[0], gap[2], gap[1]))
    return (
        decide(lead[1], lead[2]),
        f"Fisher against the summed gradient: {points(lead)}",
        "ablation: score",
    )


@check("T18")
def tome(evidence):
    gap = evidence.gap(WITH_TOKENS, WITH_TOME)
    words = f"with the same connections and about the same operations, against ToMe: {points(gap)}"
    return decide(gap[1], gap[2]), words, "comparison"


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


@check("T20")
def kept_on_objects(evidence):
    words = (
        "needs photographs with outlines of their objects and a backbone that knows photographs; "
        "the chapter on tokens shows what the laboratory's backbone keeps, which need not be the "
        "object"
    )
    return UNTESTABLE, words, "pictures"


@check("T21")
def defaults(evidence):
    gap = evidence.ablation("placement", placed("sparse", paper.BRIEF_KEEP), OURS)
    words = (
        f"{paper.BRIEF_KEEP:.0%} of the tokens in three blocks against all: {points(gap)}; a "
        "share of the parameters does not carry over to narrower models, connections per neuron "
        "do"
    )
    return loses_less_than(MARGIN, gap), words, "ablation: placement"


@check("T22")
def hyper_parameters(evidence):
    left_out = {"scores", "model", "seed", "blocks", "shortcut"}
    both = (allocation.allocate, tokens.token_selection)
    switches = [
        n for function in both for n in inspect.signature(function).parameters if n not in left_out
    ]
    assert {"top_fraction", "c_min", "n_token_blocks", "keep"} <= set(switches)
    words = (
        "its own equations need at least M, C_min, the number of selecting blocks and ρ; what "
        f"the public text leaves open makes it {len(switches)} switches here"
    )
    return FAILS, words, "arithmetic"


@check("T27")
def independent_layers(evidence):
    scores = {f"blocks.{n}.x": torch.full((4, 8), 1.0) for n in range(3)}
    before = allocation.allocate(scores, per_neuron=2.0, w="mean").connections
    raised = scores | {"blocks.0.x": torch.full((4, 8), 9.0)}
    after = allocation.allocate(raised, per_neuron=2.0, w="mean").connections
    others = [name for name in before if name != "blocks.0.x"]
    moved = [name for name in others if before[name] != after[name]]
    words = (
        "the best-scored inputs of a neuron are its own affair, but how many there are depends "
        f"on all layers: raising one layer's score changed {len(moved)} of {len(others)} others"
    )
    return FAILS if moved else HOLDS, words, "arithmetic"


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


@check("T33")
def three_runs(evidence):
    return (
        UNCONFIRMED,
        "no public number of the paper comes with a deviation; this book's do",
        "public numbers",
    )


@check("T34")
def outlook(evidence):
    return UNTESTABLE, "an outlook, not a result", "nothing"
