"""Records: one JSON file per run, whole or absent, checked when read. No number reaches a page without one.

The file is named by the kind of experiment and the hash of its whole configuration, seed and device class included:
two runs of the same thing meet in one file, and a run that is already there need not be done again.
"""

import json
import math
import time
from functools import cache
from importlib import resources

import jsonschema

from trpts.hashes import short_hash
from trpts.lab.code import code_hash
from trpts.lab.errors import TrptsError
from trpts.lab.project import write_whole
from trpts.lab.provenance import machine, versions
from trpts.meter import peak_memory_bytes

SCHEMA_VERSION = 1


class NotThere(TrptsError):
    """Records that have not been made yet. A page may go on without them; not without those that cannot be read."""


@cache
def _validator():
    schema = json.loads(resources.files("trpts.lab").joinpath("record.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def kind_of(experiment):
    """The record kind of an experiment: its module's own name."""
    return experiment.__name__.rsplit(".", 1)[-1]


def record_name(config):
    """File name of the record of `config`."""
    return f"{config['kind']}-{short_hash(json.dumps(config, sort_keys=True))}.json"


def validate(record, place):
    """Raise TrptsError, naming `place`, unless `record` has the shape of record.schema.json and finite numbers."""
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "the record"
        if error.validator == "const" and where == "schema":
            raise TrptsError(
                f"{place}: schema version {error.instance!r}, this version of trpts reads {SCHEMA_VERSION}"
            )
        raise TrptsError(f"{place}: not a valid record: {where}: {error.message}")
    for name, value in flat_metrics(record).items():
        if not math.isfinite(value):
            raise TrptsError(f"{place}: not a valid record: metric {name} is {value}, expected a finite number")


def flat_metrics(record):
    """Metrics with lists and tables opened: {"block_share[3]": 0.12, "kind_share[qkv]": 0.4, ...}"""
    flat = {}
    for name, value in record["metrics"].items():
        pairs = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else None
        flat |= {name: value} if pairs is None else {f"{name}[{key}]": number for key, number in pairs}
    return flat


def untimed(record):
    """`flat_metrics` without seconds, which are named so and differ from run to run."""
    return {name: x for name, x in flat_metrics(record).items() if not name.partition("[")[0].endswith("_s")}


def write_record(record, folder):
    """Validate and write a record, whole or not at all; its path."""
    path = folder / record_name(record["config"])
    validate(record, path.name)
    write_whole(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return path


def read_record(path):
    """Read and validate one record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: truncated or not JSON, or not text
        raise TrptsError(f"{path}: not a readable record: {error}") from error
    validate(record, path)
    if path.name != record_name(record["config"]):
        raise TrptsError(f"{path}: its configuration belongs in {record_name(record['config'])}: edited or misplaced")
    return record


def read_records(folder, kind="*"):
    """All records of a kind in a folder, sorted by file name."""
    return [read_record(path) for path in sorted(folder.glob(f"{kind}-*.json"))]


def state(record, experiment):
    """Does the record stand for the code and inputs of today: "current", "made by earlier code" or "other data"?"""
    if record["code"]["hash"] != code_hash([experiment.__name__])["hash"]:
        return "made by earlier code"
    try:
        return "current" if record["inputs"] == experiment.inputs(record["config"]) else "other data"
    except (FileNotFoundError, ValueError):  # weights or data of the reader's own, on another disk
        return "other data"


def run_once(experiment, config, folder):
    """The record of `config`: read if a current one is there, else measured now and written.

    experiment  a module with `run(config) -> metrics` and `inputs(config) -> {"data": hash, "weights": hash or None}`
    config      JSON-able; its "kind" is filled in from the module's name
    """
    record = current_record(experiment, config, folder)
    if record is None:
        record = measure(experiment, config)
        write_record(record, folder)
    return record


def current_record(experiment, config, folder):
    """The record of `config` if there is one and it is current, else None.

    raises  TrptsError: a committed record that cannot be read; it is nobody's to overwrite silently
    """
    config = {"kind": kind_of(experiment), **config}
    path = folder / record_name(config)
    if not path.is_file():
        return None
    try:
        record = read_record(path)
    except TrptsError as error:
        if config["profile"] != "quick":
            raise TrptsError(f"{error}; remove the file to measure again") from error
        return None
    return record if state(record, experiment) == "current" else None


def measure(experiment, config):
    """Run an experiment; its record, not yet written."""
    config = {"kind": kind_of(experiment), **config}
    start = time.perf_counter()
    metrics = experiment.run(config)
    return {
        "schema": SCHEMA_VERSION,
        "config": config,
        "metrics": metrics,
        "time_s": round(time.perf_counter() - start, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": versions(),
        "machine": machine(),
        "code": code_hash([experiment.__name__]),
        "inputs": experiment.inputs(config),
    }
