"""From a configuration to its record: read if a current one is there, else measured now.

A record is stale if a version that it rests on (`trpts_lab.versions`) or the hash of its data or
weights is not today's; nothing else makes it stale.
"""

import time
from collections.abc import Callable
from pathlib import Path

from trpts.errors import TrptsError
from trpts.meter import peak_memory_bytes
from trpts_lab.provenance import provenance
from trpts_lab.records import kind_of, record_name
from trpts_lab.store import Store
from trpts_lab.versions import version_of

NOT_HERE = "data or weights are not here"


def stale_because(record: dict, inputs_of: Callable[[dict], dict]) -> str | None:
    """Why a record is stale, in a few words; None: it is current.

    inputs_of  configuration -> {"data", "weights"}, today's hashes; FileNotFoundError or
               ValueError: not on this disk
    raises     TrptsError: a later version made it
    """
    today = version_of(record["config"])
    for name, made_with in record["version"].items():
        if made_with > today.get(name, made_with):
            raise TrptsError(
                f"{record_name(record['config'])}: made with version {made_with} of {name}, here "
                f"it has version {today[name]}: update the checkout, or remove the record"
            )
    if record["version"] != today:
        changed = sorted(name for name in today if record["version"].get(name) != today[name])
        return (
            "version of "
            f"{', '.join(changed) or ', '.join(sorted(record['version'].keys() - today.keys()))}"
        )
    try:
        found = inputs_of(record["config"])
    except (FileNotFoundError, ValueError):  # weights or data of the reader's own, on another disk
        return NOT_HERE
    changed = [name for name in ("data", "weights") if record["inputs"][name] != found[name]]
    return f"other {' and '.join(changed)}" if changed else None


def run_once(experiment, config: dict, store: Store) -> dict:
    """The record of `config`: read if a current one is there, else measured now and written.

    experiment  a module with `run(config) -> metrics`, `inputs(config) -> {"data": hash, "weights":
                hash or None}` and VERSION
    config      JSON-able; its "kind" is filled in from the module's name
    """
    record = current_record(experiment, config, store)
    if record is None:
        record = measure(experiment, config, store.project)
        store.add(record)
    return record


def current_record(experiment, config: dict, store: Store) -> dict | None:
    """The record of `config` if there is one and it is current, else None.

    raises  TrptsError: a record that cannot be read, of any profile but quick; it is nobody's to
            overwrite silently
    """
    config = {"kind": kind_of(experiment), **config}
    try:
        record = store.find(config)
    except TrptsError:
        if config["profile"] != "quick":
            raise
        return None

    def inputs_of(config):
        return experiment.inputs(placed(config, store.project))

    return None if record is None or stale_because(record, inputs_of) else record


def placed(config: dict, project) -> dict:
    """A configuration as experiments get it: with "project", whose weights and data they use.

    No record holds that. A worker's is the checkout that it was started in, so it travels with no
    configuration; and as experiments pass their configuration on whole, it needs no argument of
    its own from here to the file that is read (`trpts_lab.tasks.project_of`).
    """
    return config if project is None else config | {"project": project}


def measure(experiment, config: dict, project=None) -> dict:
    """Run an experiment with the weights and data of a `Project`; its record, not yet written.

    What it was made with is noted before the run: a commit or a version may change while it lasts.
    """
    config = {"kind": kind_of(experiment), **config}
    made_with = {
        "inputs": experiment.inputs(placed(config, project)),
        "version": version_of(config),
        "provenance": provenance(project.root if project else Path.cwd()),
    }
    start = time.perf_counter()
    metrics = experiment.run(placed(config, project))
    seconds = round(time.perf_counter() - start, 3)
    measured = {
        "config": config,
        "metrics": metrics,
        "time_s": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    return measured | made_with
