"""The switches of TR-PTS, one figure each: {figure: {variant: (method, options)}}.

Each figure holds the method as it is compared ("TR-PTS without tokens" or "TR-PTS", see
`trpts_lab.grid`) and what differs from it in one switch. A variant of the same name in two figures
is the same run.
"""

PLAIN = {"per_neuron": 2.0, "keep": 1}
TOKENS = {"per_neuron": 2.0, "keep": 0.5}
# the method whose learning rate a variant uses, where it is not TR-PTS: head only
RATE_OF = {"tokens alone": "linear"}
BASE = {"TR-PTS without tokens": ("trpts", PLAIN)}
FULL = {"TR-PTS": ("trpts", TOKENS)}


def _plain(**changed):
    return "trpts", PLAIN | changed


def _tokens(**changed):
    return "trpts", TOKENS | changed


ABLATIONS = {
    "score": BASE
    | {
        "score: true Fisher": _plain(score="fisher_true"),
        "score: Fisher of batch means": _plain(score="fisher_batch"),
        "score: gradient": _plain(score="gradient"),
        "score: GPS": _plain(score="gps"),
        "score: FPS": _plain(score="fps"),
        "score: magnitude": _plain(score="magnitude"),
        "score: random": _plain(score="random"),
    },
    "allocation": BASE
    | {
        "w: mean score": _plain(w="mean"),
        "w: per block": _plain(per="block"),
        "uniform C": ("uniform", {"per_neuron": 2}),
    },
    "connections": {
        "linear": ("linear", {}),
        "C = 1": _plain(per_neuron=1.0),
        **BASE,
        "C = 4": _plain(per_neuron=4.0),
        "C = 8": _plain(per_neuron=8.0),
        "C = 16": _plain(per_neuron=16.0),
        "full": ("full", {}),
    },
    "samples": {
        "32 scored": _plain(n_scored=32),
        "128 scored": _plain(n_scored=128),
        **BASE,
        "800 scored": _plain(n_scored=800),
    },
    "biases": BASE | {"no biases": _plain(biases=False)},
    "parts": {"linear": ("linear", {}), "tokens alone": _tokens(connections=False), **BASE, **FULL},
    "placement": BASE
    | {
        f"{placement}, ρ = {keep}": _tokens(keep=keep, placement=placement)
        for keep in (0.5, 0.7, 0.95)
        for placement in ("sparse", "dense", "random", "every")
        if (placement, keep) != ("sparse", 0.5)
    }
    | FULL,
    "merge": FULL
    | {"the others dropped": _tokens(merge="drop"), "the others summed": _tokens(merge="sum")},
    "token score": FULL
    | {
        "token score: transition": _tokens(token_score="ttv"),
        "token score: both": _tokens(token_score="both"),
    },
}
