"""Command line of the laboratory: run chapters, build the book, measure; more is in cli_*.py."""

import time

from trpts.errors import TrptsError
from trpts.options import repeated, whole
from trpts_lab import cli_claims, cli_data, cli_editions, cli_sweep, cli_train
from trpts_lab.bench import NAMES as bench_names
from trpts_lab.profiles import CHAPTERS
from trpts_lab.project import Project

PROFILES = f"one of {', '.join(CHAPTERS)} (default: quick)"


def add_commands(command):
    """Add them to the command line; `command(name, function, summary, keeps)` makes a subparser."""
    run = command("run", cmd_run, "execute the chapters with papermill", keeps=True)
    run.add_argument("--profile", default="quick", help=PROFILES)
    run.add_argument("--only", metavar="NN", help="one chapter, by number or name")
    run.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the chapter named by --only (may be repeated)",
    )
    run.add_argument("--force", action="store_true", help="run even what is up to date")

    book = command("book", cmd_book, "run what is not up to date, then build the book", keeps=True)
    book.add_argument("--profile", default="quick", help=PROFILES)

    status = command("status", cmd_status, "show which chapters and records are current")
    status.add_argument("--profile", default="quick", help=PROFILES)

    check = command(
        "check", cmd_check, "load what a profile's benchmark needs and read every image"
    )
    check.add_argument("--profile", default="quick", help=PROFILES)

    command("refresh", cmd_refresh, "write the quick outputs back into notebooks/", keeps=True)

    cli_train.add_commands(command)
    cli_data.add_commands(command)
    cli_sweep.add_commands(command)
    cli_claims.add_commands(command)
    cli_editions.add_commands(command)

    bench = command(
        "bench", cmd_bench, "measure what training, scoring and selecting cost at full size"
    )
    bench.add_argument("what", choices=[*bench_names, "all"])
    bench.add_argument(
        "--batch-size", type=whole(), help="default: 16; other benches have their own"
    )
    bench.add_argument("--rounds", type=whole(), default=5)

    regress = command(
        "regress", cmd_regress, "hold canaries and quick chapters against the committed baselines"
    )
    regress.add_argument("--only", metavar="NN", help="one chapter, by number or name, or canaries")
    regress.add_argument(
        "--bless", action="store_true", help="make the baselines anew (clean tree only, runs twice)"
    )


def cmd_run(arguments):
    """Execute the chapters that are not up to date; copies land in build/runs/<profile>/."""
    from trpts_lab.book.parameters import read_parameter
    from trpts_lab.book.runner import run_chapters
    from trpts_lab.store import packed_at_the_end

    given = [read_parameter(text) for text in arguments.parameter]
    if (again := repeated([name for name, _ in given])) is not None:
        raise TrptsError(f"--parameter {again} is given twice: expected it once")
    overrides = dict(given)
    if overrides and arguments.only is None:
        raise TrptsError("--parameter needs --only: parameters belong to one chapter")
    project = Project.find()
    with project.lock(), packed_at_the_end(project.store(arguments.profile)):
        failures = run_chapters(
            project, arguments.profile, arguments.only, overrides, arguments.force
        )
    return 1 if failures else 0


def cmd_book(arguments):
    """Run what is not up to date, then build the book; the last line is its front page's path."""
    from trpts_lab.book.build import run_and_build
    from trpts_lab.book.runner import say

    project, start = Project.find(), time.monotonic()
    page = run_and_build(project, arguments.profile)
    say(f"book: done in {time.monotonic() - start:.0f} s, chapters included")
    say(str(page))
    return 0


def cmd_status(arguments):
    """List chapters and records with their state."""
    from trpts_lab.book.chapters import find_chapters
    from trpts_lab.book.status import chapter_rows, record_rows
    from trpts_lab.profiles import load_profile

    project = Project.find()
    print(
        chapter_rows(
            project, load_profile(project, arguments.profile), find_chapters(project)
        ).to_string(index=False)
    )
    records = record_rows(project)
    print("\n" + (records.to_string(index=False) if len(records) else "There are no records yet."))
    return 0


def cmd_check(arguments):
    """Load the weights and every task of a profile's benchmark and read all images, before hours
    are spent; 1 if something is missing or broken.
    """
    from trpts_lab.check import check_benchmark
    from trpts_lab.profiles import load_profile

    project = Project.find()
    return 1 if check_benchmark(project, load_profile(project, arguments.profile)) else 0


def cmd_refresh(arguments):
    """Run the quick profile and write its outputs, cleaned of what differs from run to run, into
    notebooks/; and the results of the committed records into the README.
    """
    from trpts_lab.book.chapters import copy_state, find_chapters, read_notebook
    from trpts_lab.book.launch import repository, with_set_up
    from trpts_lab.book.readme import refresh_readme
    from trpts_lab.book.runner import run_chapters, say
    from trpts_lab.book.staging import for_git, put
    from trpts_lab.profiles import load_profile

    project = Project.find()
    with project.lock():
        failures = run_chapters(project, "quick")
        quick = load_profile(project, "quick")
        runs = project.runs("quick")
        url = repository(project)
        # read afresh: a cell may have been edited while it ran
        for chapter in find_chapters(project):
            if copy_state(chapter, chapter.settings(quick), runs) == "current":
                put(
                    with_set_up(for_git(read_notebook(runs / chapter.path.name)), url), chapter.path
                )
                say(f"{chapter.name}: stored outputs are current")
            elif chapter.name not in failures:
                failures[chapter.name] = "changed while it ran"
                say(f"{chapter.name}: changed while it ran, left as it is: run the command again")
    for path in refresh_readme(project):
        say(f"{path.relative_to(project.root)}: written anew")
    return 1 if failures else 0


def cmd_regress(arguments):
    """Rerun canaries and quick chapters, compare their metrics with the baselines; 1 on drift."""
    from trpts_lab.book.regression import bless, regress

    project = Project.find()
    with project.lock():
        if arguments.bless:
            bless(project, arguments.only)
            return 0
        return 1 if regress(project, arguments.only) else 0


def cmd_bench(arguments):
    """Time a bench's methods in turn; print ratios, spread, bars; write data/bench/<what>.json."""
    from trpts.device import pick_device
    from trpts_lab.bench.benches import bench_named, lines
    from trpts_lab.bench.files import write_bench
    from trpts_lab.files import make_folder
    from trpts_lab.provenance import provenance

    if arguments.batch_size is not None and arguments.what == "chapters":
        raise TrptsError("--batch-size says nothing to the bench chapters: their profile has it")
    project, device = Project.find(), pick_device()
    make_folder(project.root / "data" / "bench")  # before the time is spent
    for name in bench_names if arguments.what == "all" else [arguments.what]:
        with cli_sweep.dask_imported():
            bench = bench_named(name)
        usual = bench.batch_size
        batch_size = usual if arguments.batch_size is None else arguments.batch_size
        rows = bench.run(batch_size=batch_size, rounds=arguments.rounds, device=device)
        text = list(lines(name, rows, bars=device == "cpu" and batch_size == usual))
        print("\n".join([name, *(f"  {line}" for line in text)]), flush=True)
        record = {
            "bench": name,
            "batch_size": batch_size,
            "device": device,
            "rows": rows,
            "summary": text,
        }
        record |= provenance(project.root)
        if batch_size == usual:  # what pages and claims read; another size is only shown
            write_bench(project, name, device, record)
    return 0
