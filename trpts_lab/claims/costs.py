"""The claims on TR-PTS' costs; checks: (evidence) -> (verdict, words, what it rests on)."""

import ast
import inspect
import statistics

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
    CONTRADICTED,
    FAILS,
    HOLDS,
    INCONSISTENT,
    REPRODUCED,
    UNCONFIRMED,
    check,
)
from trpts_lab.compared import ADAPTER, OURS, VPT_DEEP
from trpts_lab.flops import vit_flops

VTAB_CLASSES, VTAB_TASKS = 940, 19
FGVC_CLASSES, FGVC_TASKS = 1173, 5


def neurons_of(model):
    """Output neurons of the blocks' layers and of the patch embedding."""
    return (
        sum(layer.out_features for layer in layers.scored_layers(model).values()) + model.embed_dim
    )


def share(model, connections, classes, tasks):
    """Weights, biases and mean head, as a share of the backbone."""
    backbone = sum(
        p.numel() for name, p in model.named_parameters() if not name.startswith("head.")
    )
    head = classes / tasks * (model.embed_dim + 1)
    return ((connections + 1) * neurons_of(model) + head) / backbone


@check("T07")
def trainable_share(evidence):
    two = share(evidence.vit_b, 2, VTAB_CLASSES, VTAB_TASKS)
    three = share(evidence.vit_b, 3, FGVC_CLASSES, FGVC_TASKS)
    fits = abs(two - paper.TRAINED["VTAB-1k"]) < 5e-5 and abs(three - paper.TRAINED["FGVC"]) < 5e-5
    words = (
        f"two connections per neuron, biases and head on VTAB-1k: {two:.2%}; three on FGVC: "
        f"{three:.2%}. A fit, not an identification: others may fit too"
    )
    return REPRODUCED if fits else FAILS, words, "arithmetic"


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
        for name in ("full", "lora", "sparse")
    )
    words = f"no source; a training step of {whole['batch_size']} images here: {peaks}"
    return UNCONFIRMED, words, "bench: train"


@check("T13")
def latency(evidence):
    whole = evidence.whole_bench("tokens")
    seconds, cores = statistics.median(whole["rows"]["all tokens"]["s"]), whole["machine"]["cores"]
    words = (
        f"no source, no hardware named; {whole['batch_size']} images take {seconds:.1f} s here, "
        f"on {cores} cores"
    )
    return UNCONFIRMED, words, "bench: tokens"


@check("T16")
def shares_of_peers(evidence):
    model = evidence.vit_b
    backbone = (
        sum(p.numel() for p in model.parameters())
        - model.head.weight.numel()
        - model.head.bias.numel()
    )
    sums = sum(m.in_features + m.out_features for m in layers.scored_layers(model).values())
    head = VTAB_CLASSES / VTAB_TASKS * (model.embed_dim + 1)
    ranks = {r: (r * sums + head) / backbone for r in (1, 4, 8)}
    words = ", ".join(f"rank {r} {x:.2%}" for r, x in ranks.items())
    words = (
        f"the paper's LoRA has {paper.LORA_TRAINED:.2%}; LoRA in all layers with VTAB's mean "
        f"head: {words}"
    )
    return CONTRADICTED, words, "arithmetic"


@check("T17")
def inference_cost(evidence):
    rows = evidence.bench("predict")
    ours = rows[OURS]["flops"] / rows["untouched"]["flops"]
    dearer = ", ".join(
        f"{m} {rows[m]['flops'] / rows['untouched']['flops']:.3f}" for m in (ADAPTER, VPT_DEEP)
    )
    middle, low, high = ratio(rows, OURS, "untouched")
    words = (
        f"operations {ours:.3f} of the untouched model ({dearer}), time {middle:.2f} ({low:.2f} "
        f"to {high:.2f}). The reason given is wrong: all parameters are used, the update lies in "
        "them"
    )
    return REPRODUCED if ours == 1 else FAILS, words, "bench: predict"


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
    rows = evidence.bench("train")
    ours, mask = (
        rows[name]["peak_bytes"] / rows["full"]["peak_bytes"] for name in ("sparse", "mask")
    )
    words = (
        f"peak memory of a step: {ours:.2f} of full tuning's with a truly sparse gradient, "
        f"{mask:.2f} with the mask that the update is usually written as"
    )
    return HOLDS if ours < 1 else FAILS, words, "bench: train"


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
