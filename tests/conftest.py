"""Shared by the tests: the checkout, small projects made on the spot, and the book built once.

`--part check` runs the tests that need no chapter, page, browser or further process of Python's and
are not marked slow; `--part library` runs, of these, the tests that do not need the laboratory. A
test's class follows from its imports, its fixtures and what it does. The laboratory is imported
where it is used, as it is not installed where the library is tested alone.
"""

import multiprocessing.process
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from trpts.backbones import create_backbone

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
PAGES = {"html", "browser"}  # fixtures that need the built book, or a browser

# tests at once: they share the cores
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_addoption(parser):
    parser.addoption("--part", choices=("check", "library"), help="see tests/conftest.py")


def pytest_ignore_collect(collection_path, config):
    """Files that import the laboratory cannot be imported where only the library is."""
    if config.option.part == "library" and collection_path.suffix == ".py":
        text = collection_path.read_text(encoding="utf-8")
        return bool(re.search(r"^ *(from|import) trpts_lab", text, re.M)) or None


def in_part(item, part):
    """Whether a test belongs to a part, as far as is known before it runs: see `no_processes`."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return (
        item.path.suffix == ".py"
        and not item.get_closest_marker("slow")
        and not fixtures & PAGES
        and not hasattr(item.module, "LocalCluster")  # its tests start workers
        and not (part == "library" and fixtures & {"project", "tiny"})
    )


@pytest.fixture(scope="session", autouse=True)
def no_processes(request):
    """In a part, whatever is about to start Python, a kernel, a worker or a browser is skipped."""
    if request.config.option.part is None:
        yield
        return

    def start(process, args=(), *others, **options):
        name = Path(str(args if isinstance(args, str | Path) else args[0])).name
        if re.match("python|node|chrom", name):
            skip()
        popen(process, args, *others, **options)

    def skip(*_):
        pytest.skip("starts a process: `make test` runs it")

    popen = subprocess.Popen.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", start)
        patch.setattr(multiprocessing.process.BaseProcess, "start", skip)
        yield


def pytest_collection_modifyitems(config, items):
    """Only the tests of the part. Where workers share the files: one builds the book at once, and
    what reads it comes when it is there.
    """
    if part := config.option.part:
        left_out = [item for item in items if not in_part(item, part)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    late = {
        i.path
        for i in items
        if i.path.suffix == ".ipynb" or PAGES & set(getattr(i, "fixturenames", ()))
    }
    items.sort(
        key=lambda item: 0 if item.path.name == "test_book.py" else 2 if item.path in late else 1
    )


@pytest.fixture(scope="session")
def project():
    """The checkout under test."""
    from trpts_lab.project import Project

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
    import matplotlib.pyplot as plt

    yield plt.figure()
    plt.close("all")


@pytest.fixture
def shown(figure, monkeypatch):
    """A function: what a drawing function drew, as its panels and the alt text."""
    from trpts_lab.book import figures

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
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

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
    import yaml

    from trpts_lab.project import Project

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
    from trpts_lab.files import make_folder

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
    from trpts_lab.book.pdf import QUIET, find_browser

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
