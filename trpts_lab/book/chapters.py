"""A chapter: its notebook, its parameters, and everything that its output depends on."""

import ast
import json
from functools import cached_property
from pathlib import Path

import nbformat

from trpts.errors import TrptsError
from trpts.hashes import file_hash, short_hash
from trpts.texts import read_text
from trpts_lab.book.launch import SET_UP
from trpts_lab.book.parameters import fitted
from trpts_lab.provenance import code_hash, versions

EXPERIMENTS, BENCHES, CLAIMS = "trpts_lab.experiments", "trpts_lab.bench.files", "trpts_lab.claims"
GATE = "trpts_lab.gate"
CONCENTRATION = "concentration"  # an experiment that the profile real has records of as well
PAGES = "trpts_lab.book.pages"
PACKAGES = ("trpts", "trpts_lab")


class Chapter:
    """One notebook of a project."""

    def __init__(self, project, path):
        self.project, self.path, self.name = project, Path(path), Path(path).stem

    @cached_property
    def nb(self):
        return read_notebook(self.path)

    @property
    def parameters(self):
        """{name: default} of the cell tagged `parameters`."""
        try:
            lines = [n for n in ast.parse(self._defaults).body if isinstance(n, ast.Assign)]
            return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
        except (ValueError, SyntaxError, AttributeError) as error:
            raise TrptsError(
                f"{self.path}: a parameter's default is no plain value: {error}"
            ) from error

    @property
    def _defaults(self):
        """The source of the cell tagged `parameters`."""
        tagged = (c.source for c in self.nb.cells if "parameters" in c.metadata.get("tags", []))
        return next(tagged, "")

    def settings(self, profile, overrides=None):
        """The run's parameters: the profile's, then `overrides`.

        raises  TrptsError: unknown or unset ones; a value of another kind than the default. None is
                one where the profile has it, or the default's line in the notebook speaks of None
        """
        known = self.parameters
        chosen = profile["chapters"].get(self.name)
        if chosen is None:
            raise TrptsError(f"profile {profile['profile']!r} has no entry for chapter {self.name}")
        if "profile" in (overrides or {}):
            raise TrptsError(
                "the parameter profile is set by --profile alone: it decides where records go"
            )
        wanted = {"profile": profile["profile"], **chosen, **(overrides or {})}
        unknown, unset = sorted(wanted.keys() - known.keys()), sorted(known.keys() - wanted.keys())
        if unknown:
            raise TrptsError(
                f"{self.name} has no parameter {', '.join(unknown)}: it knows "
                f"{', '.join(sorted(known))}"
            )
        if unset:
            raise TrptsError(
                f"profile {profile['profile']!r} leaves {', '.join(unset)} of chapter {self.name} "
                "open"
            )
        lines = self._defaults.splitlines()
        for name, value in wanted.items():
            says_none = any("None" in line for line in lines if line.startswith(f"{name} "))
            may_be_none = says_none or (name in chosen and chosen[name] is None)
            try:
                wanted[name] = fitted(value, known[name], may_be_none)
            except ValueError as error:
                raise TrptsError(f"the parameter {name} of {self.name}: {error}") from error
        return wanted

    @cached_property
    def imports(self):
        """Names of this package's modules that the code cells import."""
        names = set()
        for number, cell in enumerate(self.nb.cells, 1):
            if cell.cell_type == "code":
                # IPython magics are left out
                lines = (
                    "" if line.startswith(("%", "!")) else line for line in cell.source.splitlines()
                )
                try:
                    tree = ast.parse("\n".join(lines))
                except SyntaxError as error:
                    raise TrptsError(
                        f"{self.path}: cell {number} is not Python: {error}"
                    ) from error
                for node in ast.walk(tree):
                    names |= _imported(node)
        return sorted(name for name in names if name.split(".")[0] in PACKAGES)

    def key(self, settings):
        """What the output depends on, part by part: with equal keys nothing needs to run again."""
        return {
            "source": self.source_hash(),
            "code": code_hash(),
            "parameters": short_hash(json.dumps(settings, sort_keys=True)),
            "data": self._data_hash(settings),
            "versions": short_hash(json.dumps(versions())),
        }

    def source_hash(self):
        """Hash of the cells as written: text, type and tags; no outputs and no set-up cell."""
        cells = [
            [c.cell_type, c.source, c.metadata.get("tags", []), c.metadata.get("mystnb", {})]
            for c in self.nb.cells
            if SET_UP not in c.metadata.get("tags", [])
        ]
        return short_hash(json.dumps(cells, sort_keys=True))

    def _data_hash(self, settings):
        """Hash of the files that the chapter reads: the weights it is given, committed records of
        its kinds, benches.

        A chapter that asks the ledger of claims reads all of them.
        """
        claims = any(name.startswith(CLAIMS) for name in self.imports)
        kinds = [
            name.rsplit(".", 1)[-1] for name in self.imports if name.startswith(EXPERIMENTS + ".")
        ]
        store, files = self.project.store("full"), []
        records = [f"{kind} {store.digest(kind)}" for kind in (["*"] if claims else kinds)]
        if CONCENTRATION in kinds:  # which of the real backbone stands beside the laboratory's
            records.append(f"real {self.project.store('real').digest(CONCENTRATION)}")
        if GATE in self.imports:
            records.append(f"real {self.project.store('real').digest('tuned')}")
            files.append(self.project.root / "profiles" / "real.yaml")
        if claims or BENCHES in self.imports:
            files += sorted((self.project.root / "data" / "bench").glob("*.json"))
        if claims:  # the sentences that it shows are data too
            files += sorted((Path(__file__).parent.parent / "claims").glob("*.toml"))
        if PAGES in self.imports:
            files.append(self.project.root / "profiles" / "full.yaml")  # which runs are shown
        if settings.get("weights"):
            files.append(self.project.root / settings["weights"])
        return short_hash(
            "\n".join([*records, *(f"{p.name} {file_hash(p)}" for p in files if p.is_file())])
        )


