"""Tasks as experiments name them: by name alone, with a hash for their records."""

from dataclasses import replace
from functools import cache

from trpts.data.load import REAL, load_task
from trpts.data.twins import TWINS
from trpts.hashes import file_hash, short_hash
from trpts.lab.project import Project
from trpts.lab.provenance import weights_path

READING = {"image_size": 224, "normalization": "half", "resize": "crop"}  # of the real data sets' files: GPS's choice


FEW = {"train": 160, "val": 80, "test": 240}  # images of a task whose name begins with few_: for canaries


def lab_task(name, seed=0):
    """The Task of a name; the real data sets lie in the checkout's data/paper/ and are read as GPS reads them."""
    if name.startswith("few_"):
        whole = lab_task(name.removeprefix("few_"), seed)
        return replace(whole, **{part: getattr(whole, part).first(n) for part, n in FEW.items()})
    return load_task(name, Project.find().root / "data" / "paper", seed, **(READING if name in REAL else {}))


@cache
def data_hash(name, seed=0, n=50):
    """Hash of a task's training images; of a twin's, n drawn on the spot."""
    split = TWINS[name].split("train", n, seed) if name in TWINS else lab_task(name, seed).train
    return split.data_hash()


def inputs(config):
    """What a record of an experiment on one task or several rests on: hashes of the data and of the weights file."""
    path, seed = weights_path(config), config["seed"]
    several = " ".join(data_hash(name, seed) for name in config.get("tasks", ()))
    data = short_hash(several) if several else data_hash(config["task"], seed)
    return {"data": data, "weights": file_hash(path) if path else None}
