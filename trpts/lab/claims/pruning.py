"""The claims on TransPrune: a check each, (evidence) -> (verdict, in words, what it rests on)."""

from statistics import fmean

from transformers import LlamaConfig

from trpts.lab.claims.evidence import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    REPRODUCED,
    UNTESTABLE,
    NotMeasured,
    check,
    decide,
    interval,
    points,
)
from trpts.lab.clock import ratio
from trpts.transprune import HIGH, macs

LLAVA = dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
N_IMAGE_TOKENS = 576


@check("P01")
def halved(evidence):
    config = LlamaConfig(**LLAVA)
    before, after = macs(config, N_IMAGE_TOKENS) / 1e12, macs(config, N_IMAGE_TOKENS, HIGH) / 1e12
    lost = evidence.pruned_gap("transprune, High", "unpruned")
    met = abs(before - 3.82) < 0.005 and abs(after - 1.56) < 0.005
    return (REPRODUCED if met else FAILS, f"eq. 7 gives {before:.2f} and {after:.2f} T multiply-accumulates. Accuracy "
            f"at its size was not "
            f"measured; in the lab, at the same schedule: {points(lost)}", "arithmetic; records: pruning")  # fmt: skip


@check("P02")
def change_matters(evidence):
    gap = evidence.pruned_gap("ttv, High", "random, High")
    early = evidence.pruned_gap("ttv, High, early", "random, High, early")
    return (decide(gap[1], gap[2]), f"transition against random tokens at the same schedule: {points(gap)}; a layer "
            f"earlier "
            f"{points(early)}", "records: pruning")  # fmt: skip


@check("P03")
def instruction_matters(evidence):
    gap = evidence.pruned_gap("iga, High", "random, High")
    return (
        decide(gap[1], gap[2]),
        f"attention against random tokens at the same schedule: {points(gap)}",
        "records: pruning",
    )


@check("P04")
def both(evidence):
    gaps = {part: evidence.pruned_gap("transprune, High", f"{part}, High") for part in ("iga", "ttv")}
    low, high = min(g[1] for g in gaps.values()), min(g[2] for g in gaps.values())
    words = f"both against attention alone {points(gaps['iga'])}, against transition alone {points(gaps['ttv'])}"
    return decide(low, high), words, "records: pruning"


@check("P05")
def training_free(evidence):
    pruned = [r for r in evidence.records("pruning") if r["config"]["variant"] in ("unpruned", "transprune, High")]
    weights = {r["inputs"]["weights"] for r in pruned}
    assert len(weights) == 1
    return (REPRODUCED, "one and the same weights with and without; hooks on unmodified LLaVA, LLaVA-NeXT and "
            "Qwen2.5-VL, and "
            "keeping all tokens changes no bit (tests)", "records: pruning")  # fmt: skip


@check("P06")
def stages(evidence):
    gap = evidence.pruned_gap("transprune, High", "transprune, High, one shot")
    return (decide(gap[1], gap[2]), f"in stages against at once, at about the same operations: {points(gap)}",
            "records: pruning")  # fmt: skip


@check("P07")
def transition_alone(evidence):
    gap = evidence.pruned_gap("ttv, High", "iga, High")
    return (CONTRADICTED, f"the published abstract dropped it. In the lab, transition against attention: {points(gap)}",
            "records: pruning")  # fmt: skip


def unevenness(metrics):
    """Coefficient of variation of how often each place of the image is kept."""
    places = list(metrics["place"].values())
    mean = fmean(places)
    return (sum((x - mean) ** 2 for x in places) / len(places)) ** 0.5 / mean


@check("P08")
def positional_bias(evidence):
    more = evidence.pruned_gap("iga, High", "ttv, High", unevenness)
    each = {name: fmean(map(unevenness, evidence.pruned(f"{name}, High").values())) for name in ("iga", "ttv")}
    return (decide(more[1], more[2]), "variation of how often a place is kept, over its mean: attention "
            f"{each['iga']:.2f}, transition {each['ttv']:.2f}", "records: pruning")  # fmt: skip


@check("P09")
def what_to_measure(evidence):
    return UNTESTABLE, "advice; chapter 05 and `trpts bench transprune` measure all of it", "nothing"


@check("P10")
def depends_on_schedule(evidence):
    spread = evidence.pruned_gap("transprune, High", "transprune, High, early")
    return (decide(spread[1], spread[2]), f"the same shares a layer later instead of earlier: {points(spread)}",
            "records: pruning")  # fmt: skip


@check("P11")
def trade_off(evidence):
    steps = [("transprune, High", "transprune, Low"), ("transprune, Low", "transprune, Lower")]
    gaps = [evidence.pruned_gap(*pair) for pair in steps]
    words = "; ".join(
        f"{a.split(', ')[1]} above {b.split(', ')[1]} by {points(g)}" for (a, b), g in zip(steps, gaps, strict=True)
    )
    return decide(min(g[1] for g in gaps), min(g[2] for g in gaps)), f"less is worse: {words}", "records: pruning"


@check("P12")
def scoring_cost(evidence):
    rows = evidence.bench("transprune")
    share = ratio(rows, "High: its scoring", "High")[0]
    return (FAILS if share < 0.1 else HOLDS, f"scoring takes {share:.1%} of the pruned prefill, when queries and keys "
            f"of few rows are "
            "computed; the released code runs them over the whole sequence", "bench: transprune")  # fmt: skip


@check("P13")
def can_be_shown(evidence):
    recall = [fmean(m["recall"].values()) for m in evidence.pruned("transprune, High").values()]
    chance = [fmean(m["recall"].values()) for m in evidence.pruned("random, High").values()]
    gap = interval([a - b for a, b in zip(recall, chance, strict=True)])
    return (decide(gap[1], gap[2]), f"of the tokens that decide a question {fmean(recall):.0%} are kept, "
            f"{fmean(chance):.0%} by chance; "
            "`trpts prune` draws them", "records: pruning")  # fmt: skip


@check("P14")
def deployment(evidence):
    return UNTESTABLE, "needs a served model of real size on a GPU", "nothing"


@check("P15")
def by_kind(evidence):
    found = evidence.pruned("transprune, High").values()
    kinds = {kind: fmean(m["accuracy"][kind] for m in found) for kind in next(iter(found))["accuracy"]}
    gap = interval([max(m["accuracy"].values()) - min(m["accuracy"].values()) for m in found])
    words = ", ".join(f"{kind} {accuracy:.0%}" for kind, accuracy in sorted(kinds.items(), key=lambda kv: kv[1]))
    return decide(gap[1], gap[2], 0.05), f"where everything was right before: {words}", "records: pruning"


@check("P16")
def generation(evidence):
    raise NotMeasured("answers of more than one word: the laboratory's model gives one")


@check("P17")
def roll_out(evidence):
    return UNTESTABLE, "advice on operations", "nothing"


@check("P18")
def architectures(evidence):
    return (
        UNTESTABLE,
        "Qwen2.5-VL runs here with drawn weights (tests); its accuracy needs the real ones. No theory",
        "tests",
    )
