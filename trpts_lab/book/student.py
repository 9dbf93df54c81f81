"""The student edition: the same chapters without their solutions; and the form in which nbgrader
takes them.

An exercise is a Markdown cell with a `{exercise}` directive, then a code cell between the cells
`{solution-start}` and `{solution-end}`, then a cell that checks. Of the solution, the lines from
BEGIN to END are left out for students; the marks are nbgrader's, and never shown in the book.
"""

import re
from dataclasses import dataclass

from trpts.errors import TrptsError
from trpts_lab.book.chapters import read_notebook
from trpts_lab.book.runner import write_notebook
from trpts_lab.book.staging import BEGIN, END, read_back

STUB = "raise NotImplementedError  # your lines in place of this one"
LABEL = re.compile(r"^:label: (ex-\d\d-\d+)$", re.M)


@dataclass(frozen=True)
class Exercise:
    """Where an exercise's cells are in a notebook."""

    label: str
    statement: int
    start: int
    solution: int
    end: int
    check: int


def exercises(nb, place="the notebook"):
    """The exercises of a notebook, in order.

    raises  TrptsError: one whose cells do not follow each other as they should, or without marks
    """
    found = []
    for number, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown" or "{exercise}" not in cell.source:
            continue
        label = LABEL.search(cell.source)
        if label is None:
            raise TrptsError(
                f"{place}: the exercise in cell {number + 1} has no label such as ex-01-1"
            )
        one = Exercise(label[1], number, *range(number + 1, number + 5))
        kinds = [(c.cell_type, c.source) for c in nb.cells[one.start : one.check + 1]]
        fits = len(kinds) == 4 and [kind for kind, _ in kinds] == [
            "markdown",
            "code",
            "markdown",
            "code",
        ]
        if not (
            fits
            and f"{{solution-start}} {one.label}" in kinds[0][1]
            and "{solution-end}" in kinds[2][1]
        ):
            raise TrptsError(
                f"{place}: behind exercise {one.label} expected solution-start, code, "
                "solution-end, check"
            )
        split(nb.cells[one.solution].source, f"{place}, {one.label}")
        found.append(one)
    return found


def split(source, place="the solution"):
    """[(line, whether it is part of the solution)]; the marks themselves are left out."""
    lines, inside, n_marked = [], False, 0
    for line in source.splitlines():
        mark = line.strip()
        if mark in (BEGIN, END):
            if inside == (mark == BEGIN):
                raise TrptsError(
                    f"{place}: {mark} is out of order: expected {BEGIN} and {END} in turn"
                )
            inside, n_marked = not inside, n_marked + 1
        else:
            lines.append((line, inside))
    if inside or not n_marked:
        raise TrptsError(f"{place}: expected lines between {BEGIN} and {END}")
    return lines


def stub(source):
    """A solution with one line that raises in place of each marked part."""
    lines, was_inside = [], False
    for line, inside in split(source):
        if not inside:
            lines.append(line)
        elif not was_inside:
            lines.append(line[: len(line) - len(line.lstrip())] + STUB)
        was_inside = inside
    return "\n".join(lines)


def for_students(nb):
    """A copy in which solutions are stubs, not folded, and neither they nor their checks have
    outputs.
    """
    nb = read_back(nb)
    gone = set()
    for one in exercises(nb):
        gone |= {one.start, one.end}
        nb.cells[one.solution].source = stub(nb.cells[one.solution].source)
        for number in (one.solution, one.check):
            nb.cells[number].outputs, nb.cells[number].execution_count = [], None
    nb.cells = [cell for number, cell in enumerate(nb.cells) if number not in gone]
    return nb


def for_nbgrader(nb, points=1):
    """A copy as nbgrader's source of an assignment: solutions marked for it to clear, checks that
    it grades.
    """
    nb = read_back(nb)
    for number, cell in enumerate(nb.cells):
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell["id"] = f"cell-{number:03}"
    for one in exercises(nb):
        shared = {"schema_version": 3, "task": False}
        nb.cells[one.solution].metadata["nbgrader"] = shared | {
            "grade": False,
            "grade_id": one.label,
            "locked": False,
            "solution": True,
        }
        nb.cells[one.check].metadata["nbgrader"] = shared | {
            "grade": True,
            "grade_id": f"{one.label}-check",
            "locked": True,
            "points": points,
            "solution": False,
        }
    gone = {number for one in exercises(nb) for number in (one.start, one.end)}
    nb.cells = [cell for number, cell in enumerate(nb.cells) if number not in gone]
    return nb


def write_student_notebooks(chapters, folder):
    """The chapters' notebooks as students get them, without any outputs, in `folder`.

    raises  TrptsError: one of them is there already, perhaps with somebody's solutions
    """
    if there := [
        chapter.path.name for chapter in chapters if (folder / chapter.path.name).exists()
    ]:
        raise TrptsError(
            f"{folder} holds {there[0]} already ({len(there)} notebooks), perhaps with solutions "
            "in it: expected another folder"
        )
    for chapter in chapters:
        nb = for_students(chapter.nb)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        write_notebook(nb, folder / chapter.path.name)


def write_assignments(chapters, course):
    """nbgrader's source notebooks: <course>/source/<chapter>/<chapter>.ipynb."""
    places = [course / "source" / chapter.name / chapter.path.name for chapter in chapters]
    if there := [path for path in places if path.exists()]:
        raise TrptsError(
            f"{there[0]} is there already, perhaps changed by hand: expected a course without it"
        )
    for chapter, path in zip(chapters, places, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_notebook(for_nbgrader(read_notebook(chapter.path)), path)
