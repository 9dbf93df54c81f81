"""What chapter 04 shows: which tokens of an image a backbone keeps."""

import numpy as np

from trpts_lab.book.draw import kept_rows
from trpts_lab.book.figures import show
from trpts_lab.book.interactive import token_slider


def kept_by_block(images, masks, blocks):
    """What is left of some images after each selecting block, a row for each image.

    images  {name: float [H, W, 3] in [0, 1]}
    masks   {name: bool [8, 8] after each block}
    """
    left = "; ".join(
        f"{name} keeps {', '.join(str(int(mask.sum())) for mask in some)} of 64 patches"
        for name, some in masks.items()
    )
    rows = {name: (image, masks[name]) for name, image in images.items()}
    show(
        lambda figure: kept_rows(figure, rows, [f"after block {b}" for b in blocks]),
        size=(6.4, 5.6),
        alt="Four images in rows; beside each, what is left of it after three selecting blocks, "
        f"dropped patches in grey. {left}.",
    )


def share_slider(images, masks):
    """A slider over ρ, the share of the patches that stay in one block.

    images  float [H, W, 3] in [0, 1] each
    masks   {ρ: bool [8, 8] for each image}
    """
    flat = {keep: [mask.ravel() for mask in some] for keep, some in masks.items()}
    return token_slider(
        [np.rint(255 * image).astype(np.uint8) for image in images],
        list(flat.values()),
        [f"ρ = {keep:.2f}: {some[0].sum()} of 64 patches stay" for keep, some in flat.items()],
        title="Which patches does CLS look at?",
        axis="ρ",
        alt="Image with its dropped patches covered,",
        start=9,
    )
