"""The book as one PDF: each page printed by a headless browser, joined in the order of the table of
contents.

Printed in the light theme, with what is folded opened, and formulas as they are on the page.
"""

import io
import shutil

from trpts.errors import TrptsError
from trpts.texts import read_text
from trpts_lab.files import make_folder
from trpts_lab.yaml12 import parse_yaml

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
)
MARGIN = dict.fromkeys(("top", "bottom", "left", "right"), "16mm")
TYPESET = "window.MathJax ? MathJax.startup.promise.then(() => true) : true"


def find_browser():
    """Path of the system's Chromium or Chrome, or None."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def pages_in_order(toc):
    """Names of the book's pages, as in its _toc.yml."""
    try:
        content = parse_yaml(read_text(toc))
        return [
            content["root"],
            *(page["file"] for part in content["parts"] for page in part["chapters"]),
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrptsError(f"{toc}: not a readable table of contents: {error}") from error


def make_pdf(pages, toc, out):
    """Print the built pages below the folder `pages` into the file `out`.

    raises  TrptsError: no browser, or an optional package is missing
    """
    try:
        from playwright.sync_api import Error, sync_playwright
        from pypdf import PdfReader, PdfWriter
    except ImportError as error:
        raise TrptsError(f"a PDF needs {error.name}: `pip install trpts_lab[pdf]`") from error
    if (browser := find_browser()) is None:
        raise TrptsError(
            f"a PDF needs one of {', '.join(BROWSERS)} on the PATH (Debian: apt install chromium)"
        )
    writer = PdfWriter()
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=browser, args=list(QUIET))
        except Error as error:
            raise TrptsError(f"{browser} does not start: {str(error).splitlines()[0]}") from error
        page = chromium.new_page(color_scheme="light")
        for name in pages_in_order(toc):
            page.goto((pages / f"{name}.html").resolve().as_uri(), wait_until="load")
            page.evaluate(TYPESET)
            page.evaluate(
                "document.querySelectorAll('details').forEach(part => { part.open = true; })"
            )
            printed = PdfReader(io.BytesIO(page.pdf(format="A4", margin=MARGIN)))
            writer.append(printed, outline_item=page.title().split(" — ")[0], import_outline=False)
        chromium.close()
    partial = make_folder(out.parent) / f".{out.name}.partial"
    writer.write(partial)
    partial.replace(out)
    return out
