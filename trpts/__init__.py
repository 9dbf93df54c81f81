"""TR-PTS and TransPrune, reproduced: task-relevant parameter and token selection.

The names below are loaded when they are first used, so that `import trpts` costs nothing. Import it
before torch: see `trpts.threads`.
"""

import importlib
from typing import Any

from trpts.moved import tell_what_moved
from trpts.threads import spin_shortly

spin_shortly()  # before torch is loaded
tell_what_moved()

__version__ = "0.1.0"

HOMES = {
    "allocate": "trpts.allocation",
    "attach": "trpts.sparse",
    "detach": "trpts.sparse",
    "create_backbone": "trpts.backbones",
    "load_delta": "trpts.delta",
    "save_adapter": "trpts.adapter",
    "save_delta": "trpts.delta",
    "unload_delta": "trpts.delta",
    "fisher_scores": "trpts.fisher",
    "load_task": "trpts.data.load",
    "probe_head": "trpts.probe",
    "token_selection": "trpts.tokens",
    "tune": "trpts.tuning",
}
__all__ = [*HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(importlib.import_module(HOMES[name]), name)
    raise AttributeError(
        f"module 'trpts' has no attribute {name!r}; it offers {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return sorted(__all__)
