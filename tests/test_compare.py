"""Two sets of records side by side."""

import copy
import json
import subprocess

import pytest
from made import changed

from trpts.cli import main
from trpts.errors import TrptsError
from trpts_lab.compare import records_at, side_by_side
from trpts_lab.store import Store

RECORD = changed(
    config={
        "kind": "tuned",
        "task": "digits",
        "seed": 0,
        "method": "x",
        "variant": "a",
        "profile": "full",
        "device": "cpu",
    },
    metrics={"test_accuracy": 0.5, "phase_s": {"train": 1.0}},
    version={"experiment tuned": 1},
)


def made(folder, accuracies, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, accuracy in enumerate(accuracies):
        record = copy.deepcopy(RECORD) | changes
        record["config"] |= {"seed": seed, "device": changes.get("device", "cpu")}
        record["metrics"]["test_accuracy"] = accuracy
        Store(folder).add({k: v for k, v in record.items() if k != "device"})
    return folder


def test_by_hand(tmp_path, project):
    """Differences .1 and .3: mean .2, sd .1414; the third run is in one set alone."""
    one = made(tmp_path / "a", (0.5, 0.5, 0.9))
    other = made(tmp_path / "b", (0.6, 0.8), device="cuda", version={"experiment tuned": 2})
    table, facts = side_by_side(records_at(project, one), records_at(project, other))
    row = table.iloc[0]
    assert (row["kind"], row["variant"], row["runs"]) == ("tuned", "a", 2)
    assert row[["a", "b", "difference", "sd", "largest"]].tolist() == pytest.approx(
        [0.5, 0.7, 0.2, 0.02**0.5, 0.3]
    )
    assert list(facts) == [
        "2 runs in both, 1 in the first alone, 0 in the second alone",
        "0 of 2 have the same metrics to the last digit, times aside",
        "2 runs differ in versions of experiment or method",
    ]


def test_a_run_of_two_devices_is_not_dropped_in_silence(tmp_path, project):
    made(tmp_path / "both", (0.5, 0.6))
    made(tmp_path / "both", (0.7,), device="cuda")
    with pytest.raises(
        TrptsError, match="1 runs are there from two devices: expected one of each run"
    ):
        records_at(project, tmp_path / "both")


def test_shares_count_and_seconds_do_not(tmp_path, project):
    """`top_share` holds an _s and is no time."""
    for name, share, seconds in (("a", 0.1, 1.0), ("b", 0.1, 2.0), ("c", 0.2, 1.0)):
        record = copy.deepcopy(RECORD)
        record["metrics"] = {
            "test_accuracy": 0.5,
            "top_share": {"0.01": share},
            "phase_s": {"train": seconds},
        }
        Store(tmp_path / name).add(record)
    for name, same in (("b", 1), ("c", 0)):
        both = (records_at(project, tmp_path / one) for one in ("a", name))
        assert f"{same} of 1 have the same metrics" in list(side_by_side(*both)[1])[1]


def test_the_command_compares_a_revision_with_a_folder(tmp_path, tiny, monkeypatch, capsys):
    project = tiny({"00_a": ["print('fine')"]})
    monkeypatch.chdir(project.root)
    made(project.store("full").loose, (0.5, 0.6))
    project.store("full").pack()
    (project.root / ".gitignore").write_text("build/\n")
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], check=True, cwd=project.root)
    folder = made(tmp_path / "b", (0.5, 0.6))
    assert main(["compare", "HEAD", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 have the same metrics to the last digit" in out
    assert "differ" not in out.replace("difference", "")
    assert main(["compare", "HEAD", str(folder), "--metric", "luck"]) == 2
    assert "no run is in both with a metric 'luck'" in capsys.readouterr().err
    assert main(["compare", "nowhere", str(folder)]) == 2
    assert (
        "'nowhere' is neither a folder nor a git revision with data/results: fatal"
        in capsys.readouterr().err
    )
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty"), str(folder)]) == 2
    assert "no record there" in capsys.readouterr().err


def test_what_is_no_revision_gives_git_no_options(tmp_path, tiny, capsys):
    """`trpts compare -- --output=FILE` must not write FILE."""
    project, target = tiny({"00_a": ["print('fine')"]}), tmp_path / "written"
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], check=True, cwd=project.root)
    assert main(["compare", "--", f"--output={target}", "HEAD"]) == 2
    assert "is neither a folder nor a git revision" in capsys.readouterr().err
    assert not target.exists()


OLDER = {
    "schema": 1,
    "code": {"modules": ["trpts"], "hash": "0" * 16},
    "versions": {"python": "3", "torch": "2", "timm": "1"},
    "machine": RECORD["provenance"]["machine"],
}


def test_records_of_earlier_revisions_are_read(tmp_path, tiny):
    """They had a file each, in data/results/full."""
    project = tiny({"00_a": ["print('fine')"]})
    folder = project.committed / "full"
    folder.mkdir(parents=True)
    old = {k: v for k, v in RECORD.items() if k not in ("version", "provenance")} | OLDER
    (folder / "tuned-0123456789abcdef.json").write_text(json.dumps(old))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], check=True, cwd=project.root)
    facts = list(
        side_by_side(
            records_at(project, "HEAD"), records_at(project, made(tmp_path / "b", (0.5,)))
        )[1]
    )
    assert facts[1:] == ["1 of 1 have the same metrics to the last digit, times aside"]
    (folder / "tuned-0123456789abcdef.json").write_text(json.dumps(old | {"metrics": {}}))
    with pytest.raises(
        TrptsError, match=r"tuned-0123456789abcdef\.json: not a valid record: metrics"
    ):
        records_at(project, project.committed)


def test_a_broken_record_is_named(tmp_path, project):
    folder = made(tmp_path / "a", (0.5,))
    path = next(folder.glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    with pytest.raises(TrptsError, match=r"tuned-.*: not a valid record: version"):
        records_at(project, folder)
