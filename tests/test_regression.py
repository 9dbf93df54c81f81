"""`trpts regress` and `--bless` from the command line, on a small chapter whose metrics a file
decides.
"""

import json
import subprocess

import nbformat
import pytest
import yaml

from trpts.cli import main
from trpts_lab.book import regression
from trpts_lab.regress import read_baselines

# A chapter that writes one record per seed; `noise.txt`, if there, is added to the accuracy.
CHAPTER = """
import time
from pathlib import Path
from types import SimpleNamespace
from trpts_lab.project import Project
from trpts_lab.measured import run_once
extra = float(Path("noise.txt").read_text()) if Path("noise.txt").exists() else 0
if Path("counter.txt").exists():
    Path("noise.txt").write_text(str(extra + 0.001))
experiment = SimpleNamespace(
    __name__="trpts_lab.experiments.fisher_digits",
    run=lambda c: {"accuracy": 0.7 + c["seed"] / 100 + extra, "wild": (-1) ** c["seed"] * 1.0,
                   "n_things": 3, "phase_s": {"train": time.monotonic()}},
    inputs=lambda c: {"data": "0" * 16, "weights": None},
)
for seed in seeds:
    config = dict(task="t", method="m", variant="v", seed=seed, profile=profile, device="cpu")
    run_once(experiment, config, Project.find().results(profile))
"""


@pytest.fixture
def committed(tiny, monkeypatch):
    """A small project, committed to git."""
    monkeypatch.setattr(regression, "pick_device", lambda: "cpu")
    project = tiny({"00_a": [CHAPTER]}, "profile = 'quick'\nseeds = [0]", {"seeds": [0]})
    (project.root / ".gitignore").write_text("build/\n")
    commit(project)
    return project


def commit(project):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        [*identity, "commit", "-q", "-m", "state", "--allow-empty"],
    ):
        subprocess.run(["git", *command], cwd=project.root, check=True)


def test_bless_then_regress_then_drift(committed, capsys):
    assert main(["regress"]) == 2
    assert "make it with `trpts regress --bless`" in capsys.readouterr().err
    assert main(["regress", "--bless"]) == 0
    out = capsys.readouterr().out
    assert "blessed 00_a: 2 metrics over 5 seeds" in out
    assert "too scattered over seeds to be checked: wild" in out
    assert out.count("00_a: running") == 2
    content = read_baselines(committed.root / "data" / "baselines" / "00_a.json")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=committed.root, capture_output=True, text=True
    )
    assert content["commit"] == head.stdout.strip()
    assert content["versions"]["torch"]
    assert main(["regress"]) == 0
    assert "2 of 2 metrics within tolerance, 0 chapters failed" in capsys.readouterr().out
    (committed.root / "noise.txt").write_text("0.2")
    assert main(["regress"]) == 1
    assert "drift: fisher_digits" in capsys.readouterr().out
    report = json.loads((committed.build / "regress" / "report.json").read_text())
    assert [row["metric"] for row in report["rows"] if not row["ok"]] == ["accuracy"]
    assert '<failure message="' in (committed.build / "regress" / "junit.xml").read_text()


def test_chapters_without_a_spread_get_no_baseline(tiny, monkeypatch, capsys):
    monkeypatch.setattr(regression, "pick_device", lambda: "cpu")
    chapters = {"00_a": [CHAPTER], "01_b": ["print('no records')"], "02_c": ["print('no seeds')"]}
    project = tiny(chapters, "profile = 'quick'\nseeds = [0]", {"seeds": [0]})
    without = project.notebooks / "02_c.ipynb"
    nb = nbformat.read(without, as_version=4)
    for cell in nb.cells:
        cell.source = cell.source.replace("seeds = [0]", "")
    nbformat.write(nb, without)
    for path in (project.root / "profiles").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(content | {"chapters": content["chapters"] | {"02_c": {}}}))
    (project.root / ".gitignore").write_text("build/\n")
    commit(project)
    assert main(["regress", "--bless"]) == 0
    out = capsys.readouterr().out
    assert "blessed 00_a" in out
    assert "01_b leaves no records: it gets no baseline" in out
    assert "02_c has no seeds to take a spread over: it gets no baseline" in out
    assert main(["regress"]) == 0
    out = capsys.readouterr().out
    assert [
        f"{name}: has no baseline; that it runs is all that is checked" in out
        for name in ("00_a", "01_b", "02_c")
    ] == [False, True, True]


def test_bless_refuses_a_dirty_tree(committed, capsys):
    (committed.root / "new.txt").touch()
    assert main(["regress", "--bless"]) == 2
    assert "the tree is dirty (?? new.txt …): commit before blessing" in capsys.readouterr().err
    assert not (committed.root / "data").exists()


def test_bless_refuses_what_does_not_repeat(committed, capsys):
    (committed.root / "counter.txt").touch()
    commit(committed)
    assert main(["regress", "--bless"]) == 2
    assert "00_a gives other metrics when run again" in capsys.readouterr().err
    assert not (committed.root / "data").exists()


def test_failing_chapter_is_reported(committed, capsys):
    main(["regress", "--bless"])
    (committed.root / "noise.txt").write_text("not a number")
    assert main(["regress"]) == 1
    assert "1 chapters failed" in capsys.readouterr().out
    assert "ValueError" in (committed.build / "regress" / "junit.xml").read_text()


def test_baseline_of_another_device_is_refused(committed, capsys, monkeypatch):
    main(["regress", "--bless"])
    monkeypatch.setattr(regression, "pick_device", lambda: "cuda")
    assert main(["regress"]) == 2
    assert (
        "was made on cpu, this machine computes on cuda: bless it here" in capsys.readouterr().err
    )
