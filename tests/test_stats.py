"""Statistics worked by hand."""

import html
import math
import re

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

from trpts.errors import TrptsError
from trpts_lab.book.pages import expected, strongest_alike_sentence
from trpts_lab.compared import OURS
from trpts_lab.profiles import load_profile
from trpts_lab.stats import (
    complete,
    differences,
    group_of,
    over_tasks_and_seeds,
    paired_interval,
    pareto,
    ranks,
    scores,
    strongest_alike,
    summary,
)

TASKS = ("cifar100_twin", "dtd_twin", "camelyon_twin")  # natural, natural, specialized


def test_every_task_has_its_group(project):
    """Twins and real data sets alike, or the mean over groups would be that over tasks."""
    groups = {
        name: [group_of(task) for task in load_profile(project, name)["benchmark"]["tasks"]]
        for name in ("full", "paper")
    }
    counts = {"natural": 7, "specialized": 4, "structured": 8, "fgvc": 5}
    assert {group: groups["paper"].count(group) for group in set(groups["paper"])} == counts
    assert groups["full"] == ["digits", *groups["paper"]]


def test_a_machine_is_named_where_it_is_the_only_one():
    one, other = (
        {"provenance": {"machine": {"cores": 2, "processor": p}}, "time_s": 60.0}
        for p in ("A", "B")
    )
    runs = records({("v", 0): (0.1, 0.2), ("v", 1): (0.3,)})
    alike, mixed = (
        [r | m for r, m in zip(runs, machines, strict=True)]
        for machines in ([one] * 3, [one, other, one])
    )
    assert (
        "3 runs took 3.0 minutes, added up, on 2 cores (A);"
        in expected(lambda: alike, "test_accuracy", "").data
    )
    assert (
        "3 runs took 3.0 minutes, added up, on several machines;"
        in expected(lambda: mixed, "test_accuracy", "").data
    )


NASTY = [
    "<script>alert(1)</script>",
    "<!--<script>",
    "[x](https://example.org)",
    "![](https://example.org/x.png)",
    "`code`",
    "*a* _b_ **c** ~~d~~",
    "$x^2$ and $$y$$",
    "a | b\n--|--",
    "&lt;b&gt; &amp;",
    "\\<b>",
    "{raw}`<b>`",
    "a\n\n# title\n\n- list",
    "<https://example.org>",
    "Intel(R) Xeon(R) @ 2.20GHz",
]


@pytest.mark.parametrize("words", NASTY)
def test_words_of_a_record_are_words_on_the_page(words):
    """Whoever made the record: whatever it calls its processor is shown, and does nothing."""
    machine = {"provenance": {"machine": {"cores": words, "processor": words}}, "time_s": 60.0}
    runs = [r | machine for r in records({("v", 0): (0.1,)})]
    shown = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .use(dollarmath_plugin)
        .use(myst_role_plugin)
    )
    page = shown.render(expected(lambda: runs, "test_accuracy", "").data)
    plainly = html.escape(" ".join(words.split()))
    assert f"added up, on {plainly} cores ({plainly});" in page
    assert re.findall(r"</?(\w+)", page) == ["p", "strong", "strong", "strong", "strong", "p"]


def records(table):
    """{(variant, seed): accuracies of TASKS} as records."""
    return [
        {"config": {"variant": v, "task": task, "seed": seed}, "metrics": {"test_accuracy": a}}
        for (v, seed), row in table.items()
        for task, a in zip(TASKS, row, strict=False)
    ]


def test_both_means_by_hand():
    """Seed 0: (.2 + .4 + .9) / 3 = .5, groups (.3 + .9) / 2 = .6; seed 1: all .3 lower in the last
    task: .4 and .45.
    """
    table = summary(
        records(
            {
                ("a", 0): (0.2, 0.4, 0.9),
                ("a", 1): (0.2, 0.4, 0.6),
                ("b", 0): (0.1, 0.5, 0.9),
                ("b", 1): (0.1, 0.5, 0.9),
            }
        )
    )
    a = table.loc["a"]
    assert a["task_mean"] == pytest.approx(0.45)
    assert a["task_sd"] == pytest.approx(0.1 / math.sqrt(2))
    assert a["group_mean"] == pytest.approx(0.525)
    assert a["group_sd"] == pytest.approx(0.15 / math.sqrt(2))
    assert (a["n_tasks"], a["n_seeds"]) == (3, 2)
    assert a["rank"] == pytest.approx((1 + 2 + 2) / 3)
    assert table.loc["b", "rank"] == pytest.approx((2 + 1 + 1) / 3)
    assert list(table.index) == ["b", "a"]


