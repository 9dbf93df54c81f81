"""Canaries: for each experiment and each family of methods one tiny run whose metrics are committed.

They keep VERSION honest (`trpts.lab.versions`). A change that moves a canary either is a mistake, or is meant: then the
version of just that experiment, method, score or criterion is raised, and its records are stale.

Metrics are committed in data/baselines/canaries.json with a tolerance. The machines that records come from round
differently (AMD and Intel, with AVX-512 and without), so every canary is run under each of KINDS, which make this
machine compute as others do; the tolerance of a metric is what that moved it, see `tolerances`.
"""

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from statistics import fmean

import torch

import trpts.peers  # noqa: F401  registers its methods
from trpts import methods
from trpts.lab import grid, regress
from trpts.lab.errors import TrptsError
from trpts.lab.experiments import pruning, readout, tuned
from trpts.lab.store import untimed
from trpts.lvlm.questions import KINDS as KINDS_OF_QUESTIONS
from trpts.rivals import SCORES

NAME = "canaries"  # of their baseline, beside the chapters'
LAB = {"profile": "quick", "device": "cpu", "backbone": "vit_lab", "weights": "data/weights/vit_lab.safetensors"}
LVLM = {"profile": "quick", "device": "cpu", "weights": "data/weights/lvlm_tiny.safetensors"}
SHORT = {"epochs": 1, "batch_size": 16}
RATE = 0.003
FEW = {"n_scored": 64}  # scored images, so that a canary takes seconds
RELATIVE = 1e-4  # of float32 sums that are added up in another order, where KINDS happen not to move a metric
ASKED = {"accuracy": 1, "changed": 1} | dict.fromkeys(  # metrics over questions: of one kind, of all
    ("mean_accuracy", "mean_changed", "recall", "by_stage", "share", "place"), len(KINDS_OF_QUESTIONS)
)
KINDS = {  # how this machine is made to compute as another one
    "as it is": {},
    "without AVX-512": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "without vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "another branch of MKL": {"MKL_CBWR": "COMPATIBLE"},
}


def canaries() -> dict[str, tuple[str, dict]]:
    """{name: (experiment, configuration)}: of every method, score and criterion that there is, and every experiment."""
    found = {f"method {name}": ("tuned", _method(name)) for name in methods.METHODS}
    found |= {
        f"score {name}": ("tuned", _method("trpts", score=name, keep=1))
        for name in SCORES
        if name not in methods.METHODS
    }
    for name in pruning.CRITERIA:
        found[f"criterion {name}"] = ("pruning", pruning.cell(f"{name}, High", 0, n_questions=8, **LVLM))
    return found | {f"experiment {name}": (name, config) for name, config in _experiments().items()}


def _method(name, **changed):
    """One epoch of a method, with the options that it is compared with; of TR-PTS those with token selection."""
    compared = {method: options for method, options in grid.METHODS.values()}.get(name, {})
    scored = FEW if "n_scored" in inspect.signature(methods.METHODS[name]).parameters else {}
    rate = RATE / 10 if name == "full" else RATE
    return tuned.cell(name, name, compared | scored | changed, "few_digits", 0, rate, **LAB, **SHORT)


