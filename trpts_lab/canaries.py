"""Canaries: for each experiment and each family of methods one tiny run whose metrics are
committed.

They keep VERSION honest (`trpts_lab.versions`). A change that moves a canary either is a mistake,
or is meant: then the version of just that experiment, method, score or criterion is raised, and its
records are stale.

Metrics are committed in data/baselines/canaries.json with a tolerance (`trpts_lab.tolerances`).
"""

import importlib
import inspect
import json
from collections.abc import Iterable
from contextlib import contextmanager
from statistics import fmean

import torch

import trpts.peers  # noqa: F401  registers its methods
from trpts import methods
from trpts.errors import TrptsError
from trpts.scores import SCORES
from trpts.sparse import sparse_layers
from trpts_lab import regress
from trpts_lab.assembled.schedules import STAGES, at
from trpts_lab.compared import METHODS
from trpts_lab.experiments import assembled, concentration, depth, pruning, readout, tuned
from trpts_lab.lvlm import schedules
from trpts_lab.measured import placed
from trpts_lab.project import Project
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
    before = [name for name in schedules.BEFORE if name not in schedules.CRITERIA]
    for name in (*schedules.CRITERIA, "sparsevlm", *before):
        found[f"criterion {name}"] = (
            "pruning",
            pruning.cell(
                f"{name}, {'before' if name in before else 'High'}", 0, n_questions=8, **LVLM
            ),
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
    # a random projector: the weights that are trained may change, the experiments' code not
    joined = {"weights": None, "kinds": ["exist", "where"], "n_questions": 3, "profile": "quick"}
    plan = at(STAGES, "transprune")
    return {
        "assembled": assembled.cell("transprune, after", plan, 0, **joined),
        "concentration": selection | {"variant": "fisher", "task": "few_digits", "n_scored": 64},
        "continual": selection
        | SHORT
        | two
        | {"variant": "protected", "way": "protected", "lr": RATE},
        "depth": depth.cell(0, **joined),
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
            metrics = experiment.run(placed(config, Project.find()))
    finally:
        torch.set_num_threads(before)
    return {
        "config": config,
        "metrics": {
            m: x for m, x in untimed({"metrics": metrics | seen}).items() if _holds(m, kind)
        },
    }


def _holds(metric, kind):
    """Whether a metric is held against a baseline: a block that is best by a hair is not, and of
    the thirty layers of `depth` three are.
    """
    some = kind != "depth" or metric.endswith(("[0]", "[14]", "[29]"))
    return some and not metric.endswith("_best_block")


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


def main():
    """Run all canaries, print {name: {"config", "metrics"}} as JSON: `blessed` runs it per kind."""
    print(json.dumps({name: run(name) for name in canaries()}))


if __name__ == "__main__":
    main()
