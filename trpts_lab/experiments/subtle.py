"""What pruning changes where the answer stays the same: the distribution that the word is taken
from.

A long text that changes subtly is made of words that stay and words that turn. The laboratory's
model answers in one word; how far its distribution moves under a word that stays is what can be
seen here of it.
"""

import numpy as np
import torch

from trpts.transprune.plugin import pruning
from trpts_lab.experiments import pruning as pruned
from trpts_lab.lvlm.model import load_lvlm, prompt
from trpts_lab.lvlm.questions import KINDS, questions_of
from trpts_lab.tasks import weights_path

VERSION = 1
inputs = pruned.inputs


@torch.no_grad()
def distributions(model, pairs):
    """Probabilities of the answer's word for pairs (scene, question), [n, words]."""
    images, words = [scene.image for scene, _ in pairs], [question.words for _, question in pairs]
    given = {name: t.to(model.device) for name, t in prompt(images, words).items()}
    return model(**given).logits[:, -1].float().softmax(1)


def compare(p, q):
    """(share of rows whose argmax differs, mean total variation ½ Σ |p − q| over the rest)"""
    same = p.argmax(1) == q.argmax(1)
    distance = (p - q).abs().sum(1) / 2
    return 1 - same.float().mean().item(), distance[same].mean().item() if same.any() else 0.0


def run(config):
    """Metrics of one variant and seed; `config` has weights, variant, n_questions (of each kind),
    seed and device.

    changed   share of the answers that became another word, by kind
    distance  mean total variation where the word stayed, by kind
    """
    model = load_lvlm(weights_path(config)).to(config["device"])
    schedule = pruned.variants()[config["variant"]]
    changed, distance = {}, {}
    for kind in KINDS:
        pairs = questions_of("test", kind, config["n_questions"], config["seed"])
        plain = distributions(model, pairs)
        drawn = pruned.own_draws(schedule, len(pairs), config["seed"], KINDS.index(kind), 0)
        with pruning(model, drawn):
            changed[kind], distance[kind] = compare(plain, distributions(model, pairs))
    return {
        "changed": changed,
        "distance": distance,
        "mean_changed": float(np.mean(list(changed.values()))),
        "mean_distance": float(np.mean(list(distance.values()))),
    }
