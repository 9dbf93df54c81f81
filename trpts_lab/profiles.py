"""Profiles: the one dial. quick, full and paper hold the same keys with other values."""

import textwrap
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath

from trpts.errors import TrptsError
from trpts.texts import capped, read_json, read_text, unfit
from trpts_lab import paper
from trpts_lab.yaml12 import parse_yaml

NAMES = ("quick", "full", "real", "paper")
CHAPTERS = ("quick", "full", "paper")  # those that chapters run on; "real" is swept, and read


def load_profile(project, name):
    """Read profiles/<name>.yaml, which must fit profile.schema.json: {"profile", "requires",
    "benchmark", "chapters"}.

    requires   files that do not come with the checkout, [{what, size_mb (null: unknown), source,
               path, how (to put it there)}]. One that holds data sets also names `tasks`, a pattern
               over the benchmark's, and `files`, patterns that each task's folder must match
    benchmark  what methods are compared on: backbone, weights; tasks, root and reading as for
               `trpts.load_task`; settings, the name of a table {task: settings} in
               `trpts_lab.paper`, or null; sweep, what `trpts_lab.grid` runs: tuning_tasks,
               compared_tasks (some of the tasks), epochs, batch_size, rates ({few, all}: learning
               rates to choose from; a method may have its own under its name) and, where it is
               given, comparison (fair, or else laboratory); matmul, where it is given, {device:
               what `torch.set_float32_matmul_precision` is set to}
    chapters   {chapter: {parameter: value}}
    """
    if name not in NAMES:
        raise TrptsError(f"profile {name!r} does not exist: expected one of {', '.join(NAMES)}")
    path = project.root / "profiles" / f"{name}.yaml"
    try:
        profile = parse_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise TrptsError(f"{path}: not a readable profile: {error}") from error
    if fault := unfit(profile, _schema()):
        raise TrptsError(f"{path}: not a valid profile, in {fault[0]}: {capped(fault[1])}")
    if profile["profile"] != name:
        raise TrptsError(f"{path}: says profile: {profile['profile']!r}, expected {name!r}")
    _check_names(path, profile["benchmark"])
    return profile


@cache
def _schema():
    return read_json(Path(__file__).with_name("profile.schema.json"))


def _check_names(path, benchmark):
    """Raise TrptsError for tasks or settings that are named and not there."""
    sweep = benchmark["sweep"]
    for name in ("tuning_tasks", "compared_tasks"):
        if unknown := [task for task in sweep[name] if task not in benchmark["tasks"]]:
            raise TrptsError(
                f"{path}: {name} has {unknown[0]!r}: expected some of the benchmark's tasks"
            )
    if benchmark["settings"] is not None:
        table = getattr(paper, benchmark["settings"], None)
        known = table if isinstance(table, dict) else {}
        lacking = [task for task in benchmark["tasks"] if task not in known]
        if lacking:
            raise TrptsError(
                f"{path}: trpts_lab.paper.{benchmark['settings']} has no settings for "
                f"{', '.join(lacking)}"
            )


def check_files(project, profile, parameters=None):
    """Raise TrptsError with a list of what the profile requires and is not there: what, how big,
    whence, where to.

    parameters  of the one chapter that is to run: then only the files count that lie in a path
                which one of them names
    """
    named = None if parameters is None else [v for v in parameters.values() if isinstance(v, str)]
    absent = []
    for need in profile["requires"]:
        if named is None or any(
            PurePosixPath(need["path"]).is_relative_to(PurePosixPath(v)) for v in named if v
        ):
            lacks = _lacks(project, profile, need)
            if lacks is not None:
                absent.append((need, lacks))
    if not absent:
        return
    known = sum(need["size_mb"] or 0 for need, _ in absent)
    total = (
        f"{'about' if all(need['size_mb'] for need, _ in absent) else 'more than'} {_size(known)} "
        "to download"
    )
    lines = [f"profile {profile['profile']!r} needs files that are not here, {total}:"]
    for number, (need, lacks) in enumerate(absent, 1):
        entries = (
            f"{number}. {need['what']}, {_size(need['size_mb'])}{lacks}",
            f"   get   {need['source']}",
            f"   put   {need['path']}, {need['how']}",
        )
        lines += [
            textwrap.fill(
                e,
                110,
                initial_indent="  ",
                subsequent_indent=" " * 11,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for e in entries
        ]
    raise TrptsError("\n".join(lines))


def _lacks(project, profile, need):
    """None if a required entry is there, else what of it is missing, as the end of a phrase."""
    if "tasks" not in need:
        return None if (project.root / need["path"]).exists() else ""
    # imported here, as it needs torch and most profiles require nothing
    from trpts_lab.named_tasks import find_real

    root = project.root / profile["benchmark"]["root"]
    tasks = [task for task in profile["benchmark"]["tasks"] if fnmatchcase(task, need["tasks"])]
    missing = []
    for task in tasks:
        try:
            folder = find_real(task, root)
        except ValueError:
            missing.append(task)
            continue
        if not all(any(folder.glob(pattern)) for pattern in need["files"]):
            missing.append(task)
    if not missing:
        return None
    return (
        f": {len(missing)} of {len(tasks)} missing: {', '.join(missing)}" if len(tasks) > 1 else ""
    )


def _size(mb):
    if mb is None:
        return "size unknown"
    return f"{mb} MB" if mb < 1000 else f"{mb / 1000:.1f} GB"
