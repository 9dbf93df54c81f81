"""Image files as tasks: what the readers of VTAB-1k, FGVC and plain folders share.

Everything that needs no decoding (paths, labels, counts, existence) is checked when a task is
loaded. The images stay in their files until a batch asks for them: a test set of 73,728 images
(dSprites) is 11 GB at 224 pixels even as bytes.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trpts.data.reading import check_settings, is_file, read_image
from trpts.data.task import Split, Task
from trpts.hashes import short_hash

SUFFIXES = (".jpg", ".png", ".jpeg")
# splits are shuffled once, when they are made; lists sorted by class would spoil `first`
SHUFFLE_SEED = 0


class Sample(NamedTuple):
    """An image file, its label, and what names it ("train800.txt:12"; None: the file itself)."""

    path: Path
    label: int
    place: str | None = None


@dataclass(frozen=True)
class FileSplit:
    """A split whose images stay in their files until a batch asks for them; used exactly like a
    `Split`.

    samples  tuple of S Sample
    root     the data set's folder, which all of them lie in
    rows     a Split of row numbers [S] in place of images: it orders, shuffles, counts and holds
             the labels
    The other settings are those of `read_image`. The batch that meets a broken image reports it.
    """

    samples: tuple[Sample, ...]
    root: Path
    rows: Split
    image_size: int
    normalization: str
    resize: str
    upright: bool = False

    @property
    def labels(self) -> torch.Tensor:
        """int64 [S]"""
        return self.rows.labels

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images, labels) of at most `batch_size`; in order, or shuffled by `generator`."""
        for rows, labels in self.rows.batches(batch_size, generator):
            yield torch.stack([self._read(row) for row in rows.tolist()]).to(labels.device), labels

    def _read(self, row):
        sample = self.samples[row]
        size, normalization, resize = self.image_size, self.normalization, self.resize
        return read_image(sample.path, size, normalization, resize, sample.place, self.upright)

    def to(self, device: str | torch.device) -> "FileSplit":
        """The same split with its batches on another device."""
        return replace(self, rows=self.rows.to(device))

    def first(self, n: int) -> "FileSplit":
        """The first n samples; the splits are shuffled once when they are made."""
        return replace(self, rows=self.rows.first(n))

    def after(self, n: int) -> "FileSplit":
        """All samples but the first n."""
        return replace(self, rows=self.rows.after(n))

    def data_hash(self) -> str:
        """Hash of every sample's path below `root`, size in bytes and label, in order, and of the
        settings.

        No image is opened: it takes a moment where reading takes minutes, gives the same wherever
        the folder lies, and notices images that are missing, added, encoded anew or labelled
        otherwise. It does not notice a file whose content changed and whose size in bytes did not.

        raises  ValueError: a file that is gone
        """
        lines = [f"{self.image_size} {self.normalization} {self.resize}{' upright' * self.upright}"]
        for row, label in zip(self.rows.images.tolist(), self.labels.tolist(), strict=True):
            path, _, place = self.samples[row]
            try:
                size = path.stat().st_size
            except OSError as error:
                raise ValueError(
                    f"{f'{place}: ' if place else ''}{path} cannot be read: {error.strerror}"
                ) from error
            lines.append(f"{label} {size} {path.relative_to(self.root).as_posix()}")
        return short_hash("\n".join(lines))


