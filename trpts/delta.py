"""Deltas: what tuning changed, as one small safetensors file per task; put in, taken out and
swapped to the bit.

A file holds for each layer the index [out, C] (16 bits an entry where the fan-in allows), the tuned
values, the biases, and the head; its metadata name the backbone by the hash of its weights and
carry what prediction needs. At two connections per neuron of ViT-B/16 that is 1.3 MB beside the
head, where the whole model takes 343 MB.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trpts.files import read_header, read_tensors, write_tensors
from trpts.layers import classifier, head_name
from trpts.sparse import attached, check_index, sparse_layers
from trpts.texts import capped

FORMAT = "trpts delta 1"
INDEX_DTYPES = (torch.uint16, torch.uint32, torch.int32, torch.int64)


@dataclass
class Delta:
    """layers {name: (index int64 [out, C], values [out, C], bias [out] or None)}, head (weight [K,
    D], bias [K]).

    notes   JSON-able: "backbone_hash", and what `save_delta` was given: tokens, class_names, …
    origin  the file it was read from, for messages
    """

    layers: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]
    head: tuple[torch.Tensor, torch.Tensor]
    notes: dict[str, Any] = field(default_factory=dict)
    origin: str = "the delta"


def save_delta(model: nn.Module, path: str | Path, **notes: Any) -> Delta:
    """Write what an attached model has learnt; the Delta.

    notes   JSON-able settings to keep with it: backbone="…", tokens=result.tokens, class_names=[…],
            …
    raises  ValueError: the model is not attached
    """
    delta = delta_of(model, **notes)
    write_delta(delta, path)
    return delta


def write_delta(delta: Delta, path: str | Path) -> None:
    """Write a Delta, whole or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    for name, (index, values, bias) in delta.layers.items():
        small = torch.uint16 if index.max() < 2**16 else torch.uint32
        tensors |= {f"index.{name}": index.to(small), f"values.{name}": values}
        if bias is not None:
            tensors[f"bias.{name}"] = bias
    tensors |= dict(zip(("head.weight", "head.bias"), delta.head, strict=True))
    write_tensors(path, tensors, delta.notes)


def delta_of(model: nn.Module, **notes: Any) -> Delta:
    """What an attached model has learnt, as a copy; `notes` and errors as of `save_delta`."""
    if not attached(model):
        raise ValueError(
            "the model has no selected connections: a delta is saved from an attached model"
        )
    head, layers = classifier(model), {}
    for name, layer in sparse_layers(model).items():
        trained = layer.bias is not None and layer.bias.requires_grad
        bias = layer.bias.detach().clone() if trained else None
        layers[name] = layer.index, layer.values.detach().clone(), bias
    return Delta(
        layers,
        (head.weight.detach().clone(), head.bias.detach().clone()),
        {"format": FORMAT, "backbone_hash": backbone_hash(model), **notes},
    )


def read_delta(path: str | Path) -> Delta:
    """The Delta in a file; nothing in it is executed.

    raises  ValueError: not a delta, truncated, names, types or numbers that no delta has
    """
    expected = "a readable delta"
    found, notes = read_header(path, expected)
    names = [name.removeprefix("index.") for name in found if name.startswith("index.")]
    try:
        _check_names(found, notes, names)
    except ValueError as error:
        raise ValueError(f"{path} is not {expected}: {capped(error)}") from error
    tensors, notes = read_tensors(path, expected)
    layers = {
        n: (tensors[f"index.{n}"].long(), tensors[f"values.{n}"], tensors.get(f"bias.{n}"))
        for n in names
    }
    return Delta(layers, (tensors["head.weight"], tensors["head.bias"]), notes, str(path))


def _check_names(found, notes, names):
    """Raise ValueError unless a file's header is that of a delta of the layers `names`."""
    if notes.get("format") != FORMAT:
        raise ValueError(f"its format is {notes.get('format')!r}, expected {FORMAT!r}")
    if not isinstance(notes.get("backbone_hash"), str):
        raise ValueError("its notes have no backbone_hash, expected a text")
    needed = {"head.weight", "head.bias", *(f"values.{name}" for name in names)}
    known = needed | {f"{part}.{name}" for part in ("index", "bias") for name in names}
    for fault, which in (
        ("lacks", needed - found.keys()),
        ("should not hold", found.keys() - known),
    ):
        if which:
            raise ValueError(f"it {fault} {min(which)}")
    for name, (dtype, _) in found.items():
        is_index = name.startswith("index.")
        if not (dtype in INDEX_DTYPES if is_index else dtype.is_floating_point):
            raise ValueError(
                f"{name} is of {dtype}, expected {'whole' if is_index else 'floating-point'} "
                "numbers"
            )


