"""How threads wait: set before torch is loaded, everywhere; what a user has set stays."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import trpts
from trpts.threads import CHOICES, SHORT_SPINS, spin_shortly


@pytest.fixture
def unset(monkeypatch):
    """The environment, as a table of its own that says nothing about waiting."""
    found = {k: v for k, v in os.environ.items() if k not in (*CHOICES, "OMP_NUM_THREADS")}
    monkeypatch.setattr(os, "environ", found)
    return found


def run(*arguments, folder=None, **variables):
    """stdout and stderr of Python in a process that has just these settings about threads."""
    environment = {
        k: v for k, v in os.environ.items() if k not in (*CHOICES, "OMP_NUM_THREADS")
    } | variables
    # this checkout, from any folder
    environment["PYTHONPATH"] = str(Path(trpts.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


LIBGOMP = pytest.mark.skipif(
    not list(Path(torch.__file__).parent.glob("lib/libgomp*")), reason="another runtime"
)


@LIBGOMP
@pytest.mark.parametrize(
    ("program", "variables", "taken"),
    [
        ("import trpts.cli, torch", {}, SHORT_SPINS["GOMP_SPINCOUNT"]),
        ("import trpts, torch", {"GOMP_SPINCOUNT": "77"}, "77"),
        ("import trpts, torch", {"OMP_WAIT_POLICY": "passive"}, "0"),
    ],
)
def test_the_runtime_takes_it(program, variables, taken):
    """libgomp says itself, when torch loads it, what it has read."""
    said = run("-c", program, OMP_DISPLAY_ENV="verbose", **variables).stderr
    assert f"GOMP_SPINCOUNT = '{taken}'" in said
    assert "UserWarning" not in said


def test_where_torch_was_first_one_sentence():
    said = run("-c", "import torch\nimport trpts\nimport trpts.threads").stderr
    assert said.count("UserWarning: torch was loaded before trpts") == 1
    assert "<string>:2: " in said, "the warning names the line that imports trpts"
    assert " ".join(f"{name}={value}" for name, value in SHORT_SPINS.items()) in said


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["passive", "0", ""])
def test_a_setting_of_the_user_s_own_stays(unset, name, value):
    unset[name] = value
    before = dict(unset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spin_shortly()
    assert unset == before


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("n_threads", [None, "1", "2"])
def test_set_once_and_said_only_where_it_comes_late(unset, monkeypatch, loaded, n_threads):
    if n_threads:
        unset["OMP_NUM_THREADS"] = n_threads
    monkeypatch.setitem(sys.modules, "torch", torch if loaded else None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        spin_shortly()
        spin_shortly()  # as in a process that inherits it
    assert SHORT_SPINS.items() <= unset.items()
    assert len(said) == (loaded and n_threads != "1")


def test_kernels_inherit_it(tiny):
    """A chapter may load torch first: the command that runs it has made its environment."""
    import nbformat

    project = tiny(
        {"00_a": ["import os\nprint(os.environ['GOMP_SPINCOUNT'], os.environ['KMP_BLOCKTIME'])"]}
    )
    run("-m", "trpts.cli", "run", folder=project.root)
    nb = nbformat.read(project.runs("quick") / "00_a.ipynb", as_version=4)
    assert nb.cells[-1].outputs[0].text.split() == list(SHORT_SPINS.values())


def test_the_tests_have_it_too(project):
    """The conftest.py at the checkout's root comes before the one here, and loads trpts."""
    loaded = list(sys.modules)
    assert loaded.index("trpts.threads") < loaded.index("torch")
