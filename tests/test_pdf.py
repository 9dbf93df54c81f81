"""The book as one PDF: pages in the order of the table of contents, words and figures in it."""

import pytest

from trpts.lab.errors import TrptsError
from trpts.press import pdf


def test_order_is_the_table_of_contents(project):
    names = pdf.pages_in_order(project.root / "book" / "_toc.yml")
    assert names[:2] == ["index", "notebooks/00_start_here"]
    assert names[-1] == "bibliography"
    assert len(set(names)) == len(names)


def test_two_pages_are_printed_and_joined(browser, html, tmp_path):
    reader = pytest.importorskip("pypdf").PdfReader
    toc = tmp_path / "_toc.yml"
    toc.write_text("root: index\nparts: [{chapters: [{file: notation}]}]\n")
    out = pdf.make_pdf(html, toc, tmp_path / "out" / "book.pdf")
    found = reader(out)
    words = "\n".join(page.extract_text() for page in found.pages)
    assert words.index("Most of a vision model") < words.index("diagonal of the Fisher information")
    assert len(found.outline) == 2
    assert [path.name for path in out.parent.iterdir()] == ["book.pdf"]


def test_without_a_browser_it_says_so(monkeypatch, tmp_path):
    pytest.importorskip("pypdf")
    monkeypatch.setattr(pdf, "find_browser", lambda: None)
    with pytest.raises(TrptsError, match=r"a PDF needs one of chromium, .* on the PATH"):
        pdf.make_pdf(tmp_path, tmp_path / "_toc.yml", tmp_path / "x.pdf")
