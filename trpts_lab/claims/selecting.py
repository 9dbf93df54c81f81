"""The claims on what TR-PTS selects; checks: (evidence) -> (verdict, words, what it rests on)."""

import inspect
from dataclasses import replace
from statistics import fmean, median

import torch

from trpts import allocation, sparse_gradient, tokens
from trpts.methods import prepare_trpts
from trpts_lab import paper
from trpts_lab.bench.fisher import bench_fisher
from trpts_lab.claims.evidence import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    MARGIN,
    REPRODUCED,
    UNTESTABLE,
    check,
    decide,
    loses_less_than,
    points,
)
from trpts_lab.compared import (
    ALL_SCORED,
    FEWER_SCORED,
    OURS,
    RANDOM,
    WITH_TOKENS,
    placed,
    scored_by,
)

FEW = 100
MINUTES = 60  # what is called minutes, at most


@check("T01")
def score_beats_chance(evidence):
    lead = evidence.gap(OURS, RANDOM)
    n = len(evidence.profile["benchmark"]["sweep"]["compared_tasks"])
    words = f"against random connections, equally many, over {n} tasks: {points(lead)}"
    return decide(lead[1], lead[2]), words, "comparison"


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


@check("T02")
def a_pass_in_minutes(evidence):
    whole = evidence.whole_bench("fisher")
    n_timed = inspect.signature(bench_fisher).parameters["n"].default
    n_scored = inspect.signature(prepare_trpts).parameters["n_scored"].default
    each = median(whole["rows"]["per-sample, one pass"]["s"]) / n_timed
    minutes = n_scored * each / 60
    words = (
        f"{n_scored} images through ViT-B/16 take {minutes:.1f} minutes on "
        f"{whole['machine']['cores']} cores, where a GPU is no slower; no GPU was timed"
    )
    return HOLDS if minutes < MINUTES else FAILS, words, "bench: fisher"


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


@check("T15")
def gradient(evidence):
    gap = evidence.ablation("score", scored_by("gradient"), OURS)
    lead = tuple(-x for x in (gap[0], gap[2], gap[1]))
    return (
        decide(lead[1], lead[2]),
        f"Fisher against the summed gradient: {points(lead)}",
        "ablation: score",
    )


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
        "how many connections a layer gets depends on all layers: raising one layer's score "
        f"changed {len(moved)} of {len(others)} others"
    )
    return FAILS if moved else HOLDS, words, "arithmetic"


@check("T27")
def layers_apart(evidence):
    generator = torch.Generator().manual_seed(0)
    scores = {f"blocks.{n}.x": torch.rand(4, 8, generator=generator) for n in range(3)}
    plan = allocation.allocate(scores, per_neuron=2.0, w="mean")
    together = plan.select(scores)
    apart = {
        name: replace(plan, connections={name: plan.connections[name]}).select({name: score})[name]
        for name, score in scores.items()
    }
    same = all(torch.equal(together[name], apart[name]) for name in scores)
    words = (
        f"once it is known how many each gets, {len(scores)} layers taken one by one choose what "
        "they choose together: each needs its own scores alone. No run on several GPUs was timed"
    )
    return HOLDS if same else FAILS, words, "arithmetic"
