"""A record: what was run, what came out, and where it was made. Its shape, its names, and how it is
read.

Records stand in two kinds of files, a line each in data/results/<experiment>.jsonl, or single ones
in build/results/: `trpts_lab.store` says when which. Everything is checked when it is read.
"""

import json
import math
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

import fastjsonschema

from trpts.errors import TrptsError
from trpts.hashes import short_hash
from trpts.texts import parse_json, read_json, read_text

PROVENANCE = "provenance.json"
RESTORE = "restore the file with `git checkout`, or remove what is wrong"


def kind_of(experiment) -> str:
    """The kind of an experiment's records: its module's own name."""
    return experiment.__name__.rsplit(".", 1)[-1]


def key_of(config: dict) -> str:
    """What a record is found and sorted by: its whole configuration, as text."""
    return json.dumps(config, sort_keys=True, ensure_ascii=False)


def record_name(config: dict) -> str:
    """File name of a single record."""
    return f"{config['kind']}-{short_hash(json.dumps(config, sort_keys=True))}.json"


def flat_metrics(record: dict) -> dict[str, float]:
    """Metrics with lists, tables opened: {"block_share[3]": 0.12, "kind_share[qkv]": 0.4, ...}"""
    flat = {}
    for name, value in record["metrics"].items():
        pairs = (
            enumerate(value)
            if isinstance(value, list)
            else value.items()
            if isinstance(value, dict)
            else None
        )
        flat |= (
            {name: value} if pairs is None else {f"{name}[{key}]": number for key, number in pairs}
        )
    return flat


def untimed(record: dict) -> dict[str, float]:
    """`flat_metrics` without seconds, which are named so and differ from run to run."""
    return {
        name: x
        for name, x in flat_metrics(record).items()
        if not name.partition("[")[0].endswith("_s")
    }


@cache
def _validator():
    return fastjsonschema.compile(read_json(Path(__file__).with_name("record.schema.json")))


def validate(record: dict, place) -> None:
    """Raise TrptsError naming `place` unless `record` fits record.schema.json and is finite."""
    try:
        _validator()(record)
    except fastjsonschema.JsonSchemaValueException as error:
        raise TrptsError(
            f"{place}: not a valid record: {error.message.removeprefix('data.')}"
        ) from None
    for name, value in flat_metrics(record).items():
        if not math.isfinite(value):
            raise TrptsError(
                f"{place}: not a valid record: metric {name} is {value}, expected a finite number"
            )


def later(single: dict | None, packed: dict | None) -> dict | None:
    """Of a run's two records the single one, unless a version of the committed one is higher."""
    if single is None or packed is None:
        return single or packed
    outdone = any(
        version > single["version"].get(name, 0) for name, version in packed["version"].items()
    )
    return packed if outdone else single


def lines_of(records: Iterable[dict]) -> str:
    """The text of a committed file: a line for each record, sorted."""
    rows = {
        key_of(r["config"]): text_of(r | {"provenance": id_of(r["provenance"])}) for r in records
    }
    return "".join(f"{rows[key]}\n" for key in sorted(rows))


def text_of(content, indent=None) -> str:
    """A record, or where it was made, as JSON."""
    return json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False)


def id_of(made: dict) -> str:
    """What a line names its provenance by: the hash of it."""
    return short_hash(json.dumps(made, sort_keys=True))


def stamp_of(path: Path) -> tuple:
    """What changes when a file does: its time, size and inode."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_single(path: Path) -> dict | None:
    """Read and validate a single record; None if it has just gone, because it was packed."""
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: truncated or not JSON, or not text
        raise TrptsError(f"{path}: not a readable record: {error}") from error
    validate(record, path)
    if path.name != record_name(record["config"]):
        raise TrptsError(
            f"{path}: its configuration belongs in {record_name(record['config'])}: "
            "edited or misplaced"
        )
    return record


def read_file(path: Path) -> dict[str, dict]:
    """{`key_of`: record} of a committed file; read once while it and its provenance stay the same.

    raises  TrptsError: a line that is no valid record, a run that stands there twice, an unknown
            provenance
    """
    made_in = path.with_name(PROVENANCE)
    return _read_file(path, stamp_of(path), stamp_of(made_in) if made_in.is_file() else None)


@lru_cache(maxsize=64)
def _read_file(path, *stamps):
    found, line_of = {}, {}
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise TrptsError(f"{path}: not readable: {error}; {RESTORE}") from error
    # read after the records: a packer writes it before them
    made = read_provenance(path.with_name(PROVENANCE))
    for number, line in enumerate(lines[: len(lines) - (lines[-1] == "")], 1):
        place = f"{path}, line {number}"
        try:
            row = parse_json(line)
            name = row["provenance"]
        except (ValueError, KeyError, TypeError) as error:
            raise TrptsError(f"{place}: not a readable record: {error}; {RESTORE}") from error
        if not isinstance(name, str) or name not in made:
            raise TrptsError(f"{place}: its provenance {name!r} is not in {PROVENANCE}; {RESTORE}")
        record = row | {"provenance": made[name]}
        validate(record, place)
        if record["config"]["kind"] != path.stem:
            raise TrptsError(
                f"{place}: a record of {record['config']['kind']} does not belong here; {RESTORE}"
            )
        key = key_of(record["config"])
        if key in found:
            raise TrptsError(
                f"{path}: lines {line_of[key]} and {number} are of the same run: expected one "
                "record for each configuration; remove one of them"
            )
        found[key], line_of[key] = record, number
    return found


def read_provenance(path: Path) -> dict[str, dict]:
    """{id: {"commit", "dirty", "versions", "machine"}}; older records have "recorded_in" for commit
    and dirty.

    raises  TrptsError: not readable, or an entry that does not hash to its id: somebody edited it
    """
    if not path.is_file():
        raise TrptsError(f"{path} is not there: records name what it holds; {RESTORE}")
    return _read_provenance(path, stamp_of(path))


@lru_cache(maxsize=8)
def _read_provenance(path, stamp):
    try:
        made = read_json(path)
        hashes = {name: id_of(entry) for name, entry in made.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise TrptsError(f"{path}: not readable: {error}; {RESTORE}") from error
    for name, found in hashes.items():
        if name != found:
            raise TrptsError(
                f"{path}: the entry {name} hashes to {found}: it was edited; {RESTORE}"
            )
    return made
