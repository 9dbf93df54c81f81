"""Numbers and statements quoted from the papers and the briefs, each with its source. No logic.

The full text of TR-PTS was not reachable when this was written. "paper" holds what public text says of it, and
"source" where that was read: the abstract (arXiv 2507.22872) or a public note (papernotes.org, ICCV 2025, a detailed
second-hand summary). "brief" is the summary that started this project; it is not the paper, and the two differ.
"""

FIM_IN_BLOCKS = {
    "paper": "the critical blocks differ by task: Flowers-102 blocks 8 and 10, Sun397 block 0, Camelyon all alike",
    "source": "public note",
    "brief": "fine-grained tasks put parameters in late layers, structured tasks use early ones too",
}
TRAINABLE_SHARE = {
    "paper": "0.34 % of the parameters are trained on VTAB-1k, 0.60 % on FGVC",
    "source": "public note",
    "brief": "0.34 % on VTAB-1k, 0.60 % on FGVC",
}
FIM_FORMULA = {
    "paper": "F(θ) ≈ E[(∂L_CE/∂θ)²]; squares of samples or of batch means: not said",
    "source": "public note",
    "brief": "the same formula, over a small sample of the task's data",
}
