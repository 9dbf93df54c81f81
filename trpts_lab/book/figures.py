"""Figures: drawn twice, for light and for dark pages, with a text for those who do not see them.

`show` puts the light picture, its alt text and the dark picture into one output. A notebook viewer
shows the light one; the book's staging (`trpts_lab.book.staging`) shows the one that fits the
reader's page.
"""

import base64
import io

import matplotlib
import matplotlib.pyplot as plt
from cycler import cycler
from IPython.display import display

DPI = 144
DARK_MIME = "application/vnd.trpts.dark-png"
# Okabe and Ito's palette, told apart by colour-blind readers; black gives way to the theme's text
# colour.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
THEMES = {
    "light": {"page": "#ffffff", "ink": "#1f2328", "grid": "#d0d7de"},
    "dark": {"page": "#14181e", "ink": "#e6e8ea", "grid": "#3b4148"},
}


def style(theme):
    """matplotlib settings of a theme."""
    page, ink, grid = (THEMES[theme][key] for key in ("page", "ink", "grid"))
    return {
        "figure.facecolor": page,
        "axes.facecolor": page,
        "savefig.facecolor": page,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": grid,
        "grid.color": grid,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=PALETTE),
        "legend.frameon": False,
        "font.size": 11,
        "axes.titlesize": 11,
        "figure.constrained_layout.use": True,
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
        "svg.hashsalt": "trpts",
    }


def show(draw, alt, size=(6.0, 3.3)):
    """Draw a figure in both themes and display it.

    draw  function of a matplotlib Figure; called once per theme, it must not change anything else
    alt   what is seen, in words: for screen readers, and when the picture does not load
    size  inches (width, height) at DPI pixels per inch
    """
    if len(alt.split()) < 5:
        raise ValueError(f"alt={alt!r}: expected a sentence that says what is seen")
    pictures = {theme: _png(draw, theme, size) for theme in THEMES}
    data = {
        "image/png": pictures["light"],
        DARK_MIME: pictures["dark"],
        "text/plain": f"<figure: {alt}>",
    }
    display(data, metadata={"image/png": {"alt": alt}}, raw=True)


def _png(draw, theme, size):
    with matplotlib.rc_context(style(theme)):
        figure = plt.figure(figsize=size)
        try:
            draw(figure)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})
        finally:
            plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
