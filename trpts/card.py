"""A model card: what was tuned, on what, how well, and how to load it, as a hub shows it."""

import json
from collections.abc import Mapping
from typing import Any

LOAD = {
    "delta": """from trpts.saved_models import load_model

model, notes = load_model({file!r})""",
    "adapter": """import timm
from peft import PeftModel

model = timm.create_model({backbone!r}, pretrained=True, num_classes={n}{size})
model = PeftModel.from_pretrained(model, {file!r}).eval()""",
}
NEEDS = {"delta": "trpts", "adapter": "peft"}


def model_card(notes: Mapping[str, Any], file: str, kind: str = "delta") -> str:
    """The card of a delta with these notes, or of an adapter made of it, in Markdown.

    notes  of `trpts.own_images.tune_images`; what is missing is not told
    file   name of the delta's file, or of the adapter's folder
    kind   "delta" or "adapter"
    """
    backbone, names = notes["backbone"], notes["class_names"]
    data, size = notes.get("data"), notes["reading"]["image_size"]
    front: dict[str, Any] = {
        "base_model": f"timm/{backbone}",
        "library_name": NEEDS[kind],
        "pipeline_tag": "image-classification",
        "tags": ["trpts", "timm", *(["lora"] if kind == "adapter" else [])],
    }
    tuned = {"linear": "The head was tuned", "trpts": "A few connections of each neuron were tuned"}
    told = [
        f"{tuned.get(notes.get('method', ''), 'A few connections of each neuron differ')} in "
        f"`{backbone}`."
    ]
    if data:
        told.append(f"Images: {_plain(data)}. Classes: {len(names)}.")
    if "test_accuracy" in notes:
        value, n = notes["test_accuracy"], notes["n_test"]
        front["model-index"] = [
            {
                "name": file,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": data or "own images", "type": "image-folder"},
                        "metrics": [{"type": "accuracy", "value": round(value, 4)}],
                    }
                ],
            }
        ]
        told.append(f"**{value:.1%} of {n} images that it did not learn from are right.**")
    if kind == "adapter":
        told.append("The outputs are those of the tuned model with all tokens.")
        if notes.get("tokens"):
            told.append(
                "It was tuned with token selection, which an adapter cannot carry; the accuracy "
                "above is with it."
            )
    reading = notes["reading"]
    told.append(
        f"Images are scaled to {size} × {size} pixels ({reading['resize']}) and normalised as "
        f"`{reading['normalization']}`."
    )
    own = f", img_size={size}" if kind == "adapter" else ""
    code = LOAD[kind].format(file=file, backbone=backbone, n=len(names), size=own)
    classes = ", ".join(map(_plain, names))
    settings = notes.get("settings")
    parts = [
        "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---"]),
        f"# {_plain(data) if data else backbone}",
        *told,
        f"```python\n{code}\n```",
        f"Classes, in order: {classes}.",
        *([f"Settings: `{json.dumps(settings)}`"] if settings else []),
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text):
    """A name as text that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>#|!" else " " if c in "\r\n" else c for c in text)
