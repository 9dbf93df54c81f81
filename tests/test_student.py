"""Exercises and the student edition: complete, stubs equal solutions minus the marked lines, checks
that can fail.
"""

import copy
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from trpts.cli import main
from trpts.errors import TrptsError
from trpts_lab.book.build import build_book
from trpts_lab.book.chapters import find_chapters
from trpts_lab.book.staging import BEGIN, END, for_book
from trpts_lab.book.student import (
    STUB,
    check_marks,
    exercises,
    for_nbgrader,
    for_students,
    without_solutions,
)
from trpts_lab.project import Project

CHAPTERS = find_chapters(Project.find(__file__))
each = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
EXERCISES = [(chapter, one) for chapter in CHAPTERS for one in exercises(chapter.nb, chapter.name)]
WORDS = re.compile(
    r"\*Difficulty: (easy|medium|hard)\. About \d+ minutes\.\* .+?\n\n"
    r":::\{dropdown\} Hint\n.+?\n:::",
    re.S,
)
MARKED = re.compile(rf"^ *{BEGIN}\n(.*?)^ *{END}\n?", re.M | re.S)


def stub(solution):
    """A solution's cell as students get it."""
    return without_solutions(new_notebook(cells=[new_code_cell(solution)])).cells[0].source


@each
def test_three_exercises_or_more_in_order(chapter):
    found = exercises(chapter.nb, chapter.name)
    assert [one.label for one in found] == [
        f"ex-{chapter.name[:2]}-{n}" for n in range(1, len(found) + 1)
    ]
    assert len(found) >= 3
    for one in found:
        assert WORDS.search(chapter.nb.cells[one.statement].source), one.label


@each
def test_stubs_are_solutions_minus_the_marked_lines(chapter):
    students = for_students(chapter.nb)
    solutions = [chapter.nb.cells[one.solution].source for one in exercises(chapter.nb)]
    stubs = [c.source for c in students.cells if c.cell_type == "code" and STUB in c.source]
    assert len(stubs) == len(solutions)
    for solution, empty in zip(solutions, stubs, strict=True):
        left = [line for line in empty.splitlines() if line.strip() != STUB]
        assert left == MARKED.sub("", solution).splitlines()
        assert not any(mark in empty for mark in (BEGIN, END))
    text = json.dumps(students)
    assert "{solution-start}" not in text
    marked = "\n".join(part for solution in solutions for part in MARKED.findall(solution))
    hidden = [line.strip() for line in marked.splitlines()]
    code = "\n".join(c.source for c in students.cells if c.cell_type == "code")
    assert [line for line in hidden if len(line) > 25 and line in code] == []


def names_of(chapter, one):
    """What an exercise may use: the chapter's parameters and the cell of its imports."""
    names = {}
    code = [cell for cell in chapter.nb.cells[: one.statement] if cell.cell_type == "code"]
    parameters = next(
        n for n, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", [])
    )
    for cell in code[parameters : parameters + 2]:
        exec(cell.source, names)
    return names


NEEDS_ITS_CHAPTER = {"ex-02-1", "ex-04-1", "ex-05-1"}  # a model or a toy that is made further up


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "one"), EXERCISES, ids=[one.label for _, one in EXERCISES])
def test_checks_pass_solutions_and_fail_others(project, monkeypatch, chapter, one, capsys):
    """The solution passes; the stub and a function that answers nothing do not."""
    monkeypatch.chdir(project.root)
    solution, check = chapter.nb.cells[one.solution].source, chapter.nb.cells[one.check].source
    if one.label in NEEDS_ITS_CHAPTER:
        pytest.skip("run with its chapter")
    names = names_of(chapter, one)
    exec(check[: check.index("def check_")], names)  # what a check imports, its solution may use
    exec(solution, names)
    exec(check, names)
    assert "check passed" in capsys.readouterr().out
    (answers,) = re.findall(r"^check_\w+\((.*)\)$", check, re.M)
    for wrong in (
        stub(solution),
        "\n".join(f"{n} = lambda *a, **k: None" for n in answers.split(", ")),
    ):
        exec(wrong, names)
        with pytest.raises((AssertionError, NotImplementedError, AttributeError, TypeError)):
            exec(check, names)


def test_the_book_shows_no_marks():
    chapter = CHAPTERS[1]
    nb = copy.deepcopy(chapter.nb)
    nb.metadata["trpts"] = {"key": {}, "profile": "quick"}
    assert BEGIN in json.dumps(nb)
    assert BEGIN not in json.dumps(for_book(nb))


