"""Your own images: tune a backbone on a folder, predict with the result, export it. What `trpts tune` and others call.

A delta or an exported model carries in its notes all that prediction needs: backbone, how images are read, class names
and token selection.
"""

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import jsonschema
import torch

from trpts.backbones import SMALL, create_backbone
from trpts.data.images import NORMALIZATIONS, RESIZES, read_image
from trpts.data.load import load_task
from trpts.data.task import Split
from trpts.data.twins import TWINS
from trpts.delta import load_delta, read_delta, save_delta
from trpts.files import read_notes, read_tensors, write_tensors
from trpts.tokens import MERGE, SCORES, token_selection
from trpts.tuning import tune

MODEL_FORMAT = "trpts model 1"
SAVED_METHODS = ("trpts", "linear")  # those whose outcome is a delta
IN_MEMORY_BYTES = 4 * 2**30  # below this, decoded images are kept between epochs
# What prediction reads from a file's notes; a file may come from anywhere.
NOTES = {
    "type": "object",
    "required": ["format", "backbone", "reading", "class_names"],
    "properties": {
        "backbone": {"type": "string"},
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
        "class_names": {"type": "array", "items": {"type": "string"}, "minItems": 1},
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


def reading_of(name):
    """How a backbone wants its images: {"image_size", "normalization", "resize"}, as in `read_image`.

    From timm's own settings of the checkpoint; a mean and standard deviation that we have no name for are refused.
    """
    if name in SMALL:
        return {"image_size": SMALL[name]["img_size"], "normalization": "half", "resize": "squash"}
    cfg = create_backbone(name, 1).pretrained_cfg
    for normalization, values in NORMALIZATIONS.items():
        if (tuple(cfg["mean"]), tuple(cfg["std"])) == values:
            return {"image_size": cfg["input_size"][-1], "normalization": normalization, "resize": "squash"}
    raise ValueError(f"{name} wants images of mean {cfg['mean']} and standard deviation {cfg['std']}: expected one of "
                     f"{', '.join(NORMALIZATIONS)}")  # fmt: skip


def tune_images(data, backbone, weights, out, method="trpts", seed=0, device="cpu", **options):
    """Tune on an image folder (or a task by name), write the delta to `out`; (TuneResult, report).

    weights  path of the backbone's weights, or "hub" for the local Hugging Face cache
    options  of `tune`, the method's own included
    report   on the test images: {"classes", "confusion" [K][K] (true, predicted), "accuracy", "n_test", "per_class"}
    raises   ValueError, FileNotFoundError: what is wrong with data, weights, options or the place of `out`, before any
             work is done
    """
    if method not in SAVED_METHODS:
        raise ValueError(f"method {method!r} leaves no delta: expected one of {', '.join(SAVED_METHODS)}")
    out = Path(out)
    check_place(out, data, weights)
    reading = reading_of(backbone)
    drawn = str(data) in TWINS or str(data) == "digits"
    task = load_task(str(data), seed=seed, **({} if drawn else reading))
    if drawn and task.train.images.shape[-1] != reading["image_size"]:
        raise ValueError(f"{data} has images of {task.train.images.shape[-1]} pixels, {backbone} takes "
                         f"{reading['image_size']}: expected a backbone such as vit_lab")  # fmt: skip
    task = (task if drawn else in_memory(task)).to(device)
    model = create_backbone(backbone, task.n_classes, weights, seed).to(device)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    result = tune(model, task, method, seed=seed, checkpoint=checkpoint, **options)
    names = list(task.class_names) or [str(k) for k in range(task.n_classes)]
    with result.around():
        report = held_out(model, task.test, names)
    notes = {"backbone": backbone, "reading": reading, "class_names": names, "tokens": result.tokens,
             "settings": result.options, "test_accuracy": report["accuracy"], "n_test": report["n_test"]}  # fmt: skip
    save_delta(model, out, **notes)
    return result, report


def in_memory(task):
    """The task with its images decoded once, if they fit into IN_MEMORY_BYTES; else as it is, read batch by batch."""
    splits = {name: getattr(task, name) for name in ("train", "val", "test")}
    size = next(iter(splits.values())).image_size
    if sum(map(len, splits.values())) * 3 * size * size * 4 > IN_MEMORY_BYTES:
        return task
    return replace(
        task, **{name: Split(*map(torch.cat, zip(*s.batches(64), strict=True))) for name, s in splits.items()}
    )


@torch.no_grad()
def held_out(model, split, names):
    """The report on images that were not learnt from: see `tune_images`."""
    confusion = torch.zeros(len(names), len(names), dtype=torch.int64)
    for images, labels in split.batches(64):
        for true, predicted in zip(labels.tolist(), model.eval()(images).argmax(1).tolist(), strict=True):
            confusion[true, predicted] += 1
    right, n = confusion.diagonal(), confusion.sum(1)
    per_class = {name: r / max(1, k) for name, r, k in zip(names, right.tolist(), n.tolist(), strict=True)}
    return {"classes": names, "n_test": int(n.sum()), "accuracy": right.sum().item() / max(1, int(n.sum())),
            "per_class": per_class, "confusion": confusion.tolist()}  # fmt: skip


def load_model(path, weights="hub", device="cpu"):
    """(model, notes) of a delta, put into its backbone with these weights, or of an exported model (weights unused)."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist: expected a delta or an exported model")
    notes = read_notes(path, "a delta or an exported model")
    if error := jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(NOTES).iter_errors(notes)):
        where = "/".join(map(str, error.absolute_path)) or "all"
        raise ValueError(f"{path} has unfit notes, in {where}: {error.message}; expected a file of `trpts tune` or "
                         "`trpts export`")  # fmt: skip
    n_classes = len(notes["class_names"])
    if notes["format"] == MODEL_FORMAT:
        model = create_backbone(notes["backbone"], n_classes)
        try:
            model.load_state_dict(read_tensors(path, "an exported model")[0])
        except RuntimeError as error:
            raise ValueError(f"{path} is not a {notes['backbone']} with {n_classes} classes: {error}") from error
    else:
        delta = read_delta(path)
        if len(delta.head[0]) != n_classes:
            raise ValueError(f"{path} names {n_classes} classes, its head has {len(delta.head[0])}: expected as many")
        model = create_backbone(notes["backbone"], n_classes, weights)
        load_delta(model, delta)
    size, wanted = notes["reading"]["image_size"], model.patch_embed.img_size[0]
    if size != wanted:
        raise ValueError(
            f"{path} reads images of {size} pixels, {notes['backbone']} takes {wanted}: its notes are unfit"
        )
    with _selecting(model, notes.get("tokens")):  # refuses unfit blocks here, not at the first image
        return model.to(device).eval(), notes


@torch.no_grad()
def predict(model, notes, paths, device="cpu", batch_size=32):
    """Yield (path, {class name: probability, largest first}) for image files; a broken one raises ValueError."""
    paths = list(paths)
    with _selecting(model, notes.get("tokens")):
        for start in range(0, len(paths), batch_size):
            some = paths[start : start + batch_size]
            images = torch.stack([read_image(path, **notes["reading"]) for path in some]).to(device)
            for path, p in zip(some, model(images).softmax(1).cpu(), strict=True):
                ranked = p.argsort(descending=True).tolist()
                yield path, {notes["class_names"][k]: p[k].item() for k in ranked}


def export_model(path, out, weights="hub"):
    """Write the tuned model behind a delta as an ordinary timm checkpoint, with the notes in its metadata."""
    model, notes = load_model(path, weights)
    notes = {key: notes.get(key) for key in ("backbone", "reading", "class_names", "tokens")} | {"format": MODEL_FORMAT}
    out = Path(out)
    check_place(out, path, weights)
    write_tensors(out, model.state_dict(), notes)
    return notes


def check_place(out, *inputs):
    """Raise ValueError unless a file can be written at `out` that is none of the inputs."""
    if not out.parent.is_dir() or out.is_dir() or not os.access(out.parent, os.W_OK):
        raise ValueError(f"{out} cannot be written: expected a file name in a folder that exists and may be written to")
    if any(out.exists() and Path(path).exists() and out.samefile(path) for path in inputs if path is not None):
        raise ValueError(f"{out} is what is read: expected another name to write to")


def _selecting(model, tokens):
    return token_selection(model, **tokens) if tokens else nullcontext()
