"""The ledger as a whole: all rows recomputed, and held against what was committed.

`data/ledger.json` holds the verdicts as they stand in the book, and the hash of every file in
data/results/. A verdict that no longer follows, an edited number, a file that is gone and records
that are not packed turn the check red.
"""

import json
import tomllib
from functools import cache
from importlib import resources

from trpts.errors import TrptsError
from trpts.hashes import file_hash
from trpts.texts import capped, read_json, unfit
from trpts_lab.claims import beyond, costs, deploying, pruning, quoted, selecting  # noqa: F401  register their checks
from trpts_lab.claims.evidence import CHECKS, MISSING, VERDICTS, Evidence, NotMeasured
from trpts_lab.files import write_whole

COMMITTED = {  # what data/ledger.json must hold
    "type": "object",
    "required": ["verdicts", "results"],
    "properties": {"verdicts": {"type": "object"}, "results": {"type": "object"}},
}


@cache
def statements():
    """{id: {"claim", "paper", "source"[, "halves"]}} of claims.toml."""
    return tomllib.loads(
        resources.files("trpts_lab.claims").joinpath("claims.toml").read_text(encoding="utf-8")
    )


def ledger(project):
    """[{"id", "claim", "paper", "source", "halves"}] of all claims, now.

    halves  [{"claim", "verdict", "words", "rests_on"}]: of a claim that joins several, one for each
            of them; of any other, the claim itself
    """
    evidence = Evidence(project)
    return [
        {"id": name, **statement, "halves": halves(name, statement, evidence)}
        for name, statement in statements().items()
    ]


def halves(name, statement, evidence):
    """The verdicts on a claim; see `ledger`."""
    found = []
    for claim, check in zip(
        statement.get("halves", [statement["claim"]]), CHECKS[name], strict=True
    ):
        try:
            verdict, words, rests_on = check(evidence)
        except NotMeasured as error:
            verdict, words, rests_on = MISSING, f"needs {error}", "nothing"
        if verdict not in VERDICTS:
            raise TrptsError(f"{name}: the verdict {verdict!r} is none of {', '.join(VERDICTS)}")
        found.append({"claim": claim, "verdict": verdict, "words": words, "rests_on": rests_on})
    return found


def verdicts(rows):
    """[{"id", "claim", "verdict", "words", "rests_on"}]: a row for each verdict of the ledger."""
    return [{"id": row["id"], **half} for row in rows for half in row["halves"]]


def result_hashes(project):
    """{file name: hash} of the files in data/results/."""
    paths = [*project.committed.glob("*.jsonl"), *project.committed.glob("*.json")]
    return {path.name: file_hash(path) for path in sorted(paths)}


def write_ledger(project):
    """Commit to today's verdicts and records, packed; the rows."""
    project.store("full").pack()
    rows = ledger(project)
    content = {
        "verdicts": {row["id"]: committed_as(row) for row in rows},
        "results": result_hashes(project),
    }
    write_whole(path_of(project), json.dumps(content, indent=1) + "\n")
    return rows


def check_ledger(project, rows):
    """What no longer holds, a sentence each; [] if all is as committed."""
    try:
        committed = read_json(path_of(project))
        if fault := unfit(committed, COMMITTED):
            raise ValueError(f"in {fault[0]}, {capped(fault[1])}")
        before, results = committed["verdicts"], committed["results"]
    except (OSError, ValueError) as error:
        raise TrptsError(
            f"{path_of(project)}: not a readable ledger ({error}): `trpts claims --write` makes it"
        ) from error
    found, now = [], result_hashes(project)
    for row in rows:
        if (old := before.get(row["id"])) != committed_as(row):
            words = "; ".join(half["words"] for half in row["halves"])
            found.append(
                f"{row['id']}: the verdict was {old!r} and is {committed_as(row)!r}: {words}"
            )
    for name in sorted(results.keys() | now.keys()):
        if results.get(name) != now.get(name):
            how = (
                "is gone" if name not in now else "is new" if name not in results else "was changed"
            )
            found.append(
                f"data/results/{name} {how} since the ledger was written: `git diff` shows what"
            )
    if n := len(project.store("full").single_files()):
        found.append(f"{n} records are not packed: `trpts pack`")
    return found


def committed_as(row):
    """A row's verdict, or those of its halves."""
    first, *others = [half["verdict"] for half in row["halves"]]
    return [first, *others] if others else first


def path_of(project):
    return project.root / "data" / "ledger.json"
