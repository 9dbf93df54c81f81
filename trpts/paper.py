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
LAYER_WEIGHT = {
    "paper": "w_l comes from the top M % of all parameters by score; C_l = max(1, w_l / min(w) · C_min); M not public",
    "source": "public note",
    "brief": "w_l is the mean score of the layer",
}
FIM_SAMPLES = {
    "paper": "the number of samples is not in the public text",
    "source": "public note",
    "brief": "some hundred samples are enough",
}
MASK_OVERLAP = {
    "paper": "the masks of Sun397 and Camelyon overlap by 0.17; how overlap is counted is not said",
    "source": "public note",
    "brief": "tasks select different parameters",
}
SPARSE_BLOCKS = {
    "paper": "layers with sparser parameters tend to encode less informative tokens; there, selection loses least",
    "source": "public note",
    "brief": "token reduction goes to layers with few task-relevant parameters; density and redundancy are correlated",
}
UPDATE = {
    "paper": "Θ ← Θ − η (M ⊙ ∇L), with Adam",
    "source": "public note",
    "brief": "∇θ ← M ⊙ ∇θ; frozen parameters need no stored gradients",
}
VTAB_MEAN = {
    "paper": "VTAB-1k mean 75.92, full fine-tuning 65.57 (ViT-B/16, 100 epochs)",
    "source": "public note",
    "brief": "75.92 against 65.57",
}
TOKEN_RULE = {
    "paper": "CLS attention a_i; keep the top ⌊ρN⌋; merge the rest by Σ a_i x_i / Σ a_i",
    "source": "public note",
    "brief": "the same, from the final layer's attention",
}
TOKEN_SAVINGS = {
    "paper": "lowest FLOPs of the compared methods; the number is not in the public text; its ablation uses ρ = 0.95",
    "source": "public note",
    "brief": "35.3 G, where the untouched model takes 35.13 G",
}
FIM_FORMULA = {
    "paper": "F(θ) ≈ E[(∂L_CE/∂θ)²]; squares of samples or of batch means: not said",
    "source": "public note",
    "brief": "the same formula, over a small sample of the task's data",
}
