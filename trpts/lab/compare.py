"""Two sets of records side by side: two commits, two machines, two readers.

Runs are matched by their whole configuration, less the device; what differs beside the numbers (code, data, versions,
machine) is said, so that nobody takes a change of one for a change of the other.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from trpts.lab.errors import TrptsError
from trpts.lab.records import flat_metrics, read_records, untimed

RECORDS = "data/results/full"


@contextmanager
def records_at(project, place):
    """The records of a folder, or of a git revision of this checkout's data/results/full.

    raises  TrptsError: neither, or no record in it, or a run twice, made on two devices
    """
    if Path(place).is_dir():
        found = read_records(Path(place))
    else:
        done = subprocess.run(["git", "archive", "--format=tar", place, RECORDS], cwd=project.root, capture_output=True)
        if done.returncode:
            raise TrptsError(f"{place!r} is neither a folder nor a git revision with {RECORDS}: "
                             f"{done.stderr.decode(errors='replace').strip()}")  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
            found = read_records(Path(folder) / RECORDS)
    if not found:
        raise TrptsError(f"{place}: no record there, expected files such as tuned-0123456789abcdef.json")
    runs = {_key(record): record for record in found}
    if len(runs) < len(found):
        raise TrptsError(f"{place}: {len(found) - len(runs)} runs are there from two devices: expected one of each run")
    yield runs


def _key(record):
    return json.dumps({k: v for k, v in record["config"].items() if k != "device"}, sort_keys=True)


def side_by_side(a, b, metric="test_accuracy"):
    """(table, facts): a row for each kind and variant that both have; sentences on what else differs.

    Columns: kind, variant, runs (in both), a, b (means of the metric), difference, sd (of the runs' differences),
    largest (in size). `metric` may name an opened one, such as "accuracy[count]".
    """
    rows, both = [], sorted(a.keys() & b.keys())
    for key in both:
        values = [flat_metrics(side[key]).get(metric) for side in (a, b)]
        if None not in values:
            config = a[key]["config"]
            rows.append((config["kind"], config["variant"], *values, values[1] - values[0]))
    frame = pd.DataFrame(rows, columns=["kind", "variant", "a", "b", "difference"])
    groups = frame.groupby(["kind", "variant"])
    table = groups.agg(runs=("a", "size"), a=("a", "mean"), b=("b", "mean"), difference=("difference", "mean"),
                       sd=("difference", "std"), largest=("difference", lambda x: x.abs().max()))  # fmt: skip
    return table.reset_index(), _facts(a, b, both)


def _facts(a, b, both):
    yield f"{len(both)} runs in both, {len(a) - len(both)} in the first alone, {len(b) - len(both)} in the second alone"
    same = sum(untimed(a[key]) == untimed(b[key]) for key in both)
    if both:
        yield f"{same} of {len(both)} have the same metrics to the last digit, times aside"
    for what, of in (("code", lambda r: r["code"]["hash"]), ("data or weights", lambda r: r["inputs"]),
                     ("versions", lambda r: r["versions"]), ("machine", lambda r: r["machine"])):  # fmt: skip
        n = sum(of(a[key]) != of(b[key]) for key in both)
        if n:
            yield f"{n} runs differ in {what}"
