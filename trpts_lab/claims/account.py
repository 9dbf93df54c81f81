"""Deviations from the papers and what did not work: text from two files, effects from records."""

import inspect
import tomllib
from importlib import resources

from trpts.allocation import allocate
from trpts.backbones import create_backbone
from trpts.methods import prepare_trpts
from trpts_lab import stats
from trpts_lab.bench.clock import ratio
from trpts_lab.claims.evidence import NotMeasured, gap_of, points
from trpts_lab.compared import OURS, PLAIN, TOKENS, scored_by
from trpts_lab.lvlm.schedules import N_LAYERS, schedule_of


def deviations(evidence):
    """[{"paper", "topic", "says", "ours", "changes"}]: the last in words, computed now."""
    rows, filled = read("deviations.toml")["deviation"], settings(evidence)
    return [
        row | {"ours": row["ours"].format(**filled), "changes": effect(evidence, row["changes"])}
        for row in rows
    ]


def log(evidence):
    """[{"tried", "hoped", "found"}]: the last in words, computed now."""
    return [row | {"found": effect(evidence, row["found"])} for row in read("log.toml")["entry"]]


def read(name):
    """A table of this folder."""
    return tomllib.loads(
        resources.files("trpts_lab.claims").joinpath(name).read_text(encoding="utf-8")
    )


def settings(evidence):
    """What the texts name in braces, as the code has it."""

    def default(function, name):
        return inspect.signature(function).parameters[name].default

    benchmark = evidence.profile["benchmark"]
    return {
        "n_scored": default(prepare_trpts, "n_scored"),
        "top": f"{default(allocate, 'top_fraction'):.0%}",
        "n_token_blocks": default(allocate, "n_token_blocks"),
        "per_neuron": PLAIN["per_neuron"],
        "keep": TOKENS["keep"],
        "n_blocks": len(create_backbone(benchmark["backbone"], 2).blocks),
        "epochs": benchmark["sweep"]["epochs"],
        "stages": ", ".join(map(str, schedule_of("transprune").prune_after)),
        "n_layers": N_LAYERS,
        "depths": ", ".join(f"{p / N_LAYERS:.1%}" for p in schedule_of("transprune").prune_after),
    }


def effect(evidence, query):
    """What a query says: {"ablation", "variant"[, "base"]}, {"pruned", "base"}, {"remedy"},
    {"condition"}, {"bench", "of", "against"}, {"floored"} or {"unmeasured"}.
    """
    try:
        return EFFECTS[next(iter(query))](evidence, **query)
    except NotMeasured as missing:
        return f"not measured yet: needs {missing}"


def _ablation(evidence, ablation, variant, base=OURS):
    return f"{variant}: {points(evidence.ablation(ablation, variant, base))}"


def _pruned(evidence, pruned, base):
    return f"{pruned}: {points(evidence.pruned_gap(pruned, base))}"


def _remedy(evidence, remedy):
    found = [r for r in evidence.further("remedy") if r["config"]["variant"] == remedy]
    found += evidence.ablation_records("score")
    return f"against Fisher's score: {points(stats.paired_interval(found, remedy, OURS))}"


def _condition(evidence, condition):
    found, command = evidence.further("causes", whole=False), "`trpts sweep --further causes`"
    found += evidence.ablation_records("score")
    changed, score = (
        points(gap_of(found, condition, base, command))
        for base in (OURS, f"{scored_by('random')}, {condition}")
    )
    return f"{condition}: {changed}; Fisher's score against chance there: {score}"


def _bench(evidence, bench, of, against):
    rows = evidence.bench(bench)
    middle, low, high = ratio(rows, of, against)
    spread = f"{low:.2f} to {high:.2f}" if len(rows[of]["s"]) > 1 else "one round"
    return f"{middle:.2f} ({spread}) of the time"


def _floored(evidence, floored):
    connections = [
        n
        for record in evidence.records("selection")
        for n in record["metrics"][f"connections_by_{floored}"].values()
    ]
    alone = sum(n == 1 for n in connections) / len(connections)
    return f"not measured: runs without it; here {alone:.0%} of the layers have one connection"


def _unmeasured(evidence, unmeasured):
    return f"not measured: {unmeasured}"


EFFECTS = {
    "ablation": _ablation,
    "pruned": _pruned,
    "remedy": _remedy,
    "condition": _condition,
    "bench": _bench,
    "floored": _floored,
    "unmeasured": _unmeasured,
}
