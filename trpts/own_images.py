"""Your own images: tune a backbone on a folder, and report on images that it did not learn from.
What `trpts tune` calls; `trpts.saved_models` uses the result.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trpts.backbones import SMALL, create_backbone, image_size_of, skeleton
from trpts.data.images import FileSplit
from trpts.data.load import load_task
from trpts.data.reading import NORMALIZATIONS
from trpts.data.task import AnySplit, Split, Task
from trpts.delta import save_delta
from trpts.methods import METHODS
from trpts.places import check_place, claimed
from trpts.probe import largest_logit
from trpts.saved_models import check_names
from trpts.training_run import resumable
from trpts.tuning import TuneResult, tune

IN_MEMORY_BYTES = 4 * 2**30  # below this, decoded images are kept between epochs
PROGRESS_EVERY_S = 5.0


def reading_of(name: str, image_size: int | None = None) -> dict[str, Any]:
    """How a backbone wants its images: {"image_size", "normalization", "resize"}, as in
    `read_image`.

    From timm's own settings of the checkpoint; a mean and standard deviation that we have no name
    for are refused.
    image_size  pixels per side that it is made for, None: its own
    """
    frame = skeleton(name, 1, image_size)
    size = image_size_of(name, frame)
    if name in SMALL:
        return {"image_size": size, "normalization": "half", "resize": "squash"}
    cfg = frame.pretrained_cfg
    for normalization, values in NORMALIZATIONS.items():
        if (tuple(cfg["mean"]), tuple(cfg["std"])) == values:
            return {"image_size": size, "normalization": normalization, "resize": "squash"}
    raise ValueError(
        f"{name} wants images of mean {cfg['mean']} and standard deviation {cfg['std']}: expected "
        f"one of {', '.join(NORMALIZATIONS)}"
    )


def tune_images(
    data: str | Path,
    backbone: str,
    weights: str | Path | None,
    out: str | Path,
    method: str = "trpts",
    seed: int = 0,
    device: str | torch.device = "cpu",
    overwrite: bool = True,
    report_files: Mapping[Path, Callable[[dict, Path], None]] = {},
    image_size: int | None = None,
    **options: Any,
) -> tuple[TuneResult, dict[str, Any]]:
    """Tune on an image folder (or a task by name), write the delta to `out`; (TuneResult, report).

    Every place to write to is checked, and every image read, before training. The checkpoint beside
    `out` is removed when delta and reports are on disk, no earlier: after an error or an
    interruption the same call goes on from it.

    weights       path of the backbone's weights, or "hub" for the local Hugging Face cache
    overwrite     whether files that are there already may be replaced. Those of an interrupted run
                  always are
    report_files  {path: function (report, path) that writes it}: files that are made of the report,
                  which has the delta's "notes" there
    image_size    pixels per side that the backbone is made for, its positions resampled; None: its
                  own
    options       of `tune`, the method's own included
    report        on the test images: {"classes", "confusion" [K][K] (true, predicted), "accuracy",
                  "n_test", "per_class"}
    raises        ValueError, FileNotFoundError: what is wrong with data, weights, options or a
                  place, before any work is done; another process writes to `out`
    """
    saved = [name for name, known in METHODS.items() if known.delta]
    if method not in saved:
        raise ValueError(f"method {method!r} leaves no delta: expected one of {', '.join(saved)}")
    out = Path(out)
    checkpoint, written = out.with_name(f"{out.name}.checkpoint"), [out, *report_files]
    for place in (*written, checkpoint):
        check_place(place, data, weights)
    with claimed(*written, checkpoint):
        there = [path for path in written if os.path.lexists(path)]
        if there and not overwrite and not checkpoint.is_file():
            raise ValueError(
                f"{there[0]} exists already: expected another name, or --overwrite (overwrite=True)"
            )
        task, reading = _load(data, backbone, seed, image_size)
        names = list(task.class_names) or [str(k) for k in range(task.n_classes)]
        check_names(data, names)
        model = create_backbone(backbone, task.n_classes, weights, seed, image_size).to(device)
        check_saveable(model)
        task = in_memory(task).to(device)
        result = tune(model, task, method, seed=seed, checkpoint=checkpoint, **options)
        with resumable(checkpoint):
            with result.around():
                report = held_out(model, task.test, names)
            notes = {
                "backbone": backbone,
                "data": Path(data).name,
                "reading": reading,
                "class_names": names,
                "tokens": result.tokens,
                "method": method,
                "settings": result.options,
                "test_accuracy": report["accuracy"],
                "n_test": report["n_test"],
            }
            save_delta(model, out, **notes)
            for path, write in report_files.items():
                write(report | {"notes": notes}, path)
            checkpoint.unlink()
    return result, report


def check_saveable(model: nn.Module) -> None:
    """Raise ValueError for a model of which training changes more than a delta holds."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            raise ValueError(
                f"{name} is batch normalisation, whose running statistics training changes and a "
                "delta does not hold: expected a model without it, as most vision transformers are"
            )


def _load(data, backbone, seed, image_size):
    """(task, reading) of tasks or folders that the backbone can take."""
    reading = reading_of(backbone, image_size)
    task = load_task(str(data), seed=seed, **reading)
    return task, reading | {"upright": getattr(task.train, "upright", False)}


def in_memory(task: Task) -> Task:
    """The task with every image read once, so that a damaged one is refused now and not after hours
    of training.

    Decoded images are kept if they fit into IN_MEMORY_BYTES; else the files are read again batch by
    batch.
    """
    splits = {name: getattr(task, name) for name in ("train", "val", "test")}
    if not isinstance(task.train, FileSplit):
        return task
    size, n_images = task.train.image_size, sum(map(len, splits.values()))
    fits = n_images * 3 * size * size * 4 <= IN_MEMORY_BYTES
    n_read, spoken = 0, time.monotonic()
    kept: dict[str, Any] = {}
    for name, split in splits.items():
        batches = []
        for batch in split.batches(64):
            n_read += len(batch[1])
            if fits:
                batches.append(batch)
            if time.monotonic() - spoken > PROGRESS_EVERY_S:
                spoken = time.monotonic()
                print(f"reading images: {n_read} of {n_images}", file=sys.stderr, flush=True)
        if fits:
            kept[name] = Split(*map(torch.cat, zip(*batches, strict=True)))
    return replace(task, **kept)


@torch.no_grad()
def held_out(model: nn.Module, split: AnySplit, names: Sequence[str]) -> dict[str, Any]:
    """The report on images not learnt from: see `tune_images`; Diverged where a logit is NaN."""
    confusion = torch.zeros(len(names), len(names), dtype=torch.int64)
    for images, labels in split.batches(64):
        for true, predicted in zip(
            labels.tolist(), largest_logit(model.eval()(images)).tolist(), strict=True
        ):
            confusion[true, predicted] += 1
    right, n = confusion.diagonal(), confusion.sum(1)
    per_class = {
        name: r / max(1, k) for name, r, k in zip(names, right.tolist(), n.tolist(), strict=True)
    }
    return {
        "classes": names,
        "n_test": int(n.sum()),
        "accuracy": right.sum().item() / max(1, int(n.sum())),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }
