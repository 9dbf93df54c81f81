"""The claims on what TransPrune does; checks: (evidence) -> (verdict, words, what it rests on)."""

from statistics import fmean

from transformers import LlamaConfig

from trpts.transprune import HIGH, macs
from trpts_lab import paper
from trpts_lab.claims.evidence import (
    FAILS,
    MARGIN,
    REPRODUCED,
    NotMeasured,
    check,
    decide,
    loses_less_than,
    points,
)

LLAVA = dict(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)
N_IMAGE_TOKENS = 576


@check("P01")
def halved(evidence):
    config, quoted = LlamaConfig(**LLAVA), paper.LLAVA_TFLOPS
    before, after = macs(config, N_IMAGE_TOKENS) / 1e12, macs(config, N_IMAGE_TOKENS, HIGH) / 1e12
    met = abs(before - quoted["unpruned"]) < 0.005 and abs(after - quoted["High"]) < 0.005
    words = f"eq. 7 gives {before:.2f} and {after:.2f} T multiply-accumulates, {after / before:.0%}"
    return REPRODUCED if met and after < before / 2 else FAILS, words, "arithmetic"


@check("P01")
def comparable(evidence):
    ratios = {name: paper.LLAVA["High"][name] / of for name, of in paper.LLAVA["unpruned"].items()}
    fallen = [x for x in ratios.values() if x <= 1]
    lost = evidence.pruned_gap("transprune, High", "unpruned")
    words = (
        f"the paper has {fmean(ratios.values()):.1%} of the unpruned accuracy, and "
        f"{fmean(fallen):.1%} without the {len(ratios) - len(fallen)} of {len(ratios)} benchmarks "
        f"that rise; not measured at its size. In the lab, at the same schedule: {points(lost)}"
    )
    return loses_less_than(MARGIN, lost), words, "records: pruning"


@check("P02")
def change_matters(evidence):
    gap = evidence.pruned_gap("ttv, High", "random, High")
    early = evidence.pruned_gap("ttv, High, early", "random, High, early")
    words = (
        f"transition against random tokens at the same schedule: {points(gap)}; "
        f"a layer earlier {points(early)}"
    )
    return decide(gap[1], gap[2]), words, "records: pruning"


@check("P03")
def instruction_matters(evidence):
    gap = evidence.pruned_gap("iga, High", "random, High")
    words = f"attention against random tokens at the same schedule: {points(gap)}"
    return decide(gap[1], gap[2]), words, "records: pruning"


@check("P04")
def both(evidence):
    gaps = {
        part: evidence.pruned_gap("transprune, High", f"{part}, High") for part in ("iga", "ttv")
    }
    low, high = min(g[1] for g in gaps.values()), min(g[2] for g in gaps.values())
    words = (
        f"both against attention alone {points(gaps['iga'])}, against transition alone "
        f"{points(gaps['ttv'])}"
    )
    return decide(low, high), words, "records: pruning"


@check("P05")
def training_free(evidence):
    pruned = [
        r
        for r in evidence.records("pruning")
        if r["config"]["variant"] in ("unpruned", "transprune, High")
    ]
    for variant in ("unpruned", "transprune, High"):
        evidence.pruned(variant)  # or these are not measured yet
    weights = {r["inputs"]["weights"] for r in pruned}
    if len(weights) > 1:
        raise NotMeasured("runs of pruning, with and without, on the same weights")
    words = (
        "one and the same weights with and without; hooks on unmodified LLaVA, LLaVA-NeXT and "
        "Qwen2.5-VL, and keeping all tokens changes no bit (tests)"
    )
    return REPRODUCED, words, "records: pruning"


@check("P06")
def stages(evidence):
    gap = evidence.pruned_gap("transprune, High", "transprune, High, one shot")
    words = f"in stages against at once, at about the same operations: {points(gap)}"
    return decide(gap[1], gap[2]), words, "records: pruning"


@check("P07")
def transition_alone(evidence):
    gap = evidence.pruned_gap("ttv, High", "iga, High")
    both = {n: paper.TTV_ONLY[n] - of for n, of in paper.IGA_ONLY.items() if n in paper.TTV_ONLY}
    words = (
        "the first abstract says so, the published one no longer does; in the published tables "
        "transition alone has, against attention alone, "
        + ", ".join(f"{name} {gap:+.1f}" for name, gap in both.items())
        + f". In the lab, transition against attention: {points(gap)}"
    )
    return loses_less_than(MARGIN, gap), words, "records: pruning"


def unevenness(metrics):
    """Coefficient of variation of how often each place of the image is kept."""
    places = list(metrics["place"].values())
    mean = fmean(places)
    return (sum((x - mean) ** 2 for x in places) / len(places)) ** 0.5 / mean


@check("P08")
def positional_bias(evidence):
    more = evidence.pruned_gap("iga, High", "ttv, High", unevenness)
    each = {
        name: fmean(map(unevenness, evidence.pruned(f"{name}, High").values()))
        for name in ("iga", "ttv")
    }
    words = (
        f"variation of how often a place is kept, over its mean: attention {each['iga']:.2f}, "
        f"transition {each['ttv']:.2f}"
    )
    return decide(more[1], more[2]), words, "records: pruning"
