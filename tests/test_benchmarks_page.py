"""The page on table 1: its numbers are the paper's, its hours follow from the bench."""

import re
from statistics import median

import pytest

from trpts.ask import SCHEDULES
from trpts.lmms import BASES
from trpts_lab import paper
from trpts_lab.bench.files import read_whole
from trpts_lab.book.benchmarks import TASKS, benchmarks_page


@pytest.fixture(scope="module")
def page(project):
    return benchmarks_page(project)


def row(page, name):
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_numbers_are_the_papers(page):
    assert list(TASKS) == list(paper.LLAVA["High"])
    assert row(page, "GQA")[3:6] == ["61.9", "61.4", "60.0"]
    assert row(page, "MME")[3:6] == ["1506", "1540", "1491"]


def test_hours_by_hand(project, page):
    """GQA unpruned: eq. 7's 3.82 T multiply-accumulates of the image, its text, and the tower."""
    rows = read_whole(project, "transprune")["rows"]["unpruned"]
    least = 3.82e12 / rows["macs"] * median(rows["s"]) * 12578 / 3600
    assert least < float(row(page, "GQA")[6].partition(" / ")[0]) < 1.35 * least


def test_commands_name_what_there_is(page):
    (loop,) = re.findall(r"for NAME in ([\w ]+);", page)
    assert set(loop.split()) <= set(SCHEDULES)
    (tasks,) = re.findall(r"TASKS=(\S+)", page)
    assert tasks.split(",") == [task for task, *_ in TASKS.values()]
    for model in re.findall(r"pruned_(\w+)", page):
        assert model in BASES
