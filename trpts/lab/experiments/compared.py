"""One task tuned by one of the methods that are compared: as `tuned`, with the peers, each at its own learning rate.

The choice of learning rates is the same experiment: `lr` is in the configuration, and what decides is the accuracy on
validation images (`trpts.lab.grid`).
"""

from contextlib import nullcontext

from trpts.backbones import create_backbone
from trpts.lab.experiments.tuned import TUNING, inputs
from trpts.lab.flops import counted_flops
from trpts.lab.provenance import weights_path
from trpts.lab.tasks import lab_task
from trpts.peers.token_reduction import token_merging
from trpts.tokens import token_selection
from trpts.tuning import tune

__all__ = ["VARIANTS", "cell", "inputs", "run"]
# name -> (method, options). C: connections per neuron, the same for all that select; ρ: share of the tokens kept.
VARIANTS = {
    "linear": ("linear", {}),
    "full": ("full", {}),
    "BitFit": ("bitfit", {}),
    "LoRA, r = 1": ("lora", {"r": 1}),
    "LoRA, r = 2": ("lora", {"r": 2}),
    "LoRA, r = 8": ("lora", {"r": 8}),
    "adapter": ("adapter", {"size": 8}),
    "VPT-shallow": ("vpt-shallow", {"n_prompts": 10}),
    "VPT-deep": ("vpt-deep", {"n_prompts": 10}),
    "SSF": ("ssf", {}),
    "SHiRA": ("shira", {"r": 1}),
    "GPS": ("gps", {"per_neuron": 2}),
    "FPS": ("fps", {"per_neuron": 2}),
    "random": ("random", {"per_neuron": 2}),
    "TR-PTS without tokens": ("trpts", {"per_neuron": 2.0, "keep": 1}),
    "TR-PTS": ("trpts", {"per_neuron": 2.0, "keep": 0.7}),
    "TR-PTS with EViT": ("evit", {"per_neuron": 2.0, "keep": 0.7}),
    "TR-PTS with ToMe": ("tome", {"per_neuron": 2.0, "r": 4}),
}


def cell(variant, task, seed, lr, **common):
    """The configuration of one run."""
    method, options = VARIANTS[variant]
    return {
        "task": task,
        "seed": seed,
        "method": method,
        "variant": variant,
        "options": options,
        "lr": lr,
        **common,
    }


def run(config):
    """Metrics of one run; `config` has backbone, weights, task, method, options (of the method), lr, seed, epochs, …"""
    task = lab_task(config["task"], config["seed"]).to(config["device"])
    model = create_backbone(config["backbone"], task.n_classes, weights_path(config), config["seed"])
    model, images = model.to(config["device"]), task.val.images[:1]
    untouched = counted_flops(model, images)
    settings = {name: config[name] for name in TUNING}
    result = tune(model, task, config["method"], **settings, seed=config["seed"], **config["options"])
    reduced = nullcontext()
    if result.tokens is not None:
        reduced = token_selection(model, **result.tokens)
    elif config["method"] == "tome":
        reduced = token_merging(model, config["options"]["r"])
    with reduced:
        flops = counted_flops(model, images)
    metrics = {
        "val_accuracy": result.val_accuracy,
        "test_accuracy": result.test_accuracy,
        "last_test_accuracy": result.last_test_accuracy,
        "n_trainable": result.n_trainable,
        "n_trainable_without_head": result.n_trainable - sum(p.numel() for p in model.get_classifier().parameters()),
        "trainable_fraction": result.n_trainable / result.n_parameters,
        "flops_ratio": flops / untouched,
        "phase_s": result.time_s,
    }
    if result.plan is not None:
        metrics["connections_per_neuron"] = result.plan.connections_per_neuron
    return metrics
