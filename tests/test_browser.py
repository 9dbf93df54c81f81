"""The built pages in a real browser: both widths, both themes, no network, no sideways scrolling,
formulas drawn, and nothing that axe-core calls a serious or critical barrier.
"""

import functools
import http.server
import importlib.util
import threading
from pathlib import Path

import pytest

AXE = Path(importlib.util.find_spec("axe_playwright_python").origin).parent / "axe.min.js"
# Without preload, which reads style sheets anew from where they are not.
BARRIERS = """() => axe.run(
    document, {resultTypes: ["violations"], preload: false}).then(found => found.violations
    .filter(v => ["serious", "critical"].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => n.target.join(" ")).join(", ")}`))"""
HARMLESS = ("Got invalid theme mode",)  # the theme, on its first visit, before it stores a choice


@pytest.fixture(scope="module")
def site(html):
    """Address of the built book, served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.path == "/favicon.ico":  # browsers ask for it, pages do not
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(html))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages(browser, site, html, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda r: problems.append(r.url) if not r.url.startswith((site, "data:")) else None,
    )
    names = [
        str(path.relative_to(html))
        for path in sorted(html.rglob("*.html"))
        if "_static" not in path.parts
    ]
    assert "notebooks/01_fim.html" in names
    for name in names:
        page.goto(site + name, wait_until="load")
        page.evaluate("window.MathJax ? MathJax.startup.promise.then(() => true) : true")
        problems += [f"{name}: {text}" for text in look(page, theme)]
    context.close()
    assert not [text for text in problems if not any(word in text for word in HARMLESS)]


def look(page, theme):
    """What is wrong with how a page looks."""
    wide, seen = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    if wide > seen:
        yield f"scrolls sideways: {wide} > {seen}"
    n_math, n_drawn = page.evaluate(
        "['.math', 'mjx-container'].map(s => document.querySelectorAll(s).length)"
    )
    if n_drawn < n_math:
        yield f"{n_drawn} of {n_math} formulas drawn"
    shown = "img => img.offsetParent !== null && img.naturalWidth > 0"
    for css in ("only-light", "only-dark"):
        states = page.eval_on_selector_all(f"img.{css}", f"all => all.map({shown})")
        if any(state != (css == f"only-{theme}") for state in states):
            yield f"figures of class {css} are {states} on a {theme} page"
    if page.eval_on_selector_all(
        ".solution.dropdown", "all => all.some(s => !s.classList.contains('toggle-hidden'))"
    ):
        yield "a solution is not folded"
    cut = (
        "all => all.filter(pre => pre.scrollWidth > pre.clientWidth + 1).map(pre => "
        "pre.textContent.slice(0, 60))"
    )
    for text in page.eval_on_selector_all("div.cell_output pre", cut):
        yield f"a printed output is cut off: {text!r}"
    tall = (
        "all => all.filter(row => row.clientHeight > innerHeight / 2).map(row => "
        "row.textContent.slice(0, 60))"
    )
    for text in page.eval_on_selector_all("table.table tr", tall):
        yield f"a row of a table is taller than half of the screen: {text!r}"
    page.evaluate(AXE.read_text(encoding="utf-8"))
    yield from page.evaluate(BARRIERS)


def test_barriers_are_noticed(browser):
    """A picture without words and grey words on grey, planted."""
    page = browser.new_page()
    page.set_content("""<html lang="en"><title>t</title><main><h1>h</h1>
                        <img src="data:image/gif;base64,R0lGODlhAQABA=">
                        <p style="color: #aaa; background: #bbb">words</p></main></html>""")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert {text.split(":")[0] for text in page.evaluate(BARRIERS)} == {
        "image-alt",
        "color-contrast",
    }
    page.close()


def test_reads_from_disk_without_a_server(browser, html):
    """Opened as a file, as `make book` suggests: formulas and figures are there."""
    page = browser.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((html / "notebooks" / "01_fim.html").as_uri(), wait_until="load")
    page.wait_for_selector("mjx-container")
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
    page.close()
