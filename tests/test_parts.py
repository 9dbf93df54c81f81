"""`make check` and the hosted check of the library: what each leaves out, and that it can fail."""

import shutil
import subprocess
import sys

import pytest

FAULT = "\ndef test_fault():\n    assert 1 == 2\n"
PLANTED = f"""
import multiprocessing, os, subprocess, sys, pytest
{FAULT}
def test_git():
    assert subprocess.run(["git", "--version"], capture_output=True).returncode == 0

def test_python():
    subprocess.run([sys.executable, "-c", "1"], check=True)

def test_worker():
    multiprocessing.get_context("spawn").Process(target=os.getpid).start()

@pytest.mark.slow
def test_long():
    pass

def test_checkout(project):
    assert project.root

def test_page(html):
    pass
"""


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("check", "2 failed, 2 passed, 2 skipped, 3 deselected"),
        ("library", "1 failed, 1 passed, 2 skipped, 4 deselected"),
    ],
)
def test_a_part_leaves_out_what_it_says_and_fails_on_a_fault(project, tmp_path, part, counts):
    shutil.copy(project.root / "tests" / "conftest.py", tmp_path)
    shutil.copy(project.root / "pyproject.toml", tmp_path)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "test_laboratory.py").write_text("import trpts_lab\n" + FAULT)
    (tmp_path / "test_workers.py").write_text("LocalCluster = None\n" + FAULT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "--part", part, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1].startswith(counts), done.stdout
