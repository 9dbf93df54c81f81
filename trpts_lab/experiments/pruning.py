"""The tiny vision-language model under pruning: which questions it still answers, which tokens
stayed, what it costs.

Every question is about a scene that was drawn by a program, so that the tokens which decide it are
known. The model is trained once; the seed draws other scenes and questions, of the test split, and
what is random in a criterion, for each question anew.
"""

import json
from dataclasses import asdict, replace

import numpy as np
import torch

from trpts.hashes import short_hash
from trpts.transprune.costs import macs
from trpts.transprune.plugin import pruning
from trpts.transprune.schedule import (
    FASTV,
    HIGH,
    LOW_INFERRED,
    PYRAMIDDROP,
    RELEASED_CODE,
    Schedule,
)
from trpts_lab.lvlm.answers import right_answers
from trpts_lab.lvlm.model import load_lvlm
from trpts_lab.lvlm.questions import KINDS, encode, questions_of
from trpts_lab.lvlm.scenes import N_TOKENS
from trpts_lab.tasks import weights_hash, weights_path

VERSION = 1
BATCH_SIZE = 64
CRITERIA = ("transprune", "released", "ttv", "iga", "norm", "fastv", "random", "uniform", "oracle")
N_LAYERS = 8  # of the tiny model: the paper's layers 7, 9 and 12 of 32 become 2, 3 and 4
# stages before the tiny model has read what it needs, where the choice of tokens can do harm
EARLY = (1, 2, 3)
# What a criterion changes of the paper's schedule, beside its name
SWITCHES = {"fastv": {"iga": FASTV.iga, "iga_layer": FASTV.iga_layer}}
# Switches of a Schedule that came later than rows, and what these had
LATER = {"frames": "all"}
# Shares of the tokens behind the three stages: the released code's, the one inferred for the
# paper's "Low", and less.
BUDGETS = {"High": HIGH.keep, "Low": LOW_INFERRED.keep, "Lower": (0.36, 0.12, 0.04)}


def schedule_of(criterion, budget="High"):
    """The Schedule of a criterion at a budget, scaled to the tiny model."""
    if criterion == "released":
        return replace(RELEASED_CODE.scaled(N_LAYERS), keep=BUDGETS[budget])
    return replace(
        HIGH.scaled(N_LAYERS), score=criterion, keep=BUDGETS[budget], **SWITCHES.get(criterion, {})
    )


def early(schedule):
    """The same shares of the tokens, one layer earlier each."""
    return replace(schedule, prune_after=EARLY, accumulate=EARLY)


def one_shot(criterion, budget="High"):
    """All at once after the first stage, at about the staged schedule's multiply-accumulates."""
    staged = schedule_of(criterion, budget)
    first, *_ = staged.prune_after
    layers = np.diff([*staged.prune_after, N_LAYERS])
    keep = float(layers @ np.array(staged.keep)) / (N_LAYERS - first)
    return replace(staged, prune_after=(first,), keep=(keep,), accumulate=(first,))


def without_image(layer):
    """One token, drawn at random, is all that is left of the image behind a layer."""
    return Schedule((layer,), (1 / N_TOKENS,), accumulate=(), score="random")


def variants():
    """{name: Schedule, or None for the unpruned model}: all that chapter 05 compares."""
    found = {"unpruned": None}
    found |= {f"no image behind {layer}": without_image(layer) for layer in range(1, N_LAYERS)}
    found |= {f"{c}, {budget}": schedule_of(c, budget) for budget in BUDGETS for c in CRITERIA}
    found |= {f"{c}, High, early": early(schedule_of(c)) for c in CRITERIA}
    found |= {"FastV": FASTV.scaled(N_LAYERS), "PyramidDrop": PYRAMIDDROP.scaled(N_LAYERS)}
    found |= {f"{c}, High, one shot": one_shot(c) for c in ("transprune", "iga", "random")}
    for c in ("transprune", "random"):
        found[f"{c}, High, compact"] = replace(schedule_of(c), positions="compact")
        found[f"{c}, High, early, compact"] = replace(early(schedule_of(c)), positions="compact")
    for alpha in (0.25, 0.75):
        found[f"transprune, High, α = {alpha:g}"] = replace(schedule_of("transprune"), alpha=alpha)
    return found


def cell(variant, seed, **common):
    """The configuration of one run; the variant "question alone" shows a grey image."""
    schedule = None if variant == "question alone" else variants()[variant]
    # lists for tuples, as in the file
    switches = None if schedule is None else json.loads(json.dumps(asdict(schedule)))
    for name in LATER if switches else ():
        if switches[name] == LATER[name]:
            del switches[name]  # so that rows measured before there was the switch are found
    return {
        "task": "scenes",
        "method": "transprune",
        "variant": variant,
        "seed": seed,
        "schedule": switches,
        **common,
    }


