"""The versions that a record rests on. Raise one when results change: the records made before it are then stale.

An experiment's version is the `VERSION` in its module. A method, a score or a pruning criterion has one of its own, so
that a change to LoRA makes no record of TR-PTS stale: enter it below. The canaries (`trpts.lab.canaries`) go red where
a version ought to be raised.

Nothing here imports torch, so that `trpts status` answers at once.
"""

import ast
from functools import cache
from pathlib import Path

from trpts.lab.errors import TrptsError

EXPERIMENTS = Path(__file__).parent / "experiments"
# {method, score or pruning criterion: its version}; what is not listed has version 1. Say in CHANGELOG.md why it rose.
RAISED: dict[str, int] = {}


def version_of(config: dict) -> dict[str, int]:
    """Today's versions of all that a record with this configuration rests on: {experiment or family: version}.

    raises  TrptsError: there is no such experiment
    """
    kind = config["kind"]
    return {kind: experiment_version(kind)} | {family: RAISED.get(family, 1) for family in families_of(config)}


def families_of(config: dict) -> list[str]:
    """The method of a run, and the score that it selects connections by; of a pruned model the criterion."""
    if config.get("schedule"):
        return [config["schedule"]["score"]]
    score = config.get("options", {}).get("score")
    return [config["method"]] + ([score] if isinstance(score, str) else [])


@cache
def experiment_version(kind: str) -> int:
    """The VERSION in an experiment's module, read without importing it."""
    path = EXPERIMENTS / f"{kind}.py"
    if not path.is_file():
        raise TrptsError(f"there is no experiment {kind!r} in this version of trpts")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == ["VERSION"]:
            return ast.literal_eval(node.value)
    raise TrptsError(f"{path}: no line VERSION = 1: every experiment has a version")
