"""Which code made a number: the modules a run depends on, and their hash.

The hash covers the modules that the named ones import, directly or through others, and nothing else, so that a change
to a page's looks does not age a measurement. Comments and docstrings are left out: prose may be mended freely. A
module that was changed and still makes the same results to the last bit can be entered in same_results.toml, with the
test that shows it.
"""

import ast
import importlib.util
import io
import tokenize
import tomllib
from functools import cache
from pathlib import Path

import grimp

from trpts.hashes import short_hash

PACKAGE = "trpts"


@cache
def _graph():
    return grimp.build_graph(PACKAGE, cache_dir=None)


def modules_behind(names):
    """All modules of this package that `names` import, themselves included, sorted.

    A module's parent packages count too: Python runs them on import.
    raises  ValueError: a name that is no module of this package
    """
    graph, found, queue = _graph(), set(), list(names)
    while queue:
        name = queue.pop()
        if name in found:
            continue
        if name not in graph.modules:
            raise ValueError(f"{name!r} is no module of {PACKAGE}")
        found.add(name)
        queue += graph.find_modules_directly_imported_by(name)
        if "." in name:
            queue.append(name.rsplit(".", 1)[0])
    return sorted(found)


def code_hash(names, exact=False):
    """{"modules": [...], "hash": "..."} of everything behind `names`; a module that is gone hashes as missing.

    exact  whether versions with the same results differ: for times they do
    """
    known = [n for n in names if n in _graph().modules]
    gone = [n for n in names if n not in _graph().modules]
    modules, of = modules_behind(known), exact_hash if exact else _module_hash
    lines = [f"{name} {of(name)}" for name in modules] + [f"{name} missing" for name in sorted(gone)]
    return {"modules": modules, "hash": short_hash("\n".join(lines))}


@cache
def same_results():
    """{module: {"is": its hash, "was": that of the version whose results it still makes, "test": what shows it}}."""
    return tomllib.loads((Path(__file__).parent / "same_results.toml").read_text(encoding="utf-8"))


@cache
def _module_hash(name):
    found = exact_hash(name)
    entry = same_results().get(name)
    return entry["was"] if entry and entry["is"] == found else found


def exact_hash(name):
    """The hash of one module's code, and of the schemas beside it."""
    path = Path(importlib.util.find_spec(name).origin)
    data = "".join(p.read_text(encoding="utf-8") for p in sorted(path.parent.glob("*.schema.json")))
    return short_hash(without_prose(path.read_text(encoding="utf-8")) + data)


def without_prose(source):
    """Python source without comments, docstrings and blank lines; the code itself is left as written.

    Positions come from `ast` and `tokenize`, the text from the source, so every Python version agrees on it.
    """
    lines = source.splitlines()
    blank = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        holds_doc = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        constant = first.value if holds_doc and isinstance(first, ast.Expr) else None
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            blank.update(range(first.lineno - 1, first.end_lineno))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = (line.rstrip() for row, line in enumerate(lines) if row not in blank)
    return "\n".join(line for line in kept if line)
