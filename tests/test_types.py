"""The library's hints: every public function has them, and mypy finds no contradiction in them."""

import ast
import subprocess
import sys


def mypy(root, *arguments):
    """What mypy says with the settings of pyproject.toml."""
    command = [sys.executable, "-m", "mypy", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_types_agree(project):
    code, said = mypy(project.root)
    assert code == 0, said


def test_a_wrong_type_is_noticed(project, tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text(
        "def half(n: int) -> int:\n    return str(n)\n\n\ndef part(n: int, of):\n    return n\n"
    )
    code, said = mypy(project.root, f"--cache-dir={tmp_path}", str(planted))
    assert code == 1, said
    assert "[return-value]" in said
    assert "[no-untyped-def]" in said


VAGUE = ("dict", "list", "tuple", "object")  # say nothing of what is inside


def is_public(name):
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def without_hints(path):
    """Public functions and methods of a module that lack the hint of a parameter or of what they
    return, and fields of its public classes whose hint is one of VAGUE.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and is_public(n.name)]
    for node in [*tree.body, *(part for found in classes for part in found.body)]:
        if isinstance(node, ast.FunctionDef) and is_public(node.name):
            a = node.args
            given = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
            bare = [p.arg for p in given if p and p.annotation is None]
            missing = [name for name in bare if name not in ("self", "cls")]
            missing += ["return"] if node.returns is None else []
            if missing:
                yield f"{path.name}:{node.lineno} {node.name}: {', '.join(missing)}"
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) in VAGUE:
            yield f"{path.name}:{node.lineno} {ast.unparse(node.target)}: of what?"


def test_every_public_function_has_hints(project, tmp_path):
    modules = sorted((project.root / "trpts").rglob("*.py"))
    assert len(modules) > 40
    assert [found for path in modules for found in without_hints(path)] == []
    planted = tmp_path / "planted.py"
    planted.write_text(
        "class A:\n    parts: dict = {}\n\n    def f(self, x, *rest: int, y: int) -> int: ...\n"
        "def _own(x): ...\ndef g(x: int): ...\n"
    )
    assert [found.split(" ", 1)[1].split(":")[0] for found in without_hints(planted)] == [
        "g",
        "parts",
        "f",
    ]
