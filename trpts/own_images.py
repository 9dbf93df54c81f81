"""Your own images: tune a backbone on a folder, predict with the result, export it. What `trpts
tune` and others call.

A delta or an exported model carries in its notes all that prediction needs: backbone, how images
are read, class names and token selection.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trpts.backbones import SMALL, create_backbone, image_size_of, skeleton
from trpts.data.images import NORMALIZATIONS, RESIZES, FileSplit, read_image
from trpts.data.load import load_task
from trpts.data.task import AnySplit, Split, Task
from trpts.delta import FORMAT as DELTA_FORMAT
from trpts.delta import check_delta, load_delta, read_delta, save_delta
from trpts.files import capped, check_notes, read_header, read_tensors, write_tensors
from trpts.methods import METHODS
from trpts.places import check_place, claimed
from trpts.probe import Diverged, largest_logit
from trpts.tokens import MERGE, ROUNDING, SCORES, token_selection
from trpts.training import resumable
from trpts.tuning import TuneResult, tune

MODEL_FORMAT = "trpts model 1"
IN_MEMORY_BYTES = 4 * 2**30  # below this, decoded images are kept between epochs
PROGRESS_EVERY_S = 5.0
ORIGIN = "a file of `trpts tune` or `trpts export`"
# What prediction reads from a file's notes; a file may come from anywhere. `_check_names` looks at
# the class names.
NOTES = {
    "type": "object",
    "required": ["format", "backbone", "reading", "class_names"],
    "properties": {
        "format": {"enum": [DELTA_FORMAT, MODEL_FORMAT]},
        "backbone": {"type": "string", "maxLength": 200},
        "reading": {
            "type": "object",
            "properties": {
                "image_size": {"type": "integer", "minimum": 1, "maximum": 4096},
                "normalization": {"enum": list(NORMALIZATIONS)},
                "resize": {"enum": list(RESIZES)},
            },
            "required": ["image_size", "normalization", "resize"],
            "additionalProperties": False,
        },
        "class_names": {"type": "array", "minItems": 1},
        "tokens": {
            "type": ["object", "null"],
            "properties": {
                "blocks": {"type": "array", "items": {"type": "integer"}},
                "keep": {"type": "number"},
                "merge": {"enum": list(MERGE)},
                "score": {"enum": list(SCORES)},
            },
            "required": ["blocks", "keep"],
            "additionalProperties": False,
        },
    },
}


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
    report_files  {path: function (report, path) that writes it}: files that are made of the report
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
        _check_names(data, names)
        model = create_backbone(backbone, task.n_classes, weights, seed, image_size).to(device)
        task = in_memory(task).to(device)
        result = tune(model, task, method, seed=seed, checkpoint=checkpoint, **options)
        with resumable(checkpoint):
            with result.around():
                report = held_out(model, task.test, names)
            notes = {
                "backbone": backbone,
                "reading": reading,
                "class_names": names,
                "tokens": result.tokens,
                "settings": result.options,
                "test_accuracy": report["accuracy"],
                "n_test": report["n_test"],
            }
            save_delta(model, out, **notes)
            for path, write in report_files.items():
                write(report, path)
            checkpoint.unlink()
    return result, report


def _load(data, backbone, seed, image_size):
    """(task, reading) of tasks or folders that the backbone can take."""
    reading = reading_of(backbone, image_size)
    return load_task(str(data), seed=seed, **reading), reading


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


def load_model(
    path: str | Path, weights: str | Path | None = "hub", device: str | torch.device = "cpu"
) -> tuple[nn.Module, dict[str, Any]]:
    """(model, notes) of a delta, put into its backbone with these weights, or of an exported model
    (weights unused).

    raises  ValueError: what is wrong with the file. Its notes and its shapes are compared with each
            other and with the backbone's before that is built; FileNotFoundError: no such file
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: expected a delta or an exported model")
    found, notes = read_header(path, "a delta or an exported model")
    check_notes(path, notes, NOTES, ORIGIN)
    name, names, exported = notes["backbone"], notes["class_names"], notes["format"] == MODEL_FORMAT
    size, field = notes["reading"]["image_size"], "backbone"
    try:
        frame = skeleton(name, len(names))
        if image_size_of(name, frame) == size:
            size = None  # made as it is, positions and all
        else:
            field = "reading/image_size"
            frame = skeleton(name, len(names), size)
    except ValueError as error:
        raise ValueError(f"{path} has unfit notes, in {field}: {capped(error, 400)}") from error
    try:
        _check_tokens(frame, notes.get("tokens"))
    except ValueError as error:
        raise ValueError(f"{path} has unfit notes, in tokens: {capped(error, 400)}") from error
    if exported:
        tensors, _ = read_tensors(path, f"a {name} with {len(names)} classes", frame.state_dict())
    else:
        _, shape = found.get("head.weight", (None, ()))
        if shape[:1] != (len(names),):
            rows = shape[0] if shape else 0
            raise ValueError(
                f"{path} names {len(names)} classes, its head has {rows}: expected as many"
            )
        delta = read_delta(path)
        check_delta(frame, delta)
    _check_names(path, names)
    model = create_backbone(name, len(names), None if exported else weights, image_size=size)
    if exported:
        model.load_state_dict(tensors)
    else:
        load_delta(model, delta)
    return model.to(device).eval(), notes


