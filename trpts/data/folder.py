"""Any image folder with one sub-folder per class, for data of your own.

<root>/<class>/*.jpg                 split here: 60 % train, 20 % val, 20 % test
<root>/train/<class>/*.jpg, <root>/val/..., <root>/test/...
                                     taken as they are, in capitals or not; a missing val or test is
                                     cut from train, so that test is never learned from
"""

import unicodedata
import warnings
from pathlib import Path

import torch

from trpts.data.images import Sample, safe_path, task_of_files
from trpts.data.task import Task

SPLITS = ("train", "val", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
CUT = 0.2  # share of each class that a missing split gets


def load(
    root: str | Path,
    image_size: int = 224,
    normalization: str = "half",
    resize: str = "squash",
    seed: int = 0,
) -> Task:
    """The images below `root` as a Task named after the folder; labels follow the sorted class
    names. Pictures are turned upright by their EXIF note.

    Names of classes that differ in how accents are encoded alone (NFC, NFD: an archive made on
    another system) are the same name.

    image_size, normalization, resize  as in `trpts.data.reading.read_image`
    seed           decides which images go into a split that the folder does not have; stratified,
                   at least one image of each class
    warns          UserWarning: files that do not look like images are left out
    raises         ValueError: no folder, fewer than two classes, a class without images or with too
                   few to split, a class in val or test that train does not have, a folder beside
                   train that is no split, a file that leads out of root
    """
    root = Path(root)
    given = {
        split: path for split in SPLITS for path in _folders(root) if path.name.lower() == split
    }
    # else "train" is a class: a picture of a railway
    if "train" in given and _folders(given["train"]):
        for path in _folders(root):
            if path not in given.values():
                raise ValueError(
                    f"{path}: a folder beside train: expected only {', '.join(SPLITS)}"
                )
    else:
        given = {"train": root}
    names = _names(given["train"])
    if len(names) < 2:
        deeper = [path for path in _folders(given["train"]) if len(_folders(path)) > 1]
        hint = f"; {deeper[0]} holds {len(_folders(deeper[0]))}" if deeper else ""
        raise ValueError(
            f"{given['train']} holds {len(names)} class folders: expected at least two{hint}"
        )
    splits, left_out = {}, []
    for split, folder in given.items():
        splits[split], others = _read_classes(root, folder, names)
        left_out += others
    if left_out:
        warnings.warn(
            f"{root}: {len(left_out)} entries of its class folders do not look like images and "
            f"are left out, the first is {left_out[0]}",
            stacklevel=2,
        )
    splits = _cut(splits, names, given["train"], seed)
    return task_of_files(
        root.resolve().name,
        len(names),
        root,
        splits,
        image_size,
        normalization,
        resize,
        names,
        upright=True,
    )


def _names(folder):
    """The names of the class folders; ValueError for two that differ in their encoding alone."""
    names = [_composed(path) for path in _folders(folder)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"{folder} holds two folders called {twice[0]!r}, whose accents are encoded in two "
            "ways: expected one"
        )
    return names


def _composed(path):
    return unicodedata.normalize("NFC", path.name)


def _folders(folder):
    """The visible sub-folders, sorted by name; raises ValueError where there is no such folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: expected one with a sub-folder per class")
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _read_classes(root, folder, names):
    """([Sample], [what is no image by suffix]) of all class folders, sorted by class and name."""
    samples, left_out = [], []
    if not _folders(folder) and (flat := [entry for entry in folder.iterdir() if _is_image(entry)]):
        raise ValueError(
            f"{folder} holds {len(flat)} images and no class folders: expected a folder for each "
            f"class; to name the classes of unlabelled images, `trpts predict MODEL {folder}`"
        )
    labels = {name: label for label, name in enumerate(names)}
    for path in _folders(folder):
        name = _composed(path)
        if name not in labels:
            raise ValueError(
                f"{path}: class {name!r} has no folder in train: expected one of its {len(names)}"
            )
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        images = [entry for entry in entries if _is_image(entry)]
        if not images:
            raise ValueError(f"{path} holds no image: expected at least one of class {name!r}")
        left_out += [entry for entry in entries if not _is_image(entry)]
        samples += [
            Sample(safe_path(root, str(entry.relative_to(root)), path), labels[name])
            for entry in images
        ]
    return samples, left_out


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _cut(splits, names, folder, seed):
    """The three splits; those that are missing take CUT of each class of train, drawn by `seed`."""
    missing = [split for split in SPLITS if split not in splits]
    generator = torch.Generator().manual_seed(seed)
    pools: list[list[Sample]] = [[] for _ in names]
    for sample in splits["train"]:
        pools[sample.label].append(sample)
    made = {"train": []} | {split: list(splits.get(split, [])) for split in SPLITS[1:]}
    for name, pool in zip(names, pools, strict=True):
        if len(pool) <= len(missing):
            raise ValueError(
                f"{folder / name} holds {len(pool)} images: expected at least {len(missing) + 1}, "
                f"as {' and '.join(missing)} are cut from them"
            )
        pool = [pool[i] for i in torch.randperm(len(pool), generator=generator).tolist()]
        n_cut = max(1, round(CUT * len(pool)))
        for split in missing:
            made[split] += pool[:n_cut]
            pool = pool[n_cut:]
        made["train"] += pool
    return made


def images_below(path: str | Path) -> list[Path]:
    """The sorted image files of a folder, at any depth; else [path]. ValueError: it holds none."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = sorted(
        entry for entry in path.rglob("*") if _is_image(entry) and not entry.name.startswith(".")
    )
    if not found:
        raise ValueError(
            f"{path} is a folder without images: expected files of {', '.join(SUFFIXES)}"
        )
    return found
