"""`trpts regress`: rerun canaries and quick chapters and compare metrics with their baselines."""

import json
import shutil
import subprocess
from contextlib import nullcontext, suppress

from trpts.device import pick_device
from trpts.errors import TrptsError
from trpts_lab.book.chapters import find_chapters
from trpts_lab.book.runner import run_chapters, say
from trpts_lab.book.status import data_name, inputs_path, read_inputs
from trpts_lab.files import make_folder, write_whole
from trpts_lab.measured import placed
from trpts_lab.provenance import machine, versions
from trpts_lab.records import untimed
from trpts_lab.regress import (
    baseline_of,
    by_name,
    compare,
    is_checked,
    read_baselines,
    sentence,
    write_baselines,
    write_reports,
)
from trpts_lab.store import Store

SEEDS = [0, 1, 2, 3, 4]  # the first is the quick profile's own
CANARIES = "canaries"  # named by --only as a chapter is


def baseline_path(project, name):
    return project.root / "data" / "baselines" / f"{name}.json"


def chosen(project, only):
    """(whether the canaries run, the chapters that run)."""
    has_canaries = baseline_path(project, CANARIES).is_file()
    if only == CANARIES:
        return True, []
    return only is None and has_canaries, find_chapters(project, only)


def regress(project, only=None):
    """Run, compare, write build/regress/report.json and junit.xml; the number of failures.

    A chapter without a baseline, because it measures nothing that it records, must run without an
    error.
    """
    with_canaries, chapters = chosen(project, only)
    measured = [chapter for chapter in chapters if baseline_path(project, chapter.name).is_file()]
    if chapters and not measured:
        raise TrptsError(
            f"no baseline of {', '.join(c.name for c in chapters)}: "
            "make it with `trpts regress --bless`"
        )
    baselines = {chapter.name: device_baselines(project, chapter.name) for chapter in measured}
    folder, rows, failures = project.build / "regress", [], {}
    if with_canaries:
        rows += canary_rows(project)
    for chapter in chapters:
        failed, records = fresh_run(project, chapter, folder / "run")
        failures |= failed
        if chapter in measured or records:
            # without a baseline, each one fails
            rows += compare(baselines.get(chapter.name, {}), by_name(records))
        else:
            say(f"{chapter.name}: has no baseline; that it runs is all that is checked")
    write_reports(rows, failures, folder)
    bad = [sentence(row) for row in rows if not row["ok"]]
    for text in bad:
        say(f"drift: {text}")
    n_checked = sum(map(is_checked, rows))
    n_loose = len(rows) - n_checked
    say(
        f"regress: {n_checked - len(bad)} of {n_checked} metrics within tolerance, "
        f"{len(failures)} chapters failed"
    )
    if n_loose:
        say(f"regress: {n_loose} more metrics scatter too widely over seeds to be checked")
    say(f"regress: reports in {folder.relative_to(project.root)}/")
    return len(bad) + len(failures)


def device_baselines(project, name):
    """A chapter's baselines; TrptsError if they come from another kind of device than this one."""
    path = baseline_path(project, name)
    baselines = read_baselines(path)["baselines"]
    others = {baseline["config"].get("device") for baseline in baselines.values()} - {pick_device()}
    if others:
        raise TrptsError(
            f"{path} was made on {others.pop()}, this machine computes on {pick_device()}: "
            "bless it here"
        )
    return baselines


def canary_rows(project):
    """Every canary run and compared, and whether drawn data still come out as
    data/baselines/inputs.json says.
    """
    from trpts_lab.canaries import canaries, compare

    say("canaries: running")
    baselines = read_baselines(baseline_path(project, CANARIES))["baselines"]
    known, today = read_inputs(project), today_inputs(project)
    rows = [
        {
            "record": "inputs",
            "metric": name,
            "found": today.get(name),
            "expected": known.get(name),
            "tolerance": None,
            "ok": today.get(name) == known.get(name),
        }
        for name in sorted(known.keys() | today.keys())
        if name in today or not of_files(name)
    ]
    return compare(baselines, sorted(canaries().keys() | baselines.keys())) + rows


