"""Committed benches: files data/bench/*.json, written by `trpts bench`, read by pages, claims."""

import json

from trpts.errors import TrptsError
from trpts.texts import capped, read_json, unfit
from trpts_lab.files import write_whole

ROW = {
    "type": "object",
    "required": ["s"],
    "properties": {"s": {"type": "array", "minItems": 1, "items": {"type": "number"}}},
}
BENCH = {  # what a bench's file must hold
    "type": "object",
    "required": ["rows"],
    "properties": {"rows": {"type": "object", "additionalProperties": ROW}},
}


def read_bench(project, name, device="cpu"):
    """{work: {"s": [seconds of each round], …}} of a bench.

    raises  TrptsError: it was not run, or its file cannot be read
    """
    return read_whole(project, name, device)["rows"]


def read_whole(project, name, device="cpu"):
    """A bench's file: "rows", "batch_size", "machine", "versions", …; raises as `read_bench`."""
    path = _path(project, name, device)
    try:
        found = read_json(path)
        if fault := unfit(found, BENCH):
            raise ValueError(f"in {fault[0]}, {capped(fault[1])}")
        return found
    except FileNotFoundError:
        raise TrptsError(f"{path} does not exist: `trpts bench {name}` makes it") from None
    except (OSError, ValueError) as error:
        raise TrptsError(
            f"{path}: not a readable bench ({error}): `trpts bench {name}` makes it anew"
        ) from error


def write_bench(project, name, device, record):
    """Write a bench's record {"rows", "summary", …}, whole or not at all."""
    write_whole(_path(project, name, device), json.dumps(record, indent=1) + "\n")


def _path(project, name, device):
    return project.root / "data" / "bench" / f"{name}{'' if device == 'cpu' else f'-{device}'}.json"
