"""VTAB-1k as the fine-tuning community passes it on: 19 tasks, each 800 + 200 images to learn from.

    <root>/<folder>/{train800,val200,test}.txt, often train800val200.txt
    <root>/<folder>/images/...           their lines are: images/<list>/000000.jpg <label>

Benchmark: Zhai et al., "A Large-scale Study of Representation Learning with the Visual Task
Adaptation Benchmark" (arXiv 1910.04867). Layout: the script get_vtab1k.py of ZhangYuanhan-AI/NOAH,
and KMnP/vpt issue 27; the copies linked by SSF, RepAdapter and GPS have it too. Lists are not
stratified: CIFAR's train800 lacks some of the classes.
"""

import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from trpts.data.images import Sample, find_dataset, find_file, task_of_files
from trpts.data.task import Task
from trpts.texts import read_text

GROUPS = ("natural", "specialized", "structured")


class Source(NamedTuple):
    """One of the 19: its group, number of classes, and other names, its folder's among them."""

    group: str
    n_classes: int
    aliases: tuple[str, ...] = ()


# Groups: the VTAB paper. Classes and first folder names: NOAH's script; other aliases: GPS, VPT and
# common speech.
TASKS = {
    "cifar100": Source("natural", 100, ("cifar", "cifar_100")),
    "caltech101": Source("natural", 102, ("caltech_101",)),
    "dtd": Source("natural", 47),
    "oxford_flowers102": Source("natural", 102, ("flowers102",)),
    "oxford_iiit_pet": Source("natural", 37, ("pets", "oxford_pet")),
    "svhn": Source("natural", 10),
    "sun397": Source("natural", 397),
    "patch_camelyon": Source("specialized", 2, ("camelyon", "pcam")),
    "eurosat": Source("specialized", 10),
    "resisc45": Source("specialized", 45),
    "diabetic_retinopathy": Source("specialized", 5, ("retinopathy",)),
    "clevr_count": Source("structured", 8),
    "clevr_dist": Source("structured", 6, ("clevr_distance",)),
    "dmlab": Source("structured", 6),
    "kitti": Source("structured", 4),
    "dsprites_loc": Source("structured", 16, ("dsprites_location",)),
    "dsprites_ori": Source("structured", 16, ("dsprites_orientation",)),
    "smallnorb_azi": Source("structured", 18, ("smallnorb_azimuth",)),
    "smallnorb_ele": Source("structured", 9, ("smallnorb_elevation",)),
}
LISTS = {"train": "train800", "val": "val200", "test": "test"}
BOTH = "train800val200"
COUNTS = {"train800": 800, "val200": 200, BOTH: 1000}  # test sets differ


def load(
    root: str | Path,
    name: str,
    image_size: int = 224,
    normalization: str = "half",
    resize: str = "squash",
) -> Task:
    """One VTAB-1k task from the folder `root`, its images read from their files batch by batch.

    name           a key of TASKS or one of its aliases; the folder may be called by any of them
    image_size, normalization, resize  as in `trpts.data.reading.read_image`
    warns          UserWarning: CIFAR-100 stored as JPEG
    raises         ValueError: unknown name, no folder or list, a malformed line, a label out of
                   range, a wrong count, train800val200 that is not the union of its parts, a
                   missing image, a path that leaves the folder
    """
    name, folder = find_dataset(root, name, TASKS)
    n_classes = TASKS[name].n_classes
    splits = read_lists(folder, n_classes)
    task = task_of_files(name, n_classes, folder, splits, image_size, normalization, resize)
    if name == "cifar100" and any(_is_jpeg(samples[0].path) for samples in splits.values()):
        warnings.warn(
            f"{folder}: these CIFAR-100 images are JPEG, whose compression damages 32 x 32 "
            "pixels: results come out about 12 points lower than from the original pixels (70 % "
            "against 80 %); take a PNG copy, or compare only with papers that used this one",
            stacklevel=2,
        )
    return task


def read_lists(folder: Path, n_classes: int) -> dict[str, list[Sample]]:
    """{"train": [Sample, ...], "val": ..., "test": ...} of such a folder; ValueError as `load`."""
    listed = {split: _read_list(folder / f"{stem}.txt", n_classes) for split, stem in LISTS.items()}
    if (folder / f"{BOTH}.txt").exists():
        _check_union(_read_list(folder / f"{BOTH}.txt", n_classes), listed["train"] + listed["val"])
    return {
        split: [
            Sample(find_file(folder, path, place), label, place) for path, label, place in samples
        ]
        for split, samples in listed.items()
    }


def _read_list(path, n_classes):
    """A list's lines as [Sample], paths as written; line endings, blanks and a BOM are ignored."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a list of images: {error}") from error
    samples = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place, fields = f"{path}:{number}", line.strip().rsplit(maxsplit=1)
        if len(fields) != 2:
            raise ValueError(f"{place}: {line.strip()!r}: expected a path and a label")
        written: Any = fields[0]  # a text until `find_file` has looked
        label = int(fields[1]) if re.fullmatch("[0-9]{1,9}", fields[1]) else None
        if label is None or label >= n_classes:
            raise ValueError(
                f"{place}: label {fields[1]}: expected a whole number from 0 to {n_classes - 1}"
            )
        samples.append(Sample(written, label, place))
    expected = COUNTS.get(path.stem)
    if expected not in (None, len(samples)):
        raise ValueError(f"{path} lists {len(samples)} images, expected {expected}")
    return samples


def _check_union(both, parts):
    """Raise ValueError unless `both` lists what `parts` lists, in any order.

    NOAH's script stores every list's images once more under a folder of its own, so that no path of
    train800val200.txt stands in the other lists. There only the labels can be compared without
    opening a thousand files twice.
    """
    copies = {sample.path for sample in both}.isdisjoint(sample.path for sample in parts)
    surplus = Counter(_key(sample, copies) for sample in both) - Counter(
        _key(sample, copies) for sample in parts
    )
    for sample in both:
        if _key(sample, copies) in surplus:
            what = f"label {sample.label}" if copies else f"{sample.path} with label {sample.label}"
            raise ValueError(
                f"{sample.place}: {what} stands more often here than in {LISTS['train']}.txt and "
                f"{LISTS['val']}.txt together: expected their union"
            )


def _key(sample, copies):
    return sample.label if copies else (sample.path, sample.label)


def _is_jpeg(path):
    """By the first bytes, as suffixes lie."""
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"
