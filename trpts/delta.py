"""Deltas: what tuning changed, as one small safetensors file per task; put in, taken out and swapped to the bit.

A file holds for each layer the index [out, C] (16 bits an entry where the fan-in allows), the tuned values, the biases,
and the head; its metadata name the backbone by the hash of its weights and carry what prediction needs. At two
connections per neuron of ViT-B/16 that is 1.3 MB beside the head, where the whole model takes 343 MB.
"""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import nn

from trpts.files import read_tensors, write_tensors
from trpts.sparse import attached, check_index, sparse_layers

FORMAT = "trpts delta 1"


@dataclass
class Delta:
    """layers {name: (index int64 [out, C], values [out, C], bias [out] or None)}, head (weight [K, D], bias [K]).

    notes  JSON-able: "backbone_hash", and what `save_delta` was given: tokens, class_names, …
    """

    layers: dict
    head: tuple
    notes: dict = field(default_factory=dict)


def save_delta(model, path, **notes):
    """Write what an attached model has learnt; the Delta.

    notes   JSON-able settings to keep with it: backbone="…", tokens=result.tokens, class_names=[…], …
    raises  ValueError: the model is not attached
    """
    if not attached(model):
        raise ValueError("the model has no selected connections: a delta is saved from an attached model")
    head, layers, tensors = model.get_classifier(), {}, {}
    for name, layer in sparse_layers(model).items():
        bias = layer.bias.detach().clone() if layer.bias is not None and layer.bias.requires_grad else None
        layers[name] = layer.index, layer.values.detach().clone(), bias
        small = torch.uint16 if layer.weight[0].numel() <= 2**16 else torch.uint32
        tensors |= {f"index.{name}": layer.index.to(small), f"values.{name}": layers[name][1]}
        if bias is not None:
            tensors[f"bias.{name}"] = bias
    tensors |= {"head.weight": head.weight.detach(), "head.bias": head.bias.detach()}
    notes = {"format": FORMAT, "backbone_hash": backbone_hash(model), **notes}
    write_tensors(path, tensors, notes)
    return Delta(layers, (tensors["head.weight"].clone(), tensors["head.bias"].clone()), notes)


def read_delta(path):
    """The Delta in a file; nothing in it is executed.

    raises  ValueError: not a delta, truncated, or parts that do not fit each other
    """
    tensors, notes = read_tensors(path, "a readable delta")
    names = [name.removeprefix("index.") for name in tensors if name.startswith("index.")]
    missing = {"head.weight", "head.bias", *(f"values.{name}" for name in names)} - tensors.keys()
    numbers = {name: tensor for name, tensor in tensors.items() if not name.startswith("index.")}
    bad = [name for name, t in numbers.items() if not (t.is_floating_point() and t.isfinite().all())]
    if notes.get("format") != FORMAT or missing or bad:
        raise ValueError(
            f"{path} is not a readable delta: its format is {notes.get('format')!r} (expected {FORMAT!r}), missing is "
            f"{', '.join(sorted(missing)) or 'nothing'}, not of finite numbers is {', '.join(bad) or 'nothing'}"
        )
    layers = {n: (tensors[f"index.{n}"].long(), tensors[f"values.{n}"], tensors.get(f"bias.{n}")) for n in names}
    return Delta(layers, (tensors["head.weight"], tensors["head.bias"]), notes)


def load_delta(model, delta):
    """Put a delta into a plain model, in place of one that is in it already; the Delta.

    Originals are kept aside and put back later, not subtracted: A, then B, then A again is A to the bit. The backbone's
    hash is taken when the first delta is put in (0.2 s for ViT-B/16); a swap costs milliseconds.

    delta   a path, or a Delta from `read_delta`
    raises  ValueError: a delta of another backbone, or one that does not fit; an attached model. It is untouched then
    """
    delta = delta if isinstance(delta, Delta) else read_delta(delta)
    if attached(model):
        raise ValueError("the model has selected connections: detach it before a delta is put in")
    inside, wanted = vars(model).get("_delta"), delta.notes.get("backbone_hash")
    found = inside["backbone_hash"] if inside else backbone_hash(model)
    if found != wanted:
        raise ValueError(f"the delta belongs to another backbone: weights {wanted}, those of this model are {found}")
    modules = dict(model.named_modules())
    _check(model, modules, delta)
    unload_delta(model)
    before, head = {}, model.get_classifier()
    fresh = nn.Linear(head.in_features, len(delta.head[1]), device=head.weight.device, dtype=head.weight.dtype)
    with torch.no_grad():
        for name, (index, values, bias) in delta.layers.items():
            layer = modules[name]
            rows, index = layer.weight.view(len(index), -1), index.to(layer.weight.device)
            before[name] = index, rows.gather(1, index), None if bias is None else layer.bias.clone()
            rows.scatter_(1, index, values.to(rows))
            if bias is not None:
                layer.bias.copy_(bias)
        for parameter, value in zip((fresh.weight, fresh.bias), delta.head, strict=True):
            parameter.copy_(value)
    _set_head(model, fresh)
    model._delta = {"backbone_hash": found, "before": before, "head": head}
    return delta


@torch.no_grad()
def unload_delta(model):
    """Take out the delta that is in the model, if there is one: the weights are the backbone's, to the bit."""
    inside = vars(model).pop("_delta", None)
    if inside is None:
        return
    for name, (index, values, bias) in inside["before"].items():
        layer = model.get_submodule(name)
        layer.weight.view(len(index), -1).scatter_(1, index, values)
        if bias is not None:
            layer.bias.copy_(bias)
    _set_head(model, inside["head"])


def backbone_hash(model):
    """First 16 hex digits of the SHA-256 of all weights but the head's: names, shapes, types and bytes.

    Of an attached model, as they were before `attach`.
    """
    digest, head = hashlib.sha256(), _head_name(model)
    before = vars(model).get("_before_attach", {"tensors": {}})["tensors"]
    for name, tensor in model.state_dict().items():
        layer, _, part = name.rpartition(".")
        if name.startswith(f"{head}.") or (layer in before and part == "values"):
            continue
        if layer in before:
            values, bias = before[layer]
            if part == "weight":
                index = model.get_submodule(layer).index
                tensor = tensor.clone().view(len(index), -1).scatter_(1, index, values).view_as(tensor)
            else:
                tensor = bias
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _head_name(model):
    return next(name for name, module in model.named_modules() if module is model.get_classifier())


def _set_head(model, head):
    setattr(model, _head_name(model), head)
    model.num_classes = head.out_features


def _check(model, modules, delta):
    for name, (index, values, bias) in delta.layers.items():
        check_index(name, modules.get(name), index)
        if values.shape != index.shape or (bias is not None and bias.shape != index.shape[:1]):
            raise ValueError(f"the delta's values or biases of {name} do not fit its index {list(index.shape)}")
        if bias is not None and modules[name].bias is None:
            raise ValueError(f"the delta has biases for {name}, which has none")
    (weight, bias), width = delta.head, model.get_classifier().in_features
    if bias.ndim != 1 or weight.shape != (len(bias), width):
        raise ValueError(f"the delta's head is {list(weight.shape)} with biases {list(bias.shape)}: expected "
                         f"[classes, {width}] with [classes]")  # fmt: skip
