"""Other editions of the book: `trpts student`, without solutions, and `trpts pdf`."""

from pathlib import Path

from trpts.errors import TrptsError
from trpts.options import filled
from trpts_lab.files import make_folder
from trpts_lab.project import Project


def add_commands(command):
    sub = command(
        "student",
        cmd_student,
        "build the edition without solutions; or write its notebooks",
        keeps=True,
    )
    sub.add_argument(
        "--notebooks",
        type=filled,
        metavar="FOLDER",
        help="write the notebooks there instead, without outputs",
    )
    sub.add_argument(
        "--nbgrader",
        type=filled,
        metavar="COURSE",
        help="write nbgrader's source/ there instead, solutions marked",
    )
    command(
        "pdf",
        cmd_pdf,
        "the book as one PDF, build/trpts.pdf; needs Chromium and trpts_lab[pdf]",
        keeps=True,
    )


def cmd_student(arguments):
    """Build the book without solutions, or write its notebooks; the last line is where they are."""
    from trpts_lab.book.build import run_and_build
    from trpts_lab.book.chapters import find_chapters
    from trpts_lab.book.runner import say
    from trpts_lab.book.student import for_students, write_assignments, write_student_notebooks

    project = Project.find()
    if arguments.notebooks and Path(arguments.notebooks).resolve() == project.notebooks.resolve():
        raise TrptsError(
            f"{arguments.notebooks} holds the chapters themselves, which would be lost: "
            "expected another"
        )
    if arguments.notebooks:
        write_student_notebooks(find_chapters(project), make_folder(Path(arguments.notebooks)))
        say(arguments.notebooks)
    if arguments.nbgrader:
        write_assignments(find_chapters(project), make_folder(Path(arguments.nbgrader)))
        say(arguments.nbgrader)
    if not (arguments.notebooks or arguments.nbgrader):
        say(str(run_and_build(project, "quick", project.build / "student", for_students)))
    return 0


def cmd_pdf(arguments):
    """Run what is not up to date, build the book, print it; the last line is where the PDF is."""
    from trpts_lab.book.build import run_and_build
    from trpts_lab.book.pdf import make_pdf
    from trpts_lab.book.runner import say

    project = Project.find()
    front = run_and_build(project, "quick")
    say("pdf: printing the pages")
    say(
        str(make_pdf(front.parent, project.root / "book" / "_toc.yml", project.build / "trpts.pdf"))
    )
    return 0
