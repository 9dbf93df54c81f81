"""`trpts regress`: run the quick chapters afresh and hold their metrics against the committed baselines."""

import shutil
import subprocess

from trpts.lab.errors import TrptsError
from trpts.lab.project import make_folder
from trpts.lab.provenance import pick_device
from trpts.lab.records import read_records, record_name, untimed
from trpts.lab.regress import (
    baseline_of,
    compare,
    is_checked,
    read_baselines,
    sentence,
    spot_check,
    write_baselines,
    write_reports,
)
from trpts.press.chapters import find_chapters
from trpts.press.runner import run_chapters, say
from trpts.press.status import experiment_of, record_state

SEEDS = [0, 1, 2, 3, 4]  # the first is the quick profile's own


def baseline_path(project, chapter):
    return project.root / "data" / "baselines" / f"{chapter.name}.json"


def regress(project, only=None):
    """Run, compare, write build/regress/report.json and junit.xml; the number of failures."""
    chapters = find_chapters(project, only)
    if only is None:
        without = [chapter for chapter in chapters if not baseline_path(project, chapter).is_file()]
        chapters = [chapter for chapter in chapters if chapter not in without] or chapters
        if without and chapters:
            say(f"regress: no baseline of {', '.join(chapter.name for chapter in without)}")
    baselines = {chapter.name: device_baselines(project, chapter) for chapter in chapters}
    folder, rows, failures = project.build / "regress", [], {}
    for chapter in chapters:
        failed, records = fresh_run(project, chapter, folder / "run")
        failures |= failed
        rows += compare(baselines[chapter.name], records)
    if only is None:
        rows += stale_rows(project)
    write_reports(rows, failures, folder)
    bad = [sentence(row) for row in rows if not row["ok"]]
    for text in bad:
        say(f"drift: {text}")
    n_checked = sum(map(is_checked, rows))
    n_loose = len(rows) - n_checked
    say(f"regress: {n_checked - len(bad)} of {n_checked} metrics within tolerance, {len(failures)} chapters failed")
    if n_loose:
        say(f"regress: {n_loose} more metrics scatter too widely over seeds to be checked")
    say(f"regress: reports in {folder.relative_to(project.root)}/")
    return len(bad) + len(failures)


def device_baselines(project, chapter):
    """A chapter's baselines; TrptsError if they were made on another kind of device than this machine's."""
    path = baseline_path(project, chapter)
    baselines = read_baselines(path)["baselines"]
    others = {baseline["config"]["device"] for baseline in baselines.values()} - {pick_device()}
    if others:
        raise TrptsError(f"{path} was made on {others.pop()}, this machine computes on {pick_device()}: bless it here")
    return baselines


def stale_rows(project):
    """Spot-check the committed full records of this kind of device that earlier code made: rows as of `compare`."""
    folder, rows = project.committed("full"), []
    here = [record for record in read_records(folder) if record["config"]["device"] == pick_device()]
    stale = [record for record in here if record_state(record) == "made by earlier code"]
    for kind in sorted({record["config"]["kind"] for record in stale}):
        say(f"{kind}: committed records were made by earlier code, running one seed again")
        records = [record for record in here if record["config"]["kind"] == kind]
        experiment = experiment_of(records[0])
        if experiment is None:
            raise TrptsError(f"the committed records of {kind} have no experiment any more: remove or remake them")
        rows += spot_check(records, experiment)
    return rows


def bless(project, only=None):
    """Make the baselines anew: refuses a dirty tree; the first of SEEDS runs twice and must repeat itself."""
    commit = clean_commit(project)
    for chapter in find_chapters(project, only):
        if "seeds" not in chapter.parameters:
            say(f"{chapter.name} has no seeds to take a spread over: it gets no baseline")
            continue
        records, again = (_blessing_run(project, chapter, seeds) for seeds in (SEEDS, SEEDS[:1]))
        if not records:
            say(f"{chapter.name} leaves no records: it gets no baseline")
            continue
        first, second = ({record_name(r["config"]): untimed(r) for r in run} for run in (records, again))
        differing = sorted(name for name in second if first.get(name) != second[name])
        if differing:
            raise TrptsError(f"{chapter.name} gives other metrics when run again ({', '.join(differing)}): its "
                             "randomness must come from its seed before it can be a baseline")  # fmt: skip
        baselines = baseline_of(records)
        origin = {part: records[0][part] for part in ("code", "versions", "machine")}
        write_baselines(baselines, baseline_path(project, chapter), commit=commit, **origin)
        metrics = [pair for baseline in baselines.values() for pair in baseline["metrics"].items()]
        wide = [name for name, metric in metrics if metric["tolerance"] is None]
        say(f"blessed {chapter.name}: {len(metrics) - len(wide)} metrics over {len(SEEDS)} seeds")
        if wide:
            say(f"  too scattered over seeds to be checked: {', '.join(wide)}")


def clean_commit(project):
    """The commit that the checkout is exactly at; TrptsError if it is not."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=project.root, capture_output=True, text=True)

    done = git("status", "--porcelain")
    if done.returncode:
        raise TrptsError(f"{project.root} is no git checkout: a baseline must belong to a commit")
    if done.stdout.strip():
        first = done.stdout.splitlines()[0].strip()
        raise TrptsError(f"the tree is dirty ({first} …): commit before blessing a baseline")
    return git("rev-parse", "HEAD").stdout.strip()


def _blessing_run(project, chapter, seeds):
    """The records of one run over these seeds."""
    failures, records = fresh_run(project, chapter, project.build / "regress" / "bless", {"seeds": seeds})
    if failures:
        raise TrptsError(f"{chapter.name} failed, so there is nothing to bless: {failures[chapter.name]}")
    return records


def fresh_run(project, chapter, folder, overrides=None):
    """Run one chapter on the quick profile into an empty folder: (failures, records)."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder / "results")
    failures = run_chapters(project, "quick", chapter.name, overrides, force=True, runs=folder / "runs",
                            results=folder / "results")  # fmt: skip
    return failures, read_records(folder / "results")
