"""Allocation: how many connections may each neuron train, and which blocks get fewer tokens?

TR-PTS turns scores into a number of connections per neuron for each layer l,

    C_l = max(1, w_l / min(w) · C_min)                                      (TR-PTS, section 3)

where w_l is the layer's part of the top-scored parameters, and takes the C_l best-scored inputs of
every neuron, so that each row of a layer's weight has equally many trained entries. Tokens are then
selected in blocks where few parameters are trained.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import nn

from trpts.budget import floor, solve
from trpts.layers import heads
from trpts.placement import PLACEMENTS, block_of, place
from trpts.signals import Scores

WEIGHTS = ("share", "mean")
COUNTED = ("weights", "biases", "head")
N_TOKEN_BLOCKS = 3  # blocks that select tokens, unless the caller says otherwise


@dataclass(frozen=True)
class Allocation:
    """What `allocate` decided.

    connections   {layer: C_l}, 1 <= C_l <= fan-in
    token_blocks  blocks that select tokens, ascending
    w             {layer: w_l}, the layer weights that it rests on
    c_min         C_min of the equation: given, or found by the solver
    n_neurons     output neurons of all layers together, Σ_l out_l
    counted       {"weights", "biases", "head"}: trainable scalars of each kind; 0 where `count`
                  leaves it out
    n_backbone    parameters of the model without its head; None where no model was given
    """

    connections: dict[str, int]
    token_blocks: tuple[int, ...]
    w: dict[str, float]
    c_min: float
    n_neurons: int
    counted: dict[str, int] = field(default_factory=dict)
    n_backbone: int | None = None

    @property
    def n_trainable(self) -> int:
        """Trainable scalars, of the kinds that were counted."""
        return sum(self.counted.values())

    @property
    def trainable_fraction(self) -> float | None:
        """n_trainable as a share of the backbone, in [0, 1]; None without a model."""
        return None if self.n_backbone is None else self.n_trainable / self.n_backbone

    @property
    def connections_per_neuron(self) -> float:
        """Σ_l out_l C_l / Σ_l out_l: unlike a share, it carries over to models of other widths."""
        return self.counted["weights"] / self.n_neurons

    def select(self, scores: Scores) -> dict[str, torch.Tensor]:
        """The C_l best-scored inputs of every neuron: {layer: int64 [out, C_l]}, rows ascending."""
        if scores.keys() != self.connections.keys():
            raise ValueError(
                "the scores are of other layers than the allocation: expected the ones it was "
                "made from"
            )
        return {
            name: scores[name].topk(C, dim=1).indices.sort(dim=1).values
            for name, C in self.connections.items()
        }


def allocate(
    scores: Scores,
    model: nn.Module | None = None,
    *,
    budget: float | None = None,
    per_neuron: float | None = None,
    c_min: float = 1.0,
    w: str = "share",
    top_fraction: float = 0.01,
    per: str = "layer",
    count: Collection[str] = COUNTED,
    n_token_blocks: int = N_TOKEN_BLOCKS,
    placement: str = "sparse",
    seed: int = 0,
) -> Allocation:
    """Decide C_l for every scored layer, and the blocks that select tokens.

    w             "share": w_l = the layer's share of the `top_fraction` best-scored weights of the
                  whole model (the note on the paper; the M % it takes is not public: ours is 1 %);
                  "mean": w_l = mean score of the layer (the brief). A layer with w_l = 0 gets C_l =
                  1, and min(w) is taken over the others.
    per           "layer": w_l of each Linear layer; "block": of each transformer block, the same
                  C_l for its layers. The paper's "layer" may mean either.
    c_min         C_min, > 0. Fractions are allowed: below 1 the floor of one connection binds in
                  the lightest layers.
    budget        share of the backbone's parameters that may be trained, in (0, 1], needs `model`;
                  or
    per_neuron    mean connections per neuron, >= 1. With either, C_min is solved for: the largest
                  one whose total stays inside the budget; what rounding leaves over goes to the
                  layers with the largest remainders, one connection each, and what is left when all
                  layers with w_l > 0 are full to the others.
    count         kinds of scalars that the budget pays for: "weights", and "biases" and "head" if
                  they are trained and `model` is given
    placement     "sparse": the n_token_blocks blocks with the fewest trained connections (the
                  paper's choice; how many it does not say), "dense": with the most, "random" (by
                  `seed`), "every": all blocks
    raises        ValueError: an unknown name, a budget that one connection per neuron already
                  exceeds, scores that are empty, negative or not finite
    """
    check_options(w, top_fraction, per, placement, count, budget, per_neuron, c_min)
    if budget is not None and model is None:
        raise ValueError("a budget is a share of the model's parameters: expected `model` with it")
    _check_scores(scores)
    weights = layer_weights(scores, w, top_fraction, per)
    positive = [x for x in weights.values() if x > 0]
    ratio = {name: x / min(positive) for name, x in weights.items()}
    rows = {name: score.shape[0] for name, score in scores.items()}
    fan_in = {name: score.shape[1] for name, score in scores.items()}
    extra = {"biases": 0, "head": 0} | ({} if model is None else _extra(model, scores, count))
    n_backbone = (
        None if model is None else sum(p.numel() for p in model.parameters()) - _n_head(model)
    )

    def exact(c):  # the equation before rounding, capped at what a neuron has
        return {name: min(max(1.0, r * c), fan_in[name]) for name, r in ratio.items()}

    if budget is not None and n_backbone is not None:
        n_weights = budget * n_backbone - sum(extra.values())
        if n_weights < sum(rows.values()):
            needed = (sum(rows.values()) + sum(extra.values())) / n_backbone
            raise ValueError(
                f"budget={budget:.3g} is below one connection per neuron: expected at least "
                f"{needed:.3g}"
            )
        c_min, connections = solve(exact, ratio, rows, fan_in, n_weights)
    elif per_neuron is not None:
        c_min, connections = solve(exact, ratio, rows, fan_in, per_neuron * sum(rows.values()))
    else:
        connections = {name: floor(x) for name, x in exact(c_min).items()}
    counted = {"weights": sum(rows[name] * C for name, C in connections.items()), **extra}
    blocks = place(connections, rows, weights, n_token_blocks, placement, seed)
    return Allocation(connections, blocks, weights, c_min, sum(rows.values()), counted, n_backbone)


def layer_weights(
    scores: Scores, w: str = "share", top_fraction: float = 0.01, per: str = "layer"
) -> dict[str, float]:
    """{layer: w_l}, normalised to sum 1 over the groups that `per` makes: see `allocate`."""
    groups: dict[str | int | None, list[str]] = {}
    for name in scores:
        groups.setdefault(name if per == "layer" else block_of(name), []).append(name)
    if w == "mean":
        value = {
            g: torch.cat([scores[n].flatten() for n in names]).double().mean()
            for g, names in groups.items()
        }
    else:
        everything = torch.cat([score.flatten() for score in scores.values()])
        n_top = max(1, round(top_fraction * everything.numel()))
        top = torch.zeros_like(everything, dtype=torch.bool)
        top[everything.topk(n_top).indices] = (
            True  # by rank, so that ties cannot make the set larger
        )
        parts = dict(
            zip(scores, top.split([score.numel() for score in scores.values()]), strict=True)
        )
        value = {g: sum(parts[n].sum() for n in names).double() for g, names in groups.items()}
    total = sum(value.values())
    return {
        name: (value[name if per == "layer" else block_of(name)] / total).item() for name in scores
    }


def _n_head(model):
    return sum(p.numel() for head in heads(model) for p in head.parameters())


def _extra(model, scores, count):
    modules = dict(model.named_modules())
    biases = sum(modules[name].bias.numel() for name in scores if modules[name].bias is not None)
    return {
        "biases": biases if "biases" in count else 0,
        "head": _n_head(model) if "head" in count else 0,
    }


def check_options(
    w: str = "share",
    top_fraction: float = 0.01,
    per: str = "layer",
    placement: str = "sparse",
    count: Collection[str] = COUNTED,
    budget: float | None = None,
    per_neuron: float | None = None,
    c_min: float = 1.0,
) -> None:
    """Raise ValueError for options that `allocate` cannot take, whatever the scores."""
    for name, value, known in (
        ("w", w, WEIGHTS),
        ("per", per, ("layer", "block")),
        ("placement", placement, PLACEMENTS),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown: expected one of {', '.join(known)}")
    if "weights" not in count or set(count) - set(COUNTED):
        raise ValueError(
            f"count={tuple(count)}: expected weights, and beside it biases and head or not"
        )
    if not 0 < top_fraction <= 1:
        raise ValueError(f"top_fraction={top_fraction}: expected a share of the weights in (0, 1]")
    if budget is not None and per_neuron is not None:
        raise ValueError(f"budget={budget} and per_neuron={per_neuron}: expected one of the two")
    if budget is not None and not 0 < budget <= 1:
        raise ValueError(f"budget={budget}: expected a share of the parameters in (0, 1]")
    if per_neuron is not None and not 1 <= per_neuron < math.inf:
        raise ValueError(
            f"per_neuron={per_neuron}: expected a finite number, at least one connection per neuron"
        )
    if not 0 < c_min < math.inf:
        raise ValueError(f"c_min={c_min}: expected a finite number above 0")


def _check_scores(scores):
    if not scores:
        raise ValueError("scores are empty: expected {layer: tensor [out, in]}")
    for name, score in scores.items():
        if not (torch.isfinite(score).all() and (score >= 0).all()):
            raise ValueError(f"the score of layer {name} has NaN, infinite or negative entries")
    if not any(score.any() for score in scores.values()):
        raise ValueError("every score is zero: nothing tells the layers apart")
