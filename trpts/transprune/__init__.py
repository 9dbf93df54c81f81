"""TransPrune: training-free pruning of a vision-language model's image tokens, inside its language
model.

Names are loaded when they are first used: scores and schedules need no transformers.
"""

import importlib
from typing import Any

PRESETS = ["PAPER", "HIGH", "RELEASED_CODE", "LOW_INFERRED", "PYRAMIDDROP", "FASTV"]
PRESETS += ["DIVPRUNE", "CDPRUNER", "VISIONZIP", "SPARSEVLM"]
HOMES = {
    "transition_variation": "trpts.transition",
    "guided_attention": "trpts.transprune.scores",
    "weighted": "trpts.transprune.scores",
    "Schedule": "trpts.transprune.schedule",
    **dict.fromkeys(PRESETS, "trpts.transprune.schedule"),
    "Candidates": "trpts.transprune.criteria",
    "pruning": "trpts.transprune.plugin",
    "Trace": "trpts.transprune.trace",
    # not a module `macs`: importing it would put the module in the function's place
    "macs": "trpts.transprune.costs",
}
__all__ = [*HOMES]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(importlib.import_module(HOMES[name]), name)
    raise AttributeError(
        f"module 'trpts.transprune' has no attribute {name!r}; it offers {', '.join(__all__)}"
    )
