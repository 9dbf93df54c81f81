"""Pictures with a slider: one piece of HTML each, which needs no server, no kernel and nothing from
outside.

What each position of the slider shows is computed beforehand and stands in the piece as text; a few
lines of script switch between the positions. It works alike in the book's pages and in Jupyter, by
mouse and by keyboard, and says in words what is seen. Without scripts, the first position stands.
"""

import base64
import html
import io
import json

import numpy as np
from IPython.display import HTML
from PIL import Image

from trpts.hashes import short_hash

FRAME = """<figure id="{id}" class="trpts-slider">
<style>
#{id} {{ margin: 1em 0; max-width: 44em }}
#{id} .panels {{ display: flex; flex-wrap: wrap; gap: .6em }}
#{id} svg {{ display: block; max-width: 100%; height: auto }}
#{id} .scrim {{ fill: #101418; opacity: .82; stroke: none }}
#{id} .bar {{ fill: #0072b2 }}
#{id} text {{ fill: currentColor; font: 11px sans-serif }}
#{id} .position {{ display: flex; flex-wrap: wrap; gap: .6em; align-items: center;
  margin-top: .5em }}
#{id} input {{ flex: 1 1 12em; min-width: 8em; accent-color: #0072b2 }}
#{id} output {{ flex: 1 1 16em; min-height: 3em }}
</style>
<figcaption><strong>{title}</strong></figcaption>
<div class="panels">{panels}</div>
<div class="position"><label for="{id}-at">{axis}</label>
<input id="{id}-at" type="range" min="0" max="{last}" step="1" value="{start}">
<output for="{id}-at">{label}</output></div>
<script>(() => {{
const root = document.getElementById("{id}"), data = {data};
const slider = root.querySelector("input"), words = root.querySelector("output");
const show = at => {{
words.textContent = data.labels[at]; slider.setAttribute("aria-valuetext", data.labels[at]);
{script}
}};
slider.addEventListener("input", () => show(+slider.value)); show(+slider.value);
}})()</script>
</figure>"""
HIDE_AND_SHOW = """root.querySelectorAll("svg").forEach(
  (svg, n) => svg.querySelectorAll(".scrim").forEach(
(scrim, token) => scrim.style.display = data.kept[at][n][token] === "1" ? "none" : ""));"""
GROW = """root.querySelectorAll(".bar").forEach((bar, n) => {
const h = data.height * data.values[at][n] / data.top;
bar.setAttribute("height", h); bar.setAttribute("y", data.height - h);
bar.firstChild.textContent = data.names[n] + ": " + data.values[at][n]; });"""


def token_slider(images, kept, labels, title, axis, alt, start=0, pixels=140):
    """Images whose tokens are covered or not, by the position of a slider.

    images  uint8 [H, W, 3] each
    kept    for each position, for each image: bool [n_tokens], n_tokens a square number, row by row
    labels  for each position, what is seen in words
    axis    what the slider moves
    alt     what an image is, for those who do not see it
    """
    _check(labels, kept, start)
    side = round(len(kept[0][0]) ** 0.5)
    panels = [
        _covered(image, mask, side, f"{alt} {n + 1}", pixels)
        for n, (image, mask) in enumerate(zip(images, kept[start], strict=True))
    ]
    bits = [["".join("1" if k else "0" for k in mask) for mask in masks] for masks in kept]
    return _frame(title, axis, labels, start, panels, {"kept": bits}, HIDE_AND_SHOW)


def bar_slider(names, values, labels, title, axis, alt, groups=(), start=0):
    """Bars whose heights follow the position of a slider.

    names   of the bars
    values  for each position, a number for each bar
    labels  for each position, what is seen in words
    groups  [(bar at which it begins, text)] written below
    """
    _check(labels, values, start)
    top, height, width = max(max(row) for row in values) or 1, 150, 640
    step = width / len(names)
    bars = "".join(
        f'<rect class="bar" x="{step * n + 1:.1f}" width="{step - 2:.1f}" '
        f'y="{height * (1 - v / top):.1f}" '
        f'height="{height * v / top:.1f}"><title>{html.escape(name)}: {v}</title></rect>'
        for n, (name, v) in enumerate(zip(names, values[start], strict=True))
    )
    below = "".join(
        f'<text x="{step * n + 1:.1f}" y="{height + 16}">{html.escape(text)}</text>'
        for n, text in groups
    )
    panel = (
        f'<svg viewBox="0 0 {width} {height + 22}" width="{width}" role="img" '
        f'aria-label="{html.escape(alt)}">'
        f"{bars}{below}</svg>"
    )
    data = {"values": values, "names": list(names), "top": top, "height": height}
    return _frame(title, axis, labels, start, [panel], data, GROW)


def _covered(image, mask, side, alt, pixels):
    """An image under scrims that hide the tokens which are not kept."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image, dtype=np.uint8)).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    scrims = "".join(
        f'<rect class="scrim" x="{n % side}" y="{n // side}" width="1" height="1"{_hidden(k)}/>'
        for n, k in enumerate(mask)
    )
    return (
        f'<svg viewBox="0 0 {side} {side}" width="{pixels}" role="img" '
        f'aria-label="{html.escape(alt)}">'
        f'<image href="data:image/png;base64,{png}" width="{side}" height="{side}" '
        f'style="image-rendering: pixelated"/>{scrims}</svg>'
    )


def _hidden(kept):
    return ' style="display: none"' if kept else ""


def _check(labels, positions, start):
    if not len(labels) == len(positions) > start >= 0:
        found = f"{len(labels)} labels for {len(positions)} positions, the first shown is {start}"
        raise ValueError(f"{found}: expected as many, and one of them")


def _frame(title, axis, labels, start, panels, data, script):
    # As "\\u003c" no "<" of a text can end the script, or begin "<!--<script>", which would swallow
    # the page behind it.
    text = json.dumps({"labels": list(labels), **data}).replace("<", "\\u003c")
    name = f"slider-{short_hash(title + text)}"
    return HTML(
        FRAME.format(
            id=name,
            title=html.escape(title),
            axis=html.escape(axis),
            last=len(labels) - 1,
            start=start,
            label=html.escape(labels[start]),
            panels="".join(panels),
            data=text,
            script=script,
        )
    )
