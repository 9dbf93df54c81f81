"""Run chapters with papermill: one at a time, nothing twice, nothing half-written."""

import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from papermill.engines import NBClientEngine, papermill_engines

from trpts.errors import TrptsError
from trpts_lab.book.chapters import copy_state, find_chapters
from trpts_lab.files import make_folder, write_whole
from trpts_lab.profiles import check_files, load_profile

HEARTBEAT_S = 5.0


def say(text):
    print(text, flush=True)


class OwnKernel(AsyncKernelManager):
    """Starts the kernel of this Python, whatever folders of Jupyter's call python3.

    A folder of JUPYTER_PATH comes before this environment's: another Python would run the cells.
    """

    def _kernel_spec_manager_default(self):
        return KernelSpecManager(parent=self, kernel_dirs=[])


class HeartbeatEngine(NBClientEngine):
    """papermill's engine, and a plain line every few seconds that says where a long cell is."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, chapter_name=None, **kwargs):
        done, start = threading.Event(), time.monotonic()

        def beat():
            while not done.wait(HEARTBEAT_S):
                say(f"  {chapter_name}: {where(nb_man.nb)}, {time.monotonic() - start:.0f} s")

        speaker = threading.Thread(target=beat, daemon=True)
        if nb_man.pbar is None:  # a terminal has its own bar
            speaker.start()
        try:
            return super().execute_managed_notebook(
                nb_man, kernel_name, kernel_manager_class=OwnKernel, **kwargs
            )
        finally:
            done.set()
            if speaker.is_alive():
                speaker.join()


papermill_engines.register("trpts", HeartbeatEngine)


def where(nb):
    """The running cell and its last line on stderr: `cell 7 of 15 (epoch 20/30: loss 0.2)`."""
    cells = list(nb.cells)
    running = [
        i for i, c in enumerate(cells) if c.metadata.get("papermill", {}).get("status") == "running"
    ]
    if not running:
        return "between cells"
    outputs = cells[running[0]].get("outputs", [])
    lines = [
        o.text
        for o in outputs
        if o.output_type == "stream" and o.name == "stderr" and o.text.strip()
    ]
    last = f" ({lines[-1].strip().splitlines()[-1]})" if lines else ""
    return f"cell {running[0] + 1} of {len(cells)}{last}"


def run_chapters(
    project, profile_name, only=None, overrides=None, force=False, runs=None, results=None
):
    """Bring the executed copies of the chapters up to date; {chapter name: sentence} of those that
    failed.

    project       the checkout
    profile_name  quick, full or paper
    only          one chapter, by number or name
    overrides     {parameter: value} on top of the profile's
    force         run even what is up to date
    runs          folder of the executed copies; default: build/runs/<profile>
    results       folder of the records that the chapters write; default: the profile's
    """
    profile = load_profile(project, profile_name)
    chapters = find_chapters(project, only)
    # what is measured with other settings does not join the profile's records
    if overrides and results is None:
        results = project.build / "results" / "custom"
    # refuse before running
    settings = {chapter.name: chapter.settings(profile, overrides) for chapter in chapters}
    check_files(project, profile, None if only is None else settings[chapters[0].name])
    folder = make_folder(runs or project.runs(profile_name))
    # left by runs that were killed: nobody else runs here
    shutil.rmtree(folder / "partial", ignore_errors=True)
    failures = {}
    for chapter in chapters:
        if not force and copy_state(chapter, settings[chapter.name], folder) == "current":
            say(f"{chapter.name}: up to date")
            continue
        start = time.monotonic()
        say(f"{chapter.name}: running ({profile_name} profile)")
        try:
            run_chapter(chapter, settings[chapter.name], folder, results)
            say(f"{chapter.name}: done in {time.monotonic() - start:.0f} s")
        except TrptsError as error:
            failures[chapter.name] = str(error)
            say(f"{chapter.name}: FAILED after {time.monotonic() - start:.0f} s: {error}")
    return failures


def run_chapter(chapter, settings, folder, results=None):
    """Execute one chapter; put the copy at folder/<name>.ipynb only when every cell went well.

    A failing copy is kept in folder/failed/, for reading. raises TrptsError naming cell and error
    """
    partial = make_folder(folder / "partial") / f"{chapter.name}-{os.getpid()}.ipynb"
    failed = folder / "failed" / chapter.path.name
    key = chapter.key(settings)  # before the run: a change during it makes the copy stale
    bar = {"desc": chapter.name, "leave": False} if sys.stderr.isatty() else False
    try:
        with _environment(PYDEVD_DISABLE_FILE_VALIDATION=1, TRPTS_RESULTS=results):
            nb = papermill.execute_notebook(
                str(chapter.path),
                str(partial),
                parameters=settings,
                engine_name="trpts",
                progress_bar=bar,
                chapter_name=chapter.name,
                cwd=str(chapter.project.root),
                request_save_on_cell_execute=False,
                extra_arguments=[
                    "--IPKernelApp.log_level=50"
                ],  # no note on TCP at each start, no traceback on Ctrl-C
            )
    except papermill.PapermillExecutionError as error:
        make_folder(failed.parent)
        partial.replace(failed)
        shown = error.evalue.strip().splitlines()
        raise TrptsError(
            f"cell {error.cell_index + 1}: {error.ename}: {shown[0] if shown else ''} (kept in "
            f"{_short(failed, chapter.project)})"
        ) from None
    except KeyboardInterrupt:
        partial.unlink(missing_ok=True)
        raise
    except Exception as error:  # a kernel that dies or does not start
        partial.unlink(missing_ok=True)
        raise TrptsError(f"the kernel did not finish: {type(error).__name__}: {error}") from error
    # after the run: it may itself have written the records that it reads
    key["data"] = chapter.key(settings)["data"]
    nb.metadata["trpts"] = {
        "key": key,
        "profile": settings["profile"],
        "duration_s": nb.metadata.papermill.duration,
    }
    write_notebook(nb, folder / chapter.path.name)
    partial.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)


def write_notebook(nb, path):
    """Write a notebook, whole or not at all."""
    write_whole(path, nbformat.writes(nb) + "\n")


@contextmanager
def _environment(**settings):
    """Environment variables for the kernels, as before on exit; None leaves a variable alone."""
    settings = {name: str(value) for name, value in settings.items() if value is not None}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _short(path, project):
    return path.relative_to(project.root) if path.is_relative_to(project.root) else path
