"""Chapters opened elsewhere: buttons that point at files that exist, and the cell that fetches the
project.
"""

import copy
import subprocess
import sys

import pytest

from trpts.errors import TrptsError
from trpts_lab.book.chapters import Chapter, find_chapters
from trpts_lab.book.launch import (
    BRANCH,
    BUTTONS,
    CELL,
    SET_UP,
    repository,
    theme_options,
    with_set_up,
)
from trpts_lab.project import Project

URL = "https://github.com/someone/trpts"


def cited(tmp_path, line):
    (tmp_path / "CITATION.cff").write_text(f"title: x\n{line}\n")
    return Project(tmp_path)


def test_the_address_stands_in_one_place(project, tmp_path):
    assert repository(cited(tmp_path, f"repository-code: {URL}")) == URL
    assert repository(cited(tmp_path, "")) is None
    with pytest.raises(
        TrptsError, match=r"repository-code 'ftp://x': expected https://github\.com/<owner>/<name>"
    ):
        repository(cited(tmp_path, "repository-code: ftp://x"))
    (tmp_path / "CITATION.cff").unlink()
    assert repository(Project(tmp_path)) is None
    assert theme_options(None) == {}


def test_buttons_point_at_the_repositorys_notebooks(project):
    """As the theme puts them together: <colab>/github/<owner>/<name>/blob/<branch>/<path of the
    page>.ipynb.
    """
    options = theme_options(URL)
    # pages are staged at the path that they have in the repository
    assert options["path_to_docs"] == ""
    for chapter in find_chapters(project):
        page = chapter.path.relative_to(project.root).as_posix()
        address = f"{BUTTONS['colab_url']}/github/someone/trpts/blob/{BRANCH}/{page}"
        assert (project.root / address.split(f"/blob/{BRANCH}/")[1]).is_file()
    assert (project.root / "environment.yml").is_file()  # what Binder builds


def test_the_cell_comes_and_goes_and_changes_no_key(project):
    chapter = find_chapters(project)[1]
    other = Chapter(project, chapter.path)
    other.nb = with_set_up(copy.deepcopy(chapter.nb), URL)
    tagged = [cell for cell in other.nb.cells if SET_UP in cell.metadata.get("tags", [])]
    assert [URL in cell.source for cell in tagged] == [True]
    assert other.source_hash() == chapter.source_hash()
    again = with_set_up(copy.deepcopy(other.nb), URL)
    assert len(again.cells) == len(other.nb.cells)
    assert len(with_set_up(again, None).cells) == len(chapter.nb.cells)


PROBE = """
import importlib.util, os, subprocess
calls, real = [], subprocess.run
importlib.util.find_spec = lambda name: None
def run(command, **how):
    return calls.append(command) if "pip" in command else real(command, **how)
subprocess.run = run
exec(open("cell.py").read())
print(os.path.exists("profiles/quick.yaml"), [c[c.index("pip"):] for c in calls])
"""


def test_the_cell_fetches_where_nothing_is_installed(project, tmp_path):
    """From a clone next door in place of GitHub; pip itself is not called."""
    subprocess.run(
        ["git", "clone", "-q", "--bare", project.root, tmp_path / "copy.git"], check=True
    )
    (tmp_path / "cell.py").write_text(CELL.replace("{url}", (tmp_path / "copy.git").as_uri()))
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == "True [['pip', 'install', '-q', '-e', 'trpts-book', '-e', 'trpts-book/trpts_lab']]"
    )


def test_where_it_is_installed_the_cell_does_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CELL], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
