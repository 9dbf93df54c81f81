"""The schedules that the assembled model is asked under: which, where in its depth, at which price.

All that is compared is named here and in data/preregistration.md, before anything is run. Where
"before" and "after" the knee lie follows from the information horizon, by the rule of `knee`.
"""

from dataclasses import asdict, replace
from functools import cache

import numpy as np

from trpts.transprune.costs import macs
from trpts.transprune.schedule import FASTV, HIGH, LOW_INFERRED, RELEASED_CODE, Schedule
from trpts_lab.assembled.compositions import N_TOKENS, SIDE
from trpts_lab.assembled.packing import around
from trpts_lab.assembled.parts import language_config, tokenizer

N_LAYERS = 30
STAGES = HIGH.scaled(N_LAYERS).prune_after  # 7, 9, 12 of 32 are 7, 8, 11 of 30
CRITERIA = ("transprune", "ttv", "iga", "random", "uniform", "oracle")
MORE = ("released", "norm", "fastv")  # at the paper's placement alone
PLACEMENTS = ("paper", "before", "after")
# What a criterion changes of the paper's schedule, beside its name
SWITCHES = {"fastv": {"iga": FASTV.iga, "iga_layer": FASTV.iga_layer}}
# Ahead of the first layer: at each placement's price, and at the paper's alone
AHEAD = ("divprune", "random")
MORE_AHEAD = ("cdpruner", "visionzip", "uniform", "oracle")
NORMALISED = {"sums of 1": True, "ranks": "rank"}
ALPHAS = (0.25, 0.75)
LOW = ("transprune", "iga", "random")
ASKED = "Is the red star left of the cat?"  # a question of usual length, for prices
HORIZON = {f"no image behind {layer}": layer for layer in range(1, N_LAYERS)}
UNPRUNED, GREY = "unpruned", "question alone"


def without_image(layer):
    """One token, drawn at random, is all that is left of the image behind a layer."""
    return Schedule((layer,), (1 / N_TOKENS,), accumulate=(), score="random")


def horizon():
    """{variant: Schedule or None}: what is asked of the validation split, to find the knee."""
    return {UNPRUNED: None, GREY: None} | {
        name: without_image(layer) for name, layer in HORIZON.items()
    }


def knee(accuracy):
    """(k10, k90): the deepest layer behind which the loss of the image still costs nine tenths of
    what seeing it is worth, and the first behind which it costs a tenth at most.

    accuracy  {variant of `horizon`: mean accuracy}; between the grey image's and the unpruned
    """
    floor, top = accuracy[GREY], accuracy[UNPRUNED]
    share = {layer: (accuracy[name] - floor) / (top - floor) for name, layer in HORIZON.items()}
    k10 = max((layer for layer, x in share.items() if x <= 0.1), default=0)
    k90 = min((layer for layer, x in share.items() if x >= 0.9), default=N_LAYERS - 1)
    return k10, k90


def stages_at(placement, k10, k90):
    """The three layers behind which a placement prunes: the paper's, moved as one."""
    span = STAGES[-1] - STAGES[0]
    first = {
        "paper": STAGES[0],
        "before": max(1, k10 - span),
        "after": min(k90, N_LAYERS - 1 - span),
    }[placement]
    return tuple(layer + first - STAGES[0] for layer in STAGES)


def at(stages, criterion, keep=HIGH.keep):
    """The Schedule of a criterion behind three layers; it sums transitions from first to last."""
    layers = tuple(range(stages[0], stages[-1] + 1))
    placed = dict(prune_after=stages, accumulate=layers, keep=keep)
    if criterion == "released":
        return replace(RELEASED_CODE, **placed)
    return replace(HIGH, **placed, score=criterion, **SWITCHES.get(criterion, {}))


def one_shot(staged):
    """All at once behind the first stage, at about the staged schedule's multiply-accumulates."""
    first, *_ = staged.prune_after
    layers = np.diff([*staged.prune_after, N_LAYERS])
    keep = float(layers @ np.array(staged.keep)) / (N_LAYERS - first)
    return replace(staged, prune_after=(first,), keep=(keep,), accumulate=(first,))


def price(schedule, n_image=N_TOKENS):
    """Multiply-accumulates of the language model for the image, the text and the choice."""
    before, after = around()
    asked = len(tokenizer()(ASKED).input_ids) + len(after)
    n_text = len(before) - N_TOKENS + asked
    return macs(
        language_config(), n_image, schedule, n_text, overhead=True, n_instruction_tokens=asked
    )


@cache
def ahead(criterion, paid):
    """As many tokens before the language model as a price pays for, the choice included."""
    plans = [Schedule((0,), (n / N_TOKENS,), score=criterion) for n in range(1, N_TOKENS)]
    return max((plan for plan in plans if price(plan) <= paid), key=lambda plan: plan.keep)


def smaller_side(paid):
    """Patches along the side of the largest smaller picture that a price pays for."""
    return max(side for side in range(1, SIDE) if price(None, side**2) <= paid)


def variants(k10, k90):
    """{name: Schedule; None: unpruned; a whole number: patches along a smaller picture}."""
    found = {UNPRUNED: None, GREY: None}
    for placement in PLACEMENTS:
        stages = stages_at(placement, k10, k90)
        found |= {f"{c}, {placement}": at(stages, c) for c in CRITERIA}
        paid = price(at(stages, "transprune"))
        found |= {f"{c} ahead, {placement}": ahead(c, paid) for c in AHEAD}
    for placement in ("paper", "before"):
        ours = at(stages_at(placement, k10, k90), "transprune")
        for words, normalise in NORMALISED.items():
            found[f"transprune, {placement}, {words}"] = replace(ours, normalise=normalise)
    stages = stages_at("paper", k10, k90)
    ours = at(stages, "transprune")
    found |= {f"{c}, paper": at(stages, c) for c in MORE}
    found |= {f"{c} ahead, paper": ahead(c, price(ours)) for c in MORE_AHEAD}
    found["smaller picture, paper"] = smaller_side(price(ours))
    for words, plan in (("", ours), (", ranks", replace(ours, normalise="rank"))):
        for alpha in ALPHAS:
            found[f"transprune, paper{words}, α = {alpha:g}"] = replace(plan, alpha=alpha)
        found[f"transprune, paper{words}, one shot"] = one_shot(plan)
    for c in ("transprune", "random"):
        found[f"{c}, paper, compact"] = replace(at(stages, c), positions="compact")
    return found | {f"{c}, paper, Low": at(stages, c, LOW_INFERRED.keep) for c in LOW}


def switches(schedule):
    """A Schedule as a record holds it: what differs from the default, and which score."""
    if schedule is None:
        return None
    default = asdict(Schedule())
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(schedule).items()
        if name in ("prune_after", "keep", "accumulate", "score") or value != default[name]
    }
