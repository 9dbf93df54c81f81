"""Tensors with notes as one safetensors file: written whole or not at all, read without executing anything."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def write_tensors(path, tensors, notes=None):
    """Write {name: tensor} and notes (JSON-able); what is at `path` stays until the new file is whole.

    raises  OSError: the disk is full, or the folder cannot be written to
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.partial")
    metadata = None if notes is None else {"notes": json.dumps(notes)}
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)
        temporary.chmod(0o644)  # safetensors writes for its owner alone
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_notes(path, expected):
    """The notes of a file, a dict.

    raises  ValueError: not a file of that kind; `expected` says in words what it should be
    """
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {})["notes"])
        if not isinstance(notes, dict):
            raise ValueError(f"its notes are a {type(notes).__name__}")
    except KeyError as error:
        raise ValueError(f"{path} is not {expected}: it has no notes") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not {expected}: {error}") from error
    return notes


def read_tensors(path, expected):
    """({name: tensor}, notes) of what `write_tensors` wrote with notes; raises as `read_notes`."""
    notes = read_notes(path, expected)
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not {expected}: {error}") from error
