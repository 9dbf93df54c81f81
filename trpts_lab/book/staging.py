"""From executed notebooks to what the book shows (`stage`) and what git keeps (`clean`)."""

import html
import shutil

import nbformat

from trpts.errors import TrptsError
from trpts_lab.book.chapters import read_notebook
from trpts_lab.book.figures import DARK_MIME
from trpts_lab.book.runner import write_notebook

HIDDEN_IN_BOOK = "remove-cell"
# around what `trpts_lab.book.student` leaves out
BEGIN, END = ("### BEGIN SOLUTION", "### END SOLUTION")
GENERATED = (
    "benchmarks.md",
    "claims.md",
    "status.md",
)  # written into the staged book by `trpts_lab.book.build`


def stage(project, chapters, runs, target, edit=lambda nb: nb):
    """Fill `target`, the book's source folder: the pages of book/ at its root, executed chapters
    under notebooks/.

    `edit` makes another edition of a chapter: notebook -> notebook. A chapter is staged at the path
    it has in the repository, so that links to its source hold. Files that did not change keep their
    time, so that the book engine rebuilds only what did; files without a source are removed.
    raises  TrptsError: a chapter that was not run, or that ended in an error
    """
    staged = set()
    for source in sorted(p for p in (project.root / "book").rglob("*") if p.is_file()):
        path = target / source.relative_to(project.root / "book")
        if not path.is_file() or path.read_bytes() != source.read_bytes():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        staged.add(path)
    for chapter in chapters:
        executed = runs / chapter.path.name
        if not executed.is_file():
            raise TrptsError(
                f"{chapter.name} has not been run: expected its executed copy at {executed}"
            )
        nb = read_notebook(executed)
        refuse_errors(nb, executed)
        path = target / "notebooks" / chapter.path.name
        put(for_book(edit(nb)), path)
        staged.add(path)
    for path in sorted(p for p in target.rglob("*") if p.is_file()):
        if path not in staged and path.suffix in (".md", ".ipynb") and path.name not in GENERATED:
            path.unlink()


def refuse_errors(nb, path):
    """Raise TrptsError if any cell of an executed notebook ended in an error."""
    for number, cell in enumerate(nb.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise TrptsError(
                    f"{path}: cell {number} holds an error ({output.ename}): "
                    "it cannot go into the book"
                )


def put(nb, path):
    """Write a notebook unless the file already says the same."""
    if not path.is_file() or read_notebook(path) != nb:
        write_notebook(nb, path)


def for_book(nb):
    """An executed notebook as the book shows it: no progress lines, each figure in both themes with
    its alt text, no marks in solutions.
    """
    nb = without_volatile(nb)
    for cell in nb.cells:
        cell.source = "\n".join(
            line for line in cell.source.splitlines() if line.strip() not in (BEGIN, END)
        )
        if (
            "injected-parameters" in cell.metadata.get("tags", [])
            and nb.metadata["trpts"]["profile"] == "quick"
        ):
            cell.metadata["tags"].append(HIDDEN_IN_BOOK)  # says what the cell above already says
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["text/html"] = picture(output)
                output["data"].pop(DARK_MIME, None)
    return nb


def picture(output):
    """HTML for a figure: the light or the dark picture, as the page's theme asks."""
    alt = output.metadata.get("image/png", {}).get("alt")
    if not alt:
        raise TrptsError("a figure has no alt text: draw it with trpts_lab.book.figures.show")
    sources = {"only-light": output.data["image/png"], "only-dark": output.data.get(DARK_MIME)}
    tags = [
        f'<img class="{css}" alt="{html.escape(alt)}" '
        f'src="data:image/png;base64,{png.replace(chr(10), "")}">'
        for css, png in sources.items()
        if png
    ]
    return "\n".join(tags)


def for_git(nb):
    """An executed notebook as git keeps it: without injected parameters and dark pictures."""
    nb = without_volatile(nb)
    nb.cells = [
        cell for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    count = 0
    for cell in nb.cells:
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count  # nbval compares only cells that have one
            for output in cell.outputs:
                output.get("data", {}).pop(DARK_MIME, None)
    return nb


def without_volatile(nb):
    """A copy without what differs from run to run: times, paths, execution counts, progress."""
    nb = read_back(nb)
    made = nb.metadata.get("trpts", {})
    lasting = {part: value for part, value in made.get("key", {}).items() if part != "versions"}
    nb.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "trpts": {"key": lasting, "profile": made.get("profile")},
    }
    for cell in nb.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")}
        if cell.cell_type == "code":
            cell.execution_count = None
            kept = (
                o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")
            )
            cell.outputs = [_without_count(output) for output in kept]
    return nb


def _without_count(output):
    if "execution_count" in output:
        output["execution_count"] = None
    return output


def read_back(nb):
    """A deep copy that is a notebook again."""
    return nbformat.reads(nbformat.writes(nb), as_version=4)
