"""TransPrune: training-free pruning of a vision-language model's image tokens, inside its language
model.

Names are loaded when they are first used: scores and schedules need no transformers.
"""

import importlib

HOMES = {
    "transition_variation": "scores",
    "guided_attention": "scores",
    "combine": "scores",
    "Schedule": "schedule",
    "PAPER": "schedule",
    "HIGH": "schedule",
    "RELEASED_CODE": "schedule",
    "LOW_INFERRED": "schedule",
    "PYRAMIDDROP": "schedule",
    "FASTV": "schedule",
    "Candidates": "criteria",
    "pruning": "plugin",
    "Trace": "plugin",
    # not a module `macs`: importing it would put the module in the function's place
    "macs": "costs",
}
__all__ = [*HOMES]


def __getattr__(name):
    if name in HOMES:
        return getattr(importlib.import_module(f"trpts.transprune.{HOMES[name]}"), name)
    raise AttributeError(
        f"module 'trpts.transprune' has no attribute {name!r}; it offers {', '.join(__all__)}"
    )
