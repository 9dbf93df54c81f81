"""A tuned model in other formats, and from them: a timm checkpoint, a LoRA adapter, two checkpoints
whose difference is a delta. What `trpts export` and `trpts diff` call.
"""

from pathlib import Path
from typing import Any

from trpts.adapter import save_adapter
from trpts.backbones import create_backbone, skeleton
from trpts.card import model_card
from trpts.delta import FORMAT as DELTA_FORMAT
from trpts.delta import Delta, unload_delta, write_delta
from trpts.difference import difference
from trpts.files import check_notes, read_header, read_tensors, write_tensors
from trpts.layers import head_name
from trpts.own_images import reading_of
from trpts.places import check_place, claimed
from trpts.saved_models import MODEL_FORMAT, NOTES, ORIGIN, check_names, load_model


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


def export_adapter(
    path: str | Path, out: str | Path, weights: str | Path | None = "hub"
) -> dict[str, float]:
    """Write a delta as a folder that PEFT loads, with a model card; sizes as of `save_adapter`."""
    model, notes = load_model(path, weights)
    if notes["format"] != DELTA_FORMAT:
        raise ValueError(f"{path} is an exported model: expected a delta of `trpts tune`")
    unload_delta(model)
    card = model_card(notes, Path(out).name, "adapter")
    return save_adapter(model, out, path, base=f"timm/{notes['backbone']}", card=card)


def write_difference(
    base: str | Path,
    tuned: str | Path,
    backbone: str,
    out: str | Path,
    image_size: int | None = None,
) -> Delta:
    """Write the delta between a backbone's weights and a tuned checkpoint of it; the Delta.

    base    safetensors of the backbone, or "hub"
    tuned   safetensors of the whole tuned model, head included; class names are those that
            `trpts export` wrote into it, else numbers
    raises  ValueError, FileNotFoundError: what is wrong with a file, or why no delta holds the
            difference
    """
    out, expected = Path(out), f"a tuned {backbone}, as safetensors"
    check_place(out, base, tuned)
    if not Path(tuned).is_file():
        raise FileNotFoundError(f"{tuned} does not exist: expected {expected}")
    head = head_name(skeleton(backbone, 1, image_size))
    found, notes = read_header(tuned, expected, noted=False)
    _, shape = found.get(f"{head}.weight", (None, ()))
    if not shape:
        raise ValueError(f"{tuned} holds no {head}.weight: expected {expected}, head included")
    model = create_backbone(backbone, shape[0], None, image_size=image_size)
    tensors, _ = read_tensors(tuned, expected, model.state_dict(), noted=False)
    model.load_state_dict(tensors)
    delta = difference(create_backbone(backbone, shape[0], base, image_size=image_size), model)
    told = {  # of somebody else's file nothing is known
        "reading": reading_of(backbone, image_size) | {"upright": True},
        "class_names": [str(k) for k in range(shape[0])],
    }
    if notes.get("format") == MODEL_FORMAT:
        check_notes(tuned, notes, NOTES, ORIGIN)
        check_names(tuned, notes["class_names"])
        told = {key: notes[key] for key in told}
    delta.notes |= {"backbone": backbone, "tokens": None, **told}
    with claimed(out):
        write_delta(delta, out)
    return delta
