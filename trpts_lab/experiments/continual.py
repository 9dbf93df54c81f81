"""One task after another in the same weights, no delta kept: how much of the first is left after
the second?

free        the second task selects where its score is high
protected   the first task's connections are not selected again; biases are trained in neither
full        everything is trained, twice
head        the head alone, twice: nothing can be forgotten, nothing is learnt below it
"""

from trpts.fisher import fisher_scores
from trpts.probe import accuracy
from trpts.sparse import attached, detach, sparse_layers
from trpts.tuning import tune
from trpts_lab.tasks import backbone_of, inputs, settings_of, task_of  # noqa: F401 - inputs

VERSION = 1
WAYS = {"free": "trpts", "protected": "trpts", "full": "full", "head": "linear"}


def run(config):
    """Metrics of two tasks in one way; `config`: backbone, weights, two tasks, way, seed, …"""
    first, second = (task_of(config, name) for name in config["tasks"])
    settings = settings_of(config) | {"method": WAYS[config["way"]]}
    if settings["method"] == "trpts":
        settings |= {"keep": 1, "biases": False, "per_neuron": config["per_neuron"]}
    model = backbone_of(config, first.n_classes)
    learnt = tune(model, first, **settings)
    taken = {name: layer.index for name, layer in sparse_layers(model).items()}
    head = model.get_classifier()
    _plain(model)
    model.reset_classifier(second.n_classes)
    if config["way"] == "protected":
        settings["score"] = lambda model, batches: without(fisher_scores(model, batches), taken)
    then = tune(model, second, **settings)
    shared = sum(_common(layer.index, taken[name]) for name, layer in sparse_layers(model).items())
    _plain(model)
    model.head = head
    return {
        "first_before": learnt.test_accuracy,
        "first_after": accuracy(model, first.test),
        "second": then.test_accuracy,
        "selected_twice": shared / max(1, sum(index.numel() for index in taken.values())),
    }


def without(scores, taken):
    """Scores in which the connections `taken` {layer: int64 [out, C]} score nothing."""
    return {
        name: s.scatter(1, taken[name], 0.0) if name in taken else s for name, s in scores.items()
    }


def _common(index, other):
    return int((index[:, :, None] == other[:, None]).sum())


def _plain(model):
    if attached(model):
        detach(model)
    model.requires_grad_(True)
