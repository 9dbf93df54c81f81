"""The assembled model under pruning: which questions it still answers, which tokens stayed, what it
costs.

As `trpts_lab.experiments.pruning` on the tiny model, on compositions and in natural words. The seed
draws other compositions and questions, and what is random in a criterion, for each question anew.
"""

import numpy as np
import torch

from trpts.hashes import short_hash
from trpts.transprune.costs import macs
from trpts.transprune.plugin import pruning
from trpts.transprune.schedule import Schedule
from trpts_lab.assembled.answers import right_answers
from trpts_lab.assembled.compositions import N_TOKENS
from trpts_lab.assembled.model import create_assembled, load_assembled
from trpts_lab.assembled.questions import KINDS, questions_of
from trpts_lab.assembled.schedules import GREY, price, switches
from trpts_lab.experiments.pruning import kept_masks, own_draws
from trpts_lab.tasks import weights_hash, weights_path

VERSION = 1
AT_ONCE = 20  # questions
# Variants whose kept tokens are drawn as a map: a hundred numbers a row, of which no other is read
MAPPED = tuple(
    f"{c}, {at}" for c in ("transprune", "ttv", "iga", "random") for at in ("paper", "before")
)


def cell(
    variant, plan, seed, *, weights, kinds, n_questions, split="test", device="cpu", profile="real"
):
    """The configuration of one run.

    plan  a Schedule; None: unpruned; a whole number: a smaller picture, so many patches a side
    """
    pruned = isinstance(plan, Schedule)
    smaller = {} if pruned or plan is None else {"side": plan}
    return {
        "task": "compositions",
        "method": "transprune",
        "variant": variant,
        "seed": seed,
        "schedule": switches(plan) if pruned else None,
        **smaller,
        "split": split,
        "weights": weights,
        "kinds": list(kinds),
        "n_questions": n_questions,
        "device": device,
        "profile": profile,
    }


def model_of(config):
    """The model of a configuration on its device; its projector is random where it has no weights,
    for canaries.
    """
    path = weights_path(config)
    return (create_assembled() if path is None else load_assembled(path)).to(config["device"])


def run(config):
    """Metrics of a configuration that `cell` made."""
    model = model_of(config)
    schedule = None if config["schedule"] is None else Schedule(**config["schedule"])
    side, blank = config.get("side"), config["variant"] == GREY
    accuracy, looks = {}, []
    for kind in config["kinds"]:
        pairs = questions_of(config["split"], kind, config["n_questions"], config["seed"])
        right = []
        for start in range(0, len(pairs), AT_ONCE):
            part = pairs[start : start + AT_ONCE]
            if schedule is None:
                right.append(right_answers(model, part, blank=blank, side=side))
                continue
            relevant = torch.from_numpy(np.stack([question.tokens for _, question in part]))
            numbers = [config["seed"], KINDS.index(kind), start]
            plan = own_draws(schedule, len(part), *numbers)
            with pruning(model, plan, relevant.to(config["device"])) as trace:
                right.append(right_answers(model, part))
            looks += zip([kind] * len(part), part, kept_masks(trace), strict=True)
        accuracy[kind] = float(np.concatenate(right).mean())
    metrics = {"accuracy": accuracy, "mean_accuracy": float(np.mean(list(accuracy.values())))}
    n_image = N_TOKENS if side is None else side**2
    metrics["macs_ratio"] = macs(model.config.text_config, n_image, schedule) / macs(
        model.config.text_config, N_TOKENS
    )
    metrics["macs_ratio_all"] = price(schedule, n_image) / price(None)
    kept = kept_metrics(looks) if looks else {}
    if config["variant"] not in MAPPED:
        kept.pop("place", None)
    return metrics | kept


def kept_metrics(looks):
    """Of (kind, (composition, question), {stage: kept}): what stayed of what was asked about.

    recall    by kind, behind the last stage: part of the queried things' tokens that stayed
              (questions that have any)
    by_stage  the same over all kinds, behind each stage
    share     of what stayed behind the last stage: on the queried things, on others, on the ground
    place     part of the questions in which a token stayed behind the last stage, by its number
    """
    last = max(looks[0][2])
    asked = [(kind, q.tokens, masks) for kind, (_, q), masks in looks if q.tokens.any()]

    def recall(some, stage):
        return float(np.mean([masks[stage][tokens].mean() for _, tokens, masks in some]))

    kept = np.stack([masks[last] for *_, masks in looks])  # [questions, N_TOKENS]
    queried = np.stack([question.tokens for _, (_, question), _ in looks])
    things = np.stack([shown.tokens.any(0) for _, (shown, _), _ in looks])
    on = {"asked": queried, "others": things & ~queried, "ground": ~things & ~queried}
    return {
        "recall": {
            kind: recall([look for look in asked if look[0] == kind], last)
            for kind in sorted({kind for kind, *_ in asked})
        },
        "by_stage": {str(stage): recall(asked, stage) for stage in looks[0][2]},
        "share": {name: float((kept & mask).sum() / kept.sum()) for name, mask in on.items()},
        "place": {str(n): float(p) for n, p in enumerate(kept.mean(0))},
    }


def inputs(config):
    """Hashes of the first questions of all kinds and of the weights file."""
    told = [
        (shown.image.tobytes().hex(), question.words, question.answer)
        for kind in KINDS
        for shown, question in questions_of(config["split"], kind, 5, config["seed"])
    ]
    return {"data": short_hash(str(told)), "weights": weights_hash(config)}
