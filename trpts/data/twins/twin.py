"""A twin: a procedural task that stands in for a real data set where that cannot be shipped."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from trpts.data.task import Split, Task

GROUPS = ("natural", "specialized", "structured", "fgvc")
SPLITS = {"train": 800, "val": 200, "test": 1000}  # VTAB-1k's 800 + 200; its test sets are larger


@dataclass(frozen=True)
class Twin:
    """One twin.

    name        ends in "_twin": it is never called by the real data set's bare name
    group       one of GROUPS
    stands_for  the real data set
    differs     one sentence: what is different from the real one
    n_classes   number of classes K; chance is 1/K
    render      (labels int [n], rng, split name) -> uint8 images [n, 32, 32, 3]; all randomness from rng
    """

    name: str
    group: str
    stands_for: str
    differs: str
    n_classes: int
    render: Callable

    def images(self, split, n=None, seed=0):
        """(images uint8 [n, 32, 32, 3], labels int64 [n]) of a split: classes as even as n allows, in random order.

        Splits and seeds draw from streams of their own, so that no split ever changes another.
        """
        n = SPLITS[split] if n is None else n
        rng = np.random.default_rng([seed, list(SPLITS).index(split), zlib.crc32(self.name.encode())])
        labels = rng.permutation(np.arange(n) % self.n_classes)
        return self.render(labels, rng, split), labels

    def split(self, split, n=None, seed=0):
        """The same as a Split; pixels from -1 to 1 (mean .5, standard deviation .5)."""
        images, labels = self.images(split, n, seed)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        return Split(pixels.contiguous(), torch.from_numpy(labels))

    def task(self, seed=0):
        """The twin as a Task of SPLITS."""
        return Task(self.name, self.n_classes, **{split: self.split(split, seed=seed) for split in SPLITS})
