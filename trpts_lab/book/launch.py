"""Chapters opened elsewhere: Colab and Binder, from a copy of this project on GitHub.

Where that copy is stands in one place, `repository-code` in CITATION.cff. Without it there are no
badges, and no cell that would fetch from nowhere; with it `trpts refresh` gives each notebook a
cell that fetches the project where it is missing, and the book gets a button on each chapter.
"""

import re

from nbformat.v4 import new_code_cell

from trpts.errors import TrptsError
from trpts.texts import capped, read_text
from trpts_lab.yaml12 import parse_yaml

SET_UP = "set-up"  # the cell's tag; it is left out of the book, and of a chapter's source hash
BRANCH = "main"
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
BUTTONS = {
    "notebook_interface": "jupyterlab",
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
}
CELL = """# Where trpts is installed, this does nothing. Elsewhere, as in Colab, it fetches it.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("trpts_lab") is None:
    subprocess.run(["git", "clone", "--depth", "1", "{url}", "trpts-book"], check=True)
    packages = ["-e", "trpts-book", "-e", "trpts-book/trpts_lab"]
    install = [sys.executable, "-m", "pip", "install", "-q", *packages]
    subprocess.run(install, check=True)
    sys.path.insert(0, os.path.abspath("trpts-book"))
    os.chdir("trpts-book")"""


def repository(project):
    """Address of the copy on GitHub, or None.

    raises  TrptsError: an address that is none of GitHub's
    """
    path = project.root / "CITATION.cff"
    if not path.is_file():
        return None
    try:
        cited = parse_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise TrptsError(f"{path}: not readable: {error}") from error
    if not isinstance(cited, dict):
        raise TrptsError(f"{path}: found {capped(repr(cited))}, expected a table")
    url = cited.get("repository-code")
    if url is not None and not (isinstance(url, str) and ADDRESS.fullmatch(url)):
        raise TrptsError(
            f"CITATION.cff: repository-code {url!r}: expected https://github.com/<owner>/<name>"
        )
    return url


def with_set_up(nb, url):
    """The notebook, changed in place: set-up cell behind its title, none where `url` is None."""
    nb.cells = [cell for cell in nb.cells if SET_UP not in cell.metadata.get("tags", [])]
    if url is not None:
        tags = {"tags": [SET_UP, "remove-cell"]}
        nb.cells.insert(1, new_code_cell(CELL.replace("{url}", url), metadata=tags, id=SET_UP))
    return nb


def theme_options(url):
    """What the book's theme needs to show the buttons; {} without an address."""
    if url is None:
        return {}
    return {
        "repository_url": url,
        "repository_branch": BRANCH,
        "path_to_docs": "",
        "launch_buttons": BUTTONS,
    }
