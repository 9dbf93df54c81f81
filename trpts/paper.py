"""Numbers and statements quoted from the papers, each with its source. No logic.

The full text of TR-PTS was not reachable when this was written; what is quoted is marked by where it was read:
"abstract" (arXiv 2507.22872), "public note" (papernotes.org, ICCV 2025, a detailed second-hand summary of the paper)
or "brief" (the summary that started this project). A brief is not the paper.
"""

FIM_IN_BLOCKS = {
    "statement": "critical blocks differ by task: Flowers-102 blocks 8 and 10, Sun397 block 0, Camelyon all alike",
    "source": "public note",
}
TRAINABLE_SHARE = {
    "statement": "0.34 % of the parameters are trained on VTAB-1k, 0.60 % on FGVC",
    "source": "public note",
}
FIM_FORMULA = {
    "statement": "F(θ) ≈ E[(∂L_CE/∂θ)²]; per-sample or per-batch squares: not said",
    "source": "public note",
}
