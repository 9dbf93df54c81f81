"""pytest on the notebooks: nbval compares the stored outputs with those of papermill's run, which
is not repeated.

nbval talks to a Jupyter kernel. Here it talks to a replay of the executed copy in
build/runs/quick/, which is brought up to date first; so a chapter is executed once, for the book
and for this check. `pytest --nbval-lax notebooks/` still runs nbval the ordinary way, with a kernel
of its own.
"""

from collections import deque

import nbformat
import pytest
import setuptools  # noqa: F401  before a test imports pip, which takes its distutils away: nbgrader then refuses
from filelock import FileLock
from nbval.plugin import IPyNbFile

from trpts_lab.book.runner import run_chapters
from trpts_lab.files import make_folder
from trpts_lab.project import Project


class ReplayKernel:
    """Answers nbval with the outputs of an executed notebook, cell by cell."""

    def __init__(self, nb):
        code = (cell for cell in nb.cells if cell.cell_type == "code")
        self.cells = deque(
            cell for cell in code if "injected-parameters" not in cell.metadata.get("tags", [])
        )
        self.messages = deque()

    def is_alive(self):
        return True

    def stop(self):
        pass

    def execute_cell_input(self, source, allow_stdin=None):
        cell = self.cells.popleft()
        assert cell.source == source, (
            "the executed copy holds another cell: it was made from another notebook"
        )
        self.messages = deque(
            {"msg_type": o.output_type, "content": o, "parent_header": {"msg_id": id(cell)}}
            for o in cell.outputs
            if o.get("name") != "stderr"
        )
        idle = {
            "msg_type": "status",
            "content": {"execution_state": "idle"},
            "parent_header": {"msg_id": id(cell)},
        }
        self.messages.append(idle)
        return id(cell)

    def await_reply(self, msg_id, timeout=None):
        pass

    def await_idle(self, msg_id, timeout=None):
        pass

    def get_message(self, stream, timeout=None):
        return self.messages.popleft()


class ReplayedNotebook(IPyNbFile):
    """A chapter as nbval sees it, run by the project's own runner."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.compare_outputs = False  # only cells tagged nbval-check-output, as with --nbval-lax

    def setup(self):
        project = Project.find(self.path)
        # another worker of pytest may be at it
        with FileLock(make_folder(project.build) / "tests.lock"):
            failures = run_chapters(project, "quick", self.path.stem)
        if failures:
            pytest.fail(failures[self.path.stem], pytrace=False)
        self.kernel = ReplayKernel(
            nbformat.read(project.runs("quick") / self.path.name, as_version=4)
        )


def pytest_collect_file(file_path, parent):
    option = parent.config.option
    if file_path.suffix == ".ipynb" and not option.nbval and not option.nbval_lax:
        return ReplayedNotebook.from_parent(parent, path=file_path)
