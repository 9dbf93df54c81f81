"""The claims on TransPrune in use; checks: (evidence) -> (verdict, words, what it rests on)."""

from statistics import fmean

from transformers import LlamaConfig

from trpts.transprune import HIGH, macs
from trpts_lab.bench.clock import ratio
from trpts_lab.claims.evidence import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTABLE,
    NotMeasured,
    check,
    decide,
    interval,
    points,
)
from trpts_lab.claims.pruning import LLAVA, N_IMAGE_TOKENS

BOTTLENECK = 0.1  # of the pruned prefill
SUBTLE = 0.01  # total variation that is called a change
UNEVEN = 0.05  # accuracy by which kinds of questions must differ to be called unlike


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
        f"scoring takes {share:.1%} of the pruned prefill of one prompt, on a CPU, when "
        "queries and keys of few rows are computed"
    )
    return FAILS if share < BOTTLENECK else HOLDS, words, "bench: transprune"


@check("P12")
def scoring_cost_elsewhere(evidence):
    config = LlamaConfig(**LLAVA)
    scored = [N_IMAGE_TOKENS, *HIGH.n_kept(N_IMAGE_TOKENS)[:-1]]  # image tokens at each stage
    again = 3 * config.hidden_size**2 * sum(scored) / macs(config, N_IMAGE_TOKENS, HIGH)
    words = (
        "what may be is not refuted by one size on one machine: other sizes, batches and devices "
        "were not timed. The released code projects the whole sequence once more at each stage, "
        f"{again:.1%} of the paper's count"
    )
    return UNTESTABLE, words, "arithmetic"


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
    if len(lost) < 2:
        raise NotMeasured("two seeds of the same questions with and without pruning")
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
        "ten families run here with drawn weights, Qwen2.5-VL and video tokens among them (tests); "
        "their accuracy needs the real ones. "
        "No theory"
    )
    return UNTESTABLE, words, "tests"
