"""`trpts student`: the edition without solutions, as pages, as notebooks, or as nbgrader takes them."""

from pathlib import Path

from trpts.lab.project import Project, make_folder


def add_commands(command):
    sub = command("student", cmd_student, "build the edition without solutions; or write its notebooks")
    sub.add_argument("--notebooks", metavar="FOLDER", help="write the notebooks there instead, without outputs")
    sub.add_argument("--nbgrader", metavar="COURSE", help="write nbgrader's source/ there instead, solutions marked")


def cmd_student(arguments):
    """Build the book without solutions, or write the notebooks that it is made of; the last line is where they are."""
    from trpts.lab.errors import TrptsError
    from trpts.press.book import build_book
    from trpts.press.chapters import find_chapters
    from trpts.press.runner import run_chapters, say
    from trpts.press.student import for_students, write_assignments, write_student_notebooks

    project = Project.find()
    chapters = find_chapters(project)
    if arguments.notebooks:
        write_student_notebooks(chapters, make_folder(Path(arguments.notebooks)))
        say(arguments.notebooks)
    if arguments.nbgrader:
        write_assignments(chapters, make_folder(Path(arguments.nbgrader)))
        say(arguments.nbgrader)
    if arguments.notebooks or arguments.nbgrader:
        return 0
    with project.lock():
        if failures := run_chapters(project, "quick"):
            raise TrptsError(f"no book was built: {', '.join(failures)} failed")
        say("book: building the pages without solutions")
        page = build_book(project, "quick", project.build / "student", for_students)
    say(str(page))
    return 0
