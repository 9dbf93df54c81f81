"""The claims that quote results; checks: (evidence) -> (verdict, words, what it rests on)."""

from statistics import fmean

from trpts import fisher
from trpts_lab import paper
from trpts_lab.claims.evidence import (
    CONTRADICTED,
    FAILS,
    INCONSISTENT,
    REPRODUCED,
    UNCONFIRMED,
    UNTESTABLE,
    NotMeasured,
    check,
    decide,
    points,
)
from trpts_lab.compared import FULL, GPS, LORA_2, OURS, RANDOM, TOKENS_ALONE, WITH_TOKENS, WITH_TOME

VTAB_CLASSES, VTAB_TASKS = 940, 19
FGVC_CLASSES, FGVC_TASKS = 1173, 5


def neurons_of(model):
    """Output neurons of the blocks' layers and of the patch embedding."""
    return (
        sum(layer.out_features for layer in fisher.scored_layers(model).values()) + model.embed_dim
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


@check("T16")
def shares_of_peers(evidence):
    model = evidence.vit_b
    backbone = (
        sum(p.numel() for p in model.parameters())
        - model.head.weight.numel()
        - model.head.bias.numel()
    )
    sums = sum(m.in_features + m.out_features for m in fisher.scored_layers(model).values())
    head = VTAB_CLASSES / VTAB_TASKS * (model.embed_dim + 1)
    ranks = {r: (r * sums + head) / backbone for r in (1, 4, 8)}
    words = ", ".join(f"rank {r} {x:.2%}" for r, x in ranks.items())
    words = (
        f"the paper's LoRA has {paper.LORA_TRAINED:.2%}; LoRA in all layers with VTAB's mean "
        f"head: {words}"
    )
    return CONTRADICTED, words, "arithmetic"


@check("T18")
def tome(evidence):
    gap = evidence.gap(WITH_TOKENS, WITH_TOME)
    words = f"with the same connections and about the same operations, against ToMe: {points(gap)}"
    return decide(gap[1], gap[2]), words, "comparison"


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
