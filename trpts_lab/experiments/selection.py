"""What TR-PTS selects, for many tasks at once: scores by block, connections per layer, overlaps,
token redundancy.

One record a seed. The seed draws the twins' images anew, so that its spread is the spread over
training sets. No test image is used. The reference score of the sample-size study is taken over all
images that may be learnt from (800 + 200 of a twin); "halves" compares two scores that share no
image.
"""

import itertools

import torch
from scipy.stats import spearmanr
from torch.nn.functional import normalize

from trpts.allocation import allocate
from trpts.data import Split
from trpts.fisher import fisher_scores
from trpts.placement import block_of
from trpts.probe import probe_head
from trpts_lab.tasks import backbone_of, inputs, task_of  # noqa: F401 - inputs

VERSION = 1
SIZES = (10, 30, 100, 300, 500)  # images of the sample-size study
BATCH_SIZE = 100
N_REDUNDANCY = 100  # images over which the tokens' likeness is averaged


def run(config):
    """Metrics of one seed; `config` has backbone, weights, tasks, n_scored, per_neuron,
    top_fraction, seed, device.
    """
    tables = {}
    masks = {name: one_task(config, name, tables) for name in config["tasks"]}
    tables["overlap"] = {
        f"{a} and {b}": overlap(masks[a], masks[b])
        for a, b in itertools.combinations(config["tasks"], 2)
    }
    return {name: table for name, table in tables.items() if table}


def one_task(config, name, tables):
    """Fill `tables` with one task's rows; the selected connections."""

    def note(table, key, value):
        tables.setdefault(table, {})[f"{name}/{key}"] = float(value)

    task = task_of(config, name)
    model = backbone_of(config | {"seed": 0}, task.n_classes)
    probe_head(model, task.train)
    parts = partial_scores(model, task, config["n_scored"])
    everything, halves = mean_of(parts), [mean_of(parts[side::2]) for side in (0, 1)]
    for n in SIZES:
        few = mean_of([part for part in parts if part[0] <= n])
        note("rank_correlation", n, rank_correlation(few, everything))
    note("rank_correlation", "halves", rank_correlation(*halves))
    scores = mean_of([part for part in parts if part[0] <= config["n_scored"]])
    options = {
        "model": model,
        "per_neuron": config["per_neuron"],
        "top_fraction": config["top_fraction"],
    }
    plans = {w: allocate(scores, w=w, **options) for w in ("share", "mean")}
    plan = plans["share"]
    for layer in scores:
        for w in plans:
            note(f"connections_by_{w}", layer, plans[w].connections[layer])
    mask = plan.select(scores)
    note("overlap_with_itself", "halves", overlap(*(plan.select(half) for half in halves)))
    chance = {
        layer: torch.rand(score.shape, generator=torch.Generator().manual_seed(1))
        for layer, score in scores.items()
    }
    note("overlap_with_chance", "random", overlap(mask, plan.select(chance)))
    total = sum(score.sum() for score in scores.values())
    share, selected = torch.zeros(len(model.blocks)), torch.zeros(len(model.blocks))
    for layer, score in scores.items():
        share[block_of(layer)] += (score.sum() / total).cpu()
        selected[block_of(layer)] += mask[layer].numel()
    likeness = redundancy(model, task.val.first(min(N_REDUNDANCY, len(task.val))))
    for block in range(len(model.blocks)):
        note("block_share", block, share[block])
        note("block_connections", block, selected[block] / selected.sum())
        note("redundancy", block, likeness[block])
    note("density_and_redundancy", "rank correlation", spearmanr(selected, likeness).statistic)
    note("score_and_redundancy", "rank correlation", spearmanr(share, likeness).statistic)
    return mask


def partial_scores(model, task, n_scored):
    """Scores of consecutive parts of the images that may be learnt from: [(n images up to here, n
    of it, scores)].

    A part ends at each of SIZES and at n_scored, where the task has as many.
    """
    read = [batch for split in (task.train, task.val) for batch in split.batches(BATCH_SIZE)]
    images = Split(*(torch.cat(part) for part in zip(*read, strict=True)))
    edges = sorted(
        {
            *(n for n in (*SIZES, n_scored) if n < len(images)),
            *range(0, len(images), BATCH_SIZE),
            len(images),
        }
    )
    parts = []
    for low, high in itertools.pairwise(edges):
        batch = images.images[low:high], images.labels[low:high]
        parts.append((high, high - low, fisher_scores(model, [batch])))
    return parts


def mean_of(parts):
    """The score over all images of the parts."""
    n = sum(size for _, size, _ in parts)
    return {name: sum(size * scores[name] for _, size, scores in parts) / n for name in parts[0][2]}


def rank_correlation(a, b):
    """Spearman's, over all weights."""
    a, b = (torch.cat([score.flatten() for score in scores.values()]).cpu() for scores in (a, b))
    return spearmanr(a, b).statistic


def overlap(a, b):
    """Shared connections over all connections of either selection, in [0, 1]."""
    shared = united = 0
    for layer in a:
        width = 1 + max(a[layer].max(), b[layer].max())
        marks = [
            torch.zeros(len(x), width, dtype=torch.bool).scatter_(1, x.cpu(), True)
            for x in (a[layer], b[layer])
        ]
        shared += (marks[0] & marks[1]).sum().item()
        united += (marks[0] | marks[1]).sum().item()
    return shared / united


@torch.no_grad()
def redundancy(model, split):
    """How alike an image's patch tokens are behind each block: mean cosine of all pairs, less their
    common mean.

    Tokens are centred over all images first, so that a direction that every token has does not
    count as likeness.
    """
    seen, handles = {}, []
    for number, block in enumerate(model.blocks):
        handles.append(
            block.register_forward_hook(lambda _, __, x, number=number: seen.update({number: x}))
        )
    images, _ = next(split.batches(len(split)))
    model.eval()(images)
    for handle in handles:
        handle.remove()
    values = []
    for number in range(len(model.blocks)):
        x = seen[number][:, model.num_prefix_tokens :]  # [B, N, D]
        x = normalize(x - x.mean((0, 1)), dim=2)
        N = x.shape[1]
        # Σ_{i≠j} x_i·x_j / N(N-1)
        values.append((((x.sum(1) ** 2).sum(1) - N) / (N * (N - 1))).mean().item())
    return torch.tensor(values)