def load_delta(model: nn.Module, delta: str | Path | Delta) -> Delta:
    """Put a delta into a plain model, in place of one that is in it already; the Delta.

    Originals are kept aside and put back later, not subtracted: A, then B, then A again is A to the
    bit. The backbone's hash is taken when the first delta is put in (0.2 s for ViT-B/16); a swap
    costs milliseconds.

    delta   a path, or a Delta from `read_delta`
    raises  ValueError: a delta of another backbone, or one that does not fit; an attached model. It
            is untouched then
    """
    delta = delta if isinstance(delta, Delta) else read_delta(delta)
    if attached(model):
        raise ValueError("the model has selected connections: detach it before a delta is put in")
    inside, wanted = vars(model).get("_delta"), delta.notes.get("backbone_hash")
    found = inside["backbone_hash"] if inside else backbone_hash(model)
    if found != wanted:
        raise ValueError(
            f"{delta.origin} belongs to another backbone: weights {capped(wanted)}, those of this "
            f"model are {found}"
        )
    check_delta(model, delta)
    unload_delta(model)
    before, head, modules = {}, classifier(model), dict(model.named_modules())
    fresh = nn.Linear(
        head.in_features, len(delta.head[1]), device=head.weight.device, dtype=head.weight.dtype
    )
    with torch.no_grad():
        for name, (index, values, bias) in delta.layers.items():
            layer = modules[name]
            rows, index = layer.weight.view(len(index), -1), index.to(layer.weight.device)
            own_bias = None if bias is None else layer.bias.clone()
            before[name] = index, rows.gather(1, index), own_bias
            rows.scatter_(1, index, values.to(rows))
            if bias is not None:
                layer.bias.copy_(bias)
        for parameter, value in zip((fresh.weight, fresh.bias), delta.head, strict=True):
            parameter.copy_(value)
    _set_head(model, fresh)
    vars(model)["_delta"] = {"backbone_hash": found, "before": before, "head": head}
    return delta


@torch.no_grad()
def unload_delta(model: nn.Module) -> None:
    """Take out the delta in the model, if any: the weights are the backbone's again, to the bit."""
    inside = vars(model).pop("_delta", None)
    if inside is None:
        return
    for name, (index, values, bias) in inside["before"].items():
        layer = model.get_submodule(name)
        layer.weight.view(len(index), -1).scatter_(1, index, values)
        if bias is not None:
            layer.bias.copy_(bias)
    _set_head(model, inside["head"])


def backbone_hash(model: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 of all weights but the head's: names, shapes, types and
    bytes.

    Of an attached model, as they were before `attach`.
    """
    digest, head = hashlib.sha256(), head_name(model)
    before = vars(model).get("_before_attach", {"tensors": {}})["tensors"]
    for name, tensor in model.state_dict().items():
        layer, _, part = name.rpartition(".")
        if name.startswith(f"{head}.") or (layer in before and part == "values"):
            continue
        if layer in before:
            values, bias = before[layer]
            if part == "weight":
                index = model.get_submodule(layer).index
                tensor = (
                    tensor.clone().view(len(index), -1).scatter_(1, index, values).view_as(tensor)
                )
            else:
                tensor = bias
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _set_head(model, head):
    setattr(model, head_name(model), head)
    model.num_classes = head.out_features


def check_delta(model: nn.Module, delta: Delta) -> None:
    """Raise ValueError, naming the field, unless the delta fits the model, even one on meta."""
    modules, head = dict(model.named_modules()), classifier(model)
    try:
        for name, (index, values, bias) in delta.layers.items():
            layer: Any = modules.get(name)  # None is refused by check_index
            if layer is head:
                raise ValueError(
                    f"{name} is the head, which is saved whole: expected no index of it"
                )
            check_index(name, layer, index)
            if values.shape != index.shape or (bias is not None and bias.shape != index.shape[:1]):
                raise ValueError(
                    f"values or biases of {name} do not fit its index {list(index.shape)}"
                )
            if bias is not None and layer.bias is None:
                raise ValueError(f"it has biases for {name}, which has none")
            _check_finite(name, layer.weight.dtype, values, bias)
        weight, bias = delta.head
        if bias.ndim != 1 or not len(bias) or weight.shape != (len(bias), head.in_features):
            raise ValueError(
                f"head.weight is {list(weight.shape)} with biases {list(bias.shape)}: expected "
                f"[classes, {head.in_features}] with [classes], at least one"
            )
        _check_finite("head", head.weight.dtype, weight, bias)
    except ValueError as error:
        raise ValueError(f"{delta.origin}: {capped(error, 400)}") from error


def _check_finite(name, dtype, *tensors):
    if not all(t.to(dtype).isfinite().all() for t in tensors if t is not None):
        raise ValueError(f"values of {name} are no finite numbers of {dtype}")
