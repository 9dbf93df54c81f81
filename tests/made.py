"""Records made up for tests, and the import graph of the package."""

import ast
import copy
import subprocess
import sys
from pathlib import Path

from trpts_lab.project import Project

# what experiments need to find weights and data: see `trpts_lab.measured.placed`
PLACED = {"project": Project.find()}
CONFIG = {
    "task": "t",
    "method": "m",
    "variant": "v",
    "seed": 0,
    "profile": "quick",
    "device": "cpu",
}
PROVENANCE = {
    "commit": "a" * 40,
    "dirty": False,
    "versions": {"python": "3", "torch": "2", "timm": "1"},
    "machine": {"system": "s", "processor": "p", "cores": 2, "device": "cpu"},
}
RECORD = {
    "config": {"kind": "toy", **CONFIG},
    "metrics": {"accuracy": 0.5, "shares": [0.25, 0.75], "kinds": {"a": 1}, "n_things": 3},
    "inputs": {"data": "1" * 16, "weights": None},
    "time_s": 1.5,
    "peak_memory_bytes": 100,
    "version": {"experiment toy": 1},
    "provenance": PROVENANCE,
}


def changed(**parts):
    """RECORD with other parts: config__seed=1 is of the seed in its config."""
    record = copy.deepcopy(RECORD)
    for path, value in parts.items():
        *outer, last = path.split("__")
        target = record
        for key in outer:
            target = target[key]
        target[last] = value
    return record


def loaded_by(module):
    """The package's modules that Python loads when it imports `module` in a new process."""
    program = (
        f"import sys, {module}; print(*(name for name in sys.modules if name.startswith('trpts')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def imports_of(package):
    """{module: names that it imports} of every module of a package's folder, imports inside
    functions included.
    """
    found, package = {}, Path(package)
    for path in sorted(package.rglob("*.py")):
        name = ".".join(
            [package.name, *path.relative_to(package).with_suffix("").parts]
        ).removesuffix(".__init__")
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[name] = names
    return found


def ticks(axis):
    """The labels along an axis."""
    return [text.get_text() for text in axis.get_ticklabels()]


def cells(markdown):
    """The rows of a table in Markdown, without the line below its head."""
    rows = [line for line in markdown.data.splitlines() if line.startswith("|")]
    return [[word.strip() for word in row.strip("|").split("|")] for row in rows[:1] + rows[2:]]