def test_only_what_all_have_is_averaged():
    some = records({("a", 0): (0.2, 0.4, 0.9), ("b", 0): (0.2, 0.4)})
    assert set(complete(scores(some))["task"]) == set(TASKS[:2])
    table = summary(some)
    assert table.loc["a", "task_mean"] == pytest.approx(0.3)
    assert table.loc["a", "n_tasks"] == 2
    assert math.isnan(table.loc["a", "task_sd"])  # one seed has no spread


def test_a_seed_with_fewer_tasks_counts_for_no_mean():
    """Seed 1 has run the easy task alone so far: its mean would be another thing, and so would the
    spread.
    """
    some = records({("a", 0): (0.9, 0.1), ("b", 0): (0.8, 0.2), ("a", 1): (0.9,), ("b", 1): (0.8,)})
    table = summary(some)
    assert table.loc["a", ["task_mean", "n_tasks", "n_seeds"]].tolist() == [0.5, 2, 1]
    assert math.isnan(table.loc["a", "task_sd"])


def test_ties_share_a_rank():
    found = ranks(
        scores(
            records(
                {("a", 0): (0.5, 0.1, 0.1), ("b", 0): (0.5, 0.2, 0.1), ("c", 0): (0.4, 0.3, 0.1)}
            )
        )
    )
    assert found.loc["cifar100_twin"].tolist() == [1.5, 1.5, 3]
    assert found.loc["dtd_twin"].tolist() == [3, 2, 1]
    assert found.loc["camelyon_twin"].tolist() == [2, 2, 2]


def test_the_interval_is_of_paired_differences():
    """Tasks differ widely and the difference hardly: unpaired, the interval would be as wide as the
    tasks' spread.
    """
    rival = [0.1 * n for n in range(1, 8)]
    many = [("a", [x + 0.01 * (1 + n % 3) for n, x in enumerate(rival)]), ("b", rival)]
    some = [
        {"config": {"variant": v, "task": str(n), "seed": 0}, "metrics": {"test_accuracy": a}}
        for v, row in many
        for n, a in enumerate(row)
    ]
    mean, low, high = paired_interval(some, "a", "b")
    assert mean == pytest.approx((3 * 0.01 + 2 * 0.02 + 2 * 0.03) / 7)
    assert 0.0099 <= low < mean < high <= 0.0301
    assert paired_interval(some, "a", "b") == (mean, low, high)
    same = records({("a", 0): (0.2, 0.4, 0.6), ("b", 0): (0.1, 0.3, 0.5)})
    assert paired_interval(same, "a", "b") == pytest.approx((0.1, 0.1, 0.1))


def test_few_tasks_are_not_resampled():
    """Differences .01, .02, .03 have one sign, and resampled they all would: Student's t, .02 ±
    4.3027 · .01 / √3.
    """
    some = records({("a", 0): (0.11, 0.52, 0.93), ("b", 0): (0.10, 0.50, 0.90)})
    mean, low, high = paired_interval(some, "a", "b")
    assert (mean, low, high) == pytest.approx((0.02, 0.02 - 0.024841, 0.02 + 0.024841), abs=1e-6)


def test_seeds_of_different_tasks_are_not_mixed():
    """Seed 0 has run the first two tasks, seeds 1 and 2 the first and the third: as many, but
    others.
    """
    some = records({(v, 0): (0.9, 0.1) for v in "ab"})
    some += [
        r
        for r in records({(v, seed): (0.9, 0.0, 0.5) for v in "ab" for seed in (1, 2)})
        if r["config"]["task"] != TASKS[1]
    ]
    table = summary(some)
    assert table.loc["a", ["task_mean", "task_sd", "n_tasks", "n_seeds"]].tolist() == [0.7, 0, 2, 2]


def test_the_strongest_that_trains_as_many():
    """Ours trains 100: 125 and 80 are as many, 126 and 79 are not; of one method, what is not its
    rival is left out.
    """
    made = {
        "ours": (100, 0.5),
        "many": (126, 0.9),
        "few": (79, 0.9),
        "own": (100, 0.8),
        "r": (125, 0.7),
        "s": (80, 0.6),
    }
    rows = records(
        {(name, 0): (x, x, x) for name, (_, x) in made.items()} | {("ours", 1): (0.0, 0.0, 0.0)}
    )
    for record in rows:
        record["metrics"]["n_trainable_without_head"] = made[record["config"]["variant"]][0]
    name, found, seeds = strongest_alike(rows, "ours", ["ours", "own"])
    assert (name, seeds) == ("r", 1)
    assert found == pytest.approx((-0.2, -0.2, -0.2))
    alone = [r for r in rows if r["config"]["variant"] in ("ours", "own", "few")]
    assert strongest_alike(alone, "ours", ["own"]) is None


