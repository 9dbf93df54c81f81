"""Canaries: for each experiment and each family of methods one tiny run whose metrics are
committed.

They keep VERSION honest (`trpts_lab.versions`). A change that moves a canary either is a mistake,
or is meant: then the version of just that experiment, method, score or criterion is raised, and its
records are stale.

Metrics are committed in data/baselines/canaries.json with a tolerance. The machines that records
come from round differently (AMD and Intel, with AVX-512 and without), so every canary is run under
each of KINDS, which make this machine compute as others do; the tolerance of a metric is what that
moved it, see `tolerances`. Only one machine stands behind them so far: where a second kind moves a
canary further, bless it there and widen nothing by hand.
"""

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from statistics import fmean

import torch

import trpts.peers  # noqa: F401  registers its methods
from trpts import methods
from trpts.errors import TrptsError
from trpts.scores import SCORES
from trpts.sparse import sparse_layers
from trpts_lab import regress, tasks
from trpts_lab.compared import METHODS
from trpts_lab.experiments import concentration, pruning, readout, text, tuned
from trpts_lab.lvlm.questions import KINDS as KINDS_OF_QUESTIONS
from trpts_lab.records import untimed

NAME = "canaries"  # of their baseline, beside the chapters'
LAB = {
    "profile": "quick",
    "device": "cpu",
    "backbone": "vit_lab",
    "weights": "data/weights/vit_lab.safetensors",
}
LVLM = {"profile": "quick", "device": "cpu", "weights": "data/weights/lvlm_tiny.safetensors"}
SHORT = {"epochs": 1, "batch_size": 16}
RATE = 0.003
FEW = {"n_scored": 64}  # scored images, so that a canary takes seconds
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


def canaries() -> dict[str, tuple[str, dict]]:
    """{name: (experiment, configuration)} of all methods, scores, criteria and experiments."""
    found = {f"method {name}": ("tuned", _method(name)) for name in methods.METHODS}
    # GPS's and others' own are their methods'
    scores = [name for name in SCORES if name not in methods.METHODS]
    found |= {f"score {name}": ("tuned", _method("trpts", score=name, keep=1)) for name in scores}
    remedy = _method("trpts", keep=1)
    found |= {
        f"score {name}": ("remedy", remedy | {"score": name}) for name in concentration.REMEDIES
    }
    for name in pruning.CRITERIA:
        found[f"criterion {name}"] = (
            "pruning",
            pruning.cell(f"{name}, High", 0, n_questions=8, **LVLM),
        )
    return found | {f"experiment {name}": (name, config) for name, config in _experiments().items()}


def _method(name, **changed):
    """One epoch of a method with the options of the comparison; TR-PTS selects tokens too."""
    compared = {method: options for method, options in METHODS.values()}.get(name, {})
    options = inspect.signature(methods.METHODS[name].prepare).parameters
    scored = FEW if "n_scored" in options else {}
    rate = RATE / 10 if name == "full" else RATE
    return tuned.cell(
        name, name, compared | scored | changed, "few_digits", 0, rate, **LAB, **SHORT
    )


def _experiments():
    """A short run of each experiment; `tuned`, `pruning` have canaries per method, criterion."""
    selection = {"method": "trpts", "per_neuron": 2.0, "seed": 0, **LAB}
    two = {"tasks": ["few_digits", "few_eurosat_twin"], "task": "few_digits and few_eurosat_twin"}
    return {
        "concentration": selection | {"variant": "fisher", "task": "few_digits", "n_scored": 64},
        "continual": selection
        | SHORT
        | two
        | {"variant": "protected", "way": "protected", "lr": RATE},
        "drift": selection
        | SHORT
        | {"variant": "drift", "task": "few_digits", "drift": 1.0, "lr": RATE},
        "fisher_digits": {
            "method": "fisher",
            "variant": "per-sample",
            "task": "digits 5-9",
            "seed": 0,
            "device": "cpu",
            "profile": "quick",
            "backbone": "vit_small_digits",
            "weights": None,
            "epochs": 2,
            "n_fisher": 64,
        },
        "many_tasks": selection | SHORT | two | {"variant": "a delta each", "lr": RATE},
        "readout": readout.COMMON
        | {"profile": "quick", "device": "cpu", "task": "real/mnist", "n_images": 40},
        "selection": selection
        | {
            "variant": "fisher",
            "task": "few_digits",
            "tasks": ["few_digits"],
            "n_scored": 64,
            "top_fraction": 0.01,
        },
        "starting_points": {
            "method": "probe",
            "variant": "probe",
            "task": "few_digits",
            "seed": 0,
            **LAB,
        },
        "subtle": {
            "method": "transprune",
            "variant": "transprune, High",
            "task": "scenes",
            "seed": 0,
            "n_questions": 8,
            **LVLM,
        },
        "text": {
            "method": "trpts",
            "variant": "C = 2",
            "task": "new languages",
            "seed": 0,
            "profile": "quick",
            "device": "cpu",
            "n_upstream": 600,
            "upstream_epochs": 1,
            "lr": 0.01,
            **SHORT,
        },
    }


