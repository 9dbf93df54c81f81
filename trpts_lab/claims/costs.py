"""The claims on TR-PTS' costs; checks: (evidence) -> (verdict, words, what it rests on)."""

import ast
import inspect
import statistics

import torch
from torch import nn

from trpts import (
    allocation,
    budget,
    fisher,
    layers,
    placement,
    signals,
    sparse,
    sparse_gradient,
    tokens,
)
from trpts_lab import paper
from trpts_lab.bench.clock import ratio
from trpts_lab.claims.evidence import (
    CONFIRMED,
    FAILS,
    HOLDS,
    INCONSISTENT,
    REPRODUCED,
    UNCONFIRMED,
    UNDECIDED,
    check,
    decide,
)
from trpts_lab.compared import ADAPTER, FULL, OURS, VPT_DEEP
from trpts_lab.flops import vit_flops


@check("T11")
def flops(evidence):
    untouched = vit_flops(evidence.vit_b) / 1e9
    words = (
        f"the untouched model takes {untouched:.2f} G: "
        "a model that lost tokens cannot take more, nor can ToMe"
    )
    return INCONSISTENT if untouched < paper.BRIEF_GFLOPS else UNCONFIRMED, words, "arithmetic"


@check("T12")
def memory(evidence):
    whole = evidence.whole_bench("train")
    peaks = ", ".join(
        f"{name} {whole['rows'][name]['peak_bytes'] / 2**20:,.0f} MiB"
        for name in ("full", "lora", "sparse", "scattered")
    )
    words = f"no source; a training step of {whole['batch_size']} images here: {peaks}"
    return UNCONFIRMED, words, "bench: train"


@check("T12")
def among_the_smallest(evidence):
    named = "inference memory" in paper.LOWEST
    words = (
        "the public note calls it the lowest in inference memory of the compared methods; it has "
        "no number, and the memory of a prediction was not measured here"
    )
    return CONFIRMED if named else UNCONFIRMED, words, "public note"


@check("T13")
def latency(evidence):
    whole = evidence.whole_bench("tokens")
    seconds, cores = statistics.median(whole["rows"]["all tokens"]["s"]), whole["machine"]["cores"]
    words = (
        f"no source, no hardware named; {whole['batch_size']} images take {seconds:.1f} s here, "
        f"on {cores} cores"
    )
    return UNCONFIRMED, words, "bench: tokens"


@check("T17")
def inference_cost(evidence):
    rows = evidence.bench("predict")
    operations, (_, low, high), words = predicting(rows, OURS)
    words = f"once the update lies in the weights: {words}; on one CPU, without token selection"
    if operations > 1 or low > 1:
        return FAILS, words, "bench: predict"
    return REPRODUCED if low <= 1 <= high else UNDECIDED, words, "bench: predict"


@check("T17")
def dearer_peers(evidence):
    rows = evidence.bench("predict")
    found = {name: predicting(rows, name) for name in (ADAPTER, VPT_DEEP)}
    more = [operations > 1 for operations, _, _ in found.values()]
    slower = [low > 1 for _, (_, low, _), _ in found.values()]
    words = "; ".join(f"{name}: {said}" for name, (_, _, said) in found.items())
    if not all(more):
        return FAILS, words, "bench: predict"
    return REPRODUCED if all(slower) else UNDECIDED, words, "bench: predict"


@check("T17")
def only_selected_are_used(evidence):
    model = nn.Sequential(nn.Linear(8, 4))
    (name,) = layers.scored_layers(model)
    sparse.attach(model, {name: torch.tensor([[0, 3]] * 4)}, biases=False)
    sparse.detach(model)
    model(torch.ones(1, 8)).sum().backward()
    used = (model[0].weight.grad != 0).float().mean().item()
    words = (
        f"the reason given is wrong: the output depends on {used:.0%} of the weights of a tuned "
        "layer. It costs nothing because the update lies in them"
    )
    return FAILS if used == 1 else HOLDS, words, "arithmetic"


def predicting(rows, name):
    """(operations, (time, lowest, highest), in words) of a method, over the untouched model's."""
    operations = rows[name]["flops"] / rows["untouched"]["flops"]
    time = ratio(rows, name, "untouched")
    middle, low, high = time
    words = (
        f"operations {operations:.3f} of the untouched model's, time {middle:.2f} ({low:.2f} to "
        f"{high:.2f})"
    )
    return operations, time, words


@check("T23")
def few_lines(evidence):
    selection = (layers, signals, fisher, budget, placement, allocation)
    rooms = (*selection, sparse_gradient, sparse, tokens)
    n = sum(n_statements(inspect.getsource(room)) for room in rooms)
    words = f"score, allocation, sparse layers and tokens: {n} statements"
    return HOLDS if n < 1000 else FAILS, words, "this code"


@check("T24")
def epoch_time(evidence):
    rows = evidence.bench("train")
    ours, tokens_too, limit = (
        ratio(rows, name, "full")[0] for name in ("sparse", "sparse and tokens", "limit")
    )
    words = (
        f"a step takes {ours:.2f} of full tuning's, {tokens_too:.2f} with tokens; with no weight "
        f"gradient at all it would take {limit:.2f}"
    )
    return FAILS if limit > 1 - paper.BRIEF_TIME_SAVED else HOLDS, words, "bench: train"


@check("T25")
def attention_cost(evidence):
    model = evidence.vit_b
    n, width, keep = 1 + model.patch_embed.num_patches, model.embed_dim, paper.BRIEF_KEEP
    part = 2 * 2 * n * n * width * len(model.blocks) / vit_flops(model)
    words = (
        f"one minus ρ² is {1 - keep**2:.0%}, of a term that is {part:.1%} of ViT-B/16's "
        "operations: of little use"
    )
    return REPRODUCED, words, "arithmetic"


@check("T26")
def gradients_unstored(evidence):
    step, run = evidence.bench("train"), evidence.bench("methods")
    few, own, mask = (
        step[name]["peak_bytes"] / step["full"]["peak_bytes"]
        for name in ("sparse", "scattered", "mask")
    )
    whole = run[OURS]["peak_bytes"] / run[FULL]["peak_bytes"]
    words = (
        f"peak memory over full tuning's: of a step {few:.2f} where neurons share few inputs, "
        f"{own:.2f} where each has its own, {mask:.2f} with the mask that the update is usually "
        f"written as; of a run, its selection included, {whole:.2f}"
    )
    ours = (few, own, whole)
    return decide(1 - max(ours), 1 - min(ours)), words, "bench: train; bench: methods"


@check("T26")
def larger_batches(evidence):
    large, small = evidence.whole_bench("train"), evidence.whole_bench("scale")
    sizes = [whole["batch_size"] for whole in (small, large)]
    room = large["rows"]["full"]["peak_bytes"]
    # the line through two batch sizes
    peaks = [small["rows"]["ViT-B: sparse"]["peak_bytes"], large["rows"]["sparse"]["peak_bytes"]]
    each = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    n = sizes[0] + int((room - peaks[0]) / each)
    words = (
        f"a step of {n} images would fit where full tuning's of {sizes[1]} does, by the line "
        f"through {sizes[0]} and {sizes[1]} images; neurons share few inputs, and no such step "
        "was run"
    )
    return HOLDS if n > sizes[1] else FAILS, words, "bench: train; bench: scale"


def n_statements(source):
    """Number of statements in Python source, without docstrings; the layout does not change it."""
    nodes = list(ast.walk(ast.parse(source)))
    prose = sum(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for node in nodes
    )
    return sum(isinstance(node, ast.stmt) for node in nodes) - prose
