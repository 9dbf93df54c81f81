"""FGVC, five fine-grained data sets, through the split files of VPT.

    <root>/<folder>/{train,val,test}.json       {path of an image: class id}
    <root>/<folder>/[images/ or Images/]...     the images; paths start here

Split files: KMnP/vpt (its link is dead; fgvc_split.zip of FightingFighting/GPS is a live copy). The
images come from the data sets' own sites. Class ids are any whole numbers; labels are their ranks
in the sorted union of all three files, as in GPS: with a rank of its own in every file, as in VPT's
reader, one class that is missing from a split would shift the labels of all classes behind it.
"""

import json
from pathlib import Path
from typing import NamedTuple

from trpts.data.images import Sample, find_dataset, find_file, task_of_files
from trpts.data.reading import is_file
from trpts.data.task import Task
from trpts.texts import parse_json, read_text


class Source(NamedTuple):
    """One of the five: its number of classes, and other names for it, its folder's among them."""

    n_classes: int
    aliases: tuple[str, ...] = ()


# Classes: the data sets' own papers (V-PETL's 55 for NABirds is a typo). Folders: VPT, GPS, the
# data sets' archives.
TASKS = {
    "cub": Source(200, ("CUB_200_2011", "cub_200_2011")),
    "nabirds": Source(555, ("NABirds",)),
    "flowers": Source(102, ("oxfordflower", "OxfordFlower", "oxford_flowers")),
    "dogs": Source(120, ("stanforddogs", "StanfordDogs", "stanford_dogs")),
    "cars": Source(196, ("stanfordcars", "StanfordCars", "stanford_cars")),
}
SPLITS = ("train", "val", "test")
IMAGE_FOLDERS = ("images", "Images", ".")


def load(
    root: str | Path,
    name: str,
    image_size: int = 224,
    normalization: str = "half",
    resize: str = "crop",
) -> Task:
    """One FGVC task from the folder `root`, its images read from their files batch by batch.

    VPT and GPS crop and flip at random while training; here every image is resized the same way,
    always.

    name           a key of TASKS or one of its aliases; the folder may be called by any of them
    image_size, normalization, resize  as in `trpts.data.reading.read_image`
    raises         ValueError: unknown name, no folder or split file, one that is no JSON object of
                   whole numbers, a wrong number of classes, a missing image, an image in two
                   splits, a path that leaves the folder
    """
    name, folder = find_dataset(root, name, TASKS)
    listed = {split: _read_split(folder / f"{split}.json") for split in SPLITS}
    ids = sorted({sample.label for samples in listed.values() for sample in samples})
    n_classes = TASKS[name].n_classes
    if len(ids) != n_classes:
        raise ValueError(f"{folder}: its split files name {len(ids)} classes, expected {n_classes}")
    labels = {class_id: label for label, class_id in enumerate(ids)}
    images = _image_folder(
        folder, [sample.path for samples in listed.values() for sample in samples]
    )
    splits = {
        split: [
            Sample(find_file(folder, str(images / path), place), labels[class_id], place)
            for path, class_id, place in samples
        ]
        for split, samples in listed.items()
    }
    return task_of_files(name, n_classes, folder, splits, image_size, normalization, resize)


def _read_split(path):
    """A split file as [Sample] whose paths and class ids are still as written."""
    try:
        entries = parse_json(read_text(path), object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a split file: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, tuple) for entry in entries):
        raise ValueError(
            f"{path}: expected one JSON object that maps each image's path to its class id"
        )
    samples = []
    # pairs, as a dict would hide a path given twice
    for number, (relative, class_id) in enumerate(entries, 1):
        place = f"{path}, entry {number}"
        if type(class_id) is not int and not (
            isinstance(class_id, str) and class_id.isascii() and class_id.isdigit()
        ):
            raise ValueError(
                f"{place}: class id {class_id!r} of {relative!r}: expected a whole number"
            )
        samples.append(Sample(relative, int(class_id), place))
    return samples


def _image_folder(folder, paths):
    """Where the paths start below `folder`: the first of IMAGE_FOLDERS that holds any of them."""
    found = (name for name in IMAGE_FOLDERS if any(is_file(folder / name / path) for path in paths))
    return Path(next(found, "."))
