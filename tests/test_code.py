"""Code hashes cover what a run imports, and nothing else; the package's arrows go one way."""

import ast
import sys

import grimp
import pytest

from trpts.lab import code
from trpts.lab.code import code_hash, modules_behind, without_prose


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package of three modules: a imports b, c stands alone. Returns (write, hash_of)."""
    package = tmp_path / "toy_package"
    package.mkdir()

    def write(**sources):
        for name, source in sources.items():
            (package / f"{name}.py").write_text(source)
        for cached in (code._graph, code._module_hash):
            cached.cache_clear()

    write(__init__="", a="from toy_package import b\n", b="x = 1\n", c="y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "PACKAGE", "toy_package")
    yield write, lambda: code_hash(["toy_package.a"])
    for cached in (code._graph, code._module_hash):
        cached.cache_clear()
    sys.modules.pop("toy_package", None)


def test_hash_covers_the_closure_and_only_that(toy):
    write, hash_of = toy
    before = hash_of()
    assert before["modules"] == ["toy_package", "toy_package.a", "toy_package.b"]
    write(c="y = 2\n")
    assert hash_of() == before
    write(b="x = 2\n")
    assert hash_of()["hash"] != before["hash"]


def test_prose_does_not_count(toy):
    write, hash_of = toy
    before = hash_of()
    write(b='"""What x is."""\n\n# and why\nx = 1  # one\n')
    assert hash_of() == before


def test_a_module_that_is_gone_changes_the_hash(toy):
    _write, _hash_of = toy
    assert code_hash(["toy_package.b"])["hash"] != code_hash(["toy_package.b", "toy_package.gone"])["hash"]
    with pytest.raises(ValueError, match="no module of toy_package"):
        modules_behind(["toy_package.gone"])


def test_a_version_with_the_same_results_ages_nothing(toy, monkeypatch):
    """The entry counts for the version that it names, and for no later one."""
    write, hash_of = toy
    before, was = hash_of(), code.exact_hash("toy_package.b")
    write(b="x = 2 - 1\n")
    assert hash_of()["hash"] != before["hash"]
    entry = {"was": was, "is": code.exact_hash("toy_package.b")}
    monkeypatch.setattr(code, "same_results", lambda: {"toy_package.b": entry})
    code._module_hash.cache_clear()
    assert hash_of() == before
    assert code_hash(["toy_package.a"], exact=True)["hash"] != before["hash"]
    write(b="x = 3 - 1\n")
    assert hash_of()["hash"] != before["hash"]


@pytest.mark.parametrize("name", code.same_results())
def test_same_results_are_those_of_today_and_are_tested(project, name):
    entry = code.same_results()[name]
    assert entry["is"] == code.exact_hash(name), "changed since: show it anew, or delete the entry"
    file, test = entry["test"].split("::")
    assert f"\ndef {test}(" in (project.root / file).read_text(encoding="utf-8")
    assert entry["why"]


def test_without_prose_keeps_strings_and_code():
    source = 'def f():\n    """Doc\n    string."""\n    text = "# not a comment"  # a comment\n\n    return text\n'
    assert without_prose(source) == 'def f():\n    text = "# not a comment"\n    return text'


def test_a_figure_does_not_age_a_measurement():
    behind = modules_behind(["trpts.lab.experiments.fisher_digits"])
    assert "trpts.fisher" in behind
    assert not [name for name in behind if name.startswith("trpts.press")]


def test_arrows_go_one_way():
    """No room imports one further along in this order."""
    order = [f"trpts.{name}" for name in (
        "hashes", "files", "packages", "data", "img_focus", "backbones", "probe", "fisher", "rivals", "allocation",
        "sparse", "transprune", "tokens", "training", "delta", "methods", "tuning", "peers", "own_images", "ask",
        "lvlm", "lab", "press", "cli",
    )]  # fmt: skip
    graph = grimp.build_graph("trpts", cache_dir=None)

    def room(module):
        return next((i for i, name in enumerate(order) if f"{module}.".startswith(f"{name}.")), None)

    upward = [
        f"{module} imports {other}"
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
        if room(module) is not None and room(other) is not None and room(other) > room(module)
    ]
    assert not upward


def forgotten(path):
    """Strings that stand as a statement and are no docstring: a part of a sentence that a bracket should have held."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {node.body[0] for node in ast.walk(tree)
             if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and node not in prose:
            value = node.value
            if isinstance(value, ast.JoinedStr) or (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                yield f"{path.name}:{node.lineno}"


def test_no_half_of_a_sentence_is_forgotten(project, tmp_path):
    assert [found for path in (project.root / "trpts").rglob("*.py") for found in forgotten(path)] == []
    planted = tmp_path / "planted.py"
    planted.write_text('"""Doc."""\nx = 1\nwords = f"{x} of"\nf"{x} more"\n')
    assert list(forgotten(planted)) == ["planted.py:4"]
