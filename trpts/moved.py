"""Old paths: an import of one says where it went. CHANGELOG.md lists every name."""

import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "trpts.rivals": "trpts.scores",
    "trpts.lab": "trpts_lab",
    "trpts.press": "trpts_lab.book",
    "trpts.lvlm": "trpts_lab.lvlm",
    "trpts.paper": "trpts_lab.paper",
    "trpts.cli_sweep": "trpts_lab.cli_sweep",
    "trpts.cli_claims": "trpts_lab.cli_claims",
    "trpts.cli_editions": "trpts_lab.cli_editions",
    "trpts.cli_data": "trpts_lab.cli_data",
    "trpts.data.twins": "trpts_lab.twins",
    "trpts.data.canvas": "trpts_lab.canvas",
    "trpts.data.formula": "trpts_lab.weights.formula",
    "trpts.data.real": "trpts_lab.real.tasks",
    "trpts.data.manifest": "trpts_lab.real.manifest",
    "trpts.data.rebuild": "trpts_lab.real.rebuild",
    "trpts.data.packaged": "trpts_lab.real.packaged",
    "trpts.data.pictures": "trpts_lab.real.pictures",
}


class Moved:
    """An import hook that is asked last, for names that nobody else finds."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """None for a name that never was here; raises ImportError for one that moved."""
        if name in MOVED:
            laboratory = "; the laboratory: run pip install ./trpts_lab in a checkout"
            where = laboratory if MOVED[name].startswith("trpts_lab") else ""
            raise ImportError(f"{name} is now {MOVED[name]}{where}")


def tell_what_moved() -> None:
    """Add the hook, once."""
    if Moved not in sys.meta_path:
        sys.meta_path.append(Moved)
