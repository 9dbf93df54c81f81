"""For the README: time of each chapter in the quick profile, run from nothing by `make book`."""

import shutil
import statistics

from trpts.errors import TrptsError
from trpts_lab.bench.clock import Bench, verdict
from trpts_lab.book.chapters import find_chapters, read_notebook
from trpts_lab.book.runner import run_chapters
from trpts_lab.project import Project


def bench_chapters(batch_size=None, rounds=1, device="cpu"):
    """{chapter: {"s": [seconds of each round]}}. A round begins without quick records; a chapter
    may read those that an earlier one made, as it does for a reader. The executed copies stay, so
    that nothing has to be run again.

    batch_size and device are the chapters' own business; they are taken as every bench takes them.
    """
    project = Project.find()
    chapters = find_chapters(project)
    rows = {chapter.name: {"s": []} for chapter in chapters}
    with project.lock():
        for _ in range(rounds):
            shutil.rmtree(project.store("quick").loose, ignore_errors=True)
            if failures := run_chapters(project, "quick", force=True):
                raise TrptsError("; ".join(f"{name}: {error}" for name, error in failures.items()))
            for chapter in chapters:
                ran = read_notebook(project.runs("quick") / chapter.path.name)
                rows[chapter.name]["s"].append(ran.metadata["trpts"]["duration_s"])
    return rows


QUICK_S, LONGEST_S = 480, 120  # the book's quick run, and its longest chapter


def _in_all(rows, bars):
    seconds = [statistics.median(row["s"]) for row in rows.values()]
    yield f"all: {sum(seconds):.0f} s{verdict(sum(seconds), QUICK_S if bars else None)}"
    yield f"the longest: {max(seconds):.0f} s{verdict(max(seconds), LONGEST_S if bars else None)}"


BENCH = Bench(bench_chapters, words=_in_all)
