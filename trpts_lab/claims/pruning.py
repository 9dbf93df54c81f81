"""The claims on TransPrune: a check each, (evidence) -> (verdict, in words, what it rests on)."""

from statistics import fmean

from transformers import LlamaConfig

from trpts.transprune import HIGH, macs
from trpts_lab import paper
from trpts_lab.bench.clock import ratio
from trpts_lab.claims.evidence import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    REPRODUCED,
    UNDECIDED,
    UNTESTABLE,
    check,
    decide,
    interval,
    points,
)

LLAVA = dict(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)
N_IMAGE_TOKENS = 576
BOTTLENECK = 0.1  # of the pruned prefill
SUBTLE = 0.01  # total variation that is called a change
UNEVEN = 0.05  # accuracy by which kinds of questions must differ to be called unlike


@check("P01")
def halved(evidence):
    config, quoted = LlamaConfig(**LLAVA), paper.LLAVA_TFLOPS
    before, after = macs(config, N_IMAGE_TOKENS) / 1e12, macs(config, N_IMAGE_TOKENS, HIGH) / 1e12
    lost = evidence.pruned_gap("transprune, High", "unpruned")
    met = abs(before - quoted["unpruned"]) < 0.005 and abs(after - quoted["High"]) < 0.005
    words = (
        f"eq. 7 gives {before:.2f} and {after:.2f} T multiply-accumulates. Accuracy at its size "
        f"was not measured; in the lab, at the same schedule: {points(lost)}"
    )
    return REPRODUCED if met else FAILS, words, "arithmetic; records: pruning"


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
    weights = {r["inputs"]["weights"] for r in pruned}
    assert len(weights) == 1
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
    words = (
        "the published abstract dropped it. In the lab, "
        f"transition against attention: {points(gap)}"
    )
    return CONTRADICTED, words, "records: pruning"


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


@check("P09")
def what_to_measure(evidence):
    return (
        UNTESTABLE,
        "advice; the chapter on TransPrune and `trpts bench transprune` measure all of it",
        "nothing",
    )


@check("P10")
def depends_on_schedule(evidence):
    spread = evidence.pruned_gap("transprune, High", "transprune, High, early")
    words = f"the same shares a layer later instead of earlier: {points(spread)}"
    # either sign is a difference
    return (UNDECIDED if spread[1] <= 0 <= spread[2] else HOLDS, words, "records: pruning")


@check("P11")
def trade_off(evidence):
    steps = [("High", "Low"), ("Low", "Lower")]
    gaps = [
        evidence.pruned_gap(f"transprune, {more}", f"transprune, {less}") for more, less in steps
    ]
    words = "; ".join(
        f"{a} above {b} by {points(g)}" for (a, b), g in zip(steps, gaps, strict=True)
    )
    verdict = decide(min(g[1] for g in gaps), min(g[2] for g in gaps))
    return verdict, f"less is worse: {words}", "records: pruning"


@check("P12")
def scoring_cost(evidence):
    rows = evidence.bench("transprune")
    share = ratio(rows, "High: its scoring", "High")[0]
    words = (
        f"scoring takes {share:.1%} of the pruned prefill, when queries and keys of few rows are "
        "computed; the released code runs them over the whole sequence"
    )
    return FAILS if share < BOTTLENECK else HOLDS, words, "bench: transprune"


@check("P13")
def can_be_shown(evidence):
    def recall(metrics):
        return fmean(metrics["recall"].values())

    gap = evidence.pruned_gap("transprune, High", "random, High", recall)
    kept, chance = (
        fmean(map(recall, evidence.pruned(f"{name}, High").values()))
        for name in ("transprune", "random")
    )
    words = (
        f"of the tokens that decide a question {kept:.0%} are kept, {chance:.0%} by chance; "
        "`trpts prune` draws them"
    )
    return decide(gap[1], gap[2]), words, "records: pruning"


@check("P14")
def deployment(evidence):
    return UNTESTABLE, "needs a served model of real size on a GPU", "nothing"


@check("P15")
def by_kind(evidence):
    plain, found = evidence.pruned("unpruned"), evidence.pruned("transprune, High")
    lost = {
        seed: {kind: plain[seed]["accuracy"][kind] - a for kind, a in m["accuracy"].items()}
        for seed, m in found.items()
        if seed in plain
    }
    kinds = mean_over(lost.values())
    # the kinds that lose most and least by the other seeds: those of the same seed would differ by
    # chance
    gaps = []
    for seed, own in lost.items():
        others = mean_over([of for other, of in lost.items() if other != seed])
        gaps.append(own[max(others, key=others.get)] - own[min(others, key=others.get)])
    gap = interval(gaps)
    words = ", ".join(
        f"{kind} {100 * loss:.0f}" for kind, loss in sorted(kinds.items(), key=lambda kv: -kv[1])
    )
    return (
        decide(gap[1], gap[2], UNEVEN),
        f"lost by pruning, in points: {words}",
        "records: pruning",
    )


def mean_over(tables):
    """{key: mean} of tables with the same keys."""
    tables = list(tables)
    return {key: fmean(table[key] for table in tables) for key in tables[0]}


@check("P16")
def generation(evidence):
    ours = [
        r["metrics"]
        for r in evidence.further("subtle")
        if r["config"]["variant"] == "transprune, High"
    ]
    moved = interval([m["mean_distance"] for m in ours])
    changed = fmean(m["mean_changed"] for m in ours)
    words = (
        f"in one word, all that the laboratory's model answers: {changed:.0%} become another; "
        f"where it stays, the distribution behind it moves by {moved[0]:.3f} ({moved[1]:.3f} to "
        f"{moved[2]:.3f}, total variation)"
    )
    return decide(moved[1], moved[2], SUBTLE), words, "records: subtle"


@check("P17")
def roll_out(evidence):
    return UNTESTABLE, "advice on operations", "nothing"


@check("P18")
def architectures(evidence):
    words = (
        "Qwen2.5-VL runs here with drawn weights (tests); its accuracy needs the real ones. "
        "No theory"
    )
    return UNTESTABLE, words, "tests"