def of_files(name):
    """Whether data of a `data_name` are the reader's own image files, which may be missing here."""
    return ": real/" in name


def today_inputs(project):
    """{data of committed records, see `data_name`: hash today}, if drawn or on this disk."""
    import importlib

    found = {}
    for record in [r for profile in ("full", "real") for r in project.store(profile).records()]:
        name = data_name(record["config"])
        if name not in found:
            experiment = importlib.import_module(
                f"trpts_lab.experiments.{record['config']['kind']}"
            )
            with suppress(FileNotFoundError, ValueError) if of_files(name) else nullcontext():
                found[name] = experiment.inputs(placed(record["config"], project))["data"]
    return found


def bless(project, only=None):
    """Remake the baselines on a clean tree only; the first of SEEDS runs twice and must repeat."""
    commit = clean_commit(project)
    with_canaries, chapters = chosen(project, only)
    if with_canaries:
        from trpts_lab.tolerances import blessed

        found = blessed()
        write_baselines(
            found,
            baseline_path(project, CANARIES),
            commit=commit,
            versions=versions(),
            machine=machine(),
        )
        write_whole(
            inputs_path(project),
            json.dumps(read_inputs(project) | today_inputs(project), indent=1, sort_keys=True)
            + "\n",
        )
        say(f"blessed {len(found)} canaries and the hashes of drawn data")
    for chapter in chapters:
        bless_chapter(project, chapter, commit)


def bless_chapter(project, chapter, commit):
    """Make one chapter's baseline anew, if it leaves records over seeds."""
    if "seeds" not in chapter.parameters:
        say(f"{chapter.name} has no seeds to take a spread over: it gets no baseline")
        return
    records, again = (_blessing_run(project, chapter, seeds) for seeds in (SEEDS, SEEDS[:1]))
    if not records:
        say(f"{chapter.name} leaves no records: it gets no baseline")
        return
    first, second = (
        {name: untimed(r) for name, r in by_name(run).items()} for run in (records, again)
    )
    differing = sorted(name for name in second if first.get(name) != second[name])
    if differing:
        raise TrptsError(
            f"{chapter.name} gives other metrics when run again ({', '.join(differing)}): its "
            "randomness must come from its seed before it can be a baseline"
        )
    baselines, made = baseline_of(records), records[0]["provenance"]
    origin = {part: made[part] for part in ("versions", "machine")}
    write_baselines(baselines, baseline_path(project, chapter.name), commit=commit, **origin)
    metrics = [pair for baseline in baselines.values() for pair in baseline["metrics"].items()]
    wide = [name for name, metric in metrics if metric["tolerance"] is None]
    say(f"blessed {chapter.name}: {len(metrics) - len(wide)} metrics over {len(SEEDS)} seeds")
    if wide:
        say(f"  too scattered over seeds to be checked: {', '.join(wide)}")


def clean_commit(project):
    """The commit that the checkout is exactly at; TrptsError if it is not."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=project.root, capture_output=True, text=True)

    # all but the baselines, which earlier blessings may have written
    done = git("status", "--porcelain", "--", ".", ":!data/baselines")
    if done.returncode:
        raise TrptsError(f"{project.root} is no git checkout: a baseline must belong to a commit")
    if done.stdout.strip():
        first = done.stdout.splitlines()[0].strip()
        raise TrptsError(f"the tree is dirty ({first} …): commit before blessing a baseline")
    return git("rev-parse", "HEAD").stdout.strip()


def _blessing_run(project, chapter, seeds):
    """The records of one run over these seeds."""
    failures, records = fresh_run(
        project, chapter, project.build / "regress" / "bless", {"seeds": seeds}
    )
    if failures:
        raise TrptsError(
            f"{chapter.name} failed, so there is nothing to bless: {failures[chapter.name]}"
        )
    return records


def fresh_run(project, chapter, folder, overrides=None):
    """Run one chapter on the quick profile into an empty folder: (failures, records)."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder / "results")
    failures = run_chapters(
        project,
        "quick",
        chapter.name,
        overrides,
        force=True,
        runs=folder / "runs",
        results=folder / "results",
    )
    return failures, Store(folder / "results").records()
