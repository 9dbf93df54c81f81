"""README, Makefile, environment.yml, pyproject.toml and constraints.txt tell the same story."""

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from ruff import find_ruff_bin

import trpts
from trpts.cli import parser
from trpts.errors import TrptsError
from trpts.packages import PACKAGES
from trpts_lab.book import readme
from trpts_lab.project import Project

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.fixture(scope="module")
def pyproject(project):
    return tomllib.loads((project.root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def laboratory(project):
    return tomllib.loads((project.root / "trpts_lab" / "pyproject.toml").read_text())


def requirements(*pyprojects):
    texts = []
    for pyproject in pyprojects:
        extras = pyproject["project"]["optional-dependencies"]
        texts += [*pyproject["project"]["dependencies"], *chain.from_iterable(extras.values())]
    return [r for r in map(Requirement, texts) if r.name != "trpts"]


def pins(project):
    found = {}
    for line in (project.root / "constraints.txt").read_text().splitlines():
        requirement = Requirement(line)
        found.setdefault(requirement.name.lower().replace("_", "-"), []).append(requirement)
    return found


def test_environment_yml_and_set_up_are_in_step(project, pyproject, laboratory):
    environment = yaml.safe_load((project.root / "environment.yml").read_text())
    *tools, pip = environment["dependencies"]
    assert tools == [f"python{pyproject['project']['requires-python']}", "pip", "git", "make"]
    extras = ",".join(laboratory["project"]["optional-dependencies"])
    assert pip == {"pip": ["-c constraints.txt", "-e .", f"-e ./trpts_lab[{extras}]"]}
    words = f'["-c", "constraints.txt", "-e", ".", "-e", "./trpts_lab[{extras}]"]'
    assert words in (project.root / "scripts" / "bootstrap.py").read_text()


def test_real_parts_are_pinned_by_hash_and_are_those_that_the_code_reads(project):
    """One wheel each, in the versions of `trpts.packages`; conda's users are told how;
    scikit-image's pin agrees.
    """
    text = (project.root / "real_parts.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [
        re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line).groups() for line in lines
    ]
    of_set_up = {name: p.version for name, p in PACKAGES.items() if p.in_set_up}
    (image,) = pins(project)["scikit-image"]
    assert dict(found) | {"scikit-image": str(image.specifier).removeprefix("==")} == of_set_up
    environment = (project.root / "environment.yml").read_text()
    command = "pip install --no-deps --require-hashes -r real_parts.txt"
    assert command in environment
    assert command in README.read_text()


def test_bootstrap_wants_the_same_python(project, pyproject):
    source = (project.root / "scripts" / "bootstrap.py").read_text()
    oldest = re.search(r"^OLDEST = \((\d+), (\d+)\)$", source, re.M).groups()
    assert f">={'.'.join(oldest)}" == pyproject["project"]["requires-python"]


def test_every_requirement_has_an_exact_pin_within_its_range(project, pyproject, laboratory):
    exact = pins(project)
    for requirement in requirements(pyproject, laboratory):
        for pin in exact[requirement.name]:
            (version,) = [s.version for s in pin.specifier]
            assert str(pin.specifier).startswith("==")
            assert requirement.specifier.contains(version), f"{requirement} against {pin}"


def test_hooks_of_a_commit_are_of_the_pinned_ruff(project):
    (hooks,) = yaml.safe_load((project.root / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = pins(project)["ruff"]
    assert hooks["rev"].replace("v", "==") == str(ruff.specifier)
    assert [hook["id"] for hook in hooks["hooks"]] == ["ruff-check", "ruff-format"]


def test_constraints_hold_no_address(project):
    text = (project.root / "constraints.txt").read_text()
    assert not re.search(r"://|@|--", text)


def test_book_engine_is_pinned(laboratory):
    assert "jupyter-book==1.0.4.post1" in laboratory["project"]["dependencies"]


def test_the_library_is_light_and_the_laboratory_whole(project, pyproject, laboratory):
    """At most twelve dependencies; the laboratory packs every folder of its own, and data files
    beside code.
    """
    assert len(pyproject["project"]["dependencies"]) <= 12
    packed = set(laboratory["tool"]["setuptools"]["packages"])
    folders = {
        p.parent.relative_to(project.root) for p in (project.root / "trpts_lab").rglob("*.py")
    }
    folders = {".".join(folder.parts) for folder in folders if "build" not in folder.parts}
    assert packed == folders | {"trpts_lab.real.manifests"}


def test_one_version(project, pyproject, laboratory):
    citation = yaml.safe_load((project.root / "CITATION.cff").read_text())
    versions = {
        pyproject["project"]["version"],
        laboratory["project"]["version"],
        citation["version"],
    }
    assert versions == {trpts.__version__}
    assert f"version = {{{trpts.__version__}}}" in (project.root / "book" / "cite.md").read_text()
    assert f"## {trpts.__version__}" in (project.root / "CHANGELOG.md").read_text()


def test_commands_of_the_readme_exist(project):
    text = README.read_text()
    targets = set(re.findall(r"^([a-z]+):", (project.root / "Makefile").read_text(), re.M))
    _, commands, _ = parser()
    made, called = (
        set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.M)),
        set(re.findall(r"`trpts ([a-z-]+)", text)),
    )
    assert {"book", "test"} <= made <= targets
    assert called <= set(commands)
    seen = 0
    for name, sub in commands.items():
        rows = re.findall(rf"^.*`trpts {name}\b.*$", text, re.M)
        for option in re.findall(r"(--[a-z][a-z-]*)", " ".join(rows)):
            assert option in sub._option_string_actions, f"trpts {name} {option}"
        seen += len(rows)
    assert seen >= 6


def test_ci_calls_the_readme_s_test_command(project):
    assert re.search(r"^make test$", (project.root / ".ci" / "run").read_text(), re.M)


def test_map_of_the_readme_is_true(project):
    """Each path named in the README's map exists, and each room of the package is on it."""
    block = README.read_text().split("## Map")[1].split("```")[1]
    folder, named = "", set()
    for line in block.strip().splitlines():
        folder = (
            folder if line.startswith(" ") else line.split()[0] if line.startswith("trpts") else ""
        )
        names = re.findall(r"\w+\.py", line) if folder else []
        named |= {folder + name for name in [line.split()[0], *names] if name != folder} or {folder}
    for name in named:
        assert (project.root / name).exists(), name
    for package in ("trpts", "trpts_lab"):
        rooms = {p for p in (project.root / package).iterdir() if p.is_dir() or p.suffix == ".py"}
        rooms = {
            f"{package}/{p.name}{'/' if p.is_dir() else ''}"
            for p in rooms
            if not p.name.startswith("__")
        }
        assert {room for room in rooms if not room.endswith(".egg-info/")} - {
            f"{package}/build/"
        } <= named


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md", "CHANGELOG.md"])
def test_links_to_files_hold(project, name):
    page = project.root / name
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?:|mailto:|#", link):
            assert (page.parent / link.split("#")[0]).exists(), link


def test_help_lists_the_commands(project):
    done = subprocess.run(
        ["make", "-s", "help"], cwd=project.root, capture_output=True, text=True, check=True
    )
    for target in ("book", "test", "check", "refresh", "full", "regress"):
        assert re.search(rf"make {target}\s+\w", done.stdout)


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_style(project, command):
    done = subprocess.run(
        [find_ruff_bin(), *command, "."], cwd=project.root, capture_output=True, text=True
    )
    assert not done.returncode, done.stdout


def test_no_path_of_one_machine_and_nothing_pickled(project):
    listed = subprocess.run(
        ["git", "ls-files"], cwd=project.root, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        path = project.root / name
        if (
            path.suffix in (".py", ".md", ".ipynb", ".json", ".yaml", ".yml", ".toml", ".txt")
            and path.is_file()
        ):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.:/])/(home|root|Users|work)/\w", text), name
            if path.suffix == ".py":
                assert not re.search(r"\b(pickle\.load|torch\.load|joblib\.load)\(", text), name


