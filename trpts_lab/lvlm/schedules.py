"""The schedules that the tiny vision-language model is asked under: which, and at which price.

All that is compared is named here, before anything is run.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from trpts.transprune.costs import macs
from trpts.transprune.schedule import (
    FASTV,
    HIGH,
    LOW_INFERRED,
    PYRAMIDDROP,
    RELEASED_CODE,
    Schedule,
)
from trpts_lab.lvlm.model import create_lvlm
from trpts_lab.lvlm.questions import KINDS, encode, questions_of
from trpts_lab.lvlm.scenes import N_TOKENS

CRITERIA = ("transprune", "released", "ttv", "iga", "norm", "fastv", "random", "uniform", "oracle")
N_LAYERS = 8  # of the tiny model: the paper's layers 7, 9 and 12 of 32 become 2, 3 and 4
# stages before the tiny model has read what it needs, where the choice of tokens can do harm
EARLY = (1, 2, 3)
# What a criterion changes of the paper's schedule, beside its name
SWITCHES = {"fastv": {"iga": FASTV.iga, "iga_layer": FASTV.iga_layer}}
# Shares of the tokens behind the three stages: the released code's, the one inferred for the
# paper's "Low", and less.
BUDGETS = {"High": HIGH.keep, "Low": LOW_INFERRED.keep, "Lower": (0.36, 0.12, 0.04)}
# Four objects of four tokens, the most that is counted, are 16 of the 100 tokens; High leaves 12
BUDGETS_OF_COUNTS = {"room for a count": (0.875, 0.625, 0.25)}
# Before the language model, each at the largest share whose prompt costs no more than High's
BEFORE = ("divprune", "cdpruner", "visionzip", "random", "uniform", "oracle")
COUNTED = ("transprune", "iga", "ttv", "random", "uniform", "oracle")
NORMALISED = {"each sums to 1": True, "ranks": "rank"}


def schedule_of(criterion, budget="High"):
    """The Schedule of a criterion at a budget, scaled to the tiny model."""
    keep = (BUDGETS | BUDGETS_OF_COUNTS)[budget]
    if criterion == "released":
        return replace(RELEASED_CODE.scaled(N_LAYERS), keep=keep)
    return replace(HIGH.scaled(N_LAYERS), score=criterion, keep=keep, **SWITCHES.get(criterion, {}))


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


@cache
def before(criterion):
    """As many tokens before the language model as High's honest price pays for, the choice too."""
    config = create_lvlm().config.text_config
    asked = [q for kind in KINDS for _, q in questions_of("test", kind, 20)]
    words = round(float(np.mean([1 + len(encode(q.words)) for q in asked])))

    def price(plan):
        return macs(config, N_TOKENS, plan, words, overhead=True, n_instruction_tokens=words - 1)

    def at(n):
        return Schedule((0,), (n / N_TOKENS,), score=criterion)

    paid = price(schedule_of("transprune"))
    return at(max(n for n in range(1, N_TOKENS) if price(at(n)) <= paid))


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
    found |= {f"{c}, before": before(c) for c in BEFORE}
    found |= {
        f"{c}, {budget}": schedule_of(c, budget) for budget in BUDGETS_OF_COUNTS for c in COUNTED
    }
    true_shares = HIGH.scaled(N_LAYERS, distinct=False)
    for c in ("transprune", "iga", "random"):
        found[f"{c}, High, true shares"] = replace(true_shares, score=c)
    for when, at in (("High", schedule_of), ("High, early", lambda c: early(schedule_of(c)))):
        found[f"sparsevlm, {when}"] = at("sparsevlm")
        for words, normalise in NORMALISED.items():
            found[f"transprune, {when}, {words}"] = replace(at("transprune"), normalise=normalise)
    for alpha in (0.25, 0.75):
        found[f"transprune, High, α = {alpha:g}"] = replace(schedule_of("transprune"), alpha=alpha)
    return found
