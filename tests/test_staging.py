"""From executed notebooks to pages and to git: alt texts, themes, and nothing volatile."""

import base64
import copy
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from trpts.cli import main
from trpts.errors import TrptsError
from trpts_lab.book.chapters import find_chapters
from trpts_lab.book.figures import DARK_MIME, THEMES, show, style
from trpts_lab.book.staging import for_book, for_git, picture, refuse_errors, stage

FIGURE = """from trpts_lab.book import figures
figures.show(lambda f: f.subplots().plot([1, 2]), alt='A line that rises to two.')"""


@pytest.fixture
def executed(tiny):
    """(project, executed notebook) of a chapter with text, progress lines and a figure."""
    noise = (
        "import sys, time\nprint('line', flush=True)\nprint('ti' + 'ck', file=sys.stderr)\n1 + 1"
    )
    project = tiny({"00_a": [noise, FIGURE]})
    assert main(["run"]) == 0
    return project, nbformat.read(project.runs("quick") / "00_a.ipynb", as_version=4)


def images(nb, css):
    html = "".join(
        o.data["text/html"]
        for c in nb.cells
        for o in c.get("outputs", [])
        if "text/html" in o.get("data", {})
    )
    return html.count(f'class="{css}" alt="A line that rises to two."')


def test_figures_come_in_both_themes_with_alt_text(executed):
    nb = for_book(executed[1])
    assert images(nb, "only-light") == images(nb, "only-dark") == 1
    (output,) = nb.cells[-1].outputs
    assert DARK_MIME not in output.data
    assert "image/png" in output.data, "formats without themes still need the picture"


def test_themes_differ_in_more_than_nothing(executed):
    (output,) = executed[1].cells[-1].outputs
    light, dark = (base64.b64decode(output.data[mime]) for mime in ("image/png", DARK_MIME))
    assert light.startswith(b"\x89PNG")
    assert dark.startswith(b"\x89PNG")
    assert light != dark
    assert style("light")["text.color"] != style("dark")["text.color"]
    assert set(THEMES) == {"light", "dark"}


def test_figure_without_alt_text_is_refused():
    with pytest.raises(ValueError, match="expected a sentence"):
        show(lambda figure: None, alt="Figure 1")
    bare = new_output("display_data", data={"image/png": "aGk="})
    with pytest.raises(TrptsError, match="a figure has no alt text"):
        picture(bare)


def test_git_copy_holds_nothing_volatile(executed):
    nb = for_git(executed[1])
    text = json.dumps(nb)
    for word in (
        "tick",
        "papermill",
        "injected-parameters",
        "iopub",
        "execution_time",
        "duration",
        DARK_MIME,
    ):
        assert word not in text, word
    assert str(executed[0].root) not in text
    assert [c.execution_count for c in nb.cells if c.cell_type == "code"] == [1, 2, 3]
    assert nb.cells[-2].outputs[0].text == "line\n"
    assert set(nb.metadata["trpts"]["key"]) == {"source", "code", "parameters", "data"}


def test_git_copy_is_the_same_for_two_runs(executed):
    project, first = executed
    main(["run", "--force"])
    second = nbformat.read(project.runs("quick") / "00_a.ipynb", as_version=4)
    assert first.metadata["papermill"]["start_time"] != second.metadata["papermill"]["start_time"]
    assert for_git(first) == for_git(second)


def test_refresh_stores_outputs_and_status_knows(executed, capsys):
    project, _ = executed
    assert main(["status"]) == 0
    assert "no stored outputs" in capsys.readouterr().out
    assert main(["refresh"]) == 0
    (chapter,) = find_chapters(project)
    assert chapter.nb.cells[-1].outputs
    before = chapter.path.read_bytes()
    assert main(["refresh"]) == 0
    assert chapter.path.read_bytes() == before
    capsys.readouterr()
    main(["status"])
    assert "current        current" in capsys.readouterr().out
    nb = chapter.nb
    nb.cells[-2].source += "\n2 + 2"
    nbformat.write(nb, chapter.path)
    main(["status"])
    assert "other code other code" in " ".join(capsys.readouterr().out.split())


def test_staging_keeps_times_and_removes_what_is_gone(executed, tmp_path):
    project, _ = executed
    (project.root / "book").mkdir()
    for name in ("index.md", "gone.md"):
        (project.root / "book" / name).write_text(name)
    target, runs = tmp_path / "src", project.runs("quick")
    stage(project, find_chapters(project), runs, target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    assert sorted(str(p.relative_to(target)) for p in times) == [
        "gone.md",
        "index.md",
        "notebooks/00_a.ipynb",
    ]
    (project.root / "book" / "gone.md").unlink()
    stage(project, find_chapters(project), runs, target)
    assert not (target / "gone.md").exists()
    assert all(
        path.stat().st_mtime_ns == time for path, time in times.items() if path.name != "gone.md"
    )


def test_errors_never_reach_the_book(executed, tmp_path):
    project, nb = executed
    spoiled = copy.deepcopy(nb)
    spoiled.cells[-1].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]
    nbformat.write(spoiled, project.runs("quick") / "00_a.ipynb")
    with pytest.raises(TrptsError, match=r"cell 5 holds an error \(ValueError\)"):
        stage(project, find_chapters(project), project.runs("quick"), tmp_path / "src")
    (project.runs("quick") / "00_a.ipynb").unlink()
    with pytest.raises(TrptsError, match="00_a has not been run"):
        stage(project, find_chapters(project), project.runs("quick"), tmp_path / "src")
    refuse_errors(new_notebook(cells=[new_code_cell("1")]), "x")