@pytest.mark.slow
def test_results_of_the_readme_are_those_of_the_records(project, tmp_path, monkeypatch):
    """Written by `trpts refresh`; with a changed number, or without its marks, it is noticed."""
    for part in ("profiles", "data", "notebooks"):
        (tmp_path / part).symlink_to(project.root / part)
    shutil.copytree(project.root / "book", tmp_path / "book")  # pictures are written there
    copy, page = tmp_path / "README.md", README.read_text(encoding="utf-8")
    copy.write_text(page, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert readme.refresh_readme(Project(tmp_path)) == [], "run `trpts refresh` and commit"
    row = next(
        line
        for line in page[page.index(readme.BEGIN) :].splitlines()
        if line.startswith("| linear")
    )
    copy.write_text(page.replace(row, row.replace(".", "1.", 1)), encoding="utf-8")
    assert readme.refresh_readme(Project(tmp_path)) == [copy]
    assert copy.read_text(encoding="utf-8") == page
    assert "| ? s |" not in page, "a chapter without a time: `trpts bench chapters`"
    copy.write_text(re.sub(r"\d+ s \|$", "1 s |", page, flags=re.M), encoding="utf-8")
    assert readme.refresh_readme(Project(tmp_path)) == [copy]
    assert copy.read_text(encoding="utf-8") == page
    with pytest.raises(TrptsError, match="expected one <!-- results"):
        readme.with_results(page.replace(readme.END, ""), "")


def test_labels_stand_apart():
    """Three over each other, one point apart, get labels two apart around their middle; one alone
    keeps its own.
    """
    places = {
        "a": (100, 50.0),
        "b": (120, 51.0),
        "c": (110, 52.0),
        "alone": (1, 51.0),
        "far": (10_000, 70.0),
    }
    assert readme.apart(places, 2.0) == {
        "alone": 51.0,
        "a": 49.0,
        "b": 51.0,
        "c": 53.0,
        "far": 70.0,
    }
    wide = {"a": (100, 50.0), "b": (100, 60.0)}
    assert readme.apart(wide, 2.0) == {"a": 50.0, "b": 60.0}


def test_the_hosted_workflow_runs_the_readmes_commands(project):
    """Valid by GitHub's own schema, and nothing is run that the README does not have."""
    path = project.root / ".github" / "workflows" / "book.yml"
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        path,
    ]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = yaml.safe_load(path.read_text())["jobs"]
    library = [step["run"] for step in jobs.pop("library")["steps"] if "run" in step]
    assert library == [
        'pip install -c constraints.txt -e ".[peers,vlm]" pytest',
        "pytest --part library --confcutdir tests tests",
    ]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert sorted(step["run"] for step in steps if "run" in step) == ["make book", "make test"]
    (upload,) = (step for step in steps if "upload-pages-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] == "build/book/html"
    assert jobs["publish"]["needs"] == ["test", "pages"]
