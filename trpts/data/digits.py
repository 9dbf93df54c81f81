"""Real handwritten digits: 1,797 images of 8 x 8 pixels, written by 13 people, carried by
scikit-learn.

Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998), the part that
scikit-learn ships; no download is needed.
"""

from collections.abc import Iterable

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

from trpts.data.task import Split, Task

# the split is part of the task, so it is fixed; seeds vary models and training, never the data
SPLIT_SEED = 0
PIXEL_MAX = 16.0


def load(classes: Iterable[int] = range(10), image_size: int = 8, channels: int = 1) -> Task:
    """The digits named in `classes` as a Task: 60 % train, 20 % val, 20 % test, stratified.

    classes     digits, each 0..9; they become labels 0..K-1 in the order given
    image_size  pixels per side; other than 8, the images are resized (bilinear)
    channels    1, or 3 for models that expect colour: the grey value is repeated
    Pixels run from -1 to 1 (mean .5, standard deviation .5, as timm's IN-21k models expect).
    raises      ValueError: fewer than two classes, one that is no digit, or one given twice
    """
    classes = list(classes)
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise ValueError(f"classes={classes}: expected at least two different digits from 0 to 9")
    raw = load_digits()
    rows = [i for i, digit in enumerate(raw.target) if digit in classes]
    labels = torch.tensor([classes.index(raw.target[i]) for i in rows])
    # [S, 1, 8, 8]
    images = torch.tensor(raw.images[rows], dtype=torch.float32).unsqueeze(1) / PIXEL_MAX * 2 - 1
    if image_size != 8:
        images = functional.interpolate(
            images, size=(image_size, image_size), mode="bilinear", align_corners=False
        )
    images = images.expand(-1, channels, -1, -1).contiguous()

    rest, test = _split(list(range(len(rows))), labels, 0.20)
    train, val = _split(rest, labels, 0.25)
    train, val, test = (Split(images[part], labels[part]) for part in (train, val, test))
    return Task(f"digits {''.join(map(str, classes))}", len(classes), train, val, test)


def _split(rows, labels, fraction):
    return train_test_split(
        rows, test_size=fraction, stratify=labels[rows], random_state=SPLIT_SEED
    )
