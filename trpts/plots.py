"""What the command line draws: a tuned model's confusions, and which image tokens were kept."""

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from trpts.card import model_card
from trpts.places import fresh_file

LONGEST = 40  # characters of a name in the picture
LAST_RESORT = "Last Resort"  # matplotlib's font of boxes, which has every character
MAX_NAMED = 40  # classes up to which names and numbers are written into the picture


def report_files(out: str | Path) -> dict[Path, Callable[[dict, Path], None]]:
    """{path: writer (report, path)}: `out` with .report.json, .confusion.png, or .md for the model
    card, in place of .safetensors.
    """
    stem = Path(out)
    name = stem.name.removesuffix(".safetensors")
    return {
        stem.with_name(f"{name}.report.json"): write_report,
        stem.with_name(f"{name}.confusion.png"): write_picture,
        stem.with_name(f"{name}.md"): partial(write_card, file=stem.name),
    }


def write_report(report: dict, path: str | Path) -> None:
    """Write the report as JSON, without the delta's own notes."""
    told = {key: value for key, value in report.items() if key != "notes"}
    with fresh_file(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def write_card(report: dict, path: str | Path, file: str) -> None:
    """Write the card of the delta in `file`."""
    with fresh_file(path) as temporary:
        temporary.write_text(model_card(report["notes"], file), encoding="utf-8")


def write_picture(report: dict, path: str | Path) -> None:
    """Write the picture of the confusions as PNG."""
    try:
        with fresh_file(path) as temporary:
            draw_confusion(report).savefig(temporary, format="png")
    finally:
        plt.close("all")


def draw_confusion(report: dict) -> Figure:
    """A matplotlib figure: true classes in rows, predicted in columns.

    A colour is a cell's share of its true class, from the smallest to the largest; a number is its
    count. Where no installed font has a name's characters, classes are numbers: the report's
    "classes" says which, counted from 0.
    """
    counts = np.array(report["confusion"])
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    # else a pair of them would be read as a formula
    names = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in report["classes"]]
    names = [name.replace("$", r"\$") for name in names]
    fonts = fonts_for("".join(names))
    if fonts is None:
        fonts, names = [], [str(k) for k in range(len(names))]
    side, named = min(12.0, 2.5 + 0.35 * len(names)), len(names) <= MAX_NAMED
    for_names = 0.08 * max(map(len, names)) * named  # inches, of which the labels take as much
    settings = {"figure.constrained_layout.use": True, "savefig.dpi": 144}
    with plt.rc_context(settings | {"font.family": [*plt.rcParams["font.family"], *fonts]}):
        figure, axes = plt.subplots(figsize=(side + 1 + for_names, side + for_names))
        drawn = ConfusionMatrixDisplay(shares, display_labels=names).plot(
            ax=axes, cmap="cividis", include_values=named, xticks_rotation="vertical"
        )
        drawn.im_.colorbar.set_label("share of the true class")
        title = f"{report['accuracy']:.1%} of {report['n_test']} right"
        axes.set(xlabel="predicted", ylabel="true", title=title)
        if named:
            for text, count in zip(drawn.text_.flat, counts.flat, strict=True):
                text.set(text=count or "", fontsize=8)
        else:
            axes.set(xticks=[], yticks=[])
    return figure


def fonts_for(text: str) -> list[str] | None:
    """Families of installed fonts to add to the default, so that all of `text` can be drawn.

    None: some character is in none of them.
    """
    usual = font_manager.findfont(font_manager.FontProperties())
    missing = set(map(ord, text)) - _characters(usual)
    found: list[str] = []
    for font in font_manager.fontManager.ttflist if missing else []:
        if not font.name.startswith(LAST_RESORT) and (has := missing & _characters(font.fname)):
            missing -= has
            found.append(font.name)
    return None if missing else found


@cache
def _characters(path):
    try:
        return set(font_manager.get_font(path).get_charmap())
    except (RuntimeError, OSError):  # fonts of bitmaps alone, as those of emoji
        return set()


def draw_kept(
    picture: np.ndarray, stages: Sequence[tuple[str, np.ndarray]], title: str = ""
) -> Figure:
    """A matplotlib figure, one panel for each stage.

    picture  float [height, width, 3] in [0, 1]
    stages   [(panel's title, bool [rows, columns]: which patches were kept)]
    """
    height, width = picture.shape[:2]
    # a shadow of what was there
    grey = np.repeat(0.75 + 0.2 * picture.mean(2, keepdims=True), 3, axis=2)
    with plt.rc_context(
        {"figure.constrained_layout.use": True, "figure.dpi": 144, "font.size": 10}
    ):
        figure, panels = plt.subplots(
            1, len(stages), figsize=(3.2 * len(stages), 3.2 * height / width + 0.7), squeeze=False
        )
        for axes, (name, kept) in zip(panels[0], stages, strict=True):
            rows, columns = kept.shape
            # [height, width]
            seen = kept[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
            axes.imshow(np.where(seen[..., None], picture, grey), interpolation="nearest")
            axes.set(title=name, xticks=[], yticks=[])
        # else a pair would be read as a formula
        figure.suptitle(title.replace("$", r"\$"), fontsize=10, wrap=True)
    return figure


def kept_patches(kept: torch.Tensor | list[int], places: np.ndarray) -> np.ndarray:
    """bool [rows, columns]: the rectangles whose tokens are in `kept`.

    places  int [rows, columns]: the token of each, see `trpts.transprune.views`
    """
    return np.isin(places, torch.as_tensor(kept).cpu().numpy())
