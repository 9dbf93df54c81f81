"""Shared by the tests: the checkout, small projects made on the spot, and the book built once."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
import yaml
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from trpts.backbones import create_backbone
from trpts_lab.book import figures
from trpts_lab.book.pdf import QUIET, find_browser
from trpts_lab.files import make_folder
from trpts_lab.project import Project

BENCHMARK = {
    "backbone": "vit_small_digits",
    "weights": None,
    "tasks": ["digits"],
    "root": "data",
    "reading": {},
}
BENCHMARK |= {
    "sweep": {
        "tuning_tasks": [],
        "compared_tasks": [],
        "epochs": 1,
        "batch_size": 8,
        "rates": {"few": [], "all": []},
    }
}
BENCHMARK |= {"settings": None}  # the benchmark of small projects
ROOT = Path(__file__).resolve().parent.parent

# tests at once: they share the cores
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_collection_modifyitems(items):
    """Where workers share the files: one builds the book at once, and what reads it comes when it
    is there.
    """
    needs = {"html", "browser"}
    late = {
        i.path
        for i in items
        if i.path.suffix == ".ipynb" or needs & set(getattr(i, "fixturenames", ()))
    }
    items.sort(
        key=lambda item: 0 if item.path.name == "test_book.py" else 2 if item.path in late else 1
    )


@pytest.fixture(scope="session")
def project():
    """The checkout under test."""
    return Project(ROOT)


@pytest.fixture
def vit():
    """The small vision transformer with five classes and random weights."""
    return create_backbone("vit_small_digits", 5, seed=3)


@pytest.fixture
def batch():
    """Eight random images and labels for `vit`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 1, 8, 8, generator=generator), torch.randint(
        0, 5, (8,), generator=generator
    )


@pytest.fixture
def figure():
    """An empty figure, closed afterwards."""
    yield plt.figure()
    plt.close("all")


@pytest.fixture
def shown(figure, monkeypatch):
    """A function: what a drawing function drew, as its panels and the alt text."""

    def catch(function, *data, **options):
        caught = []
        monkeypatch.setattr(figures, "display", lambda data, **kw: caught.append(data))
        monkeypatch.setattr(
            figures, "_png", lambda drawn, theme, size: drawn(figure) if theme == "light" else None
        )
        function(*data, **options)
        (output,) = caught
        return figure.axes, output["text/plain"]

    return catch


def write_chapter(folder, name, *sources, parameters="profile = 'quick'"):
    """Write a small notebook: a title, a parameters cell, one cell per source."""
    cells = [
        new_markdown_cell(f"# {name}"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
    ]
    cells += [new_code_cell(source) for source in sources]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A function that makes a small project of chapters, {name: [cell sources]}, and enters its
    folder.
    """

    def make(chapters, parameters=None, settings=None):
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "profiles").mkdir()
        for name, sources in chapters.items():
            write_chapter(
                tmp_path / "notebooks", name, *sources, parameters=parameters or "profile = 'quick'"
            )
        for profile in ("quick", "full", "paper"):
            content = {"profile": profile, "requires": [], "benchmark": BENCHMARK}
            content["chapters"] = {name: settings or {} for name in chapters}
            (tmp_path / "profiles" / f"{profile}.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.chdir(tmp_path)
        return Project(tmp_path)

    return make


@pytest.fixture(scope="session")
def html(project):
    """The folder of the built pages; `trpts book` runs once and does nothing twice."""
    command = [sys.executable, "-m", "trpts.cli", "book"]
    # two workers: the second finds it built
    with FileLock(make_folder(project.build) / "tests.lock"):
        done = subprocess.run(command, cwd=project.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = Path(done.stdout.splitlines()[-1])
    assert page.is_file(), "the last line of `trpts book` is not the path of the front page"
    return page.parent


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; without one the checks are skipped, or fail where TRPTS_BROWSER_REQUIRED
    is set.
    """
    path = find_browser()
    if path is None:
        text = (
            "no Chromium or Chrome on the PATH: the browser checks were not run (Debian: apt "
            "install chromium)"
        )
        pytest.fail(text) if os.environ.get("TRPTS_BROWSER_REQUIRED") else pytest.skip(text)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield chromium
        chromium.close()
