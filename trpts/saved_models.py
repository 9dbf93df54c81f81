"""Models that were tuned on your own images: load them, predict. What `trpts predict` calls.

A delta or an exported model carries in its notes all that prediction needs: backbone, how images
are read, class names and token selection.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trpts.backbones import create_backbone, image_size_of, skeleton
from trpts.data.reading import NORMALIZATIONS, RESIZES, read_image
from trpts.delta import FORMAT as DELTA_FORMAT
from trpts.delta import check_delta, load_delta, read_delta
from trpts.files import check_notes, read_header, read_tensors
from trpts.probe import Diverged
from trpts.texts import capped
from trpts.tokens import MERGE, ROUNDING, SCORES, token_selection

MODEL_FORMAT = "trpts model 1"
ORIGIN = "a file of `trpts tune` or `trpts export`"
# What prediction reads from a file's notes; a file may come from anywhere. `check_names` looks at
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
                "upright": {"type": "boolean"},  # files of before it: no, as `read_image` has it
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
    check_names(path, names)
    model = create_backbone(name, len(names), None if exported else weights, image_size=size)
    if exported:
        model.load_state_dict(tensors)
    else:
        load_delta(model, delta)
    return model.to(device).eval(), notes


def check_names(path: str | Path, names: Sequence[Any]) -> None:
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