def _experiments():
    """A short run of every experiment but `tuned` and `pruning`, whose canaries are the methods' and criteria's."""
    selection = {"method": "trpts", "per_neuron": 2.0, "seed": 0, **LAB}
    two = {"tasks": ["few_digits", "few_eurosat_twin"], "task": "few_digits and few_eurosat_twin"}
    return {
        "concentration": selection | {"variant": "fisher", "task": "few_digits", "n_scored": 64},
        "continual": selection | SHORT | two | {"variant": "protected", "way": "protected", "lr": RATE},
        "drift": selection | SHORT | {"variant": "drift", "task": "few_digits", "drift": 1.0, "lr": RATE},
        "fisher_digits": {"method": "fisher", "variant": "per-sample", "task": "digits 5-9", "seed": 0, "device": "cpu",
                          "profile": "quick", "backbone": "vit_small_digits", "weights": None, "epochs": 2,
                          "n_fisher": 64},
        "many_tasks": selection | SHORT | two | {"variant": "a delta each", "lr": RATE},
        "readout": readout.COMMON | {"profile": "quick", "device": "cpu", "task": "real/mnist", "n_images": 40},
        "remedy": tuned.cell("fisher_per_input", "trpts", {"per_neuron": 2.0, "keep": 1, **FEW}, "few_digits", 0, RATE,
                             score="fisher_per_input", **LAB, **SHORT),
        "selection": selection | {"variant": "fisher", "task": "few_digits", "tasks": ["few_digits"], "n_scored": 64,
                                  "top_fraction": 0.01},
        "starting_points": {"method": "probe", "variant": "probe", "task": "few_digits", "seed": 0, **LAB},
        "subtle": {"method": "transprune", "variant": "transprune, High", "task": "scenes", "seed": 0, "n_questions": 8,
                   **LVLM},
        "text": {"method": "trpts", "variant": "C = 2", "task": "new languages", "seed": 0, "profile": "quick",
                 "device": "cpu", "n_upstream": 600, "upstream_epochs": 1, "lr": 0.01, **SHORT},
    }  # fmt: skip


def run(name: str) -> dict:
    """The record of one canary, less what differs from run to run: {"config", "metrics"}. On one thread."""
    kind, config = canaries()[name]
    config, before = {"kind": kind, **config}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        metrics = importlib.import_module(f"trpts.lab.experiments.{kind}").run(config)
    finally:
        torch.set_num_threads(before)
    return {"config": config, "metrics": untimed({"metrics": metrics})}


def compare(baselines: dict, names: Iterable[str]) -> list[dict]:
    """Run canaries and hold them against their baselines: rows as of `trpts.lab.regress.compare`."""
    names = list(names)
    if unknown := [name for name in names if name not in baselines]:
        raise TrptsError(f"the canary {unknown[0]!r} has no committed metrics: `trpts regress --bless --only {NAME}`")
    return regress.compare({name: baselines[name] for name in names}, {name: run(name) for name in names})


def blessed() -> dict[str, dict]:
    """Baselines of all canaries, each run under every one of KINDS in a process of its own."""
    found = []
    for kind, settings in KINDS.items():
        print(f"canaries: {kind}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "trpts.lab.canaries"]
        environment = os.environ | settings | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout))
    return tolerances(found)


def tolerances(found: list[dict]) -> dict[str, dict]:
    """Baselines {name: {"config", "metrics": {metric: {"values", "tolerance"}}}} from runs under several KINDS.

    A count (`n_*`) must be the same everywhere. Of any other metric the tolerance is the largest of: three times the
    furthest that a run lay from the mean of its canary, over all canaries that have this metric; RELATIVE of the mean;
    and, where questions are asked, one question answered otherwise.
    """
    values = {name: {m: [run[name]["metrics"][m] for run in found] for m in found[0][name]["metrics"]}
              for name in found[0]}  # fmt: skip
    furthest = {}
    for name, metrics in values.items():
        for metric, xs in metrics.items():
            if regress.is_count(metric) and len(set(xs)) > 1:
                raise TrptsError(f"canary {name!r}: {metric} is a count but takes the values {xs}")
            family = metric.partition("[")[0]
            furthest[family] = max(furthest.get(family, 0.0), *(abs(x - fmean(xs)) for x in xs))
    return {
        name: {"config": found[0][name]["config"],
               "metrics": {m: {"values": xs, "tolerance": _tolerance(m, xs, furthest, found[0][name]["config"])}
                           for m, xs in metrics.items()}}
        for name, metrics in values.items()
    }  # fmt: skip


def _tolerance(metric, values, furthest, config):
    if regress.is_count(metric):
        return 0
    family = metric.partition("[")[0]
    n_questions = ASKED.get(family, 0) * config.get("n_questions", 0)
    return max(3 * furthest[family], RELATIVE * abs(fmean(values)), 1 / n_questions if n_questions else 0.0)


def main():
    """Run all canaries and print {name: {"config", "metrics"}} as JSON: what `blessed` starts for each of KINDS."""
    print(json.dumps({name: run(name) for name in canaries()}))


if __name__ == "__main__":
    main()
