"""The command for the real tasks: `trpts data list | make NAME --from CHECKOUT | check NAME`."""

import textwrap
from pathlib import Path

from trpts.errors import TrptsError
from trpts.options import filled


def add_commands(command):
    """Add it to the command line; `command` makes a subparser of (name, function, summary)."""
    data = command(
        "data", cmd_data, "list the real tasks, or make one from a checkout of its repository"
    )
    data.add_argument("what", choices=["list", "make", "check"])
    data.add_argument(
        "name", nargs="?", metavar="NAME", help="of the task to make or check, say nlvr_count"
    )
    data.add_argument(
        "--from",
        dest="checkout",
        type=filled,
        metavar="CHECKOUT",
        help="a clone of the task's repository",
    )
    data.add_argument(
        "--root", type=filled, metavar="FOLDER", help="holds real/ (default: data/paper)"
    )
    data.add_argument(
        "--against",
        type=filled,
        metavar="FOLDER",
        help="a copy of the task: every pixel must be within 2 of 255",
    )


def cmd_data(arguments):
    """List the real tasks, with source, licence and faults; or make one's folder from a checkout of
    its repository, by the committed manifest: every source's hash is checked, and what comes out;
    or hold such a folder against it.
    """
    try:
        return _data(arguments)
    except ValueError as error:
        raise TrptsError(str(error)) from error


def _data(arguments):
    from trpts.data.load import ROOT

    root = Path(arguments.root or ROOT)
    if arguments.what == "list":
        if (arguments.name or arguments.checkout or arguments.against) is not None:
            raise ValueError("expected `trpts data list`, with nothing else but --root FOLDER")
        return _list(root)
    if arguments.what == "check" and arguments.against is not None:
        raise ValueError("--against says nothing to `trpts data check`: expected it with make")
    if arguments.name is None or (arguments.what == "make") != (arguments.checkout is not None):
        raise ValueError(
            "expected `trpts data make NAME --from CHECKOUT` or `trpts data check NAME`"
        )
    from trpts_lab.real.rebuild import check, make

    name = arguments.name.removeprefix("real/")
    making = arguments.what == "make"
    made = make(name, arguments.checkout, root, arguments.against) if making else check(name, root)
    print(
        f"{made.folder}: {made.n_images:,} images, {made.n_identical:,} of them ours byte by byte"
    )
    if made.n_identical < made.n_images:
        print(
            "the others have our sizes and colours: "
            "another version of Pillow compresses them otherwise"
        )
    if made.difference is not None:
        print(
            f"held against {arguments.against}: "
            f"no pixel differs by more than {made.difference} of 255"
        )
    print(f'trpts.load_task("real/{name}", root="{root}")')
    return 0


def _list(root):
    from trpts_lab.real import tasks as real

    for name, source in real.TASKS.items():
        try:
            state = f"in {real.find(root, name)}"
        except (OSError, ValueError) as error:
            state = str(error)
        where = f"github.com/{source.origin}" if source.commit else source.origin
        print(
            f"real/{name}: {source.group}, {source.n_classes} classes; from {where}; "
            f"licence: {source.licence}"
        )
        for text in filter(None, (source.fault and f"note: {source.fault}", state)):
            print(
                textwrap.fill(
                    text,
                    118,
                    initial_indent="    ",
                    subsequent_indent="    ",
                    break_on_hyphens=False,
                )
            )
    return 0
