"""Two sets of records side by side."""

import copy
import json
import subprocess

import pytest

from trpts.cli import main
from trpts.lab.compare import records_at, side_by_side
from trpts.lab.errors import TrptsError
from trpts.lab.records import write_record

RECORD = {
    "schema": 1,
    "config": {"kind": "tuned", "task": "digits", "seed": 0, "method": "x", "variant": "a", "profile": "full",
               "device": "cpu"},
    "metrics": {"test_accuracy": 0.5, "phase_s": {"train": 1.0}},
    "time_s": 1.0,
    "peak_memory_bytes": 1,
    "versions": {"python": "3", "torch": "2", "timm": "1"},
    "machine": {"system": "s", "processor": "p", "cores": 2, "device": "cpu"},
    "code": {"modules": ["trpts"], "hash": "0" * 16},
    "inputs": {"data": "1" * 16, "weights": None},
}  # fmt: skip


def made(folder, accuracies, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, accuracy in enumerate(accuracies):
        record = copy.deepcopy(RECORD) | changes
        record["config"] |= {"seed": seed, "device": changes.get("device", "cpu")}
        record["metrics"]["test_accuracy"] = accuracy
        write_record({k: v for k, v in record.items() if k != "device"}, folder)
    return folder


def test_by_hand(tmp_path, project):
    """Differences .1 and .3: mean .2, sd .1414; the third run is in one set alone."""
    one = made(tmp_path / "a", (0.5, 0.5, 0.9))
    other = made(tmp_path / "b", (0.6, 0.8), device="cuda", code={"modules": ["trpts"], "hash": "f" * 16})
    with records_at(project, one) as a, records_at(project, other) as b:
        table, facts = side_by_side(a, b)
    row = table.iloc[0]
    assert (row["kind"], row["variant"], row["runs"]) == ("tuned", "a", 2)
    assert row[["a", "b", "difference", "sd", "largest"]].tolist() == pytest.approx([0.5, 0.7, 0.2, 0.02**0.5, 0.3])
    assert list(facts) == [
        "2 runs in both, 1 in the first alone, 0 in the second alone",
        "0 of 2 have the same metrics to the last digit, times aside",
        "2 runs differ in code",
    ]


def test_a_run_of_two_devices_is_not_dropped_in_silence(tmp_path, project):
    made(tmp_path / "both", (0.5, 0.6))
    made(tmp_path / "both", (0.7,), device="cuda")
    with (
        pytest.raises(TrptsError, match="1 runs are there from two devices: expected one of each run"),
        records_at(project, tmp_path / "both"),
    ):
        pass


def test_shares_count_and_seconds_do_not(tmp_path, project):
    """`top_share` holds an _s and is no time."""
    for name, share, seconds in (("a", 0.1, 1.0), ("b", 0.1, 2.0), ("c", 0.2, 1.0)):
        record = copy.deepcopy(RECORD)
        record["metrics"] = {"test_accuracy": 0.5, "top_share": {"0.01": share}, "phase_s": {"train": seconds}}
        write_record(record, tmp_path / name)
    for name, same in (("b", 1), ("c", 0)):
        with records_at(project, tmp_path / "a") as a, records_at(project, tmp_path / name) as b:
            assert f"{same} of 1 have the same metrics" in list(side_by_side(a, b)[1])[1]


def test_the_command_compares_a_revision_with_a_folder(tmp_path, tiny, monkeypatch, capsys):
    project = tiny({"00_a": ["print('fine')"]})
    monkeypatch.chdir(project.root)
    made(project.committed("full"), (0.5, 0.6))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], check=True, cwd=project.root)
    folder = made(tmp_path / "b", (0.5, 0.6))
    assert main(["compare", "HEAD", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 have the same metrics to the last digit" in out
    assert "differ" not in out.replace("difference", "")
    assert main(["compare", "HEAD", str(folder), "--metric", "luck"]) == 2
    assert "no run is in both with a metric 'luck'" in capsys.readouterr().err
    assert main(["compare", "nowhere", str(folder)]) == 2
    assert "'nowhere' is neither a folder nor a git revision with data/results/full" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty"), str(folder)]) == 2
    assert "no record there" in capsys.readouterr().err


def test_a_broken_record_is_named(tmp_path, project):
    folder = made(tmp_path / "a", (0.5,))
    path = next(folder.glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 9}))
    with pytest.raises(Exception, match="schema version 9"), records_at(project, folder):
        pass
