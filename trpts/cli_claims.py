"""`trpts claims`: the ledger of the papers' claims, recomputed from records, and held against what was committed."""

import json

from trpts.lab.project import Project


def add_commands(command):
    sub = command("claims", cmd_claims, "recompute every verdict on the papers' claims; 1 if one no longer follows")
    sub.add_argument("--only", nargs="+", metavar="ID", help="such as T05 P07; default: all")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub.add_argument("--write", action="store_true", help="commit to the verdicts and records as they are now")


def cmd_claims(arguments):
    """Print the ledger, and what of it is not as committed."""
    from trpts.lab.claims.ledger import check_ledger, ledger, statements, write_ledger
    from trpts.lab.errors import TrptsError

    unknown = [name for name in arguments.only or () if name not in statements()]
    if unknown:
        raise TrptsError(f"claim {unknown[0]!r} is unknown: expected some of {', '.join(statements())}")
    project = Project.find()
    rows = write_ledger(project) if arguments.write else ledger(project)
    shown = [row for row in rows if not arguments.only or row["id"] in arguments.only]
    if arguments.json:
        print(json.dumps(shown, indent=1, ensure_ascii=False))
    else:
        for row in shown:
            print(f"{row['id']}  {row['verdict']}: {row['claim']}\n     {row['words']} [{row['rests_on']}]")
    red = [] if arguments.write else check_ledger(project, rows)
    for sentence in red:
        print(f"RED  {sentence}")
    return 1 if red else 0
