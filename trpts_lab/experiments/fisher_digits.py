"""Where does the Fisher information of a new task lie in a small pre-trained ViT? Real digits,
chapter 01.

Upstream: the digits 0 to 4, on which the small ViT is trained from scratch (a backbone with
`weights` of its own skips this). Task: the digits 5 to 9, which it has never seen. The head is a
linear probe on the task's training images; the Fisher information is taken over `n_fisher` of them.
The test images are used for one accuracy, no choice.
"""

import torch
from scipy.stats import spearmanr

from trpts.data import digits
from trpts.fisher import fisher_scores
from trpts.hashes import tensor_hash
from trpts.probe import accuracy, probe_head
from trpts.training import train
from trpts_lab.tasks import backbone_of, weights_hash

VERSION = 1
UPSTREAM, TASK = range(5), range(5, 10)
BATCH_SIZE = 64
FRACTIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def load_tasks(model):
    """(upstream, task) at the image size, colour channels and device that `model` expects."""
    embed = model.patch_embed
    size = embed.img_size[0]
    channels = embed.proj.in_channels
    device = next(model.parameters()).device
    return tuple(digits.load(classes, size, channels).to(device) for classes in (UPSTREAM, TASK))


def prepare(config):
    """(model, task, metrics): the backbone, pre-trained unless given weights, with probed head."""
    model = backbone_of(config, len(UPSTREAM))
    upstream, task = load_tasks(model)
    metrics = {}
    if config["weights"] is None:
        train(model, upstream.train, config["epochs"], seed=config["seed"])
        metrics["upstream_test_accuracy"] = accuracy(model, upstream.test)
    probe_head(model, task.train)
    return model, task, metrics


def run(config):
    """Metrics of one seed; `config` has backbone, weights (path or None), epochs, n_fisher, seed
    and device.
    """
    model, task, metrics = prepare(config)
    sample = task.train.first(config["n_fisher"])
    scores = fisher_scores(model, sample.batches(BATCH_SIZE))
    rival = fisher_scores(model, sample.batches(BATCH_SIZE), samples="batch")
    return metrics | {
        "probe_test_accuracy": accuracy(model, task.test),
        "n_fisher_samples": len(sample),
        "n_layers_scored": len(scores),
        "n_weights_scored": flat(scores).numel(),
        "block_share": shares(scores, block_of),
        "kind_share": shares(scores, kind_of_layer),
        "layer_density": density(scores),
        "top_share": top_shares(scores),
        "batch_rank_correlation": spearmanr(flat(scores), flat(rival)).statistic.item(),
    }


def inputs(config):
    """Hashes of inputs besides code and configuration: the packaged digits and the weights file."""
    task = digits.load(range(10))
    parts = [t for split in (task.train, task.val, task.test) for t in (split.images, split.labels)]
    return {"data": tensor_hash(*parts), "weights": weights_hash(config)}


def flat(scores):
    """All scores as one vector on the CPU."""
    return torch.cat([s.flatten() for s in scores.values()]).cpu()


def block_of(name):
    """The block of a layer: `blocks.3.mlp.fc1` -> `3`."""
    return name.split(".")[1]


def kind_of_layer(name):
    """The kind of a layer: `blocks.3.mlp.fc1` -> `fc1`."""
    return name.rsplit(".", 1)[-1]


def shares(scores, group_of):
    """{group: its part of the summed Fisher information}; the parts add up to 1."""
    sums = {}
    for name, score in scores.items():
        sums[group_of(name)] = sums.get(group_of(name), 0.0) + score.double().sum().item()
    total = sum(sums.values())
    return {group: part / total for group, part in sums.items()}


def density(scores):
    """{layer: mean score of its weights / mean score of all weights}; 1 is average."""
    overall = flat(scores).double().mean().item()
    return {name: score.double().mean().item() / overall for name, score in scores.items()}


def top_shares(scores):
    """{fraction: share of the summed Fisher information in this top fraction of the weights}."""
    ranked = flat(scores).double().sort(descending=True).values
    running = ranked.cumsum(0) / ranked.sum()
    return {str(f): running[round(f * len(ranked)) - 1].item() for f in FRACTIONS}
