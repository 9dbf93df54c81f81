"""`trpts sweep`: the grid of the comparison, on this machine or on a Dask cluster."""

from collections import Counter
from contextlib import contextmanager
from statistics import median

from trpts.device import pick_device
from trpts.errors import TrptsError
from trpts.options import SEEDS, Different, filled, whole
from trpts_lab.project import Project


@contextmanager
def dask_imported():
    """For imports of Dask, which reads its settings then; TrptsError: they are unreadable."""
    try:
        yield
    except ValueError as error:
        words = str(error).splitlines()[0].removesuffix(", original error message:")
        raise TrptsError(f"Dask's settings are not readable: {words}") from error


def add_commands(command):
    sub = command(
        "sweep",
        cmd_sweep,
        "compare methods: every missing run, here or on a Dask cluster",
        keeps=True,
    )
    sub.add_argument(
        "--profile",
        default="full",
        help="full (the laboratory, default), real (real weights and images) or paper (your own)",
    )
    which = sub.add_mutually_exclusive_group()
    which.add_argument(
        "--tuning", action="store_true", help="the runs that choose each method's learning rate"
    )
    which.add_argument(
        "--ablations",
        nargs="*",
        action=Different,
        metavar="FIGURE",
        help="TR-PTS's switches instead; default: all",
    )
    which.add_argument(
        "--further",
        nargs="*",
        action=Different,
        metavar="EXPERIMENT",
        help="runs beside the comparison; default: all",
    )
    which.add_argument(
        "--pruning",
        action="store_true",
        help="what is asked of the assembled vision-language model; with --profile real",
    )
    several = {"nargs": "+", "action": Different}
    sub.add_argument("--tasks", metavar="TASK", help="default: as the profile says", **several)
    sub.add_argument(
        "--methods", metavar="METHOD", help="by the names of the tables; default: all", **several
    )
    sub.add_argument(
        "--seeds",
        type=whole(0, SEEDS),
        metavar="N",
        help="default: those of the comparison",
        **several,
    )
    sub.add_argument(
        "--scheduler",
        type=filled,
        metavar="ADDRESS",
        help="of a Dask scheduler; default: processes of this machine",
    )
    sub.add_argument(
        "--workers",
        type=whole(1, 1000),
        metavar="N",
        help="how many processes here; default: as many as cores",
    )
    sub.add_argument(
        "--gpu",
        action="store_true",
        help="each run takes a worker's resource GPU=1; with --scheduler",
    )
    sub.add_argument(
        "--dry-run", action="store_true", help="say what is missing and how long it would take"
    )
    sub = command(
        "pack",
        cmd_pack,
        "move single records from build/ into the committed files of data/results/",
    )
    sub.add_argument("--profile", default="full", help="full (default), real or paper")


def cmd_sweep(arguments):
    """Make the comparison's missing records; 1 if a run failed or was left to another sweep."""
    from trpts_lab import further, grid
    from trpts_lab.profiles import load_profile

    with dask_imported():
        from trpts_lab.sweep import missing, say, sweep
    if arguments.workers is not None and arguments.scheduler is not None:
        raise TrptsError(
            "--workers is of this machine's processes: a scheduler's workers are those that were "
            "started"
        )
    if arguments.gpu and arguments.scheduler is None:
        raise TrptsError(
            "--gpu needs --scheduler ADDRESS: workers with a GPU say so when they are started"
        )
    _refuse_unused(arguments)
    project = Project.find()
    profile, store = load_profile(project, arguments.profile), project.results(arguments.profile)
    device = "cuda" if arguments.gpu else None  # None: as this machine has it

    def known_so_far():
        if arguments.pruning:
            return pruning_cells(project, store, profile, device)
        return grid.tuning_cells(profile, store, arguments.methods, device)

    in_turns = arguments.tuning or arguments.pruning  # what is measured says what comes next
    if in_turns:
        cells = known_so_far()
    elif arguments.ablations is not None:
        cells = grid.ablation_cells(profile, store, arguments.ablations, arguments.seeds, device)
    elif arguments.further is not None:
        cells = further.further_cells(profile, store, arguments.further, arguments.seeds, device)
    else:
        cells = grid.comparison_cells(
            profile, store, arguments.tasks, arguments.methods, arguments.seeds, device
        )
    if arguments.dry_run:
        print(forecast(missing(cells, store), len(cells), store))
        return 0
    while True:
        failed, left = sweep(
            project,
            cells,
            store,
            arguments.scheduler,
            arguments.workers,
            {"GPU": 1} if arguments.gpu else None,
        )
        if failed or left or not in_turns:
            break
        known, cells = cells, known_so_far()
        if len(cells) == len(known) and not missing(cells, store):
            break
    for name, error in failed.items():
        say(f"{name}: {error}")
    if left:
        say(f"{left} runs are another sweep's: run the command again when it is done")
    return 1 if failed or left else 0


def pruning_cells(project, store, profile, device):
    """The cells of `trpts_lab.assembled.compared`; its models belong to the profile "real"."""
    from trpts_lab.assembled.compared import cells

    if profile["profile"] != "real":
        raise TrptsError(f"--pruning with --profile {profile['profile']}: expected --profile real")
    return cells(project, store, device or pick_device())


def cmd_pack(arguments):
    """Move records of runs since the last packing into data/results/; sweeps do it themselves."""
    from trpts_lab.profiles import load_profile

    if arguments.profile == "quick":
        raise TrptsError(
            "--profile quick: its records are never committed: expected full, real or paper"
        )
    project = Project.find()
    load_profile(project, arguments.profile)
    print(f"{project.store(arguments.profile).pack()} records packed into {project.committed}")
    return 0


def _refuse_unused(arguments):
    """Raise TrptsError for an option that the chosen part of the grid would silently ignore."""
    chosen = [
        name
        for name in ("tuning", "ablations", "further", "pruning")
        if getattr(arguments, name) not in (None, False)
    ]
    unused = {
        "tuning": ("tasks", "seeds"),
        "ablations": ("tasks", "methods"),
        "further": ("tasks", "methods"),
        "pruning": ("tasks", "methods", "seeds"),
    }
    for option in unused[chosen[0]] if chosen else ():
        if getattr(arguments, option) is not None:
            raise TrptsError(
                f"--{option} says nothing to --{chosen[0]}, whose {option} are set by the profile"
            )


def forecast(todo, of, store):
    """How many cells are missing and how long they would take, by the median time of like runs."""
    from trpts_lab.records import kind_of

    # by variant, by kind and over all: a variant without a record takes what its kind takes
    times = {}
    for record in store.records():
        kind = record["config"]["kind"]
        for runs in ((kind, record["config"]["variant"]), kind, None):
            times.setdefault(runs, []).append(record["time_s"])
    words = f"{len(todo)} of {of} records are missing"
    if not times:
        return words
    known = {runs: median(found) for runs, found in times.items()}
    seconds = sum(
        n * known.get((kind, variant), known.get(kind, known[None]))
        for (kind, variant), n in Counter(
            (kind_of(experiment), config["variant"]) for experiment, config in todo
        ).items()
    )
    return f"{words}: about {seconds / 3600:.1f} hours of one core, going by records that are there"
