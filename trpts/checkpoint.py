"""A training in progress as one safetensors file: tensors, the optimiser's state, and notes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trpts.files import check_notes, read_header, read_tensors, write_tensors
from trpts.texts import capped


def save_checkpoint(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    optimizer: Any,  # one of torch's, or several that step as one
    notes: dict[str, Any],
) -> None:
    """Write {name: tensor}, optimiser state, JSON-able notes (safetensors), whole or not at all."""
    tensors = {f"model.{name}": t for name, t in tensors.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
    write_tensors(path, tensors, notes | {"n_tensors": len(tensors)})


def read_checkpoint(
    path: str | Path,
    tensors: dict[str, torch.Tensor] | None = None,
    optimizer: Any = None,
    owner: tuple[str, Any] | None = None,
    schema: dict[str, Any] | None = None,
) -> tuple[dict[str, torch.Tensor], dict[int, dict[str, torch.Tensor]], dict[str, Any]]:
    """(tensors, optimiser state, notes) of what `save_checkpoint` wrote.

    tensors    {name: tensor} that the file must hold, in these shapes and types; None: whatever it
               holds
    optimizer  whose state it must be: for each parameter all of its tensors or, where it was not
               stepped yet, none
    owner      (key, value) of the notes that must be so, compared before anything else: ("recipe",
               "1f2e…")
    schema     JSON Schema of the notes
    raises     ValueError: not such a file, another owner's, or parts that do not fit
    """
    expected = "a checkpoint (move it away)"
    found, notes = read_header(path, expected)
    if owner is not None and notes.get(owner[0]) != owner[1]:
        raise ValueError(
            f"{path} belongs to another {owner[0]} ({capped(notes.get(owner[0]))}): move it away"
        )
    whole = {"properties": {"n_tensors": {"const": len(found)}}}
    check_notes(path, notes, {"allOf": [whole, schema or {}]}, expected)
    wanted = None
    if tensors is not None:
        wanted = {f"model.{name}": t for name, t in tensors.items()} | _state_wanted(
            optimizer, found
        )
    everything, _ = read_tensors(path, expected, wanted)
    state: dict[int, dict[str, torch.Tensor]]
    tensors, state = {}, {}
    for name, tensor in everything.items():
        kind, _, rest = name.partition(".")
        index, _, key = rest.partition(".")
        if kind == "model" and rest:
            tensors[rest] = tensor
        elif kind == "optimizer" and index.isdecimal() and key:
            state.setdefault(int(index), {})[key] = tensor
        else:
            raise ValueError(f"{path} is not {expected}: it should not hold {capped(name)}")
    return tensors, state, notes


# What an optimiser keeps of each parameter that it has stepped, in the parameter's shape.
STATE = {
    "Adam": ("exp_avg", "exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq"),
    "Muon": ("momentum_buffer",),
}


def _state_wanted(optimizer, found):
    """{"optimizer.index.key": tensor} of the parameters whose state is among the names `found`."""
    wanted: dict[str, torch.Tensor]
    wanted, first = {}, 0
    for part in getattr(optimizer, "parts", [optimizer]):
        keys = STATE[type(part).__name__]
        parameters = [p for group in part.param_groups for p in group["params"]]
        for n, p in enumerate(parameters, first):
            each = {f"optimizer.{n}.{key}": p for key in keys}
            if "exp_avg" in keys:
                each[f"optimizer.{n}.step"] = torch.zeros((), device="meta")
            if each.keys() & found.keys():
                wanted |= each
        first += len(parameters)
    return wanted
