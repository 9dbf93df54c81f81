"""The committed records that a chapter shows: all of one kind, of one method, of one ablation."""

import json
from contextlib import suppress

from trpts.errors import TrptsError
from trpts_lab import grid
from trpts_lab.compared import METHODS
from trpts_lab.further import further_cells
from trpts_lab.profiles import load_profile
from trpts_lab.project import Project
from trpts_lab.records import kind_of
from trpts_lab.store import NotThere

PUBLISHED = (
    "cpu"  # the device of the records that the book shows; those of others stand beside them
)


def full_records(experiment, by=("seed",)):
    """The committed full-profile records of an experiment, sorted by the settings named in `by`.

    raises  NotThere: there are none; TrptsError: they differ in more than those settings
    """
    records = [
        r for r in Project.find().store("full").records(kind_of(experiment)) if _is_published(r)
    ]
    if not records:
        raise NotThere(
            f"no committed record of {kind_of(experiment)}: "
            "make them with `trpts run --profile full`"
        )
    _check_one_setting(records, by, kind_of(experiment))
    return sorted(records, key=lambda record: [record["config"][name] for name in by])


def full_runs(variant, experiment):
    """The committed full-profile records of one variant of an experiment, by task and seed."""
    kind = kind_of(experiment)
    records = [
        r
        for r in Project.find().store("full").records(kind)
        if r["config"]["variant"] == variant and _is_published(r)
    ]
    if not records:
        raise NotThere(
            f"no committed record of {kind}, {variant}: make them with `trpts run --profile full`"
        )
    _check_one_setting(records, ("task", "seed"), f"{kind}, {variant}")
    return sorted(records, key=lambda r: (r["config"]["task"], r["config"]["seed"]))


def compared_runs(method, tasks=None):
    """The committed records of a method of the comparison, at the learning rate chosen for it, by
    task and seed.

    tasks   None: those of the choice of learning rates
    raises  NotThere: there are none, or the choice is not complete
    """
    profile, store = _published()
    tasks = tasks or profile["benchmark"]["sweep"]["tuning_tasks"]
    cells = grid.comparison_cells(profile, store, tasks, [method], device=PUBLISHED)
    records = store.found(cells)
    if not records:
        raise NotThere(f"no committed record of {method}: make them with `trpts sweep`")
    return sorted(records, key=lambda r: (r["config"]["task"], r["config"]["seed"]))


def records_there(methods, tasks):
    """The committed records of several methods of the comparison, of each what is there."""
    found = []
    for method in methods:
        with suppress(NotThere):
            found += compared_runs(method, tasks)
    return found


def ablation_runs(figure):
    """The committed records of an ablation's variants, of any task and seed; [] without any."""
    profile, store = _published()
    with suppress(NotThere):
        return store.found(grid.ablation_cells(profile, store, [figure], device=PUBLISHED))
    return []


def further_runs(name):
    """The committed records of what `trpts_lab.further` calls by a name, as many as are there."""
    profile, store = _published()
    with suppress(NotThere):
        return store.found(further_cells(profile, store, [name], device=PUBLISHED))
    return []


def published_rates():
    """{method: (learning rate, {rate: mean validation accuracy})} of complete committed choices."""
    profile, store = _published()
    found = {}
    for method in METHODS:
        with suppress(NotThere):
            found |= grid.chosen_rates(profile, store, [method], PUBLISHED)
    return found


def chosen_rates(project, profile, methods):
    """{method: learning rate} for a chapter that runs cells of the comparison itself."""
    # committed choices count whatever else a run is set to; the quick profile makes its own
    name = profile["profile"]
    store = project.results(name) if name == "quick" else project.store(name)
    found = grid.chosen_rates(profile, store, methods)
    return {method: rate for method, (rate, _) in found.items()}


def _is_published(record):
    return record["config"]["device"] == PUBLISHED


def _published():
    project = Project.find()
    return load_profile(project, "full"), project.store("full")


def _check_one_setting(records, by, words):
    groups = {
        json.dumps({k: v for k, v in r["config"].items() if k not in by}, sort_keys=True)
        for r in records
    }
    if len(groups) > 1:
        raise TrptsError(
            f"the committed records of {words} are of {len(groups)} different settings, and a "
            f"mean over them would mean nothing: keep one of {'; '.join(sorted(groups))}"
        )
