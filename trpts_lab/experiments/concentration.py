"""How many different inputs a score selects: where all neurons take the same few, the update is of
low rank.

The Fisher score of a connection is E[(Σ_t g_j x_i)²]. Within a neuron, what tells two inputs apart
is above all how large they are, and that is the same for all neurons of a layer. The measure is the
participation ratio of the inputs,

    effective inputs = 1 / Σ_i p_i²,    p_i the share of a layer's connections that sit at input i,

which is I where I inputs are taken equally often, and 1 where every neuron takes the same one.
"""

from functools import partial
from statistics import fmean

import torch

from trpts.allocation import allocate
from trpts.fisher import fisher_scores, layer_signals
from trpts.probe import probe_head
from trpts.scores import SCORES, Score
from trpts_lab.tasks import backbone_of, inputs, task_of  # noqa: F401 - inputs

VERSION = 1
TINY = 1e-12  # of a mean square or a score, so that an input that is always zero divides nothing


def fisher_per_input(model, batches):
    """E[(Σ_t g_j x_i)²] / E[x_i²]: the Fisher score with the size of each input divided out.

    Not in the paper: made after the score's ablation had been seen, to find what ails it.
    """
    batches = list(batches)
    size = mean_squares(model, batches)
    return {
        name: score / size[name].clamp_min(TINY)
        for name, score in fisher_scores(model, batches).items()
    }


def fisher_drawn(model, batches, seed=0):
    """log F + Gumbel noise, moved to be positive: connections drawn without replacement in
    proportion to their score.

    Taking the largest of log w + Gumbel is drawing in proportion to w (Kool et al., ICML 2019). Not
    in the paper either, and made at the same time.
    """
    generator, drawn = torch.Generator().manual_seed(seed), {}
    for name, score in fisher_scores(model, batches).items():
        uniform = (
            torch.rand(score.shape, generator=generator).clamp(TINY, 1 - 1e-7).to(score.device)
        )
        noisy = score.clamp_min(TINY).log() - (-uniform.log()).log()
        drawn[name] = noisy - noisy.min() + 1.0
    return drawn


REMEDIES = {
    "fisher_per_input": Score(fisher_per_input),
    "fisher_drawn": Score(fisher_drawn, seeded=True),
}


def score_of(name, seed):
    """The score of a name, of TR-PTS's rivals or of REMEDIES."""
    score = (SCORES | REMEDIES)[name]
    return partial(score.function, seed=seed) if score.seeded else score.function


def mean_squares(model, batches):
    """E[x_i²] of each scored layer's inputs [in], over samples and tokens."""
    totals, n = {}, 0
    with layer_signals(model) as captured, torch.no_grad():
        for images, _ in batches:
            model(images)
            for name, (x, *_) in captured.items():
                totals[name] = totals.get(name, 0) + x.float().square().flatten(0, -2).mean(
                    0
                ) * len(images)
            n += len(images)
            captured.clear()
    return {name: total / n for name, total in totals.items()}


def effective_inputs(index, n_inputs):
    """Participation ratio of the inputs of a layer's selected connections [out, C]."""
    share = torch.bincount(index.flatten().cpu(), minlength=n_inputs) / index.numel()
    return 1 / share.square().sum().item()


def run(config):
    """Metrics of one score, task and seed; `config` has backbone, weights, task, variant (the
    score), per_neuron, …

    effective_share  effective inputs over a layer's inputs, mean over layers
    used_share       inputs that any neuron takes, likewise
    largest_share    connections at the input that most neurons take, likewise
    by_kind          effective_share of each kind of layer (qkv, proj, fc1, fc2)
    """
    task = task_of(config)
    model = backbone_of(config, task.n_classes)
    probe_head(model, task.train)
    batches = list(task.train.first(min(config["n_scored"], len(task.train))).batches(32))
    scores = score_of(config["variant"], config["seed"])(model, batches)
    index = allocate(scores, model=model, per_neuron=config["per_neuron"], n_token_blocks=0).select(
        scores
    )
    rows, by_kind = [], {}
    for name, chosen in index.items():
        n_inputs = scores[name].shape[1]
        counts = torch.bincount(chosen.flatten().cpu(), minlength=n_inputs)
        effective = effective_inputs(chosen, n_inputs) / n_inputs
        rows.append(
            (effective, (counts > 0).float().mean().item(), counts.max().item() / chosen.numel())
        )
        by_kind.setdefault(name.rpartition(".")[2], []).append(effective)
    names = ("effective_share", "used_share", "largest_share")
    means = {
        name: fmean(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    return means | {"by_kind": {kind: fmean(values) for kind, values in by_kind.items()}}
