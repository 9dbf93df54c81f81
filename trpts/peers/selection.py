"""Other ways to select connections, at an equal number for every neuron: GPS's, FPS's, by
magnitude, and chance.

They differ from TR-PTS in the score and in the allocation, and in nothing else: the same images are
scored, the same biases are trained, the same row-sparse layers pay for the selected connections
alone.
"""

from functools import partial
from typing import Any

from torch import nn

from trpts.allocation import Allocation
from trpts.data.task import Task
from trpts.methods import Prepared, method
from trpts.scores import score_named
from trpts.signals import ScoreFunction
from trpts.sparse import attach


def check_uniform(
    model: nn.Module, *, per_neuron: int = 2, score: str | ScoreFunction = "fisher", **options: Any
) -> None:
    """Raise ValueError for an unknown score or a number of connections that is none."""
    score_named(score, 0)
    if not (isinstance(per_neuron, int) and per_neuron >= 1):
        raise ValueError(
            f"per_neuron={per_neuron!r}: expected a whole number of connections, at least 1"
        )


@method("uniform", check_uniform, score="fisher")
def prepare_uniform(
    model: nn.Module,
    task: Task,
    seed: int,
    *,
    score: str | ScoreFunction = "fisher",
    per_neuron: int = 2,
    n_scored: int = 500,
    biases: bool = True,
) -> Prepared:
    """The `per_neuron` best-scored connections of every neuron, in all layers alike, biases and
    head.

    score   a name of `trpts.scores.SCORES`, or a function (model, batches) -> scores
    """
    scores = score_named(score, seed)(
        model, task.train.first(min(n_scored, len(task.train))).batches(32)
    )
    connections = {name: min(per_neuron, s.shape[1]) for name, s in scores.items()}
    weights = sum(len(s) * connections[name] for name, s in scores.items())
    plan = Allocation(
        connections,
        (),
        dict.fromkeys(scores, 1.0),
        float(per_neuron),
        sum(map(len, scores.values())),
        {"weights": weights},
    )
    attach(model, plan.select(scores), biases=biases)
    return Prepared(plan)


def _by(score):
    def prepare(model, task, seed, *, per_neuron=2, n_scored=500, biases=True):
        options = {"score": score, "per_neuron": per_neuron, "n_scored": n_scored, "biases": biases}
        return prepare_uniform(model, task, seed, **options)

    return prepare


# One by one, so that they can be read without being run: see `trpts_lab.versions`.
method("gps", partial(check_uniform, score="gps"), score="gps")(_by("gps"))
method("fps", partial(check_uniform, score="fps"), score="fps")(_by("fps"))
method("magnitude", partial(check_uniform, score="magnitude"), score="magnitude")(_by("magnitude"))
method("random", partial(check_uniform, score="random"), score="random")(_by("random"))
