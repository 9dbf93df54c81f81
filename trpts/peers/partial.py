"""Methods that train a part of what the model has: BitFit, and TR-PTS's mask written as a mask."""

from functools import partial
from typing import Any

import torch
from torch import nn

from trpts.data.task import Task
from trpts.layers import classifier
from trpts.methods import Prepared, check_trpts, method, prepare_trpts
from trpts.signals import ScoreFunction
from trpts.sparse import detach, sparse_layers


@method("bitfit")
def prepare_bitfit(model: nn.Module, task: Task, seed: int) -> Prepared:
    """All biases, norms' included, and the head (BitFit, Ben Zaken et al., 2022).

    A block of width D with an MLP of 4D trains 11 D: 3 D + D + 4 D + D, and 2 D of its norms.
    """
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    classifier(model).requires_grad_(True)
    return Prepared(leave_unused=True)


def check_connections(model: nn.Module, **options: Any) -> None:
    """As TR-PTS, but no tokens are selected: options that place the selection are refused."""
    if idle := [f"{n}={options[n]!r}" for n in ("n_token_blocks", "placement") if n in options]:
        raise ValueError(
            f"{', '.join(idle)}: expected neither, as TR-PTS's token selection "
            "is no part of this method"
        )
    check_trpts(model, keep=1, **options)


@method("mask", check_connections, score="fisher")
def prepare_mask(
    model: nn.Module,
    task: Task,
    seed: int,
    *,
    score: str | ScoreFunction = "fisher",
    n_scored: int = 500,
    biases: bool = True,
    **allocation: Any,
) -> Prepared:
    """TR-PTS's update as it is written, Θ ← Θ − η (M ⊙ ∇L): the whole gradient of each layer, then
    the mask.

    What GPS and its relatives do. The optimiser sees whole weights; the plan counts what the mask
    lets through. Adam leaves the rest as it was as long as there is no weight decay, which no mask
    on gradients stops.
    """
    options = {"score": score, "n_scored": n_scored, "biases": biases, **allocation}
    prepared = prepare_trpts(model, task, seed, keep=1, **options)
    index = {name: layer.index for name, layer in sparse_layers(model).items()}
    trained = {
        name
        for name, p in model.named_parameters()
        if p.requires_grad and not name.endswith("values")
    }
    detach(model)
    handles = []
    for name, parameter in model.named_parameters():
        layer = name.removesuffix(".weight")
        parameter.requires_grad_(name in trained or layer in index)
        if layer in index and name not in trained:
            mask = (
                torch.zeros_like(parameter).view(len(parameter), -1).scatter_(1, index[layer], 1.0)
            )
            handles.append(parameter.register_hook(partial(torch.mul, mask.view_as(parameter))))
    return Prepared(prepared.plan, finish=lambda: [handle.remove() for handle in handles])
