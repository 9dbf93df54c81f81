"""The canaries sing: every experiment and family of methods still gives the metrics that are
committed.

Where one does not, either the change is a mistake, or it is meant: raise the version of what moved
(`trpts_lab/versions.py`, or VERSION in the experiment's module), say why in CHANGELOG.md, and bless
the canaries anew.
"""

import json
import re
import shutil
import subprocess
import sys
from statistics import fmean

import pytest

import trpts.peers  # noqa: F401  registers its methods
from trpts import methods
from trpts.scores import SCORES
from trpts.transprune.criteria import CRITERIA
from trpts_lab import canaries, versions
from trpts_lab.book.regression import baseline_path, of_files, today_inputs
from trpts_lab.book.status import inputs_path
from trpts_lab.experiments import concentration
from trpts_lab.project import Project
from trpts_lab.regress import read_baselines
from trpts_lab.tolerances import tolerances

PROJECT = Project.find(__file__)
NAMES = sorted(canaries.canaries())
SAME = set()  # pairs that may be alike


@pytest.fixture(scope="module")
def baselines():
    return read_baselines(baseline_path(PROJECT, canaries.NAME))["baselines"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_canary(project, monkeypatch, baselines, name):
    monkeypatch.chdir(project.root)
    rows = canaries.compare(baselines, [name])
    assert rows
    assert [row for row in rows if not row["ok"]] == [], (
        "mend the code, or raise the version of what moved"
    )


def test_each_experiment_and_family_has_one(baselines):
    assert sorted(baselines) == NAMES
    kinds = {path.stem for path in versions.EXPERIMENTS.glob("[a-z]*.py")}
    assert {kind for kind, _ in canaries.canaries().values()} == kinds
    families = {
        family
        for kind, config in canaries.canaries().values()
        for family in versions.families_of({"kind": kind, **config})
    }
    wanted = {
        "method": methods.METHODS,
        "score": {*SCORES, *concentration.REMEDIES},
        "criterion": CRITERIA,
    }
    assert {f"{what} {name}" for what, names in wanted.items() for name in names} <= families


def differs(one, other):
    """Whether a canary would go red if another's metrics came out."""
    return one.keys() != other.keys() or any(
        abs(fmean(one[m]["values"]) - fmean(other[m]["values"])) > one[m]["tolerance"] for m in one
    )


def test_no_canary_takes_another_for_itself(baselines):
    """Were one method, score or criterion exchanged for another, the canary would see it."""
    for what in ("method", "score", "criterion"):
        some = {
            name: entry["metrics"] for name, entry in baselines.items() if name.startswith(what)
        }
        assert len(some) > 5
        alike = {(a, b) for a in some for b in some if a != b and not differs(some[a], some[b])}
        assert alike <= SAME, alike - SAME


def test_tolerances_by_hand():
    """Runs at .50, .50, .53 lie at most .02 from their mean .51: three times that. Where none
    moves, one and a half of 240 images, and a thousandth of a loss. Counts are exact.
    """

    def found(x):
        config = {"kind": "tuned", "task": "few_digits"}
        return {
            "a": {
                "config": config,
                "metrics": {"test_accuracy": x, "n_x": 3, "last_test_accuracy": 0.9, "loss": 2.0},
            }
        }

    made = tolerances([found(0.50), found(0.50), found(0.53)])["a"]["metrics"]
    assert made["test_accuracy"] == {"values": [0.50, 0.50, 0.53], "tolerance": pytest.approx(0.06)}
    assert made["n_x"]["tolerance"] == 0
    assert made["last_test_accuracy"]["tolerance"] == pytest.approx(1.5 / 240)
    assert made["loss"]["tolerance"] == pytest.approx(2e-3)


@pytest.mark.slow
def test_drawn_data_are_as_the_records_have_them(project, monkeypatch):
    """`trpts status` reads these hashes, so that it need not draw: here they are drawn."""
    monkeypatch.chdir(project.root)
    known = json.loads(inputs_path(project).read_text(encoding="utf-8"))
    today = today_inputs(project)
    assert today.items() <= known.items()
    assert all(map(of_files, known.keys() - today.keys()))
    assert len(known) >= 100


def status_of(root):
    done = subprocess.run(
        [sys.executable, "-m", "trpts.cli", "status"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return re.findall(r"^ *(\w+) +full +(\d+) +(.*)$", done.stdout, flags=re.MULTILINE)


def test_an_error_message_the_release_number_and_a_new_name_make_no_record_stale(project, tmp_path):
    """And a new version makes those stale that rest on it, and no other."""
    for package in ("trpts", "trpts_lab"):
        shutil.copytree(
            project.root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("notebooks", "profiles", "data"):
        (tmp_path / name).symlink_to(project.root / name)
    before = status_of(tmp_path)
    assert len(before) >= 12
    assert {state for *_, state in before} == {"current"}

    def edit(path, old, new):
        text = (tmp_path / path).read_text()
        assert old in text
        (tmp_path / path).write_text(text.replace(old, new, 1))

    edit("trpts/data/fgvc.py", "expected", "we expected")
    edit("trpts/__init__.py", '__version__ = "', '__version__ = "9.')
    edit(
        "trpts/scores.py",
        '    "gradient": Score(',
        '    "luck": Score(random_scores),\n    "gradient": Score(',
    )
    assert status_of(tmp_path) == before
    edit(
        "trpts_lab/versions.py",
        "RAISED: dict[str, int] = {",
        'RAISED: dict[str, int] = {"method lora": 2, ',
    )
    after = {(kind, state): int(n) for kind, n, state in status_of(tmp_path)}
    n_lora = sum(r["config"]["method"] == "lora" for r in project.store("full").records("tuned"))
    n_tuned = len(project.store("full").records("tuned"))
    assert after.pop(("tuned", "stale: version of method lora")) == n_lora > 100
    assert after.pop(("tuned", "current")) == n_tuned - n_lora
    assert {state for _, state in after} == {"current"}
