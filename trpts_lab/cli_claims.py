"""`trpts claims` and `trpts compare`: what follows from records, and how two sets differ."""

import json

from trpts.options import Different, filled
from trpts_lab.project import Project


def add_commands(command):
    sub = command(
        "claims",
        cmd_claims,
        "recompute every verdict on the papers' claims; 1 if one no longer follows",
    )
    sub.add_argument(
        "--only", nargs="+", action=Different, metavar="ID", help="such as T05 P07; default: all"
    )
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub.add_argument(
        "--write", action="store_true", help="commit to the verdicts and records as they are now"
    )
    sub = command(
        "compare",
        cmd_compare,
        "two sets of records side by side: folders, or git revisions of this checkout",
    )
    sub.add_argument(
        "first", type=filled, metavar="A", help="a folder of records, or a git revision"
    )
    sub.add_argument("second", type=filled, metavar="B")
    sub.add_argument("--metric", default="test_accuracy", help="default: test_accuracy")


def cmd_claims(arguments):
    """Print the ledger, and what of it is not as committed."""
    from trpts.errors import TrptsError
    from trpts_lab.claims.ledger import check_ledger, ledger, statements, verdicts, write_ledger

    unknown = [name for name in arguments.only or () if name not in statements()]
    if unknown:
        raise TrptsError(
            f"claim {unknown[0]!r} is unknown: expected some of {', '.join(statements())}"
        )
    project = Project.find()
    rows = write_ledger(project) if arguments.write else ledger(project)
    shown = [row for row in rows if not arguments.only or row["id"] in arguments.only]
    if arguments.json:
        print(json.dumps(shown, indent=1, ensure_ascii=False))
    else:
        for row in verdicts(shown):
            print(
                f"{row['id']}  {row['verdict']}: {row['claim']}\n     {row['words']} "
                f"[{row['rests_on']}]"
            )
    red = [] if arguments.write else check_ledger(project, rows)
    for sentence in red:
        print(f"RED  {sentence}")
    return 1 if red else 0


def cmd_compare(arguments):
    """Print means and differences by kind and variant, and what differs beside the numbers."""
    from trpts.errors import TrptsError
    from trpts_lab.compare import records_at, side_by_side

    project = Project.find()
    both = (records_at(project, place) for place in (arguments.first, arguments.second))
    table, facts = side_by_side(*both, arguments.metric)
    if table.empty:
        raise TrptsError(
            f"no run is in both with a metric {arguments.metric!r}: "
            "expected two sets of the same runs"
        )
    print(table.to_string(index=False, float_format="{:.4f}".format))
    print("\n".join(facts))
    return 0
