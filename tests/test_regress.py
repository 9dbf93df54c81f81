"""Tolerances come from seeds, and a drift beyond them is seen."""

import json
import statistics
import xml.etree.ElementTree as ET

import pytest
from made import PLACED

from trpts.errors import TrptsError
from trpts_lab import regress
from trpts_lab.book.chapters import find_chapters
from trpts_lab.experiments import fisher_digits
from trpts_lab.records import record_name
from trpts_lab.regress import (
    baseline_of,
    by_name,
    is_checked,
    read_baselines,
    tolerance,
    write_baselines,
    write_reports,
)
from trpts_lab.store import Store

VALUES = [0.70, 0.72, 0.74, 0.71, 0.73]


def record(seed, accuracy, n_things=4):
    return {
        "config": {"kind": "toy", "seed": seed},
        "metrics": {"accuracy": accuracy, "n_things": n_things},
    }


def seeds(**kwargs):
    return [record(seed, value, **kwargs) for seed, value in enumerate(VALUES)]


def compare(baselines, records):
    return regress.compare(baselines, by_name(records))


def failed(rows):
    return {row["metric"] for row in rows if not row["ok"]}


def test_tolerance_by_hand():
    """Standard deviation 0.015811; t for 99 % and 4 degrees of freedom 4.6041; √(1 + 1/5) =
    1.0954.
    """
    assert statistics.stdev(VALUES) == pytest.approx(0.0158114, abs=1e-7)
    assert tolerance(VALUES) == pytest.approx(4.60409 * 0.0158114 * 1.0954451, rel=1e-4)


def test_first_seed_is_within_and_drift_is_not():
    baselines = baseline_of(seeds())
    assert list(baselines) == [record_name({"kind": "toy", "seed": 0})]
    assert not failed(compare(baselines, [record(0, 0.70)]))
    assert not failed(compare(baselines, [record(0, 0.79)]))
    assert failed(compare(baselines, [record(0, 0.81)])) == {"accuracy"}
    assert failed(compare(baselines, [record(0, 0.63)])) == {"accuracy"}


def test_counts_are_exact():
    assert failed(compare(baseline_of(seeds()), [record(0, 0.72, n_things=5)])) == {"n_things"}
    with pytest.raises(TrptsError, match="n_things is a count but takes the values"):
        baseline_of([*seeds(), record(5, 0.7, n_things=9)])


def test_missing_and_surplus_records_and_metrics_fail():
    baselines = baseline_of(seeds())
    assert failed(compare(baselines, [])) == {"accuracy", "n_things"}
    other = {"config": {"kind": "other", "seed": 0}, "metrics": {"speed": 1.0}}
    assert failed(compare(baselines, [record(0, 0.7), other])) == {"speed"}
    surplus = record(0, 0.7)
    surplus["metrics"]["new"] = 1.0
    assert failed(compare(baselines, [surplus])) == {"new"}


def test_two_seeds_are_not_enough():
    with pytest.raises(TrptsError, match="2 seeds, a tolerance needs at least 3"):
        baseline_of(seeds()[:2])


def test_baselines_are_read_as_written_or_refused(tmp_path):
    path = tmp_path / "b.json"
    with pytest.raises(TrptsError, match="--bless"):
        read_baselines(path)
    write_baselines(baseline_of(seeds()), path, commit="abc")
    assert read_baselines(path) == {"commit": "abc", "baselines": baseline_of(seeds())}
    empty = '{"baselines": {"a": {"metrics": {"x": {"values": [], "tolerance": 1}}}}}'
    for spoiled in (path.read_text()[:-20], '{"a": 1}', empty):
        path.write_text(spoiled)
        with pytest.raises(TrptsError, match=r"not a (readable|valid) baseline file"):
            read_baselines(path)


def test_constant_metric_equals_itself():
    """The mean of five equal floats need not be that float."""
    records = [record(seed, 5 / 180) for seed in range(5)]
    assert not failed(compare(baseline_of(records), [records[0]]))
    assert failed(compare(baseline_of(records), [record(0, 6 / 180)])) == {"accuracy"}


def test_metric_that_could_be_zero_is_not_called_checked():
    records = [record(seed, value) for seed, value in enumerate([-1.0, 1.0, -1.0, 1.0, 0.5])]
    (row, _) = compare(baseline_of(records), [record(0, 0.0)])
    assert (row["metric"], row["tolerance"], row["ok"]) == ("accuracy", None, True)
    assert not is_checked(row)


def test_reports(tmp_path):
    rows = compare(baseline_of(seeds()), [record(0, 0.9)])
    write_reports(rows, {"01_x": "cell 3: boom"}, tmp_path)
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert "accuracy is 0.9, expected 0.72" in suite.find(".//failure").get("message")
    assert json.loads((tmp_path / "report.json").read_text())["failures"] == {
        "01_x": "cell 3: boom"
    }


@pytest.mark.slow
def test_committed_baseline_sees_a_planted_fault(project, monkeypatch):
    """Absolute gradients instead of squares: a fault that runs, looks fine, and must turn the
    chapter's check red.
    """
    baselines = read_baselines(project.root / "data" / "baselines" / "01_fim.json")["baselines"]
    (entry,) = baselines.values()

    def without_square(model, batches, samples="per-sample"):
        return {name: score.sqrt() for name, score in real(model, batches, samples=samples).items()}

    real = fisher_digits.fisher_scores
    monkeypatch.setattr(fisher_digits, "fisher_scores", without_square)
    faulty = {"config": entry["config"], "metrics": fisher_digits.run(PLACED | entry["config"])}
    assert {"top_share[0.01]", "top_share[0.1]"} <= failed(compare(baselines, [faulty]))


def test_page_refuses_a_mean_over_different_settings(project, monkeypatch):
    from trpts_lab.book import pages, shown

    records = project.store("full").records("fisher_digits")
    monkeypatch.setattr(Store, "records", lambda store, kind: records)
    assert len(shown.full_records(fisher_digits)) == len(records)
    other = records[0] | {"config": records[0]["config"] | {"epochs": 1}}
    monkeypatch.setattr(Store, "records", lambda store, kind: [*records, other])
    with pytest.raises(TrptsError, match="of 2 different settings"):
        shown.full_records(fisher_digits)
    assert pages.spread(pages.frame(records[:1])["probe_test_accuracy"]).endswith("(one seed)")
    assert pages.spread(pages.frame(records[:1])["probe_test_accuracy"].iloc[:0]) == "not run"


def test_the_quick_chapters_lie_within_their_baselines(project, html):
    """What the chapters of this very build measured; every chapter that records something has a
    baseline.
    """
    found = {}
    for chapter in find_chapters(project):
        path = project.root / "data" / "baselines" / f"{chapter.name}.json"
        assert path.is_file() == ("seeds" in chapter.parameters), chapter.name
        if path.is_file():
            found |= read_baselines(path)["baselines"]
    records = {name: project.store("quick").find(entry["config"]) for name, entry in found.items()}
    assert len(records) >= 15
    rows = regress.compare(
        found, {name: record for name, record in records.items() if record is not None}
    )
    assert sum(map(is_checked, rows)) > 100
    assert [row for row in rows if not row["ok"]] == []
