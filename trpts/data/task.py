"""A classification task: images and labels in three splits."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch

from trpts.hashes import short_hash, tensor_hash
from trpts.options import check_whole


class AnySplit(Protocol):
    """What all splits have in common: `Split`, and `FileSplit` of `trpts.data.images`."""

    @property
    def labels(self) -> torch.Tensor: ...

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]: ...

    def to(self, device: str | torch.device) -> Self: ...

    def first(self, n: int) -> Self: ...

    def after(self, n: int) -> Self: ...

    def data_hash(self) -> str: ...


@dataclass(frozen=True)
class Split:
    """images [S, channels, height, width] float32, labels [S] int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self) -> None:
        for name, part in (("images", self.images), ("labels", self.labels)):
            if not isinstance(part, torch.Tensor) or part.ndim == 0:
                raise ValueError(f"{name} are of type {type(part).__name__}: expected a tensor")
        kind = self.labels.dtype
        if self.labels.ndim != 1 or kind.is_floating_point or kind.is_complex:
            raise ValueError(
                f"labels are {kind} {list(self.labels.shape)}: expected whole numbers [S]"
            )
        # other things than pictures, letters say, may be whole numbers
        if self.images.ndim == 4 and not self.images.is_floating_point():
            raise ValueError(
                f"images are {self.images.dtype}: expected floating-point numbers, normalised as "
                "the model was trained"
            )
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{len(self.images)} images but {len(self.labels)} labels: expected one label per "
                "image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images, labels) of at most `batch_size`; in order, or shuffled by `generator`."""
        order = (
            torch.arange(len(self))
            if generator is None
            else torch.randperm(len(self), generator=generator)
        )
        for rows in order.to(self.labels.device).split(batch_size):
            yield self.images[rows], self.labels[rows]

    def to(self, device: str | torch.device) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, n: int) -> "Split":
        """The first n samples; the splits are shuffled once when they are made."""
        if not 1 <= n <= len(self):
            raise ValueError(f"{n} samples asked for: expected 1 to {len(self)}")
        return Split(self.images[:n], self.labels[:n])

    def after(self, n: int) -> "Split":
        """All samples but the first n."""
        if not 0 <= n < len(self):
            raise ValueError(
                f"samples after the first {n} asked for: expected 0 to {len(self) - 1}"
            )
        return Split(self.images[n:], self.labels[n:])

    def data_hash(self) -> str:
        """`tensor_hash` of images and labels."""
        return tensor_hash(self.images, self.labels)


def check_labels(labels: torch.Tensor, n_classes: int, what: str = "labels") -> None:
    """Raise ValueError unless all `labels`, one at least, are numbers of n_classes classes."""
    if not len(labels):
        raise ValueError(f"{what} are none: expected one at least")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n_classes:
        raise ValueError(f"{what} run from {low} to {high}: expected 0 to {n_classes - 1}")


@dataclass(frozen=True)
class Task:
    """`train` to learn from, `val` to choose by, `test` looked at once, at the end.

    class_names  the name of each label, where the source gives names
    raises       ValueError: an empty split, labels outside 0 to n_classes − 1, a wrong number of
                 names
    """

    name: str
    n_classes: int
    train: AnySplit
    val: AnySplit
    test: AnySplit
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole("n_classes", self.n_classes)
        for name, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            check_labels(split.labels, self.n_classes, f"{self.name}: the {name} split's labels")
        if self.class_names and len(self.class_names) != self.n_classes:
            raise ValueError(
                f"{self.name} names {len(self.class_names)} classes: expected {self.n_classes}"
            )

    def to(self, device: str | torch.device) -> "Task":
        """The same task on another device."""
        return replace(
            self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device)
        )

    def data_hash(self) -> str:
        """Names the task's data in records: a hash of the splits' hashes (see `FileSplit`)."""
        return short_hash(
            " ".join(split.data_hash() for split in (self.train, self.val, self.test))
        )
