"""The command line: images (tune, predict, export), questions (prune), and what packages add."""

import importlib.metadata
import io
import signal
import sys
from collections.abc import Sequence

from trpts import __version__, cli_images, cli_prune
from trpts.errors import TrptsError
from trpts.options import Parser

# entry points of packages that add commands: functions as `cli_images.add_commands`
COMMANDS = "trpts.commands"
LABORATORY = (
    "the commands that run the chapters, build the book and make records come with the "
    "laboratory, which is not installed: run pip install ./trpts_lab in a checkout"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 1 for drift or failures, 2 for errors users can mend."""
    argv = sys.argv[1:] if argv is None else argv
    top, names, missing = parser()
    if argv and not argv[0].startswith("-") and argv[0] not in names:
        return _say(f"{argv[0]!r} is no command: expected one of {', '.join(names)}" + missing)
    try:
        arguments = top.parse_args(argv)
    except TrptsError as error:
        return _say(error)
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return arguments.command(arguments)
    except TrptsError as error:
        return _say(error, error)
    except OSError as error:
        # a disk that fills up or a folder that closes while third-party code writes
        return _say(
            f"{error.filename}: {error.strerror}; mend it and run again"
            if error.filename
            else error,
            error,
        )
    except ValueError as error:
        if not arguments.command.__module__.startswith("trpts."):
            raise  # of another package's commands, a ValueError is a fault of theirs
        return _say(error, error)
    except KeyboardInterrupt as error:
        kept = "; what was finished is kept, the same command goes on from there"
        _say("interrupted" + kept * arguments.keeps, error)
        return 130


def _say(text, error=None):
    """Print one sentence, and what the error's notes say of work that is kept; the exit status."""
    print("; ".join(["trpts: " + str(text), *getattr(error, "__notes__", ())]), file=sys.stderr)
    return 2


def _interrupt(signum, frame):
    raise KeyboardInterrupt


def parser() -> tuple[Parser, dict[str, Parser], str]:
    """(the parser, {command: its parser}, which commands are not there, as words to append)."""
    top = Parser(prog="trpts", description="TR-PTS and TransPrune, reproduced.")
    top.add_argument("--version", action="version", version=f"trpts {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, summary, keeps=False):
        """A subparser; `keeps`: an interruption keeps finished work (`tune` says so itself)."""
        sub = commands.add_parser(name, help=summary, description=function.__doc__)
        sub.set_defaults(command=function, keeps=keeps)
        return sub

    cli_images.add_commands(command)
    cli_prune.add_commands(command)
    missing = f"; {LABORATORY}"
    for found in importlib.metadata.entry_points(group=COMMANDS):
        try:
            found.load()(command)
            missing = ""
        except ImportError as error:
            missing = f"; those of {found.value.partition('.')[0]} cannot be loaded: {error}"
    return top, commands.choices, missing


if __name__ == "__main__":
    sys.exit(main())
