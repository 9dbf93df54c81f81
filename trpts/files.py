"""Tensors with notes as one safetensors file: written whole or not at all, read without executing
anything.

A file may come from anywhere. Its names, types and shapes are compared with what is wanted before a
tensor is read, and every fault ends in a ValueError of one sentence that names the file and the
field.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from trpts.places import fresh_file
from trpts.texts import capped, parse_json, unfit

# names, shapes and notes; twenty thousand class names take about one million
MAX_HEADER_BYTES = 2**24
DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "BOOL": torch.bool,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}
Header = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def write_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], notes: dict | None = None
) -> None:
    """Write {name: tensor} and notes (JSON-able); what is at `path` stays until the new file is
    whole.

    raises  OSError: the disk is full, the folder cannot be written to, or `path` is no regular file
    """
    metadata = None if notes is None else {"notes": json.dumps(notes)}
    try:
        with fresh_file(path) as temporary:
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
                temporary,
                metadata,
            )
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def read_header(path: str | Path, expected: str, noted: bool = True) -> tuple[Header, dict]:
    """({name: (dtype, shape)}, notes) of what `write_tensors` wrote with notes; no tensor is read.

    noted   False: a file of somebody else's, which may have none: they are {} then
    raises  ValueError: not a file of that kind; `expected` says in words what it should be
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a named pipe would be waited for, for ever
            raise ValueError("it is no regular file")
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
        if MAX_HEADER_BYTES < n_bytes <= path.stat().st_size:
            raise ValueError(
                f"its header has {n_bytes:,} bytes, expected at most {MAX_HEADER_BYTES:,}"
            )
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            found = {
                name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()
            }
            metadata = file.metadata() or {}
        if noted and "notes" not in metadata:
            raise ValueError("it has no notes")
        notes = parse_json(metadata.get("notes", "{}"))
        if not isinstance(notes, dict):
            raise ValueError(f"its notes are a {type(notes).__name__}, expected a table")
        for name, (dtype, _) in found.items():
            if dtype not in DTYPES:
                raise ValueError(f"{name} is of type {dtype}, expected one of {', '.join(DTYPES)}")
    except (SafetensorError, OSError, ValueError) as error:
        raise _not(path, expected, error) from error
    return {name: (DTYPES[dtype], shape) for name, (dtype, shape) in found.items()}, notes


def read_notes(path: str | Path, expected: str) -> dict:
    """The notes of a file; raises as `read_header`."""
    return read_header(path, expected)[1]


def read_tensors(
    path: str | Path,
    expected: str,
    wanted: Mapping[str, torch.Tensor] | None = None,
    noted: bool = True,
) -> tuple[dict[str, torch.Tensor], dict]:
    """({name: tensor}, notes) of what `write_tensors` wrote with notes; `noted`: see `read_header`.

    wanted  {name: tensor}: the file must hold exactly these names, in these shapes; what is of
            floats there must be of floats in the file, whatever their width, and finite in the
            width that is wanted. On the meta device, say
    raises  ValueError: as `read_header`; names, types or shapes that are not those wanted; numbers
            that are not finite
    """
    found, notes = read_header(path, expected, noted)
    if wanted is not None:
        _check_fit(path, expected, found, wanted)
    try:
        with safe_open(path, "pt") as file:
            # Copies: safetensors maps the file, and a file that is cut short while it is mapped
            # kills the process.
            tensors = {name: file.get_tensor(name).clone() for name in found}
    except (SafetensorError, OSError) as error:
        raise _not(path, expected, error) from error
    for name, tensor in tensors.items():
        dtype = tensor.dtype if wanted is None else wanted[name].dtype
        if dtype.is_floating_point and not tensor.to(dtype).isfinite().all():
            raise _not(
                path, expected, f"{name} holds values that are not finite numbers of {dtype}"
            )
    return tensors, notes


def check_notes(path: str | Path, notes: dict, schema: dict, origin: str) -> None:
    """Raise ValueError, naming the field, unless notes fit a JSON Schema; 3.0 is no integer."""
    if fault := unfit(notes, schema):
        where, message = fault
        raise ValueError(
            f"{path} has unfit notes, in {where}: {capped(message)}; expected {origin}"
        )


def _not(path, expected, reason):
    return ValueError(f"{path} is not {expected}: {capped(reason, 400)}")


def _check_fit(path, expected, found, wanted):
    for names, verb in (
        (wanted.keys() - found.keys(), "lacks"),
        (found.keys() - wanted.keys(), "should not hold"),
    ):
        if names:
            first = ", ".join(sorted(names)[:3])
            raise _not(
                path,
                expected,
                f"it {verb} {first}" + (f" and {len(names) - 3} more" * (len(names) > 3)),
            )
    for name, (dtype, shape) in found.items():
        right = wanted[name]
        fits = dtype.is_floating_point if right.is_floating_point() else dtype == right.dtype
        if shape != tuple(right.shape) or not fits:
            raise _not(
                path,
                expected,
                f"{name} is {dtype} {list(shape)}, expected {right.dtype} {list(right.shape)}",
            )
