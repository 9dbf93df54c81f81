"""What is current and what is not: for `trpts status`, and as a page of the book.

Nothing here imports torch, so that `trpts status` answers at once. Whether drawn data still come
out as they did is therefore read from data/baselines/inputs.json, which `make test` holds against
the drawing itself.
"""

import pandas as pd

from trpts.errors import TrptsError
from trpts.hashes import file_hash
from trpts.packages import CONVERTED_HASH
from trpts.texts import capped, read_json, unfit
from trpts_lab.book.chapters import copy_state, key_in, key_state, read_notebook
from trpts_lab.book.words import plain
from trpts_lab.measured import NOT_HERE, stale_because
from trpts_lab.profiles import NAMES, load_profile
from trpts_lab.provenance import machine, versions

HASHES = {"type": "object", "additionalProperties": {"type": "string"}}


def chapter_rows(project, profile, chapters):
    """A row per chapter: state and duration of its executed copy, state of the outputs in git."""
    rows, quick = [], load_profile(project, "quick")
    for chapter in chapters:
        folder = project.runs(profile["profile"])
        executed = copy_state(chapter, chapter.settings(profile), folder)
        ran = read_notebook(folder / chapter.path.name) if executed == "current" else None
        rows.append(
            {
                "chapter": chapter.name,
                "executed copy": executed,
                "stored outputs": stored_state(chapter, quick),
                "seconds": round(ran.metadata["trpts"]["duration_s"], 1) if ran else None,
            }
        )
    return pd.DataFrame(rows)


def stored_state(chapter, quick):
    """State of the outputs that the repository keeps in notebooks/; they are the quick profile's.

    They are tied to cells, parameters and records. That other code or packages still give them is
    for nbval to see.
    """
    found = key_in(chapter.nb)
    if not found:
        return "no stored outputs"
    wanted = chapter.key(chapter.settings(quick))
    return key_state({**found, "code": wanted["code"], "versions": wanted["versions"]}, wanted)


def inputs_path(project):
    return project.root / "data" / "baselines" / "inputs.json"


def known_inputs(project):
    """A function configuration -> {"data", "weights"}: today's hashes; data as in inputs.json."""
    known = read_inputs(project)

    def inputs_of(config):
        data = known.get(data_name(config))
        if data is None:
            raise ValueError(f"{data_name(config)}: not in {inputs_path(project)}")
        # a path, a package's name, or "hub", whose file is nobody's but the reader's
        weights = config.get("weights")
        if weights in CONVERTED_HASH:
            return {"data": data, "weights": CONVERTED_HASH[weights]}
        return {"data": data, "weights": file_hash(project.root / weights) if weights else None}

    return inputs_of


def read_inputs(project):
    """{`data_name`: hash} of data/baselines/inputs.json; {} if it is not there."""
    path = inputs_path(project)
    try:
        known = read_json(path)
        if fault := unfit(known, HASHES):
            raise ValueError(f"in {fault[0]}, {capped(fault[1])}")
        return known
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TrptsError(
            f"{path}: not readable: {error}: `trpts regress --bless --only canaries` makes it"
        ) from error


def data_name(config):
    """What a record was made from, as inputs.json names it."""
    size = f", {config['image_size']} px" if "image_size" in config else ""
    split = f", {config['split']}" if "split" in config else ""
    return f"{config['kind']}: {config['task']}{size}{split}, seed {config['seed']}"


def record_rows(project):
    """A row per experiment, profile and state of records; an unreadable file states the reason."""
    counts, inputs_of = {}, known_inputs(project)
    for profile in NAMES:
        store = project.results(profile)
        for kind in sorted(
            {p.stem for p in store.files()}
            | {p.name.rpartition("-")[0] for p in store.single_files()}
        ):
            try:
                for record in store.records(kind):
                    state = stale_because(record, inputs_of)
                    state = (
                        "not checked: " + state
                        if state == NOT_HERE
                        else f"stale: {state}"
                        if state
                        else "current"
                    )
                    key = kind, profile, state
                    counts[key] = counts.get(key, 0) + 1
            except TrptsError as error:
                counts[kind, profile, str(error)] = None
    rows = [(kind, profile, n, state) for (kind, profile, state), n in counts.items()]
    return pd.DataFrame(rows, columns=["experiment", "profile", "records", "state"])


def status_page(project, profile, chapters):
    """The book's status page, in Markdown: time per chapter, records, versions, machine."""
    table = chapter_rows(project, profile, chapters)
    table["chapter"] = [f"[](notebooks/{name})" for name in table["chapter"]]
    records = record_rows(project)
    committed = (
        records[records["profile"] != "quick"]
        .astype({"records": object})
        .map(plain, na_action="ignore")
    )
    facts = machine()
    packages = pd.DataFrame(versions().items(), columns=["package", "version"])
    memory = f"{facts['memory_bytes'] / 2**30:.0f} GiB" if facts["memory_bytes"] else "unknown"
    return f"""# Status of this build

The pages were made on the **{profile["profile"]}** profile. This page is written anew by each
build.

## Time per chapter

Seconds of the last execution; measurements whose records were already there are read, not repeated.

{table.to_markdown(index=False, missingval="")}

## Committed records

What the tables and figures of the chapters read: the rows of `data/results/`. A record is *stale*
if its experiment or method has a new version, or if its data or weights have changed; nothing else
makes it stale. It is *not checked* where its data or weights are not on this disk.

{committed.to_markdown(index=False, missingval="") if len(committed) else "There are none yet."}

## Machine

{plain(facts["system"])}, {plain(facts["processor"])}, {facts["cores"]} cores, {memory} of memory,
computing on:
{plain(facts["device"])}.

## Versions

{packages.to_markdown(index=False, missingval="not installed")}
"""
