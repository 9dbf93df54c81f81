"""The versions that a record rests on. Raise one when results change: the records made before it
are then stale.

An experiment's version is the `VERSION` in its module. A method, a score and a pruning criterion
have versions of their own, so that a change to LoRA makes no record of TR-PTS stale: enter them
below. The canaries (`trpts_lab.canaries`), of the same names, go red where a version ought to be
raised.

Nothing here imports torch, so that `trpts status` answers at once.
"""

import ast
from functools import cache
from pathlib import Path

import trpts
from trpts.errors import TrptsError

EXPERIMENTS = Path(__file__).parent / "experiments"
# {"method lora": 2, "score gps": 3, "criterion fastv": 2}; what is not listed has version 1.
# CHANGELOG.md says why.
RAISED: dict[str, int] = {}

# experiments that tune by a method
TUNING = ("tuned", "remedy", "continual", "many_tasks", "drift", "text")


def version_of(config: dict) -> dict[str, int]:
    """Today's versions of all that a record with this configuration rests on: {"experiment tuned":
    1, …}.

    raises  TrptsError: there is no such experiment
    """
    kind = config["kind"]
    found = {f"experiment {kind}": experiment_version(kind)}
    return found | {family: RAISED.get(family, 1) for family in families_of(config)}


def families_of(config: dict) -> list[str]:
    """The method that tunes and the score that selects connections, or the pruning criterion."""
    kind, method, variant = config["kind"], config["method"], config["variant"]
    if kind in ("pruning", "assembled"):
        # None: nothing is pruned
        return [f"criterion {config['schedule']['score']}"] if config["schedule"] else []
    if kind == "subtle":
        return [f"criterion {variant.partition(',')[0]}"]
    if kind == "concentration":
        return [f"score {variant}"]
    if kind == "fisher_digits":
        return ["score fisher", "score fisher_batch"]
    if kind == "selection":
        return ["score fisher"]
    if kind not in TUNING:
        return []
    score = selecting().get(method)
    if kind == "text" and variant.endswith("random"):
        score = "random"
    score = config.get("score") or config.get("options", {}).get("score") or score
    return [f"method {method}"] + ([f"score {score}"] if score else [])


@cache
def selecting() -> dict[str, str]:
    """{method: the score that selects its connections}, as registered, read without importing."""
    library, found = Path(trpts.__file__).parent, {}
    for path in (library / "methods.py", *sorted((library / "peers").glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "method":
                score = [word.value for word in node.keywords if word.arg == "score"]
                found |= {ast.literal_eval(node.args[0]): ast.literal_eval(s) for s in score}
    return found


@cache
def experiment_version(kind: str) -> int:
    """The VERSION in an experiment's module, read without importing it."""
    path = EXPERIMENTS / f"{kind}.py"
    if not path.is_file():
        raise TrptsError(f"there is no experiment {kind!r} in this version of trpts")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == [
            "VERSION"
        ]:
            return ast.literal_eval(node.value)
    raise TrptsError(f"{path}: no line VERSION = 1: every experiment has a version")