def _imported(node):
    """Names that an import statement may load: `from a import b` may mean the module a.b."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {
            name for alias in node.names for name in (node.module, f"{node.module}.{alias.name}")
        }
    return set()


def read_notebook(path):
    try:
        return nbformat.reads(read_text(path), as_version=4)
    except FileNotFoundError:
        raise TrptsError(f"{path} does not exist") from None
    except (
        Exception
    ) as error:  # nbformat raises many kinds: not JSON, not a notebook, a version it does not know
        raise TrptsError(f"{path}: not a readable notebook: {error}") from error


def find_chapters(project, only=None):
    """The project's chapters in order; `only` picks one by number ("01") or name ("01_fim")."""
    every = [
        Chapter(project, path) for path in sorted(project.notebooks.glob("[0-9][0-9]_*.ipynb"))
    ]
    if only is None:
        return every
    found = [c for c in every if c.name == only or c.name.split("_")[0] == only]
    if not found:
        raise TrptsError(
            f"chapter {only!r} does not exist: there are {', '.join(c.name for c in every)}"
        )
    return found


def copy_state(chapter, settings, folder):
    """State of an executed copy: "current", "other code", "other profile or data", "other
    versions", "failed" or "not run".
    """
    path = folder / chapter.path.name
    if (folder / "failed" / chapter.path.name).is_file():
        return "failed"
    if not path.is_file():
        return "not run"
    return key_state(key_in(read_notebook(path)), chapter.key(settings))


def key_in(nb):
    """The key that a copy was made with; {}: it was not made so."""
    made = nb.metadata.get("trpts")
    key = made.get("key") if isinstance(made, dict) else None
    return key if isinstance(key, dict) else {}


def key_state(found, wanted):
    """Compare two keys of `Chapter.key`, the telling difference first."""
    for parts, state in (
        (("source", "code"), "other code"),
        (("parameters", "data"), "other profile or data"),
        (("versions",), "other versions"),
    ):
        if any(found.get(part) != wanted[part] for part in parts):
            return state
    return "current"
