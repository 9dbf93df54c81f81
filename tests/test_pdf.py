"""The book as one PDF: pages in the order of the table of contents, words and figures in it."""

import subprocess
import sys

import pytest

from trpts.errors import TrptsError
from trpts_lab.book import pdf


def test_order_is_the_table_of_contents(project):
    names = pdf.pages_in_order(project.root / "book" / "_toc.yml")
    assert names[:2] == ["index", "notebooks/00_start_here"]
    assert names[-1] == "bibliography"
    assert len(set(names)) == len(names)


def test_two_pages_are_printed_and_joined(browser, html, tmp_path):
    """In a process of its own: the browser of the other tests is in use."""
    reader = pytest.importorskip("pypdf").PdfReader
    toc, out = tmp_path / "_toc.yml", tmp_path / "out" / "book.pdf"
    toc.write_text("root: index\nparts: [{chapters: [{file: notation}]}]\n")
    program = (
        "import sys, pathlib, trpts_lab.book.pdf as pdf; pdf.make_pdf(*map(pathlib.Path, "
        "sys.argv[1:]))"
    )
    subprocess.run([sys.executable, "-c", program, html, toc, out], check=True)
    found = reader(out)
    words = "".join("".join(page.extract_text().split()) for page in found.pages)
    assert words.index("Mostofavisionmodel") < words.index("diagonaloftheFisherinformation")
    assert len(found.outline) == 2
    assert [path.name for path in out.parent.iterdir()] == ["book.pdf"]


def test_without_a_browser_it_says_so(monkeypatch, tmp_path):
    pytest.importorskip("pypdf")
    monkeypatch.setattr(pdf, "find_browser", lambda: None)
    with pytest.raises(TrptsError, match=r"a PDF needs one of chromium, .* on the PATH"):
        pdf.make_pdf(tmp_path, tmp_path / "_toc.yml", tmp_path / "x.pdf")


CUT = """() => [...document.querySelectorAll('article pre')]
    .filter(pre => pre.checkVisibility() && pre.scrollWidth > pre.clientWidth + 1)
    .map(pre => pre.innerText)"""
WIDE = """() => [...document.querySelectorAll('article :is(table, img, svg)')]
    .filter(one => one.checkVisibility())
    .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth)
    .map(one => one.outerHTML.slice(0, 200))"""


def test_on_paper_nothing_is_cut_and_no_box_is_empty(browser, html, project):
    page = browser.new_page(viewport={"width": 700, "height": 1000})
    page.goto((html / "notebooks" / "03_sparse_tuning.html").as_uri())
    page.evaluate(pdf.TYPESET)
    assert page.evaluate(CUT), "on the screen long lines scroll, so this check would see them"
    assert page.evaluate(WIDE), "and so do wide equations"
    page.emulate_media(media="print")
    assert not page.locator("details.above-input").first.is_visible()
    cut = {}
    for name in pdf.pages_in_order(project.root / "book" / "_toc.yml"):
        page.goto((html / f"{name}.html").as_uri())
        page.evaluate(pdf.TYPESET)
        if found := page.evaluate(CUT) + page.evaluate(WIDE):
            cut[name] = found
    assert cut == {}
    page.close()
