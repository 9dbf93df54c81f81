"""The library as somebody installs it: its wheel, its own dependencies, no checkout and no
laboratory.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made import imports_of
from packaging.requirements import Requirement
from PIL import Image

from trpts.backbones import create_backbone
from trpts.files import write_tensors
from trpts.moved import MOVED


def closure(names):
    """The distributions that these requirements need on this machine, theirs included, as pip would
    install them.
    """
    found, todo = {}, [Requirement(name) for name in names]
    while todo:
        requirement = todo.pop()
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""}
        )
        key = (requirement.name.lower(), *sorted(requirement.extras))
        if wanted and key not in found:
            found[key] = importlib.metadata.distribution(requirement.name)
            for text in found[key].requires or ():
                inner = Requirement(text)
                extras = requirement.extras or {""}
                if inner.marker is None or any(
                    inner.marker.evaluate({"extra": extra}) for extra in extras
                ):
                    inner.marker = None
                    todo.append(inner)
    return list(found.values())


def built(folder):
    """Path of the wheel of a folder with a pyproject.toml."""
    program = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "is absent from the `packages`" not in done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory):
    """The library's wheel, built from a copy: building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for name in ("trpts", "trpts_lab"):
        shutil.copytree(
            project.root / name,
            source / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project.root / name, source / name)
    return built(source)


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory):
    """Runs a program in an environment of the wheel and what it needs, in an empty folder; the
    finished process.
    """
    site, place = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("place")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (metadata,) = site.glob("trpts-*.dist-info/METADATA")
    texts = [
        line.partition(": ")[2]
        for line in metadata.read_text().splitlines()
        if line.startswith("Requires-Dist")
    ]
    needs = [text for text in texts if "extra ==" not in text]
    assert len(needs) <= 12 < len(closure(needs))
    for distribution in closure(needs):
        for top in {Path(file).parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))

    def run(program, *arguments):
        start = (
            f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = sys.argv[:1] + "
            "sys.argv[2:]\n"
        )
        command = [sys.executable, "-I", "-S", "-c", start + program, "-", *map(str, arguments)]
        return subprocess.run(command, cwd=place, capture_output=True, text=True)

    run.place = place
    return run


COMMAND = "from trpts.cli import main; sys.exit(main())"


def test_the_wheel_packs_the_library_alone(wheel, project):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(p.relative_to(project.root)) for p in (project.root / "trpts").rglob("*.py")}
    assert packed == modules | {"trpts/py.typed"}


def test_the_laboratorys_wheel_packs_the_laboratory_and_its_files(project, tmp_path):
    names = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(project.root / "trpts_lab", tmp_path / "trpts_lab", ignore=names)
    with zipfile.ZipFile(built(tmp_path / "trpts_lab")) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "trpts_lab"], cwd=project.root, capture_output=True, text=True
    )
    wanted = {name for name in tracked.stdout.split() if not name.endswith("pyproject.toml")}
    if not wanted:
        pytest.skip("not a git checkout")
    assert packed == wanted


def test_neither_the_laboratory_nor_what_it_needs_is_there(alone):
    others = (
        "trpts_lab",
        "pandas",
        "jupyter",
        "IPython",
        "papermill",
        "dask",
        "peft",
        "transformers",
        "pytest",
    )
    program = (
        "import importlib.util; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    )
    assert alone(program, *others, "torch").stdout.strip() == "['torch']"


def test_tune_predict_and_export_work(alone):
    rng = np.random.default_rng(0)
    for name, colour in (("red", (220, 30, 30)), ("green", (30, 200, 40)), ("blue", (20, 40, 220))):
        (alone.place / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = (
                (np.array(colour) + rng.integers(-25, 25, (40, 50, 3)))
                .clip(0, 255)
                .astype(np.uint8)
            )
            Image.fromarray(pixels).save(alone.place / "photos" / name / f"{i}.png")
    backbone = create_backbone("vit_lab", 3, seed=0)
    tensors = {name: t for name, t in backbone.state_dict().items() if not name.startswith("head")}
    write_tensors(alone.place / "lab.safetensors", tensors, {})
    given = ["--weights", "lab.safetensors"]
    steps = [
        [
            "tune",
            "photos",
            "--backbone",
            "vit_lab",
            *given,
            "--epochs",
            2,
            "--out",
            "o.safetensors",
        ],
        ["predict", "o.safetensors", "photos/red/1.png", *given, "--json"],
        ["export", "o.safetensors", *given, "--out", "whole.safetensors"],
    ]
    done = [alone(COMMAND, *step) for step in steps]
    assert [d.returncode for d in done] == [0, 0, 0], [d.stderr for d in done]
    assert set(json.loads(done[1].stdout)["classes"]) == {"red", "green", "blue"}
    assert (alone.place / "whole.safetensors").is_file()


@pytest.mark.parametrize("command", ["run", "book", "sweep", "claims", "data"])
def test_a_command_of_the_laboratory_says_that_it_is_not_installed(alone, command):
    done = alone(COMMAND, command, "--profile", "quick")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        f"trpts: '{command}' is no command: expected one of tune, predict, export, diff, prune; the"
    )
    assert "laboratory, which is not installed: run pip install ./trpts_lab" in done.stderr


def test_its_tasks_too(alone):
    for name in ("dtd_twin", "real/nlvr_count"):
        done = alone("import trpts; trpts.load_task(sys.argv[1])", name)
        assert done.stderr.splitlines()[-1].startswith(f"ValueError: task {name!r} is unknown: ")
        assert (
            "come with the laboratory, which is not installed: run pip install ./trpts_lab"
            in done.stderr
        )


def test_an_old_path_says_where_it_went(alone):
    for program, now in (
        ("import trpts.lab.store", "trpts.lab is now trpts_lab; the laboratory: run pip install"),
        ("import trpts.rivals", "trpts.rivals is now trpts.scores"),
        ("from trpts.data.twins import TWINS", "trpts.data.twins is now trpts_lab.twins"),
        ("from trpts import paper", "trpts.paper is now trpts_lab.paper"),
    ):
        done = alone(program)
        assert done.stderr.splitlines()[-1].startswith(f"ImportError: {now}"), done.stderr
    assert alone("import trpts.nothing").stderr.endswith(
        "ModuleNotFoundError: No module named 'trpts.nothing'\n"
    )


def test_every_old_path_went_to_one_that_is_there(project):
    there = {**imports_of(project.root / "trpts_lab"), **imports_of(project.root / "trpts")}
    assert set(MOVED.values()) <= set(there)
    assert not set(MOVED) & set(there)
