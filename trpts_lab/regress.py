"""Regression: do today's metrics still lie where the seeds said they would?

A baseline holds, for each metric of each quick record, its values over several seeds. Counts
(`n_*`) must be equal. Any other metric, rerun with the baseline's first seed, must lie in the
interval in which one more seed would fall with 99 % probability, if seeds were normally
distributed:

    |x − m| <= t_{0.995, n−1} · s · √(1 + 1/n)         m mean, s standard deviation over n seeds

A metric whose interval reaches zero is not checked, and the report says so. The same seed on the
same machine gives the same number, so most reruns land on the baseline exactly; the interval is
what another machine, thread count or library version is allowed.
"""

import json
import statistics
import xml.etree.ElementTree as ET

from scipy.stats import t as student_t

from trpts.errors import TrptsError
from trpts.texts import capped, read_json, unfit
from trpts_lab.files import write_whole
from trpts_lab.records import record_name, untimed

CONFIDENCE = 0.99
MIN_SEEDS = 3
METRIC = {
    "type": "object",
    "required": ["values", "tolerance"],
    "properties": {
        "values": {"type": "array", "minItems": 1, "items": {"type": "number"}},
        "tolerance": {"type": ["number", "null"]},
    },
}
BASELINE = {
    "type": "object",
    "required": ["config", "metrics"],
    "properties": {
        "config": {"type": "object", "properties": {"device": {"type": "string"}}},
        "metrics": {"type": "object", "additionalProperties": METRIC},
    },
}
BASELINES = {  # what a file of baselines must hold
    "type": "object",
    "required": ["baselines"],
    "properties": {"baselines": {"type": "object", "additionalProperties": BASELINE}},
}


def is_count(metric):
    """Counts are named `n_*` and compared exactly."""
    return metric.startswith("n_")


def baseline_of(records):
    """Baselines {record file name of the first seed: {"config", "metrics": {name: {"values",
    "tolerance"}}}}.

    Records that differ in nothing but the seed are one group.
    raises  TrptsError: fewer than MIN_SEEDS seeds in a group, or a count that changes with the seed
    """
    groups = {}
    for record in sorted(records, key=lambda r: r["config"]["seed"]):
        rest = {k: v for k, v in record["config"].items() if k != "seed"}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(record)
    return {record_name(group[0]["config"]): _baseline(group) for group in groups.values()}


def _baseline(group):
    first = group[0]
    if len(group) < MIN_SEEDS:
        raise TrptsError(
            f"{first['config']['kind']}: {len(group)} seeds, a tolerance needs at least {MIN_SEEDS}"
        )
    flats = [untimed(record) for record in group]
    metrics = {}
    for name in flats[0]:
        values = [flat[name] for flat in flats]
        if is_count(name) and len(set(values)) > 1:
            raise TrptsError(
                f"{first['config']['kind']}: {name} is a count but takes the values {values}"
            )
        metrics[name] = {
            "values": values,
            "tolerance": 0 if is_count(name) else _useful(tolerance(values), values),
        }
    return {"config": first["config"], "metrics": metrics}


def _useful(allowed, values):
    """The tolerance; None if seeds scatter so widely that even 0 would pass (it cannot fail)."""
    return allowed if allowed < abs(statistics.fmean(values)) or len(set(values)) == 1 else None


def tolerance(values):
    """Half width of the interval for one more value, see above."""
    n = len(values)
    return (
        float(student_t.ppf((1 + CONFIDENCE) / 2, n - 1))
        * statistics.stdev(values)
        * (1 + 1 / n) ** 0.5
    )


def by_name(records):
    """{file name: record}, as `baseline_of` names them."""
    return {record_name(record["config"]): record for record in records}


def compare(baselines, found):
    """Compare records {name: record} with baselines {name: {"metrics"}}: a row {"record", "metric",
    "found", "expected", "tolerance", "ok"} for each metric.

    A metric that is on one side only fails, and so do a whole record without baseline or a baseline
    without record. Times are no metrics here.
    """
    rows = []
    for name in sorted(baselines.keys() | found.keys()):
        expected = baselines[name]["metrics"] if name in baselines else {}
        measured = untimed(found[name]) if name in found else {}
        rows += [
            _row(name, m, measured.get(m), expected.get(m))
            for m in sorted(expected.keys() | measured.keys())
        ]
    return rows


def _row(name, metric, x, entry):
    middle = allowed = None
    ok = x is not None and entry is not None
    if entry is not None:
        allowed = entry["tolerance"]
        middle = statistics.fmean(entry["values"]) if allowed else entry["values"][0]
        ok = ok and (allowed is None or abs(x - middle) <= allowed)
    return {
        "record": name,
        "metric": metric,
        "found": x,
        "expected": middle,
        "tolerance": allowed,
        "ok": ok,
    }


def is_checked(row):
    """Whether a row can fail: where seeds scatter too widely, `baseline_of` gives no tolerance."""
    return not row["ok"] or row["tolerance"] is not None


def read_baselines(path):
    """What `write_baselines` wrote: {"commit", "versions", "machine", "baselines"}."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise TrptsError(f"{path} does not exist: make it with `trpts regress --bless`") from None
    except (OSError, ValueError) as error:
        raise TrptsError(f"{path}: not a readable baseline file: {error}") from error
    if fault := unfit(content, BASELINES):
        raise TrptsError(f"{path}: not a valid baseline file, in {fault[0]}: {capped(fault[1])}")
    return content


def write_baselines(baselines, path, **origin):
    """Write baselines with where they come from: commit, versions, machine."""
    write_whole(
        path, json.dumps({**origin, "baselines": baselines}, indent=1, sort_keys=True) + "\n"
    )


def write_reports(rows, failures, folder):
    """Write report.json and junit.xml; `failures`: {chapter that did not run: sentence}."""
    write_whole(
        folder / "report.json", json.dumps({"failures": failures, "rows": rows}, indent=1) + "\n"
    )
    bad = [row for row in rows if not row["ok"]]
    suite = ET.Element(
        "testsuite",
        name="trpts regress",
        tests=str(len(rows) + len(failures)),
        failures=str(len(bad)),
        errors=str(len(failures)),
    )
    for row in rows:
        case = ET.SubElement(suite, "testcase", classname=row["record"], name=row["metric"])
        if not row["ok"]:
            ET.SubElement(case, "failure", message=sentence(row))
        elif not is_checked(row):
            ET.SubElement(case, "skipped", message="seeds scatter too widely for a check")
    for chapter, text in failures.items():
        ET.SubElement(
            ET.SubElement(suite, "testcase", classname=chapter, name="runs"), "error", message=text
        )
    write_whole(
        folder / "junit.xml", ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
    )


def sentence(row):
    """A failing row in words."""
    if row["found"] is None or row["tolerance"] is None:
        return f"{row['record']}: {row['metric']}: found {row['found']}, expected {row['expected']}"
    found = f"{row['found']:.6g}"
    expected = f"{row['expected']:.6g}"
    allowed = f"{row['tolerance']:.3g}"
    return f"{row['record']}: {row['metric']} is {found}, expected {expected} ± {allowed}"
