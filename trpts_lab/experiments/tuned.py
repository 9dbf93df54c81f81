"""One task tuned by one method at one learning rate: accuracies, what was trained, what it costs.

The seed draws a twin's images, the order of the batches and what a method draws: the spread over
seeds is that of drawing the whole experiment again. Digits and the real data sets have one draw,
and their spread is that of the rest.

Comparison, choice of learning rates and ablations are all this experiment (`trpts_lab.grid`): where
two of them ask for the same run, they find the same record.
"""

import torch

import trpts.peers  # noqa: F401  registers its methods
from trpts.training import Diverged
from trpts.tuning import tune
from trpts_lab.flops import counted_flops
from trpts_lab.tasks import backbone_of, inputs, settings_of, task_of  # noqa: F401 - inputs

VERSION = 1


def cell(variant, method, options, task, seed, lr, **common):
    """The configuration of one run; tables call the method with these options `variant`."""
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
    """Metrics of one run; `config` has backbone, weights, task, method, options (of the method),
    lr, seed, epochs, …

    image_size, normalization, resize  where it has them, how the task is read, and the size that
                                       the backbone takes
    matmul     where it has it, how exact products of float32 are
               (`torch.set_float32_matmul_precision`): "high" lets a GPU round their factors to 10
               bits
    """
    if "matmul" in config:
        torch.set_float32_matmul_precision(config["matmul"])
    task = task_of(config)
    model = backbone_of(config, task.n_classes)
    images, _ = next(iter(task.val.batches(1)))
    untouched = counted_flops(model, images)
    try:
        result = tune(model, task, config["method"], **settings_of(config), **config["options"])
    except Diverged:  # of all that is tried, this learning rate is the last to choose
        return {"diverged": 1, "val_accuracy": 0.0}
    with result.around():
        flops = counted_flops(model, images)
    metrics = {
        "val_accuracy": result.val_accuracy,
        "test_accuracy": result.test_accuracy,
        "last_test_accuracy": result.last_test_accuracy,
        "n_trainable": result.n_trainable,
        "n_trainable_without_head": result.n_trainable
        - sum(p.numel() for p in model.get_classifier().parameters()),
        "trainable_fraction": result.n_trainable / result.n_parameters,
        "flops_ratio": flops / untouched,
        "phase_s": result.time_s,
    }
    if "image_size" in config:  # of pre-trained weights: whether so many epochs are enough
        metrics["losses"] = {str(epoch): loss for epoch, loss in enumerate(result.losses, 1)}
    if result.plan is not None:
        metrics["connections_per_neuron"] = result.plan.connections_per_neuron
        metrics["token_blocks"] = {
            str(b): 1.0 * (b in result.plan.token_blocks) for b in range(len(model.blocks))
        }
    return metrics
