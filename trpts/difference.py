"""The delta between two checkpoints: which connections of each neuron a tuning changed."""

import torch
from torch import nn

from trpts.delta import FORMAT, Delta, backbone_hash
from trpts.layers import classifier, head_name
from trpts.sparse import check_index, sparse_class

MOST = 0.5  # share of a layer's inputs that a neuron may use: with more, a delta saves nothing


@torch.no_grad()
def difference(base: nn.Module, tuned: nn.Module) -> Delta:
    """The Delta that turns `base` into `tuned`, two plain models of one architecture; their heads
    may have different numbers of classes.

    A layer's index has as many connections a neuron as the neuron that changed most; others are
    filled up with connections that did not change.
    raises  ValueError: where the difference is none, or no delta can hold it: what was found
    """
    ours, theirs = (_without_head(model) for model in (base, tuned))
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise ValueError(f"{odd} is in one of the two models alone: expected one architecture")
    for name, parameter in ours.items():
        if parameter.shape != theirs[name].shape:
            raise ValueError(
                f"{name} is {list(parameter.shape)} in the one, {list(theirs[name].shape)} in the "
                "other: expected one architecture"
            )
    differing = [name for name, p in ours.items() if not torch.equal(p, theirs[name])]
    if not differing:
        raise ValueError("the two models differ in their heads at most: expected tuned layers")
    for name in differing:
        layer, _, part = name.rpartition(".")
        if part not in ("weight", "bias") or not _fits(base.get_submodule(layer)):
            raise ValueError(
                f"{name} differs, which no delta holds: expected changes of Linear layers and "
                "patch embeddings alone"
            )
    layers = {}
    for name in dict.fromkeys(name.rpartition(".")[0] for name in differing):
        layers[name] = _changed(name, base.get_submodule(name), theirs[f"{name}.weight"])
    found = {}
    for name, index in layers.items():
        weight, bias = theirs[f"{name}.weight"], theirs.get(f"{name}.bias")
        same = bias is None or torch.equal(bias, base.get_submodule(name).bias)
        values = weight.view(len(index), -1).gather(1, index)
        found[name] = index, values.clone(), None if same else bias.clone()
    last = classifier(tuned)
    notes = {"format": FORMAT, "backbone_hash": backbone_hash(base)}
    return Delta(found, (last.weight.clone(), last.bias.clone()), notes)


def _fits(layer):
    return sparse_class(type(layer)) is not None  # type: ignore[arg-type]  # is hashable


def _without_head(model):
    """{name: parameter} of all but the head."""
    head = head_name(model)
    return {n: p for n, p in model.named_parameters() if n.rpartition(".")[0] != head}


def _changed(name, layer, theirs):
    """The index int64 [out, C] of the connections that differ; C at least 1."""
    rows = (layer.weight != theirs).view(len(theirs), -1)
    C, fan_in = max(1, int(rows.sum(1).max())), rows.shape[1]
    if MOST * fan_in < C:
        raise ValueError(
            f"{name} differs in {C} of {fan_in} inputs of a neuron: expected at most "
            f"{int(MOST * fan_in)}, else the layer itself is the smaller file"
        )
    # those that differ first, in their order, then others in theirs
    index = (~rows).long().argsort(dim=1, stable=True)[:, :C].sort(1).values
    check_index(name, layer, index)
    return index
