"""The laboratory's tasks for `trpts.load_task`: drawn ("dtd_twin") and real ("real/nlvr_count")."""

from collections.abc import Iterable
from pathlib import Path

from trpts.data import load
from trpts.data.images import find_dataset
from trpts.data.reading import check_settings
from trpts.data.task import Task
from trpts_lab.real import tasks as real
from trpts_lab.twins import TWINS

IMAGE_SIZE = 32  # of twins unless told
DRAWN_AT_ANY_SIZE = tuple(name for name, twin in TWINS.items() if twin.any_size)
REAL = {f"real/{name}": ("real", name) for name in real.TASKS}
FILES = load.REAL | REAL  # all tasks that are read from files: {name: (kind, its reader's name)}
# {kind: {name: source with a group}}
GROUPS = {"vtab": load.READERS["vtab"][0].TASKS, "real": real.TASKS}


class Laboratory:
    """The `Source` behind this package's entry point in "trpts.tasks"."""

    @staticmethod
    def names() -> Iterable[str]:
        return (*TWINS, *REAL)

    @staticmethod
    def load(name: str, root: Path, seed: int, image_size: int | None, **reading: str) -> Task:
        """The Task of one of `names`.

        root        of real tasks: the folder that holds real/, or the tasks themselves; real/mnist
                    and real/elpv do not need it
        image_size  pixels per side; None: 32 for twins, 224 for image files. The twins of
                    DRAWN_AT_ANY_SIZE are drawn anew at another size; the other twins have 32 only
        reading     normalization and resize, of real tasks and of DRAWN_AT_ANY_SIZE, where resize
                    changes nothing, since a picture is drawn at its size and never resized
        raises      ValueError: a setting that the task does not have, and whatever its reader finds
                    wrong
        """
        if name in DRAWN_AT_ANY_SIZE:
            return _draw(name, seed, IMAGE_SIZE if image_size is None else image_size, **reading)
        if name in TWINS:
            size = "" if image_size in (None, IMAGE_SIZE) else f"image_size={image_size}"
            given = load.unusual(reading) or size
            if given:
                raise ValueError(
                    f"{name} cannot be had with {given}: expected none of the settings of image "
                    f"files; twins that have them are {', '.join(DRAWN_AT_ANY_SIZE)}"
                )
            return TWINS[name].task(seed)
        sized = {} if image_size is None else {"image_size": image_size}
        return real.load(root, REAL[name][1], **sized, **reading)


def find_real(name: str, root: str | Path = load.ROOT) -> Path:
    """Folder of "vtab/dtd", "fgvc/cub" or "real/gtsrb"; ValueError: no such name or folder."""
    if name not in FILES:
        raise load.unknown(name)
    kind, key = FILES[name]
    if kind == "real":
        return real.find(root, key)
    reader, sub = load.READERS[kind]
    return find_dataset(Path(root) / sub, key, reader.TASKS)[1]


def _draw(
    name: str,
    seed: int,
    image_size: int,
    normalization: str = "half",
    resize: str = "squash",
    **unknown,
) -> Task:
    if unknown:
        known = "image_size, normalization or resize"
        raise ValueError(f"{name} cannot be had with {', '.join(unknown)}: expected {known}")
    check_settings(image_size, normalization, resize)
    return TWINS[name].task(seed, image_size, normalization)