def test_one_seed_is_called_no_result():
    ours, random = (0.5, 0.5, 0.5), (0.6, 0.6, 0.6)
    for n_seeds in (1, 2):
        rows = records(
            {
                (name, seed): row
                for name, row in ((OURS, ours), ("TR-PTS", (0.9,) * 3), ("random", random))
                for seed in range(n_seeds)
            }
        )
        for record in rows:
            record["metrics"]["n_trainable_without_head"] = 100
        words = strongest_alike_sentence(rows)
        assert (
            f"is random{'' if n_seeds == 1 else '**'}. {OURS} minus random is -10.0 points (-10.0 "
            "to -10.0 " in words
        )
        assert words.startswith(
            "One seed, so not yet a result: of all 3" if n_seeds == 1 else "**Of all 3 methods"
        )
        assert ("2 seeds" in words) == (n_seeds == 2)
    assert (
        strongest_alike_sentence([row for row in rows if row["config"]["variant"] != "random"])
        == ""
    )


def test_differences_by_hand():
    """b − a is .1, .2 with seed 0 and .3, .2 with seed 1; seed 2 lacks a task, and counts for
    nothing.
    """
    made = {("a", 0): (0.5, 0.5), ("a", 1): (0.1, 0.1), ("a", 2): (0.9,)}
    made |= {("b", 0): (0.6, 0.7), ("b", 1): (0.4, 0.3), ("b", 2): (0.3,)}
    some = records(made)
    found = differences(some, "a")
    assert found.set_index(["task", "seed"])["difference"].round(9).to_dict() == {
        (TASKS[0], 0): 0.1, (TASKS[0], 1): 0.3, (TASKS[1], 0): 0.2, (TASKS[1], 1): 0.2,
    }  # fmt: skip
    table = over_tasks_and_seeds(found)
    assert table.loc["b", ["n_tasks", "n_seeds"]].tolist() == [2, 2]
    assert table.loc["b", "mean"] == pytest.approx((0.15 + 0.25) / 2)
    assert table.loc["b", "sd"] == pytest.approx(0.1 / math.sqrt(2))
    some += records({("c", 0): (0.4, 0.4)})  # has one seed: b is then shown by that seed alone, too
    table = over_tasks_and_seeds(differences(some, "a"))
    assert table["mean"].to_dict() == pytest.approx({"b": 0.15, "c": -0.1})
    assert table["sd"].isna().all()
    assert table["n_seeds"].tolist() == [1, 1]
    with pytest.raises(TrptsError, match="no record of 'z' to compare with: found a, b, c"):
        differences(some, "z")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(TrptsError, match="a and b have 1 tasks in common: expected two or more"):
        paired_interval(records({("a", 0): (0.1,), ("b", 0): (0.2,)}), "a", "b")
    with pytest.raises(
        TrptsError, match="two records of a cifar100_twin 0: expected one of each run"
    ):
        scores(2 * records({("a", 0): (0.1,)}))
    gone = [
        {
            "config": {"variant": "a", "task": "x", "seed": 1},
            "metrics": {"diverged": 1, "val_accuracy": 0.0},
        }
    ]
    with pytest.raises(TrptsError, match="a x 1 diverged: no mean can be taken over it"):
        scores(gone)
    assert scores(gone, "val_accuracy")["val_accuracy"].tolist() == [0.0]


def test_the_front():
    assert pareto(
        {
            "cheap": (1, 0.5),
            "good": (3, 0.9),
            "beaten": (3, 0.8),
            "dear": (4, 0.9),
            "same": (1, 0.5),
        }
    ) == ["cheap", "good", "same"]


def test_words_of_records_are_words_on_the_status_page(project, monkeypatch):
    """A record's state may quote what stands in a broken file: it is shown, and does nothing."""
    from trpts_lab.book import status

    nasty = "<script>alert(1)</script> | a\n# title `code` [x](https://example.org)"
    row = {"experiment": "tuned", "profile": "full", "records": None, "state": nasty}
    monkeypatch.setattr(status, "record_rows", lambda project: pd.DataFrame([row]))
    monkeypatch.setattr(status, "chapter_rows", lambda *_: pd.DataFrame({"chapter": ["00_a"]}))
    page = status.status_page(project, {"profile": "quick"}, [])
    shown = MarkdownIt("commonmark").enable("table").render(page)
    assert "<script" not in shown
    assert "example.org)" in shown
    assert (
        re.findall(
            r"<(a|h1|code)", shown.partition("Committed records")[2].partition("Machine")[0]
        )[1:]
        == []
    )
