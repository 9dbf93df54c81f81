"""Tasks as experiments name them: by name alone, with a hash for their records."""

from functools import cache

from trpts.data.load import REAL, load_task
from trpts.data.twins import TWINS
from trpts.lab.project import Project

READING = {"image_size": 224, "normalization": "half", "resize": "crop"}  # of the real data sets' files: GPS's choice


def lab_task(name, seed=0):
    """The Task of a name; the real data sets lie in the checkout's data/paper/ and are read as GPS reads them."""
    return load_task(name, Project.find().root / "data" / "paper", seed, **(READING if name in REAL else {}))


@cache
def data_hash(name, seed=0, n=50):
    """Hash of a task's training images; of a twin's, n drawn on the spot.

    The generators' code is in the code hash; this shows that the libraries under it still draw the same.
    """
    split = TWINS[name].split("train", n, seed) if name in TWINS else lab_task(name, seed).train
    return split.data_hash()
