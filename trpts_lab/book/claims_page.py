"""The ledger of claims as a page of the book, generated so that no verdict is typed by hand."""

from collections import Counter

import pandas as pd

from trpts_lab.claims.evidence import VERDICTS
from trpts_lab.claims.ledger import ledger, verdicts

MEANING = {
    "reproduced": "follows at the papers' own size, by arithmetic, a clock or a test",
    "holds in the lab": "so measured on small models and drawn tasks, "
    "beyond the spread of its runs",
    "does not hold in the lab": "the opposite was measured there, beyond the spread of its runs",
    "confirmed by the source": "the paper's public text says the same; whether it is so was not "
    "measured",
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
    counts = Counter((row["verdict"], row["id"][0]) for row in verdicts(rows))
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
text says; and what follows from the records of this book. A statement that joins several has a
verdict for each of them. Every verdict and number on this page is computed when the page is built;
`trpts claims` does the same at the command line, and fails when a committed verdict no longer
follows. A second reader looked each quotation up: `data/quotations.toml`.

{table.to_markdown(index=False)}
"""
    ]
    for letter, paper in PAPERS.items():
        parts.append(f"\n## {paper}\n")
        parts += [_entry(row) for row in rows if row["id"].startswith(letter)]
    return "\n".join(parts)


def _entry(row):
    public = f"- *Public text*: {_plain(row['paper'])} ({row['source']}).\n"
    if len(row["halves"]) == 1:
        (half,) = row["halves"]
        title = f"**{row['id']}: {half['verdict']}.** {_plain(row['claim'])}\n\n"
        return f"{title}{public}- *Here*: {_reason(half)}"
    title = f"**{row['id']}.** {_plain(row['claim'])}\n\n"
    return f"{title}{public}" + "".join(
        f"- *{_plain(half['claim'])}*: **{half['verdict']}.** {_reason(half)}"
        for half in row["halves"]
    )


def _reason(half):
    return f"{_plain(half['words'])}. Rests on: {half['rests_on']}.\n"


def _plain(text):
    """Text in which Markdown sees no formatting but code, and no HTML."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("$", "\\$").replace("<", "\\<")