@pytest.mark.parametrize(
    "source", ["x = 1", f"{BEGIN}\nx = 1", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"]
)
def test_marks_that_do_not_fit_are_refused(source):
    with pytest.raises(TrptsError, match=f"here: expected {BEGIN} and {END} in turn, found"):
        check_marks(source, "here")


def test_an_exercise_without_its_cells_is_refused():
    nb = copy.deepcopy(CHAPTERS[1].nb)
    one = exercises(nb)[0]
    del nb.cells[one.end]
    with pytest.raises(
        TrptsError,
        match=f"behind exercise {one.label} expected solution-start, code, solution-end, check",
    ):
        exercises(nb)


def test_nbgraders_source_has_what_it_asks_for():
    chapter = CHAPTERS[1]
    nb = for_nbgrader(chapter.nb)
    graded = [cell.metadata["nbgrader"] for cell in nb.cells if "nbgrader" in cell.metadata]
    ids = [meta["grade_id"] for meta in graded]
    assert len(set(ids)) == len(ids) == 2 * len(exercises(chapter.nb))
    assert {(m["solution"], m["grade"], m["locked"]) for m in graded} == {
        (True, False, False),
        (False, True, True),
    }
    assert all(m["schema_version"] == 3 for m in graded)
    assert len({cell["id"] for cell in nb.cells}) == len(nb.cells)


def test_the_command_writes_notebooks_for_students(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    assert main(["student", "--notebooks", str(tmp_path / "class")]) == 0
    written = sorted((tmp_path / "class").glob("*.ipynb"))
    assert [path.stem for path in written] == [chapter.name for chapter in CHAPTERS]
    assert not any("BEGIN SOLUTION" in path.read_text() for path in written)
    before = [path.read_bytes() for path in sorted(project.notebooks.glob("*.ipynb"))]
    assert main(["student", "--notebooks", "notebooks"]) == 2
    assert "holds the chapters themselves, which would be lost" in capsys.readouterr().err
    assert [path.read_bytes() for path in sorted(project.notebooks.glob("*.ipynb"))] == before
    assert main(["student", "--nbgrader", str(tmp_path / "course")]) == 0
    assert len(list((tmp_path / "course" / "source").glob("*/*.ipynb"))) == len(CHAPTERS)
    written[0].write_text("solved")  # a second call must not take a student's work
    assert main(["student", "--notebooks", str(tmp_path / "class")]) == 2
    assert "already (11 notebooks), perhaps with solutions in it" in capsys.readouterr().err
    assert written[0].read_text() == "solved"
    assert main(["student", "--nbgrader", str(tmp_path / "course")]) == 2
    assert "is there already, perhaps changed by hand" in capsys.readouterr().err


def test_pages_without_solutions(project, html, tmp_path):
    """Built from the same runs as the book: stubs stand open where solutions were folded."""
    page = build_book(project, "quick", tmp_path / "student", for_students)
    for chapter in CHAPTERS:
        text, whole = (
            (root / "notebooks" / f"{chapter.name}.html").read_text(encoding="utf-8")
            for root in (page.parent, html)
        )
        assert 'class="solution dropdown' not in text
        assert text.count("NotImplementedError") >= len(exercises(chapter.nb))
        assert whole.count('class="solution dropdown') == len(exercises(chapter.nb))
        assert "NotImplementedError" not in whole


def small_assignment(answer):
    """A notebook of one exercise whose solution returns `answer`."""
    cells = [
        new_markdown_cell("# Small"),
        new_markdown_cell(
            "```{exercise} Two\n:label: ex-90-1\n\n*Difficulty: easy. About 1 minutes.* Two.\n```"
        ),
        new_markdown_cell("```{solution-start} ex-90-1\n:class: dropdown\n```"),
        new_code_cell(f"def two():\n    {BEGIN}\n    return {answer}\n    {END}"),
        new_markdown_cell("```{solution-end}\n```"),
        new_code_cell("def check_two(two):\n    assert two() == 2\n\n\ncheck_two(two)"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=metadata)


@pytest.mark.slow
def test_nbgrader_releases_and_grades_an_assignment(tmp_path, monkeypatch):
    """Its own commands on our source: no answer is released; a right one gets the point, a wrong
    one none.
    """
    from nbgrader import apps
    from traitlets import config

    # it calls alembic
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    source = tmp_path / "source" / "small" / "small.ipynb"
    source.parent.mkdir(parents=True)
    nbformat.write(for_nbgrader(small_assignment(2)), source)
    settings = config.Config()
    settings.CourseDirectory.root = str(tmp_path)
    settings.CourseDirectory.db_url = f"sqlite:///{tmp_path}/gradebook.db"
    api = apps.NbGraderAPI(config=settings)
    assert api.generate_assignment("small", create=True)["success"]
    released = nbformat.read(tmp_path / "release" / "small" / "small.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in released.cells)
    assert "return 2" not in text
    assert "NotImplementedError" in text
    for student, answer in (("right", 2), ("wrong", 3)):
        nb = copy.deepcopy(released)
        cell = next(c for c in nb.cells if c.metadata.get("nbgrader", {}).get("solution"))
        cell.source = f"def two():\n    return {answer}"
        path = tmp_path / "submitted" / student / "small" / "small.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(nb, path)
        assert api.autograde("small", student)["success"]
    with api.gradebook as book:
        scores = {
            student: book.find_submission("small", student).score for student in ("right", "wrong")
        }
    assert scores == {"right": 1.0, "wrong": 0.0}
