"""A twin: a procedural task that stands in for a real data set where that cannot be shipped."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from trpts.data.task import Split, Task
from trpts_lab.canvas import SIZE, at_size

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
    render      (labels int [n], rng, split name) -> uint8 images [n, 32, 32, 3]; all randomness
                from rng
    any_size    whether `render` can also draw at another size, inside
                `trpts_lab.canvas.at_size`; if so, it draws everything but noise from rng
                first, so that a seed gives the same scenes at all sizes
    """

    name: str
    group: str
    stands_for: str
    differs: str
    n_classes: int
    render: Callable
    any_size: bool = False

    def images(
        self, split: str, n: int | None = None, seed: int = 0, size: int = SIZE
    ) -> tuple[np.ndarray, np.ndarray]:
        """(images uint8 [n, size, size, 3], labels int64 [n]) of a split: classes as even as n
        allows, in random order.

        Splits and seeds draw from streams of their own, so that no split ever changes another.
        Pictures of another size show the same scenes, drawn at that size and not resized; only the
        noise differs.

        raises  ValueError: a size other than 32 if the twin is not of `any_size`, or a size below 1
        """
        if size != SIZE and not self.any_size:
            raise ValueError(f"{self.name} cannot be drawn at {size} pixels: expected {SIZE}")
        n = SPLITS[split] if n is None else n
        rng = np.random.default_rng(
            [seed, list(SPLITS).index(split), zlib.crc32(self.name.encode())]
        )
        labels = rng.permutation(np.arange(n) % self.n_classes)
        with at_size(size):
            return self.render(labels, rng, split), labels

    def split(
        self,
        split: str,
        n: int | None = None,
        seed: int = 0,
        size: int = SIZE,
        normalization: str = "half",
    ) -> Split:
        """The same as a Split; pixels in [-1, 1], or `normalization` as in `trpts.data.images`."""
        images, labels = self.images(split, n, seed, size)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # uint8 [n, 3, size, size]
        return Split(_normalized(pixels, normalization).contiguous(), torch.from_numpy(labels))

    def task(self, seed: int = 0, size: int = SIZE, normalization: str = "half") -> Task:
        """The twin as a Task of SPLITS; settings as of `split`."""
        splits = {split: self.split(split, None, seed, size, normalization) for split in SPLITS}
        return Task(self.name, self.n_classes, **splits)


def _normalized(pixels: torch.Tensor, normalization: str) -> torch.Tensor:
    """Pixels from 0 to 255 as float32; raises ValueError: an unknown normalization."""
    if normalization == "half":
        return pixels.float() / 127.5 - 1
    # imported here, because that module takes seconds to import torchvision
    from trpts.data.reading import NORMALIZATIONS

    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization={normalization!r} is unknown: expected one of "
            f"{', '.join(NORMALIZATIONS)}"
        )
    mean, deviation = torch.tensor(NORMALIZATIONS[normalization])[..., None, None]  # each [3, 1, 1]
    return (pixels / 255 - mean) / deviation
