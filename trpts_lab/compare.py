"""Two sets of records side by side: two commits, two machines, two readers.

Runs are matched by their whole configuration, less the device; what differs beside the numbers
(versions of methods, data, packages, machine) is said, so that nobody takes a change of one for a
change of the other.
"""

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

from trpts.errors import TrptsError
from trpts.texts import read_json
from trpts_lab.records import flat_metrics, key_of, untimed, validate
from trpts_lab.store import Store

RESULTS = "data/results"


def records_at(project, place: str) -> dict[str, dict]:
    """{run: record} of a folder, or of a git revision of this checkout's data/results.

    A folder holds single records or committed files. Revisions from before the committed files,
    with a record a file in data/results/full/, are read too.

    raises  TrptsError: neither, or no record in it, or a run twice, made on two devices
    """
    if Path(place).is_dir():
        found = _records_in(Path(place))
    else:
        command = ["git", "archive", "--format=tar", "--end-of-options", str(place), RESULTS]
        done = subprocess.run(command, cwd=project.root, capture_output=True)
        if done.returncode:
            said = (
                done.stderr.decode(errors="replace").strip().splitlines() or ["git said nothing"]
            )[0]
            raise TrptsError(
                f"{str(place)!r} is neither a folder nor a git revision with {RESULTS}: {said}"
            )
        with (
            tempfile.TemporaryDirectory() as folder,
            tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive,
        ):
            archive.extractall(folder, filter="data")
            found = _records_in(Path(folder) / RESULTS)
    if not found:
        raise TrptsError(
            f"{place}: no record there, expected files such as tuned.jsonl or "
            "tuned-0123456789abcdef.json"
        )
    runs = {_run(record): record for record in found}
    if len(runs) < len(found):
        raise TrptsError(
            f"{place}: {len(found) - len(runs)} runs are there from two devices: "
            "expected one of each run"
        )
    return runs


def _records_in(folder):
    """All records in a folder, whatever their profile and form."""
    profiles = ("full", "paper")
    if any(folder.glob("*.jsonl")):
        return [
            record for profile in profiles for record in Store(folder, folder, profile).records()
        ]
    if older := sorted(folder.glob("full/*.json")):
        return [read_older(path) for path in older]
    return Store(folder).records()


def read_older(path: Path) -> dict:
    """A record of schema 1, which named the hash of its code and no commit."""
    try:
        old = read_json(path)
        made = {
            "commit": None,
            "dirty": None,
            "versions": old["versions"],
            "machine": old["machine"],
        }
        kept = {
            name: old[name]
            for name in ("config", "metrics", "inputs", "time_s", "peak_memory_bytes")
        }
        record = kept | {"version": {f"experiment {old['config']['kind']}": 1}, "provenance": made}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrptsError(
            f"{path.name}: not a readable record of an earlier revision: {error}"
        ) from error
    validate(record, path.name)
    return record


def _run(record):
    return key_of({k: v for k, v in record["config"].items() if k != "device"})


def side_by_side(a: dict, b: dict, metric: str = "test_accuracy"):
    """(table, facts): a row for each kind and variant that both have; sentences on what else
    differs.

    Columns: kind, variant, runs (in both), a, b (means of the metric), difference, sd (of the runs'
    differences), largest (in size). `metric` may name an opened one, such as "accuracy[count]".
    """
    rows, both = [], sorted(a.keys() & b.keys())
    for key in both:
        values = [flat_metrics(side[key]).get(metric) for side in (a, b)]
        if None not in values:
            config = a[key]["config"]
            rows.append((config["kind"], config["variant"], *values, values[1] - values[0]))
    frame = pd.DataFrame(rows, columns=["kind", "variant", "a", "b", "difference"])
    groups = frame.groupby(["kind", "variant"])
    table = groups.agg(
        runs=("a", "size"),
        a=("a", "mean"),
        b=("b", "mean"),
        difference=("difference", "mean"),
        sd=("difference", "std"),
        largest=("difference", lambda x: x.abs().max()),
    )
    return table.reset_index(), _facts(a, b, both)


def _facts(a, b, both):
    yield (
        f"{len(both)} runs in both, {len(a) - len(both)} in the first alone, "
        f"{len(b) - len(both)} in the second alone"
    )
    same = sum(untimed(a[key]) == untimed(b[key]) for key in both)
    if both:
        yield f"{same} of {len(both)} have the same metrics to the last digit, times aside"
    for what, of in (
        ("versions of experiment or method", _versions),
        ("data or weights", lambda r: r["inputs"]),
        ("machine", lambda r: r["provenance"]["machine"]),
    ):
        if n := sum(of(a[key]) != of(b[key]) for key in both):
            yield f"{n} runs differ in {what}"
    packages = [
        (a[key]["provenance"]["versions"], b[key]["provenance"]["versions"]) for key in both
    ]
    # only packages that both records name
    if n := sum(any(x[name] != y[name] for name in x.keys() & y.keys()) for x, y in packages):
        yield f"{n} runs differ in package versions"


def _versions(record):
    # version 1 counts as if it were not named
    return {name: version for name, version in record["version"].items() if version > 1}
