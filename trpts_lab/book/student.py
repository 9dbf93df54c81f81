"""The student edition: the same chapters without their solutions; and the form in which nbgrader
takes them.

An exercise is a Markdown cell with a `{exercise}` directive, then a code cell between the cells
`{solution-start}` and `{solution-end}`, then a cell that checks. Of the solution, the lines from
BEGIN to END are left out for students, by nbgrader; the marks are its own, and never shown in the
book.
"""

import re
from dataclasses import dataclass

from nbconvert.preprocessors import ClearOutputPreprocessor

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
                f"{place}: behind exercise {one.label} expected solution-start, "
                "code, solution-end, check"
            )
        check_marks(nb.cells[one.solution].source, f"{place}, {one.label}")
        found.append(one)
    return found


def check_marks(source, place):
    """Raise TrptsError unless BEGIN and END alternate: nbgrader misses a lone END and no marks."""
    marks = [line.strip() for line in source.splitlines() if line.strip() in (BEGIN, END)]
    if not marks or marks != [BEGIN, END] * (len(marks) // 2):
        raise TrptsError(
            f"{place}: expected {BEGIN} and {END} in turn, found {', '.join(marks) or 'none'}"
        )


def for_students(nb):
    """A copy with stubs for solutions, unfolded; solutions and their checks have no outputs."""
    nb = read_back(nb)
    gone = set()
    for one in exercises(nb):
        gone |= {one.start, one.end}
        for number in (one.solution, one.check):
            nb.cells[number].outputs, nb.cells[number].execution_count = [], None
    nb.cells = [cell for number, cell in enumerate(nb.cells) if number not in gone]
    return without_solutions(nb)


def without_solutions(nb):
    """The notebook with one line that raises in place of each marked part, by nbgrader's own
    preprocessor; changed in place.
    """
    from nbgrader.preprocessors import ClearSolutions  # seconds to import

    clear = ClearSolutions(code_stub={"python": STUB}, enforce_metadata=False)
    return clear.preprocess(nb, {})[0]


def for_nbgrader(nb, points=1):
    """A copy as nbgrader's assignment source: it clears marked solutions and grades the checks."""
    nb, _ = ClearOutputPreprocessor().preprocess(read_back(nb), {})
    for number, cell in enumerate(nb.cells):
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
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
        nb, _ = ClearOutputPreprocessor().preprocess(for_students(chapter.nb), {})
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
