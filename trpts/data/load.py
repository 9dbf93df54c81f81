"""One door to every task: by name."""

import difflib
from pathlib import Path

from trpts.data import digits, fgvc, folder, real, vtab
from trpts.data.images import check_settings, find_dataset
from trpts.data.task import Task
from trpts.data.twins import TWINS

ROOT = Path("data/paper")  # below the current folder: where the paper profile says to put the real data sets
READERS = {"vtab": (vtab, "vtab-1k"), "fgvc": (fgvc, "fgvc"), "real": (real, ".")}  # and the folder of root of each
IMAGE_SIZE = 32  # of twins and digits unless told
DRAWN_AT_ANY_SIZE = tuple(name for name, twin in TWINS.items() if twin.any_size)
REAL = {
    f"{kind}/{name}": (kind, name)
    for kind, (reader, _) in READERS.items()
    for key, source in reader.TASKS.items()
    for name in (key, *source.aliases)
}


def load_task(name, root=ROOT, seed=0, image_size=None, **reading):
    """The Task of a name.

    name        a twin's ("dtd_twin"), "digits" (the real ones, in three channels), "vtab/dtd", "fgvc/cub" (aliases
                too), "real/nlvr_count", or else the path of an image folder; write "./digits" for a folder that is
                called like a task
    root        the folder that holds vtab-1k/, fgvc/ and real/ (or real's tasks themselves); other names, real/mnist
                and real/elpv do not need it
    seed        twins are drawn and image folders are split by it; all other tasks are the same for every seed
    image_size  pixels per side; None: 32 for twins and digits, 224 for image files. The twins of DRAWN_AT_ANY_SIZE are
                drawn anew at another size; the other twins have 32 only
    reading     of image files: normalization and resize, as in `trpts.data.images.read_image`. Of DRAWN_AT_ANY_SIZE
                too, where resize changes nothing, since a picture is drawn at its size and never resized
    raises      ValueError: no such task (with those of a similar name), a setting that the task does not have, and
                whatever its reader finds wrong; FileNotFoundError: a package that is not installed
    """
    if name in DRAWN_AT_ANY_SIZE:
        return _draw(name, seed, IMAGE_SIZE if image_size is None else image_size, **reading)
    if name in TWINS or name == "digits":
        if reading or (name in TWINS and image_size not in (None, IMAGE_SIZE)):
            given = ", ".join(reading) or f"image_size={image_size}"
            others = f"; twins that have them are {', '.join(DRAWN_AT_ANY_SIZE)}" if name in TWINS else ""
            raise ValueError(f"{name} cannot be had with {given}: expected none of the settings of image files{others}")
        size = image_size or IMAGE_SIZE
        return TWINS[name].task(seed) if name in TWINS else digits.load(image_size=size, channels=3)
    if image_size is not None:
        reading["image_size"] = image_size
    if name in REAL:
        kind, key = REAL[name]
        reader, sub = READERS[kind]
        return reader.load(Path(root) / sub, key, **reading)
    if Path(name).is_dir():
        return folder.load(name, seed=seed, **reading)
    raise _unknown(name)


def find_real(name, root=ROOT):
    """The folder of "vtab/dtd", "fgvc/cub" or "real/gtsrb"; raises ValueError: no such name, or no such folder."""
    if name not in REAL:
        raise _unknown(name)
    kind, key = REAL[name]
    reader, sub = READERS[kind]
    return real.find(root, key) if reader is real else find_dataset(Path(root) / sub, key, reader.TASKS)[1]


def _draw(
    name: str, seed: int, image_size: int, normalization: str = "half", resize: str = "squash", **unknown
) -> Task:
    if unknown:
        known = "image_size, normalization or resize"
        raise ValueError(f"{name} cannot be had with {', '.join(unknown)}: expected {known}")
    check_settings(image_size, normalization, resize)
    return TWINS[name].task(seed, image_size, normalization)


def _unknown(name):
    near = difflib.get_close_matches(name, ["digits", *TWINS, *REAL], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ValueError(
        f"task {name!r} is unknown: {hint}expected a twin, digits, vtab/<name>, fgvc/<name>, real/<name> or the path "
        "of a folder"
    )
