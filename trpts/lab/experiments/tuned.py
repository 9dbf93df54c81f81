"""One task tuned by one method: accuracies, what was trained, what it costs.

The seed draws a twin's images, the order of the batches and what a method draws: the spread over seeds is that of
drawing the whole experiment again. Digits and the real data sets have one draw, and their spread is that of the rest.
"""

from trpts.backbones import create_backbone
from trpts.hashes import file_hash
from trpts.lab.measure import vit_flops
from trpts.lab.provenance import weights_path
from trpts.lab.tasks import data_hash, lab_task
from trpts.tuning import tune

TUNING = ("epochs", "lr", "batch_size")
# What the chapters compare: name -> (method, its options). C is connections per neuron, ρ the share of tokens kept.
VARIANTS = {
    "linear": ("linear", {}),
    "full": ("full", {}),
    "C = 2": ("trpts", {"per_neuron": 2.0, "keep": 1}),
    "C = 2, ρ = 0.5": ("trpts", {"per_neuron": 2.0, "keep": 0.5}),
}


def cell(variant, task, seed, lr, **common):
    """The configuration of one run; lr is {method: learning rate}."""
    method, options = VARIANTS[variant]
    return {
        "task": task,
        "seed": seed,
        "method": method,
        "variant": variant,
        "options": options,
        "lr": lr[method],
        **common,
    }


def run(config):
    """Metrics of one run; `config` has backbone, weights, task, method, options (of the method), seed, epochs, …"""
    task = lab_task(config["task"], config["seed"]).to(config["device"])
    model = create_backbone(config["backbone"], task.n_classes, weights_path(config), config["seed"])
    model = model.to(config["device"])
    untouched = vit_flops(model)
    settings = {name: config[name] for name in TUNING}
    result = tune(model, task, config["method"], **settings, seed=config["seed"], **config["options"])
    metrics = {
        "val_accuracy": result.val_accuracy,
        "test_accuracy": result.test_accuracy,
        "last_test_accuracy": result.last_test_accuracy,
        "n_trainable": result.n_trainable,
        "trainable_fraction": result.n_trainable / result.n_parameters,
        "flops_ratio": vit_flops(model, **(result.tokens or {})) / untouched,
    }
    if result.plan is not None:
        metrics["connections_per_neuron"] = result.plan.connections_per_neuron
        metrics["token_blocks"] = {str(b): 1.0 * (b in result.plan.token_blocks) for b in range(len(model.blocks))}
    return metrics


def inputs(config):
    """Hashes of the data and of the weights file."""
    path = weights_path(config)
    return {"data": data_hash(config["task"], config["seed"]), "weights": file_hash(path) if path else None}
