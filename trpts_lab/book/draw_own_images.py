"""What chapter 10 shows: a folder of images, and what a tuned model takes for what."""

import numpy as np

from trpts_lab.book.draw import heat_map, picture_rows
from trpts_lab.book.figures import show


def samples_of_classes(samples):
    """Some images of each class, a row each: {class: [image]}."""
    some = len(next(iter(samples.values())))
    show(
        lambda figure: picture_rows(figure, samples),
        size=(5.6, 0.85 * len(samples)),
        alt=f"{'Six' if some == 6 else some} images of each of the classes {', '.join(samples)}.",
    )


def confusion(report):
    """How many images of each true class were taken for which.

    report  of `trpts.own_images.tune_images`
    """
    counts, names = np.array(report["confusion"]), report["classes"]
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)

    def draw(figure):
        look = {"low": 0, "top": 1, "aspect": "equal", "slanted": True}
        axes = heat_map(
            figure, shares, names, names, [[k or "" for k in row] for row in counts], **look
        )
        axes.set(xlabel="predicted", ylabel="true")

    words = "; ".join(f"{name} {share:.0%} right" for name, share in report["per_class"].items())
    alt = f"Table of true against predicted classes of the held-out images: {words}."
    show(draw, size=(4.2, 3.6), alt=alt)
