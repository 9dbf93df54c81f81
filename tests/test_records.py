"""Records are whole or absent, checked on reading, and know when they are out of date."""

import copy
import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from trpts.lab import records
from trpts.lab.errors import TrptsError
from trpts.lab.experiments import fisher_digits
from trpts.lab.project import write_whole
from trpts.lab.records import flat_metrics, read_record, read_records, record_name, run_once, state, write_record

RECORD = {
    "schema": 1,
    "config": {
        "kind": "toy",
        "task": "t",
        "method": "m",
        "variant": "v",
        "seed": 0,
        "profile": "quick",
        "device": "cpu",
    },
    "metrics": {"accuracy": 0.5, "shares": [0.25, 0.75], "kinds": {"a": 1}, "n_things": 3},
    "time_s": 1.5,
    "peak_memory_bytes": 100,
    "versions": {"python": "3", "torch": "2", "timm": "1"},
    "machine": {"system": "s", "processor": "p", "cores": 2, "device": "cpu"},
    "code": {"modules": ["trpts"], "hash": "0" * 16},
    "inputs": {"data": "1" * 16, "weights": None},
}


def changed(**parts):
    record = copy.deepcopy(RECORD)
    for path, value in parts.items():
        *outer, last = path.split("__")
        target = record
        for key in outer:
            target = target[key]
        target[last] = value
    return record


def toy_experiment(accuracy=0.5, data="1" * 16):
    """An experiment that counts its calls; its code is that of a real module."""
    calls = []

    def run(config):
        calls.append(config["seed"])
        return {"accuracy": accuracy}

    experiment = SimpleNamespace(__name__=fisher_digits.__name__, run=run, calls=calls)
    experiment.inputs = lambda config: {"data": data, "weights": None}
    return experiment


CONFIG = {key: value for key, value in RECORD["config"].items() if key != "kind"}


def test_round_trip(tmp_path):
    path = write_record(RECORD, tmp_path)
    assert path.name == record_name(RECORD["config"])
    assert read_record(path) == RECORD
    assert read_records(tmp_path, "toy") == [RECORD]
    assert read_records(tmp_path, "other") == []


def test_name_depends_on_the_whole_config():
    names = {record_name(RECORD["config"] | change) for change in ({}, {"seed": 1}, {"device": "cuda"}, {"task": "u"})}
    assert len(names) == 4
    assert record_name(dict(reversed(RECORD["config"].items()))) == record_name(RECORD["config"])


def test_flat_metrics():
    flat = {"accuracy": 0.5, "shares[0]": 0.25, "shares[1]": 0.75, "kinds[a]": 1, "n_things": 3}
    assert flat_metrics(RECORD) == flat


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"schema": 2}, "schema version 2, this version of trpts reads 1"),
        ({"config__seed": -1}, "config/seed"),
        ({"config__profile": "huge"}, "config/profile"),
        ({"config__kind": "../toy"}, "config/kind"),
        ({"metrics": {}}, "metrics"),
        ({"metrics__accuracy": "high"}, "metrics/accuracy"),
        ({"metrics__accuracy": float("nan")}, "accuracy is nan"),
        ({"code__hash": "xyz"}, "code/hash"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, parts, message):
    with pytest.raises(TrptsError, match=message):
        write_record(changed(**parts), tmp_path)
    assert not list(tmp_path.iterdir())
    path = tmp_path / record_name(RECORD["config"])
    path.write_text(json.dumps(changed(**parts)))
    with pytest.raises(TrptsError, match=message):
        read_record(path)


def test_refuses_truncated_edited_or_misplaced(tmp_path):
    path = write_record(RECORD, tmp_path)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(TrptsError, match=r"toy-.*not a readable record"):
        read_record(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrptsError, match="not a readable record"):
        read_record(path)
    path.write_text(json.dumps(changed(config__seed=7)))
    with pytest.raises(TrptsError, match="edited or misplaced"):
        read_record(path)


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    path = write_record(RECORD, tmp_path)
    before = path.read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrptsError, match="the disk is full; nothing of it was left behind"):
        write_record(changed(time_s=2), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == before


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_write_that_breaks_off_leaves_nothing_behind(tmp_path):
    """A real short write: the process may write no file beyond 64 bytes."""
    program = (
        "import resource, signal, pathlib, sys; from trpts.lab.project import write_whole\n"
        "from trpts.lab.errors import TrptsError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "try: write_whole(pathlib.Path(sys.argv[1]) / 'r.json', 'x' * 1000)\n"
        "except TrptsError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert "nothing of it was left behind" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "r.json", "text")
    assert not list(tmp_path.iterdir())


def test_run_once_runs_once(tmp_path):
    experiment = toy_experiment()
    first = run_once(experiment, CONFIG, tmp_path)
    assert run_once(experiment, CONFIG, tmp_path) == first
    run_once(experiment, CONFIG | {"seed": 1}, tmp_path)
    assert experiment.calls == [0, 1]
    assert first["config"]["kind"] == "fisher_digits"
    assert len(read_records(tmp_path)) == 2


def test_run_once_runs_again_when_code_or_data_changed(tmp_path, monkeypatch):
    experiment = toy_experiment()
    record = run_once(experiment, CONFIG, tmp_path)
    assert state(record, experiment) == "current"
    assert state(record, toy_experiment(data="2" * 16)) == "other data"
    monkeypatch.setattr(records, "code_hash", lambda names: {"modules": ["trpts"], "hash": "f" * 16})
    assert state(record, experiment) == "made by earlier code"
    run_once(experiment, CONFIG, tmp_path)
    assert experiment.calls == [0, 0]


def test_failing_experiment_leaves_no_record(tmp_path):
    with pytest.raises(TrptsError, match="accuracy is inf"):
        run_once(toy_experiment(accuracy=float("inf")), CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unreadable_quick_record_is_measured_again_and_a_committed_one_is_not(tmp_path):
    experiment = toy_experiment()
    (tmp_path / record_name({"kind": "fisher_digits", **CONFIG})).write_text("half a rec")
    assert run_once(experiment, CONFIG, tmp_path)["metrics"] == {"accuracy": 0.5}
    full = CONFIG | {"profile": "full"}
    (tmp_path / record_name({"kind": "fisher_digits", **full})).write_text("half a rec")
    with pytest.raises(TrptsError, match="remove the file to measure again"):
        run_once(experiment, full, tmp_path)


def test_record_whose_weights_are_elsewhere_is_of_other_data(tmp_path):
    experiment = toy_experiment()
    record = run_once(experiment, CONFIG, tmp_path)

    for absent in (FileNotFoundError("weights.safetensors"), ValueError("data/paper is not a folder")):

        def missing(config, absent=absent):
            raise absent

        experiment.inputs = missing
        assert state(record, experiment) == "other data"
