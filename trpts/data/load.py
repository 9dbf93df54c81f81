"""One door to every task: by name."""

import difflib
import importlib.metadata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Protocol

from trpts.data import digits, fgvc, folder, vtab
from trpts.data.task import Task

# below the current folder: where the paper profile says to put the real data sets
ROOT = Path("data/paper")
READERS = {"vtab": (vtab, "vtab-1k"), "fgvc": (fgvc, "fgvc")}  # and the folder of root of each
REAL = {
    f"{kind}/{name}": (kind, name)
    for kind, (reader, _) in READERS.items()
    for key, source in reader.TASKS.items()
    for name in (key, *source.aliases)
}
# how tasks that are in memory are normalised; nothing in them is resized
IN_MEMORY = ("normalization", "half")
# entry points of other packages whose tasks are loaded by name, each a Source
SOURCES = "trpts.tasks"
LABORATORY = (
    "drawn tasks (*_twin) and real/<name> come with the laboratory, which is not installed: run "
    "pip install ./trpts_lab in a checkout"
)


class Source(Protocol):
    """What an entry point in SOURCES gives: the tasks that another package adds."""

    def names(self) -> Iterable[str]: ...

    def load(
        self, name: str, root: Path, seed: int, image_size: int | None, **reading: str
    ) -> Task: ...


def load_task(
    name: str, root: str | Path = ROOT, seed: int = 0, image_size: int | None = None, **reading: str
) -> Task:
    """The Task of a name.

    name        "digits" (the real ones, in three channels), "vtab/dtd", "fgvc/cub" (aliases too), a
                name that an installed package adds (SOURCES: the laboratory's are "dtd_twin",
                "real/nlvr_count", …), or else the path of an image folder; write "./digits" for a
                folder that is called like a task
    root        the folder that holds vtab-1k/, fgvc/ and real/
    seed        image folders are split by it, and twins drawn; all other tasks are the same for
                every seed
    image_size  pixels per side; None: 32 for digits, 224 for image files
    reading     of image files: normalization and resize, as in `trpts.data.reading.read_image`
    raises      ValueError: no such task (with those of a similar name), a setting that the task
                does not have, and whatever its reader finds wrong; FileNotFoundError: a package
                that is not installed
    """
    if name == "digits":
        given = unusual(reading)
        if given:
            raise ValueError(
                f"{name} cannot be had with {given}: expected none of the settings of image files"
            )
        return digits.load(image_size=image_size or 32, channels=3)
    sized = reading if image_size is None else reading | {"image_size": image_size}
    if name in REAL:
        kind, key = REAL[name]
        reader, sub = READERS[kind]
        return reader.load(Path(root) / sub, key, **sized)
    for source in sources():
        if name in source.names():
            return source.load(name, Path(root), seed, image_size, **reading)
    if Path(name).is_dir():
        return folder.load(name, seed=seed, **sized)
    raise unknown(name)


def unusual(reading: dict) -> str:
    """The settings of image files that would change a picture not read from a file, as words."""
    return ", ".join(
        key for key, value in reading.items() if key != "resize" and (key, value) != IN_MEMORY
    )


@cache
def sources() -> tuple[Source, ...]:
    """What other installed packages add."""
    return tuple(found.load() for found in importlib.metadata.entry_points(group=SOURCES))


def unknown(name: str) -> ValueError:
    """What is wrong with a name that no task has, and which tasks have one like it."""
    others = [other for source in sources() for other in source.names()]
    near = difflib.get_close_matches(name, ["digits", *REAL, *others], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    laboratory = "" if others else f"; {LABORATORY}"
    return ValueError(
        f"task {name!r} is unknown: {hint}expected a twin, digits, vtab/<name>, fgvc/<name>, "
        f"real/<name> or the path of a folder{laboratory}"
    )
