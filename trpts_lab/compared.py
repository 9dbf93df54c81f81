"""What is compared, under which names: the one table that sweeps, benches, claims and pages read.

METHODS    the drawn laboratory's comparison: {name: (method of `trpts.tune`, options)}
FAIR       the comparison on real weights and images
ABLATIONS  the switches of TR-PTS, one figure each: {figure: {variant: (method, options)}}. Each
           figure holds the method as it is compared (OURS or WITH_TOKENS) and what differs from it
           in one switch. A variant of the same name in two figures is the same run.
CAUSES     conditions under which a loss to chance is looked at again: {condition: what a run
           changes}

A name that is used elsewhere is a constant here; it is typed once.
"""

from typing import NamedTuple

from trpts.scores import SCORES

HEAD, FULL = "linear", "full"  # the head alone; everything
OURS, WITH_TOKENS = "TR-PTS without tokens", "TR-PTS"
WITH_EVIT, WITH_TOME = "TR-PTS with EViT", "TR-PTS with ToMe"
LORA_1, LORA_2, LORA_8 = "LoRA, r = 1", "LoRA, r = 2", "LoRA, r = 8"
GPS, FPS, RANDOM, SHUFFLED = "GPS", "FPS", "random", "shuffled Fisher"
SSF, ADAPTER, VPT_DEEP, VPT_SHALLOW = "SSF", "adapter", "VPT-deep", "VPT-shallow"

# Selection: two connections per neuron (C). Tokens: about a third of the FLOPs saved.
PLAIN = {"per_neuron": 2.0, "keep": 1}
TOKENS = {"per_neuron": 2.0, "keep": 0.5}
METHODS = {
    HEAD: ("linear", {}),
    FULL: ("full", {}),
    OURS: ("trpts", PLAIN),
    WITH_TOKENS: ("trpts", TOKENS),
    LORA_2: ("lora", {"r": 2}),
    GPS: ("gps", {"per_neuron": 2}),
    SSF: ("ssf", {}),
    "BitFit": ("bitfit", {}),
    ADAPTER: ("adapter", {"size": 8}),
    LORA_1: ("lora", {"r": 1}),
    LORA_8: ("lora", {"r": 8}),
    VPT_DEEP: ("vpt-deep", {"n_prompts": 10}),
    VPT_SHALLOW: ("vpt-shallow", {"n_prompts": 10}),
    "SHiRA": ("shira", {"r": 1}),
    FPS: ("fps", {"per_neuron": 2}),
    RANDOM: ("random", {"per_neuron": 2}),
    WITH_EVIT: ("evit", {"per_neuron": 2.0, "keep": 0.7}),
    WITH_TOME: ("tome", {"per_neuron": 2.0, "r": 5}),
}
# Whose rate a method uses that only loses tokens on top of it; every other method has its own.
FAMILY = dict.fromkeys((WITH_TOKENS, WITH_EVIT, WITH_TOME), OURS)
CORE = (HEAD, FULL, OURS, WITH_TOKENS, LORA_2, GPS)
SMALL_STEPS = (HEAD, FULL)  # a probed head wants small steps, and so do all parameters together
SEEDS = (0, 1, 2)


class Comparison(NamedTuple):
    """Two comparisons there are: {name: (method, options)}, whose rate each method uses, seeds.

    core          the methods that run on tasks which are not compared as well
    tuning_seeds  of the choice of learning rates
    fair          whether rates are extended and the head has its own
    """

    methods: dict
    family: dict
    core: tuple
    seeds: tuple
    tuning_seeds: tuple
    fair: bool = False


# Scored with a head that is fitted on other images; Fisher's score allocates to every selection.
SELECTED = {"per_neuron": 2.0, "keep": 1, "n_scored": 200, "held_out": True}
FAIR = {
    HEAD: ("linear", {}),
    FULL: ("full", {}),
    LORA_8: ("lora", {"r": 8}),
    GPS: ("trpts", {"score": "gps", "allocated_by": "fisher", **SELECTED}),
    RANDOM: ("trpts", {"score": "random", "allocated_by": "fisher", **SELECTED}),
    SHUFFLED: ("trpts", {"score": "fisher_shuffled", **SELECTED}),
    OURS: ("trpts", SELECTED),
    WITH_TOKENS: ("trpts", {**SELECTED, "keep": 0.7}),
}
COMPARISONS = {
    "laboratory": Comparison(METHODS, FAMILY, CORE, SEEDS, (0,)),
    "fair": Comparison(FAIR, {}, tuple(FAIR), (0, 1), (0, 1), fair=True),
}


