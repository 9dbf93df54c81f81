"""How long each chapter takes from nothing, on the quick profile: for the README's list, and its bars."""

import sys
import tempfile
import time
from pathlib import Path

from trpts.lab.profiles import load_profile
from trpts.lab.project import Project
from trpts.press.chapters import find_chapters
from trpts.press.runner import run_chapter


def bench_chapters(batch_size=None, rounds=1, device="cpu"):
    """{chapter: {"s": [seconds of each round]}}; every run begins without records of an earlier one.

    batch_size and device are the chapters' own business; they are taken as every bench takes them.
    """
    project = Project.find()
    quick, chapters = load_profile(project, "quick"), find_chapters(project)
    rows = {chapter.name: {"s": []} for chapter in chapters}
    for nth in range(rounds):
        for chapter in chapters:
            with tempfile.TemporaryDirectory() as place:
                start = time.perf_counter()
                run_chapter(chapter, chapter.settings(quick), Path(place) / "runs", Path(place) / "results")
                rows[chapter.name]["s"].append(time.perf_counter() - start)
            print(f"round {nth + 1}/{rounds}: {chapter.name} {rows[chapter.name]['s'][-1]:.0f} s", file=sys.stderr)
    return rows
