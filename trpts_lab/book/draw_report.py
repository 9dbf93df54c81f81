"""What chapter 09 shows: the claims of both papers by their verdicts."""

import pandas as pd
from IPython.display import Markdown

from trpts_lab.book.draw import from_the_top, legend_above
from trpts_lab.book.figures import show
from trpts_lab.book.tables import markdown_table

PAPERS = {"T": "TR-PTS", "P": "TransPrune"}


def counts_by_verdict(rows, verdicts):
    """How often each verdict was reached on each paper's claims: a row for each that occurs.

    rows  of the ledger's `verdicts`
    """
    found = pd.DataFrame([{"verdict": r["verdict"], "paper": PAPERS[r["id"][0]]} for r in rows])
    return pd.crosstab(found["verdict"], found["paper"]).reindex(verdicts).dropna(how="all")


def scoreboard(counts):
    """How often each verdict was reached, a bar for each paper; see `counts_by_verdict`."""

    def draw(figure):
        axes, y = figure.subplots(), from_the_top(len(counts))
        for nth, name in enumerate(PAPERS.values()):
            look = {"height": 0.38, "color": f"C{nth}", "label": name}
            bars = axes.barh(y + 0.2 - 0.4 * nth, counts[name], **look)
            numbers = [f"{n:.0f}" if n else "" for n in counts[name]]
            axes.bar_label(bars, numbers, padding=2, fontsize=8)
        axes.set_yticks(y, counts.index)
        axes.set(xlabel="verdicts on claims")
        legend_above(figure, ncols=2)

    words = "; ".join(
        f"{verdict}: " + ", ".join(f"{name} {row[name]:.0f}" for name in PAPERS.values())
        for verdict, row in counts.iterrows()
    )
    alt = f"Bars of how often each verdict was reached. {words}."
    show(draw, size=(6.6, 3.6), alt=alt)


def claims_table(rows, verdicts, words="what follows from the records"):
    """The claims with one of these verdicts, and why.

    rows   of the ledger's `verdicts`
    words  what the last column says
    """
    found = [row for row in rows if row["verdict"] in verdicts]
    if not found:
        return Markdown("*None.*")
    table = pd.DataFrame(found)[["id", "claim", "verdict", "words"]]
    table = table.rename(columns={"id": "", "words": words})
    return markdown_table(table.replace({r"\|": r"\\|", r"\*": r"\\*"}, regex=True))
