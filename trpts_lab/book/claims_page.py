"""The ledger of claims as a page of the book, generated so that no verdict is typed by hand."""

from collections import Counter

import pandas as pd

from trpts_lab.claims.evidence import VERDICTS
from trpts_lab.claims.ledger import ledger

MEANING = {
    "reproduced": "follows at the papers' own size, by arithmetic, a clock or a test",
    "holds in the lab": "so measured on small models and drawn tasks, "
    "beyond the spread of its runs",
    "does not hold in the lab": "the opposite was measured there, beyond the spread of its runs",
    "contradicted by the source": "the paper's public text says otherwise than the brief",
    "inconsistent in itself": "its own numbers exclude each other",
    "undecided in the lab": "measured, and within the spread of its runs",
    "unconfirmed": "no public text has it, and nothing here can tell",
    "not testable here": "an outlook or advice, or it takes what is not here",
    "not measured yet": "the command that makes the records is named",
}
PAPERS = {"T": "TR-PTS", "P": "TransPrune"}


def claims_page(project):
    """The page `claims`, in Markdown."""
    rows = ledger(project)
    counts = Counter((row["verdict"], row["id"][0]) for row in rows)
    table = pd.DataFrame(
        [
            {"verdict": verdict, "means": MEANING[verdict]}
            | {PAPERS[p]: counts[verdict, p] for p in PAPERS}
            for verdict in VERDICTS
            if any(counts[verdict, p] for p in PAPERS)
        ]
    )
    parts = [
        f"""# Claims

What the project's two briefs claim of the papers, {len(rows)} statements; what the papers' public
text says; and what follows from the records of this book. Every verdict and number on this page is
computed when the page is built; `trpts claims` does the same at the command line, and fails when a
committed verdict no longer follows.

{table.to_markdown(index=False)}
"""
    ]
    for letter, paper in PAPERS.items():
        parts.append(f"\n## {paper}\n")
        parts += [_entry(row) for row in rows if row["id"].startswith(letter)]
    return "\n".join(parts)


def _entry(row):
    return (
        f"**{row['id']}: {row['verdict']}.** {_plain(row['claim'])}\n\n- *Public text*: "
        f"{_plain(row['paper'])} ({row['source']}).\n- *Here*: {_plain(row['words'])}. Rests on: "
        f"{row['rests_on']}.\n"
    )


def _plain(text):
    """Text in which Markdown sees no formatting but code, and no HTML."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("$", "\\$").replace("<", "\\<")
