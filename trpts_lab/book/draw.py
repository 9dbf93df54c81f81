"""Kinds of figures that several chapters draw; each function draws into a matplotlib Figure."""

import numpy as np


def heat_map(
    figure,
    values,
    rows,
    columns,
    number,
    label=None,
    low=None,
    top=None,
    aspect="auto",
    fontsize=None,
    number_size=None,
    slanted=False,
):
    """A map of numbers, each written into its cell, with a bar of colours where it has a label.

    values   [rows, columns]
    rows, columns  their names
    number   how a value is written: a format such as "{:.0f}", or the texts themselves, row by row
    low, top  ends of the colours; None: the smallest and the largest value
    fontsize  of the rows, and of the numbers unless these have their own
    slanted  the columns have long names
    """
    values = np.asarray(values)
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis", aspect=aspect, vmin=low, vmax=top)
    bright = 0.6 * (values.max() if top is None else top)
    inside = {"ha": "center", "va": "center", "fontsize": number_size or fontsize}
    for (row, column), value in np.ndenumerate(values):
        text = number.format(value) if isinstance(number, str) else number[row][column]
        axes.text(column, row, text, color="black" if value > bright else "white", **inside)
    slant = {"rotation": 40, "ha": "right", "fontsize": fontsize} if slanted else {}
    axes.set_xticks(range(len(columns)), columns, **slant)
    axes.set_yticks(range(len(rows)), rows, fontsize=fontsize)
    if label:
        figure.colorbar(image, label=label)
    return axes


def from_the_top(n):
    """Places of n rows, the first on top."""
    return np.arange(n)[::-1]


def name_rows(axes, names, xlabel, zero=False, fontsize=9, **limits):
    """Name the rows of `from_the_top`, one more line at zero where wanted."""
    if zero:
        axes.axvline(0, color="gray", lw=1)
        limits = {"ylim": (-0.6, len(names) - 0.4)} | limits
    axes.set_yticks(from_the_top(len(names)), names, fontsize=fontsize)
    axes.set(xlabel=xlabel, **limits)


def legend_above(figure, ncols, **style):
    """A legend of all panels above them."""
    figure.legend(loc="outside upper center", ncols=ncols, **style)


def legend_right(figure, fontsize=9):
    """A legend of all panels on their right."""
    figure.legend(loc="outside right upper", fontsize=fontsize)


def picture_rows(figure, rows, titles=(), **label):
    """Rows of pictures with a name on their left and titles above.

    rows   {name: [picture]}
    label  style of the names
    """
    n_columns = max(map(len, rows.values()))
    grid = figure.subplots(len(rows), n_columns, squeeze=False)
    for panels, (name, pictures) in zip(grid, rows.items(), strict=True):
        panels[0].set_ylabel(name, rotation=0, ha="right", **label)
        for axes, picture in zip(panels, pictures, strict=False):
            axes.imshow(picture)
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=9)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])


def kept_rows(figure, rows, titles):
    """Rows of a picture and of what is left of it, the rest grey.

    rows    {name: (picture [H, W, 3], [bool [patches, patches]: which of its patches are kept])}
    titles  of the masks
    """
    shown = {name: [image, *(greyed(image, mask) for mask in masks)] for name, (image, masks)
             in rows.items()}  # fmt: skip
    picture_rows(figure, shown, ("image", *titles), fontsize=8, va="center")


def greyed(picture, mask):
    """A picture whose patches outside of the mask are grey: [H, W, 3]."""
    picture = np.asarray(picture)
    side = picture.shape[0] // len(mask)
    seen = mask.repeat(side, 0).repeat(side, 1)[..., None]
    return np.where(
        seen, picture, np.array(128 if picture.dtype == np.uint8 else 0.5, picture.dtype)
    )


def sheet(images, n_columns, gap=2):
    """Images [n, side, side, 3] pasted onto one white picture, row by row."""
    side = images[0].shape[0]
    step, n_rows = side + gap, -(-len(images) // n_columns)
    shape = (n_rows * step - gap, n_columns * step - gap, 3)
    picture = np.full(shape, 255, np.uint8)
    for nth, image in enumerate(images):
        top, left = (step * n for n in divmod(nth, n_columns))
        picture[top : top + side, left : left + side] = image
    return picture