def _check_names(path, names):
    """Raise ValueError unless class names are texts, no two of them the same."""
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(
                f"{path} has unfit names, in class_names/{k}: {capped(name)} is no text"
            )
        if first.setdefault(name, k) != k:
            raise ValueError(
                f"{path} has unfit names, in class_names/{k}: {capped(name)!r} stands at "
                f"{first[name]} already; expected different names"
            )


@torch.no_grad()
def predict(
    model: nn.Module,
    notes: Mapping[str, Any],
    paths: Iterable[str | Path],
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> Iterator[tuple[str | Path, dict[str, float]]]:
    """Yield (path, {class name: probability, largest first}) for image files.

    raises  ValueError: an image that is broken; Diverged: one whose logits are not finite
    """
    paths = list(paths)
    with _selecting(model, notes.get("tokens")):
        for start in range(0, len(paths), batch_size):
            some = paths[start : start + batch_size]
            images = torch.stack([read_image(path, **notes["reading"]) for path in some]).to(device)
            for path, p in zip(some, model(images).softmax(1).cpu(), strict=True):
                if not p.isfinite().all():
                    raise Diverged(
                        f"{path} has logits that are not finite numbers: the weights are broken"
                    )
                ranked = p.argsort(descending=True).tolist()
                yield path, {notes["class_names"][k]: p[k].item() for k in ranked}


def export_model(
    path: str | Path, out: str | Path, weights: str | Path | None = "hub"
) -> dict[str, Any]:
    """Write a delta's tuned model as a plain timm checkpoint, with the notes in its metadata."""
    out = Path(out)
    check_place(out, path, weights)
    with claimed(out):
        model, notes = load_model(path, weights)
        notes = {key: notes.get(key) for key in ("backbone", "reading", "class_names", "tokens")}
        write_tensors(out, model.state_dict(), notes | {"format": MODEL_FORMAT})
    return notes


def _check_tokens(model, tokens):
    """Raise ValueError unless the model can select tokens so, and some are left in every block."""
    with _selecting(model, tokens):
        n = model.patch_embed.num_patches
    for number in sorted(tokens["blocks"]) if tokens else ():
        n_kept = ROUNDING["floor"](tokens["keep"] * n)
        if n_kept < 1:
            raise ValueError(
                f"keep={tokens['keep']} of {n} tokens in block {number} keeps none: "
                "expected one or more"
            )
        n = n_kept + (n_kept < n and tokens.get("merge") != "drop")


def _selecting(model, tokens):
    return token_selection(model, **tokens) if tokens else nullcontext()
