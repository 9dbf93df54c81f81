"""What a task gives before any tuning: chance, and linear probes on a random and on the pre-trained
backbone.

It shows that a task is neither trivial nor impossible, and whether pre-training helps. A probe's
penalty is chosen from L2 on the validation images, for each backbone alike. Test images are used
for the accuracies that are reported, no choice.
"""

from trpts.probe import accuracy, features, fit_probe, put_head
from trpts_lab.tasks import backbone_of, inputs, task_of  # noqa: F401 - inputs

VERSION = 1
L2 = (1e-4, 1e-3, 1e-2, 1e-1)


def run(config):
    """Metrics of one task and seed; `config` has backbone, weights, task, seed and device.

    The seed draws a twin's images and the random backbone.
    """
    task = task_of(config)
    metrics = {"n_classes": task.n_classes, "chance": 1 / task.n_classes}
    for name, weights in (("random_probe", None), ("probe", config["weights"])):
        model = backbone_of(config | {"weights": weights}, task.n_classes)
        metrics |= probed(model, task, name)
    return metrics


def probed(model, task, name):
    """Accuracies of the best of the probes, which is left in the model's head."""
    best = -1.0
    f = features(model, task.train)
    for l2 in L2:
        head = fit_probe(f, task.train.labels, task.n_classes, l2)
        put_head(model, head)
        right = accuracy(model, task.val)
        if right > best:
            best, chosen = right, head
    put_head(model, chosen)
    return {f"{name}_val_accuracy": best, f"{name}_test_accuracy": accuracy(model, task.test)}