def scored_by(name: str) -> str:
    """The variant of TR-PTS that selects by another score, by the score's name."""
    return f"score: {SCORES[name].label}"


def placed(placement: str, keep: float = TOKENS["keep"]) -> str:
    """The variant of TR-PTS that selects tokens in other blocks, or keeps another share of them."""
    return f"{placement}, ρ = {keep}"


def _plain(**changed):
    return "trpts", PLAIN | changed


def _tokens(**changed):
    return "trpts", TOKENS | changed


METHOD_SCORE = "fisher"  # TR-PTS's own
TOKENS_ALONE, NO_BIASES, UNIFORM = "tokens alone", "no biases", "uniform C"
FEWER_SCORED, ALL_SCORED, C_8 = "128 scored", "800 scored", "C = 8"
RATE_OF = {TOKENS_ALONE: HEAD}  # whose learning rate a variant uses, where it is not TR-PTS's
_BASE, _FULL = {OURS: METHODS[OURS]}, {WITH_TOKENS: METHODS[WITH_TOKENS]}
_ENDS = {name: METHODS[name] for name in (HEAD, FULL)}
ABLATIONS = {
    "score": _BASE
    | {
        scored_by(name): _plain(score=name)
        for name, score in SCORES.items()
        if score.label and name != METHOD_SCORE
    },
    "allocation": _BASE
    | {
        "w: mean score": _plain(w="mean"),
        "w: per block": _plain(per="block"),
        UNIFORM: ("uniform", {"per_neuron": 2}),
    },
    "connections": {
        HEAD: METHODS[HEAD],
        "C = 1": _plain(per_neuron=1.0),
        **_BASE,
        "C = 4": _plain(per_neuron=4.0),
        C_8: _plain(per_neuron=8.0),
        "C = 16": _plain(per_neuron=16.0),
        FULL: METHODS[FULL],
    },
    "samples": {
        "32 scored": _plain(n_scored=32),
        FEWER_SCORED: _plain(n_scored=128),
        **_BASE,
        ALL_SCORED: _plain(n_scored=800),
    },
    "biases": _BASE | {NO_BIASES: _plain(biases=False)},
    "parts": {HEAD: METHODS[HEAD], TOKENS_ALONE: _tokens(connections=False), **_BASE, **_FULL},
    "placement": _BASE
    | {
        placed(placement, keep): _tokens(keep=keep, placement=placement)
        for keep in (0.5, 0.7, 0.95)
        for placement in ("sparse", "dense", "random", "every")
        if (placement, keep) != ("sparse", TOKENS["keep"])
    }
    | _FULL,
    "merge": _FULL
    | {"the others dropped": _tokens(merge="drop"), "the others summed": _tokens(merge="sum")},
    "token score": _FULL
    | {
        "token score: transition": _tokens(token_score="ttv"),
        "token score: both": _tokens(token_score="both"),
    },
}

_SLOWER, _DRAWN_HEAD = {"lr_divided_by": 3}, {"options": {"head": "keep"}}
# What a run changes: TR-PTS' options, learning rate, epochs, weights (of that backbone only).
CAUSES = {
    "a third of the rate": _SLOWER,
    C_8: {"options": {"per_neuron": 8.0}},
    f"{C_8}, a third of the rate": _SLOWER | {"options": {"per_neuron": 8.0}},
    NO_BIASES: {"options": {"biases": False}},
    "a drawn head": _DRAWN_HEAD,
    "a drawn head, a third of the rate": _SLOWER | _DRAWN_HEAD,
    "four times the epochs": {"epochs_times": 4},
    "a weaker backbone": {
        "backbone": "vit_lab",
        "weights": "data/weights/vit_lab_short.safetensors",
    },
}
