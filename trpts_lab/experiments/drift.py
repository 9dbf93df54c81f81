"""A task that drifts: its images change, its labels do not. Is it worth selecting the connections
anew?

The drift turns the colours (red becomes green, green blue, blue red) and the contrast, by a share
between 0 and 1.
"""

import time
from dataclasses import dataclass, replace

from trpts.allocation import allocate
from trpts.fisher import fisher_scores
from trpts.probe import accuracy, probe_head
from trpts.sparse import attach, detach, sparse_layers
from trpts.training import train
from trpts_lab.tasks import backbone_of, inputs, settings_of, task_of  # noqa: F401 - inputs

VERSION = 1
N_SCORED = 500


def run(config):
    """Metrics of one task and seed; `config` has backbone, weights, task, drift, per_neuron, seed,
    …

    unchanged, old, anew  test accuracy on the drifted images: not tuned again; tuned again in the
                          connections that the task had selected before it drifted; and in newly
                          selected ones
    phase_s               seconds of selecting anew and of training again
    """
    task = task_of(config)
    later = drifted(task, config["drift"])
    model = backbone_of(config, task.n_classes)
    probe_head(model, task.train)
    index = select(model, task.train, config)
    tuned(model, task.train, index, config)
    metrics = {"before": accuracy(model, task.test), "unchanged": accuracy(model, later.test)}
    state = {name: p.clone() for name, p in model.state_dict().items()}
    start = time.perf_counter()
    anew = select(model, later.train, config)
    phase_s = {"select": time.perf_counter() - start}
    for name, some in (("old", index), ("anew", anew)):
        model.load_state_dict(state)
        start = time.perf_counter()
        tuned(model, later.train, some, config)
        phase_s["train"] = time.perf_counter() - start
        metrics[name] = accuracy(model, later.test)
    both = sum(int((anew[n][:, :, None] == index[n][:, None]).sum()) for n in anew)
    return metrics | {"overlap": both / sum(i.numel() for i in anew.values()), "phase_s": phase_s}


@dataclass(frozen=True)
class Drifted:
    """A split whose images change on their way into a batch, wherever they are kept."""

    split: object
    share: float

    @property
    def labels(self):
        return self.split.labels

    def __len__(self):
        return len(self.split)

    def first(self, n):
        return Drifted(self.split.first(n), self.share)

    def batches(self, batch_size, generator=None):
        for images, labels in self.split.batches(batch_size, generator):
            yield (1 - self.share) * images + self.share * 0.5 * images.roll(1, dims=1), labels


def drifted(task, share):
    """The task with each of its images mixed with its recoloured, paler self."""
    return replace(
        task, **{part: Drifted(getattr(task, part), share) for part in ("train", "val", "test")}
    )


def select(model, split, config):
    """{layer: index} of the connections that a split selects in the model's present state."""
    scores = fisher_scores(model, split.first(min(N_SCORED, len(split))).batches(32))
    return allocate(scores, model=model, per_neuron=config["per_neuron"], n_token_blocks=0).select(
        scores
    )


def tuned(model, split, index, config):
    """Train the indexed connections, their biases and the head; afterwards the model is plain."""
    attach(model, index)
    train(model, split, optimizer="adam", weight_decay=0.0, **settings_of(config))
    assert sparse_layers(model)
    detach(model)