def run(config):
    """Metrics; `config`: weights, n_questions (of each kind), schedule, variant, seed, device."""
    model = load_lvlm(weights_path(config)).to(config["device"])
    switches = config["schedule"]
    schedule = None if switches is None else Schedule(**switches)
    metrics = {"accuracy": {}}
    looks, text = [], []
    for kind in KINDS:
        pairs = questions_of("test", kind, config["n_questions"], config["seed"])
        right = []
        for start in range(0, len(pairs), BATCH_SIZE):
            part = pairs[start : start + BATCH_SIZE]
            if schedule is None:
                right.append(
                    right_answers(model, part, blank=config["variant"] == "question alone")
                )
                continue
            relevant = torch.from_numpy(np.stack([question.tokens for _, question in part]))
            plan = own_draws(schedule, len(part), config["seed"], kind, start)
            with pruning(model, plan, relevant.to(config["device"])) as trace:
                right.append(right_answers(model, part))
            looks += [
                (kind, *pair, masks) for pair, masks in zip(part, kept_masks(trace), strict=True)
            ]
        metrics["accuracy"][kind] = float(np.concatenate(right).mean())
        text += [1 + len(encode(question.words)) for _, question in pairs]
    metrics["mean_accuracy"] = float(np.mean(list(metrics["accuracy"].values())))
    words, of = round(float(np.mean(text))), model.config.text_config
    metrics["macs_ratio"] = macs(of, N_TOKENS, schedule) / macs(of, N_TOKENS)
    costs = [
        macs(of, N_TOKENS, s, words, overhead=True, n_instruction_tokens=words - 1)
        for s in (schedule, None)
    ]
    metrics["macs_ratio_all"] = costs[0] / costs[1]
    return metrics | (kept_metrics(looks) if looks else {})


def own_draws(schedule, n, seed, kind, first):
    """The schedule, with a draw of its own for each of the n questions of a kind that begin at
    number `first`.

    The library draws by the words of the question, so that a question asked again is pruned alike:
    here, where the same words are asked of a hundred scenes, that would be one draw for all of
    them.
    """
    if schedule.score not in ("random", "oracle"):
        return schedule
    drawn = [
        np.random.default_rng([seed, KINDS.index(kind), first + i]).random(N_TOKENS)
        for i in range(n)
    ]
    draws = torch.from_numpy(np.stack(drawn))

    def random(c):
        return c.of_tokens(draws.to(c.index.device))

    def oracle(c):
        return random(c) + c.of_tokens(c.relevant.long())

    return replace(schedule, score=random if schedule.score == "random" else oracle)


def kept_masks(trace):
    """For each row of the trace: {stage: bool [N_TOKENS]}, the tokens that stayed."""
    return [
        {
            stage: np.isin(np.arange(N_TOKENS), kept[row].cpu().numpy())
            for stage, kept in trace.kept.items()
        }
        for row in range(len(trace.n_image))
    ]


def kept_metrics(looks):
    """Of (kind, scene, question, {stage: kept}): what stayed of what was asked about, and where it
    lay.

    recall    by kind, behind the last stage: part of the queried objects' tokens that stayed
              (questions that have any)
    by_stage  the same over all kinds, behind each stage
    share     of what stayed behind the last stage: on any object, on clutter
    place     part of the questions in which a token stayed behind the last stage, by its number
    """
    last = max(looks[0][3])
    asked = [look for look in looks if look[2].tokens.any()]

    def recall(some, stage):
        return float(
            np.mean([masks[stage][question.tokens].mean() for _, _, question, masks in some])
        )

    objects = np.mean(
        [
            masks[last][scene.thing_tokens.any(0)].sum() / masks[last].sum()
            for _, scene, _, masks in looks
        ]
    )
    clutter = np.mean(
        [
            masks[last][scene.clutter_tokens].sum() / masks[last].sum()
            for _, scene, _, masks in looks
        ]
    )
    places = np.mean([masks[last] for *_, masks in looks], axis=0)
    kinds = sorted({kind for kind, *_ in asked})
    return {
        "recall": {
            kind: recall([look for look in asked if look[0] == kind], last) for kind in kinds
        },
        "by_stage": {str(stage): recall(asked, stage) for stage in looks[0][3]},
        "share": {"objects": float(objects), "clutter": float(clutter)},
        "place": {str(n): float(p) for n, p in enumerate(places)},
    }


def inputs(config):
    """Hashes of the first questions and of the weights file."""
    some = [pair for kind in KINDS for pair in questions_of("test", kind, 20, config["seed"])]
    told = [
        (scene.image.tobytes().hex(), question.words, question.answer) for scene, question in some
    ]
    return {"data": short_hash(str(told)), "weights": weights_hash(config)}
