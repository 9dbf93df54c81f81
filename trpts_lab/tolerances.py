"""How far a canary may move: its metrics under several ways of rounding, and the tolerances that
follow.

The machines that records come from round differently (AMD and Intel, with AVX-512 and without), so
every canary is run under each of KINDS, which make this machine compute as others do. Only one
machine stands behind them so far: where a second kind moves a canary further, bless it there and
widen nothing by hand.
"""

import json
import os
import subprocess
import sys
from statistics import fmean

import trpts.peers  # noqa: F401  registers its methods
from trpts.errors import TrptsError
from trpts_lab import regress, tasks
from trpts_lab.experiments import text
from trpts_lab.lvlm.questions import KINDS as KINDS_OF_QUESTIONS

# where KINDS happen not to move a metric, whose float32 sums another machine adds up in another
# order
RELATIVE = 1e-3


ACCURACIES = (
    "before",
    "unchanged",
    "old",
    "anew",
    "first_before",
    "first_after",
    "second",
    "alone",
    "swapped",
)


# over all kinds of questions
OF_ALL_KINDS = ("mean_accuracy", "mean_changed", "recall", "by_stage", "share", "place")


# metrics of `trpts_lab.experiments.depth` that are made of ranks
OF_RANKS = ("_asked", "_things", "_place", "ttv_norm")

KINDS = {  # how this machine is made to compute as another one
    "as it is": {},
    "without AVX-512": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "without vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "another branch of MKL": {"MKL_CBWR": "COMPATIBLE"},
}


def blessed() -> dict[str, dict]:
    """Baselines of all canaries, each run under every one of KINDS in a process of its own."""
    found = []
    for kind, settings in KINDS.items():
        print(f"canaries: {kind}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "trpts_lab.canaries"]
        environment = os.environ | settings | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    return tolerances(found)


def tolerances(found: list[dict]) -> dict[str, dict]:
    """Baselines {name: {"config", "metrics": {metric: {"values", "tolerance"}}}} from runs under
    several KINDS.

    A count (`n_*`) must be the same everywhere. Of any other metric the tolerance is the largest
    of: three times the furthest that a run of this canary lay from its mean; RELATIVE of the mean;
    and, of a share of images or questions, one of them and a half (`_one_of`).
    """
    baselines = {}
    for name, first in found[0].items():
        metrics = {}
        for metric in first["metrics"]:
            values = [run[name]["metrics"][metric] for run in found]
            if regress.is_count(metric) and len(set(values)) > 1:
                raise TrptsError(
                    f"canary {name!r}: {metric} is a count but takes the values {values}"
                )
            metrics[metric] = {
                "values": values,
                "tolerance": _tolerance(metric, values, first["config"]),
            }
        baselines[name] = {"config": first["config"], "metrics": metrics}
    return baselines


def _tolerance(metric, values, config):
    if regress.is_count(metric):
        return 0
    mean = fmean(values)
    return max(
        3 * max(abs(x - mean) for x in values), RELATIVE * abs(mean), 1.5 * _one_of(metric, config)
    )


def _one_of(metric, config):
    """The share of one image or question in a metric's average; 0 of a metric of another kind."""
    family = metric.partition("[")[0]
    if config["kind"] == "depth":  # of ranks of a hundred tokens: a pair that trades places
        return 1 / 200 if family.endswith(OF_RANKS) else 0
    if "n_questions" in config:
        n_kinds = {"accuracy": 1, "changed": 1} | dict.fromkeys(
            OF_ALL_KINDS, len(config.get("kinds", KINDS_OF_QUESTIONS))
        )
        return 1 / (n_kinds[family] * config["n_questions"]) if family in n_kinds else 0
    if "accuracy" not in family and family not in ACCURACIES:
        return 0
    if "n_images" in config:
        return 1 / config["n_images"]
    if config["kind"] == "text":
        return 1 / (text.N_VAL if "val" in family else text.N_TEST)
    return 1 / tasks.FEW["val" if "val" in family else "test"] if "few_" in config["task"] else 0
