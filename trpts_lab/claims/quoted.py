"""The claims that quote results; checks: (evidence) -> (verdict, words, what it rests on)."""

from statistics import fmean

from trpts import layers
from trpts_lab import paper
from trpts_lab.claims.evidence import (
    CONFIRMED,
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
HALF_A_DIGIT = 5e-5  # of a share in per cent with two decimals


def neurons_of(model, patches=False):
    """Output neurons of the layers that are scored by default, or with the patch embedding."""
    return sum(len(layer.weight) for layer in layers.scored_layers(model, patches).values())


def share(model, connections, classes, tasks, patches=False):
    """Weights, biases and mean head, as a share of the backbone."""
    backbone = sum(
        p.numel() for name, p in model.named_parameters() if not name.startswith("head.")
    )
    head = classes / tasks * (model.embed_dim + 1)
    return ((connections + 1) * neurons_of(model, patches) + head) / backbone


def trained(evidence, quoted, connections, classes, tasks):
    """Whether the default trains the quoted share; what it trains, and what it would with the patch
    embedding, which it leaves out.
    """
    ours = share(evidence.vit_b, connections, classes, tasks)
    more = share(evidence.vit_b, connections, classes, tasks, patches=True)
    words = (
        f"connections per neuron, biases and head, as the default has them: {ours:.2%}; with the "
        f"patch embedding, an option: {more:.2%}. A fit, not an identification: others may fit too"
    )
    return REPRODUCED if abs(ours - quoted) < HALF_A_DIGIT else FAILS, words, "arithmetic"


@check("T07")
def share_on_vtab(evidence):
    verdict, words, rests_on = trained(
        evidence, paper.TRAINED["VTAB-1k"], 2, VTAB_CLASSES, VTAB_TASKS
    )
    return verdict, f"two {words}", rests_on


@check("T07")
def share_on_fgvc(evidence):
    verdict, words, rests_on = trained(evidence, paper.TRAINED["FGVC"], 3, FGVC_CLASSES, FGVC_TASKS)
    return verdict, f"three {words}", rests_on


def agrees(brief, source):
    """Whether the source has the brief's numbers, all of them."""
    same = all(source[name] == number for name, number in brief.items())
    return CONFIRMED if same else CONTRADICTED


def in_the_lab(evidence, *rivals):
    """What the laboratory's comparison says of TR-PTS against rivals, in words."""
    try:
        gaps = ", ".join(f"against {rival} {points(evidence.gap(OURS, rival))}" for rival in rivals)
    except NotMeasured as missing:
        gaps = f"needs {missing}"
    return f". In the lab: {gaps}"


@check("T08")
def above_full_tuning(evidence):
    brief = {name: paper.BRIEF_VTAB[name] for name in ("TR-PTS", "full")}
    lead = paper.VTAB_MEANS["TR-PTS"] - paper.VTAB_MEANS["full"]
    words = f"the public note has the same two numbers, {lead:.2f} apart"
    words += in_the_lab(evidence, FULL)
    return agrees(brief, paper.VTAB_MEANS), words, "public numbers; comparison"


@check("T08")
def above_the_strongest_peer(evidence):
    means = paper.VTAB_MEANS
    peers = {name: mean for name, mean in means.items() if name not in ("TR-PTS", "full")}
    strongest = max(peers, key=peers.get)
    words = (
        f"the paper's LoRA has {means['LoRA']}, and the strongest peer is {strongest}, left out in "
        f"the brief, with {peers[strongest]}: the lead over it is "
        f"{means['TR-PTS'] - peers[strongest]:.2f}"
    )
    verdict = agrees({"LoRA": paper.BRIEF_VTAB["LoRA"]}, means)
    if strongest != "LoRA":
        verdict = CONTRADICTED
    words += in_the_lab(evidence, LORA_2, GPS, RANDOM)
    return verdict, words, "public numbers; comparison"


@check("T09")
def group_means(evidence):
    groups, mean = paper.BRIEF_GROUPS.values(), paper.BRIEF_VTAB["TR-PTS"]
    by_task = sum(of * n for of, n in groups) / sum(n for _, n in groups)
    by_group = fmean(of for of, _ in groups)
    words = (
        f"the mean over tasks would be {by_task:.2f}, over groups {by_group:.2f}: the brief has "
        f"{mean}"
    )
    fits = min(abs(by_task - mean), abs(by_group - mean)) < 0.005
    return UNCONFIRMED if fits else INCONSISTENT, words, "arithmetic"


@check("T09")
def best_in_each_group(evidence):
    peer = dict(zip(paper.BRIEF_GROUPS, map(fmean, paper.VTAB_ROWS["GPS"]), strict=True))
    better = [name for name, (mean, _) in paper.BRIEF_GROUPS.items() if peer[name] > mean]
    words = "GPS has " + ", ".join(f"{name} {mean:.2f}" for name, mean in peer.items())
    words += f": better than the brief's TR-PTS in {len(better)} of {len(peer)}"
    return CONTRADICTED if better else UNCONFIRMED, words, "public numbers"


@check("T10")
def fgvc_mean(evidence):
    means = paper.FGVC_MEANS
    words = (
        f"the public note has {means['TR-PTS']} and {means['full']}, "
        f"{means['TR-PTS'] - means['full']:.2f} apart; its five numbers have that mean"
    )
    follows = round(fmean(paper.FGVC["TR-PTS"]), 2) == means["TR-PTS"]
    verdict = agrees(paper.BRIEF_FGVC_MEANS, means) if follows else CONTRADICTED
    return verdict, words, "public numbers"


@check("T10")
def fgvc_tasks(evidence):
    brief, source = paper.BRIEF_FGVC, paper.FGVC["TR-PTS"]
    words = f"the brief's five have the mean {fmean(brief):.2f}; the public note has " + ", ".join(
        f"{task} {of}" for task, of in zip(paper.FGVC_TASKS, source, strict=True)
    )
    return CONFIRMED if brief == source else CONTRADICTED, words, "public numbers"


@check("T14")
def parts(evidence):
    task = "dSprites location"
    linear = fmean(of for group in paper.VTAB_ROWS["linear"] for of in group)
    words = (
        f"the paper has this ablation by task: tokens alone reach {paper.ABLATION[task][1]} on "
        f"{task}, with a frozen backbone whose head alone has the mean {linear:.2f}; "
        f"{paper.BRIEF_PARTS['tokens alone']} cannot be its mean"
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
    sums = sum(m.in_features + m.out_features for m in layers.scored_layers(model).values())
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
