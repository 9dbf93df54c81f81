"""The picture of `trpts prune`: the image once per stage, patches whose tokens were dropped in grey."""

import matplotlib.pyplot as plt
import numpy as np


def draw_kept(picture, stages, title=""):
    """A matplotlib figure, one panel for each stage.

    picture  float [height, width, 3] in [0, 1]
    stages   [(panel's title, bool [rows, columns]: which patches were kept)]
    """
    height, width = picture.shape[:2]
    grey = np.repeat(0.75 + 0.2 * picture.mean(2, keepdims=True), 3, axis=2)  # a shadow of what was there
    with plt.rc_context({"figure.constrained_layout.use": True, "figure.dpi": 144, "font.size": 10}):
        figure, panels = plt.subplots(1, len(stages), figsize=(3.2 * len(stages), 3.2 * height / width + 0.7),
                                      squeeze=False)  # fmt: skip
        for axes, (name, kept) in zip(panels[0], stages, strict=True):
            rows, columns = kept.shape
            seen = kept[np.arange(height) * rows // height][:, np.arange(width) * columns // width]  # [height, width]
            axes.imshow(np.where(seen[..., None], picture, grey), interpolation="nearest")
            axes.set(title=name, xticks=[], yticks=[])
        figure.suptitle(title.replace("$", r"\$"), fontsize=10, wrap=True)  # else a pair would be read as a formula
    return figure


def kept_patches(kept, rows, columns, first=0):
    """bool [rows, columns]: the rectangles whose tokens are among the numbers `kept`, int64; see `image_view`."""
    return np.isin(first + np.arange(rows * columns), kept.cpu().numpy()).reshape(rows, columns)