def run(name: str) -> dict:
    """The record of one canary, less what differs from run to run: {"config", "metrics"}. On one
    thread.

    Accuracies of a few hundred images are coarse. So of a run that tunes a model, its last training
    loss, how far its parameters moved, and which connections it selected count as well.
    """
    kind, config = canaries()[name]
    experiment = importlib.import_module(f"trpts_lab.experiments.{kind}")
    config = {"kind": kind, **config}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _watched(tuned if kind == "remedy" else experiment) as seen:
            metrics = experiment.run(config)
    finally:
        torch.set_num_threads(before)
    return {
        "config": config,
        "metrics": {m: x for m, x in untimed({"metrics": metrics | seen}).items() if _holds(m)},
    }


def _holds(metric):
    """Whether a metric is held against a baseline: a block that is best by a hair is not."""
    return not metric.endswith("_best_block")


@contextmanager
def _watched(experiment):
    """While this is open, fill a dict with what the experiment's last `tune` did to its model."""
    seen, tune = {}, getattr(experiment, "tune", None)

    def watched(model, *arguments, **options):
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        result = tune(model, *arguments, **options)
        end = dict(model.named_parameters())
        moved = [
            (end[n].detach() - p).abs().sum().item()
            for n, p in start.items()
            if n in end and end[n].shape == p.shape
        ]
        seen["loss"], seen["moved"] = result.losses[-1], sum(moved)
        # each layer's connections, by where they lie among its inputs
        if layers := sparse_layers(model):
            places = [
                (layer.index.float().mean() / layer.in_features).item() for layer in layers.values()
            ]
            seen["places"] = fmean(places)
        return result

    if tune is not None:
        experiment.tune = watched
    try:
        yield seen
    finally:
        if tune is not None:
            experiment.tune = tune


def compare(baselines: dict, names: Iterable[str]) -> list[dict]:
    """Run canaries and compare them with baselines: rows as of `trpts_lab.regress.compare`."""
    names = list(names)
    if unknown := [name for name in names if name not in baselines]:
        raise TrptsError(
            f"the canary {unknown[0]!r} has no committed metrics: "
            f"`trpts regress --bless --only {NAME}`"
        )
    return regress.compare(
        {name: baselines[name] for name in names}, {name: run(name) for name in names}
    )


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
    if "n_questions" in config:
        n_kinds = {"accuracy": 1, "changed": 1} | dict.fromkeys(
            OF_ALL_KINDS, len(KINDS_OF_QUESTIONS)
        )
        return 1 / (n_kinds[family] * config["n_questions"]) if family in n_kinds else 0
    if "accuracy" not in family and family not in ACCURACIES:
        return 0
    if "n_images" in config:
        return 1 / config["n_images"]
    if config["kind"] == "text":
        return 1 / (text.N_VAL if "val" in family else text.N_TEST)
    return 1 / tasks.FEW["val" if "val" in family else "test"] if "few_" in config["task"] else 0


def main():
    """Run all canaries, print {name: {"config", "metrics"}} as JSON: `blessed` runs it per kind."""
    print(json.dumps({name: run(name) for name in canaries()}))


if __name__ == "__main__":
    main()
