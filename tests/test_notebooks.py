"""The committed notebooks: current stored outputs, quick defaults, short cells. nbval itself: see
conftest.py.
"""

import copy
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from trpts.hashes import file_hash
from trpts_lab.book.chapters import Chapter, find_chapters
from trpts_lab.book.status import stored_state
from trpts_lab.profiles import CHAPTERS as WITH_CHAPTERS
from trpts_lab.profiles import load_profile
from trpts_lab.project import Project

CHAPTERS = find_chapters(Project.find(__file__))
each = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)


@each
def test_stored_outputs_are_current(project, chapter):
    assert stored_state(chapter, load_profile(project, "quick")) == "current", (
        "run `make refresh` and commit"
    )


@each
def test_stale_stored_outputs_are_noticed(project, chapter):
    """A changed cell and a changed record each make the stored outputs stale; other code is for
    nbval to judge.
    """
    quick = load_profile(project, "quick")
    for part, state in (
        ("source", "other code"),
        ("data", "other profile or data"),
        ("code", "current"),
    ):
        spoiled = copy.copy(chapter)
        spoiled.nb = copy.deepcopy(chapter.nb)
        spoiled.nb.metadata["trpts"]["key"][part] = "0" * 16
        assert stored_state(spoiled, quick) == state
    edited = copy.copy(chapter)
    edited.nb = copy.deepcopy(chapter.nb)
    edited.nb.cells[0].source += "!"
    assert stored_state(edited, quick) == "other code"


def test_profiles_have_the_same_keys(project):
    whole = {name: load_profile(project, name) for name in WITH_CHAPTERS}
    assert len({frozenset(profile["benchmark"]) for profile in whole.values()}) == 1
    profiles = {name: profile["chapters"] for name, profile in whole.items()}
    assert list(profiles["quick"]) == [chapter.name for chapter in CHAPTERS]
    for chapters in profiles.values():
        assert {name: set(keys) for name, keys in chapters.items()} == {
            name: set(keys) for name, keys in profiles["quick"].items()
        }


@each
def test_defaults_are_the_quick_profile(project, chapter):
    """Opened in Jupyter and run by hand, a chapter does what `make book` does."""
    quick = load_profile(project, "quick")
    assert chapter.settings(quick) == chapter.parameters


@each
def test_shape_of_a_chapter(chapter):
    code = [cell for cell in chapter.nb.cells if cell.cell_type == "code"]
    assert chapter.nb.cells[0].source.startswith("# ")
    assert len(code) <= 40
    assert max(len(cell.source.splitlines()) for cell in code) <= 40
    assert sum("nbval-check-output" in cell.metadata.get("tags", []) for cell in code) >= 1
    assert any(cell.outputs for cell in code)


def test_every_figure_has_a_caption(project):
    """A number and a sentence under each picture, and a name of its own to refer to; sliders say
    theirs above.
    """
    names = []
    for chapter in CHAPTERS:
        for number, cell in enumerate(chapter.nb.cells):
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                figure = cell.metadata.get("mystnb", {}).get("figure", {})
                assert figure.get("caption", "").endswith("."), f"{chapter.name}, cell {number}"
                names.append(figure["name"])
    assert len(names) == len(set(names)) > 30


def test_nbval_goes_red_on_a_changed_stored_output(tmp_path, project, html):
    """The replayed nbval run compares: a number edited in a stored output fails, the untouched
    notebook passes.

    `html`: the chapters have been run, and nobody is running them.
    """
    for folder in ("profiles", "data"):
        (tmp_path / folder).symlink_to(project.root / folder)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "conftest.py").write_text((project.root / "conftest.py").read_text())
    (tmp_path / "build").symlink_to(project.build)
    nb = Chapter(project, project.notebooks / "01_fim.ipynb").nb
    results = []
    for number in ("0.6250", "0.6251"):
        changed = copy.deepcopy(nb)
        cell = next(
            c for c in changed.cells if c.cell_type == "code" and "print(by_hand)" in c.source
        )
        cell.outputs[0].text = cell.outputs[0].text.replace("0.6250", number)
        nbformat.write(changed, tmp_path / "notebooks" / "01_fim.ipynb")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            ".",
            "notebooks",
        ]
        results.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True))
    assert results[0].returncode == 0, results[0].stdout
    assert results[1].returncode == 1
    assert "Cell outputs differ" in results[1].stdout


@pytest.mark.slow
def test_reports_depend_on_every_record_and_bench(project, tmp_path, monkeypatch):
    """A bench that changed makes chapters 07 and 09 stale, a record of any kind chapter 09."""
    for part in ("data/bench", "data/results", "notebooks", "profiles"):
        shutil.copytree(project.root / part, tmp_path / part)
    copied = Project(tmp_path)
    settings = {c.name: c.settings(load_profile(copied, "quick")) for c in find_chapters(copied)}

    def keys():
        return {c.name[:2]: c.key(settings[c.name])["data"] for c in find_chapters(copied)}

    def changed(path):
        before, text = keys(), path.read_text()
        edited = (
            re.sub(r'("time_s": ?)[\d.]+', r"\g<1>1.5", text, count=1)
            if path.suffix == ".jsonl"
            else text + " "
        )
        path.write_text(edited)
        after = keys()
        return {name for name in after if after[name] != before[name]}

    assert changed(tmp_path / "data" / "bench" / "parts.json") == {"07", "09"}
    for kind, readers in (("pruning", {"05", "09"}), ("remedy", {"08", "09"})):
        assert changed(tmp_path / "data" / "results" / f"{kind}.jsonl") == readers
    # says which runs are shown
    assert {"00", "03", "06", "08", "09"} <= changed(tmp_path / "profiles" / "full.yaml")
    before = keys()
    hashed = "trpts_lab.book.chapters.file_hash"
    monkeypatch.setattr(hashed, lambda p: "new" if p.name == "log.toml" else file_hash(p))
    assert {name for name, key in keys().items() if key != before[name]} == {"09"}
