"""What is current and what is not: for `trpts status`, and as a page of the book."""

import importlib
import importlib.util

import pandas as pd

from trpts.lab.errors import TrptsError
from trpts.lab.profiles import NAMES, load_profile
from trpts.lab.provenance import machine, versions
from trpts.lab.records import read_record, state
from trpts.press.chapters import EXPERIMENTS, read_notebook
from trpts.press.runner import copy_state, key_state


def chapter_rows(project, profile, chapters):
    """One row per chapter: its executed copy's state and duration, and the state of the outputs stored in git."""
    rows, quick = [], load_profile(project, "quick")
    for chapter in chapters:
        folder = project.runs(profile["profile"])
        executed = copy_state(chapter, chapter.settings(profile), folder)
        ran = read_notebook(folder / chapter.path.name) if executed == "current" else None
        rows.append({
            "chapter": chapter.name,
            "executed copy": executed,
            "stored outputs": stored_state(chapter, quick),
            "seconds": round(ran.metadata["trpts"]["duration_s"], 1) if ran else None,
        })  # fmt: skip
    return pd.DataFrame(rows)


def stored_state(chapter, quick):
    """State of the outputs that the repository keeps in notebooks/; they are the quick profile's."""
    found = chapter.nb.metadata.get("trpts", {}).get("key")
    if not found:
        return "no stored outputs"
    wanted = chapter.key(chapter.settings(quick))
    return key_state({**found, "versions": wanted["versions"]}, wanted)  # stored outputs are not tied to versions


def record_rows(project):
    """One row per record, committed or quick; the state of an unreadable one is the reason."""
    rows = []
    for profile in NAMES:
        for path in sorted(project.results(profile).glob("*.json")):
            row = {"record": path.name, "profile": profile, "task": None, "seed": None}
            try:
                record = read_record(path)
                row |= {key: record["config"][key] for key in ("task", "seed")}
                row["state"] = record_state(record)
                if record["config"]["profile"] != profile:
                    row["state"] = "other profile or data"
            except TrptsError as error:
                row["state"] = str(error)
            rows.append(row)
    return pd.DataFrame(rows, columns=["record", "profile", "task", "seed", "state"])


def experiment_of(record):
    """The module that made a record, or None if this version of trpts has no such kind."""
    name = f"{EXPERIMENTS}.{record['config']['kind']}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def record_state(record):
    """`trpts.lab.records.state`, for a record whose kind is not known beforehand."""
    experiment = experiment_of(record)
    found = "made by earlier code" if experiment is None else state(record, experiment)
    return "other profile or data" if found == "other data" else found


def status_page(project, profile, chapters):
    """The book's status page, in Markdown: time per chapter, records, versions, machine."""
    table = chapter_rows(project, profile, chapters)
    table["chapter"] = [f"[](notebooks/{name})" for name in table["chapter"]]
    records = record_rows(project)
    committed = records[records["profile"] != "quick"]
    counts = committed.groupby(["profile", "state"]).size().rename("records").reset_index()
    facts = machine()
    memory = f"{facts['memory_bytes'] / 2**30:.0f} GiB" if facts["memory_bytes"] else "unknown"
    return f"""# Status of this build

The pages were made on the **{profile["profile"]}** profile. This page is written anew by each build.

## Time per chapter

Seconds of the last execution; measurements whose records were already there are read, not repeated.

{table.to_markdown(index=False, missingval="")}

## Committed records

What the tables and figures of the chapters read. A record *made by earlier code* is older than the modules that it
depends on; the tests run one seed of it again and compare.

{counts.to_markdown(index=False) if len(counts) else "There are none yet."}

## Machine

{facts["system"]}, {facts["processor"]}, {facts["cores"]} cores, {memory} of memory, computing on: {facts["device"]}.

## Versions

{pd.DataFrame(versions().items(), columns=["package", "version"]).to_markdown(index=False)}
"""