def task_of_files(
    name: str,
    n_classes: int,
    root: str | Path,
    splits: Mapping[str, Sequence[Sample]],
    image_size: int,
    normalization: str,
    resize: str,
    class_names: Iterable[str] = (),
    upright: bool = False,
) -> Task:
    """A Task of three FileSplits from {"train": [Sample, ...], "val": ..., "test": ...}, files
    below `root`.

    raises  ValueError: a split without images, a file that is listed twice (within a split, or in
            two: a leak), or an unknown setting
    """
    check_settings(image_size, normalization, resize)
    first: dict[Path, str | None] = {}
    for sample in chain(*splits.values()):
        if sample.path in first:
            raise ValueError(
                f"{sample.place}: {sample.path} is listed already at {first[sample.path]}: "
                "expected once"
            )
        first[sample.path] = sample.place
    made = {}
    for split, samples in splits.items():
        if not samples:
            raise ValueError(f"{name}: the {split} split holds no image, expected at least one")
        order = torch.randperm(
            len(samples), generator=torch.Generator().manual_seed(SHUFFLE_SEED)
        ).tolist()
        samples = tuple(samples[i] for i in order)
        rows = Split(torch.arange(len(samples)), torch.tensor([sample.label for sample in samples]))
        settings = image_size, normalization, resize, upright
        made[split] = FileSplit(samples, Path(root), rows, *settings)
    return Task(name, n_classes, **made, class_names=tuple(class_names))


def safe_path(root: str | Path, relative: str | Path, place: str | Path) -> Path:
    """root / relative, refused where it leaves root: absolute, by "..", or by a symbolic link.

    In a snapshot of the Hugging Face cache, links to that snapshot's own blobs are followed.
    """
    root = Path(root)
    path = root / relative
    try:
        target, home = path.resolve(), root.resolve()
        inside = not Path(relative).is_absolute() and any(
            target.is_relative_to(folder) for folder in (home, *_blobs_of(home))
        )
        # unlike pathlib's, False for a name that the file system refuses
        is_link = os.path.islink(path)  # noqa: PTH114
        dangling = is_link and not os.path.exists(path)  # noqa: PTH110
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL byte
        raise ValueError(f"{place}: {relative!r} is not a usable path: {error}") from error
    if dangling and not Path(relative).is_absolute():
        raise ValueError(
            f"{place}: {relative!r} is a link to {path.readlink()}, which does not exist: mend or "
            "remove it"
        )
    if not inside:
        copy = ", or a copy of the file in place of the link (cp -L)" if is_link else ""
        raise ValueError(
            f"{place}: {relative!r} leads out of {root}: expected a path that stays inside{copy}"
        )
    return path


def _blobs_of(home):
    """[the folder of the files] that the links in a snapshot of the Hugging Face cache lead to."""
    snapshots = next((p for p in (home, *home.parents) if p.name == "snapshots"), None)
    return [] if snapshots is None else [snapshots.with_name("blobs")]


def find_file(root: str | Path, relative: str | Path, place: str | Path) -> Path:
    """The existing file root / relative, or with another of SUFFIXES; refused as by `safe_path`."""
    path = safe_path(root, relative, place)
    others = [path.with_suffix(suffix) for suffix in SUFFIXES] if Path(relative).name else []
    found = next((candidate for candidate in (path, *others) if is_file(candidate)), None)
    if found is None:
        raise ValueError(
            f"{place}: {path} does not exist, nor does it with another suffix of "
            f"{', '.join(SUFFIXES)}"
        )
    return found if found == path else safe_path(root, str(found.relative_to(root)), place)


def find_dataset(root: str | Path, name: str, tasks: Mapping[str, Any]) -> tuple[str, Path]:
    """(key, folder) of a data set: its key in `tasks` ({key: has .aliases}) and the folder of root
    that holds it.

    Key and aliases are all accepted, as `name` and as folder; where several folders exist, `name`
    itself comes first.
    """
    key = next((key for key, task in tasks.items() if name in (key, *task.aliases)), None)
    if key is None:
        raise ValueError(f"data set {name!r} is unknown: expected one of {', '.join(tasks)}")
    names = dict.fromkeys((name, key, *tasks[key].aliases))
    folder = next((Path(root) / n for n in names if (Path(root) / n).is_dir()), None)
    if folder is None:
        raise ValueError(
            f"{root} holds no folder {' or '.join(names)}: expected the unpacked data set in one "
            "of them"
        )
    return key, folder
