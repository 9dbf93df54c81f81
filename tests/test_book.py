"""The built book: pages, known sentences, alt texts, and no asset from outside."""

import re
import shutil
from html.parser import HTMLParser

import nbformat
import pytest
import yaml

from trpts.errors import TrptsError
from trpts_lab.book import build as book
from trpts_lab.book.chapters import find_chapters
from trpts_lab.project import Project

SENTENCES = {
    "index.html": "Most of a vision model does not matter for the task at hand",
    "notation.html": "diagonal of the Fisher information",
    "glossary.html": "How strongly, on average over samples, the loss pulls at each parameter",
    "bibliography.html": "Task-Relevant Parameter and Token Selection",
    "sweeping.html": "A run whose worker dies is handed to another",
    "teaching.html": "A lesson of ninety minutes",
    "faq.html": "Are the twins the real data sets?",
    "cite.html": "luo2025trpts",
    "benchmarks.html": "MME is a sum of points",
    "claims.html": "inconsistent in itself",
    "related.html": "what the laboratory found of drawn connections was known",
    "notebooks/06_comparison.html": "by hand 0.002 to 0.038",
    "notebooks/07_efficiency.html": "with lost tokens the counter agrees to 1 %",
    "notebooks/08_ablations.html": "+2.0 ± 0.0 points; the accuracies themselves spread by 28",
    "notebooks/09_reproduction_report.html": "2.0 points (-0.5 to 4.5): undecided in the lab",
    "notebooks/10_your_own_data.html": "24 to learn from, 8 to choose by, 8 to report on",
    "status.html": "Time per chapter",
    "notebooks/00_start_here.html": "A drawn task is called a twin",
    "notebooks/01_fim.html": "agrees with finite differences",
    "notebooks/02_allocation.html": "the second connection comes at C_min = 1.0",
    "notebooks/03_sparse_tuning.html": "three steps of sparse and dense training agree",
    "notebooks/04_token_selection.html": "scores are the first row of the attention matrix",
    "notebooks/05_transprune.html": "High: 1.56 T by eq. 7",
}


class Page(HTMLParser):
    """Collects what a page shows and loads."""

    def __init__(self, path):
        super().__init__()
        self.images, self.loaded, self.links, self.ids = [], [], [], set()
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        if tag == "img":
            self.images.append(attrs)
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        loads = tag in ("script", "img", "iframe", "source", "video") or (
            tag == "link" and attrs.get("rel") != "canonical"
        )
        self.loaded += [attrs[key] for key in ("src", "href") if loads and attrs.get(key)]


@pytest.fixture(scope="module")
def pages(html):
    found = (path for path in html.rglob("*.html") if "_static" not in path.parts)
    return {str(path.relative_to(html)): Page(path) for path in found}


def test_every_source_has_its_page(project, pages):
    toc = yaml.safe_load((project.root / "book" / "_toc.yml").read_text())
    listed = [
        toc["root"],
        *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"]),
    ]
    assert {f"{name}.html" for name in listed} | {"genindex.html", "search.html"} == set(pages)
    assert {f"notebooks/{chapter.name}" for chapter in find_chapters(project)} <= set(listed)
    assert set(SENTENCES) == {f"{name}.html" for name in listed}


@pytest.mark.parametrize("name", SENTENCES)
def test_known_sentences(pages, name):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", pages[name].html))
    assert SENTENCES[name] in text


def test_every_image_says_what_is_seen(pages):
    images = [image for page in pages.values() for image in page.images]
    assert len(images) >= 6
    for image in images:
        alt = image.get("alt") or ""
        assert len(alt.split()) >= 5, image.get("src", "")[:80]
        assert image.get("class") in ("only-light", "only-dark"), (
            "a figure that is not drawn for both themes"
        )


def test_nothing_is_loaded_from_outside(html, pages):
    for name, page in pages.items():
        for address in page.loaded:
            assert not re.match(r"(https?:)?//", address), f"{name} loads {address}"
            if not address.startswith(("data:", "#")):
                path = (html / name).parent / address.split("?")[0].split("#")[0]
                assert path.is_file(), f"{name} loads {address}, which is not there"


def test_links_inside_the_book_hold(html, pages):
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"(https?:|mailto:)", link):
                continue
            file, _, anchor = link.partition("#")
            target = ((html / name).parent / file).resolve() if file else html / name
            assert target.is_file(), f"{name} links to {link}"
            if anchor and target.suffix == ".html":
                assert anchor in pages[str(target.relative_to(html))].ids, f"{name} links to {link}"


def test_chapter_has_equation_figures_and_folded_solution(pages):
    page = pages["notebooks/01_fim.html"]
    assert "equation-eq-trpts-fim" in page.ids
    assert {"fig-fim-density", "fig-fim-blocks", "fig-fim-concentration"} <= page.ids
    assert len(re.findall(r'class="solution dropdown', page.html)) >= 3
    assert re.search(r"±", page.html), "no measured number with its spread"
    assert "injected" not in page.html


def test_math_script_is_in_the_site(html):
    assert (html / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 1e6
    assert re.search(
        r'src="\.\./_static/mathjax/tex-svg\.js[?"]',
        (html / "notebooks" / "01_fim.html").read_text(),
    )


def test_staged_chapters_stand_where_the_repository_has_them(project, html):
    staged = [
        p.relative_to(project.build / "book" / "src")
        for p in (project.build / "book" / "src").rglob("*.ipynb")
    ]
    assert staged
    assert all((project.root / path).is_file() for path in staged)
    assert all((html / "_sources" / path).is_file() for path in staged), (
        "the download button has nothing to give"
    )


def test_engine_never_executes(project, html):
    assert (
        yaml.safe_load((project.root / "book" / "_config.yml").read_text())["execute"][
            "execute_notebooks"
        ]
        == "off"
    )
    assert (
        '"off"' in (conf := (project.build / "book" / "src" / "conf.py").read_text())
        or "'off'" in conf
    )
    assert not [name for name in book.LEFT_OUT if f"'{name}'" in conf]


def test_status_page_says_time_machine_and_versions(project, pages, html):
    nb = nbformat.read(project.runs("quick") / "01_fim.ipynb", as_version=4)
    text = re.sub(r"<[^>]+>", " ", pages["status.html"].html)
    assert f"{nb.metadata['trpts']['duration_s']:.1f}".rstrip("0").rstrip(".") in text
    for word in ("torch", "timm", "cores", "GiB"):
        assert word in text


@pytest.fixture
def copy_of_book(project, html, tmp_path):
    """A small project with some of the book's pages and one executed chapter, to be spoiled."""
    for folder in ("book", "profiles", "data"):
        shutil.copytree(project.root / folder, tmp_path / folder)
    small, kept = (
        Project(tmp_path),
        ("notation", "glossary", "claims", "status", "bibliography", "notebooks/01_fim"),
    )
    toc = yaml.safe_load((tmp_path / "book" / "_toc.yml").read_text())
    for part in toc["parts"]:
        part["chapters"] = [page for page in part["chapters"] if page["file"] in kept]
    (tmp_path / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))
    (tmp_path / "book" / "index.md").write_text("# A small book\n")
    for source, target in (
        (project.notebooks, small.notebooks),
        (project.runs("quick"), small.runs("quick")),
    ):
        target.mkdir(parents=True)
        shutil.copy(source / "01_fim.ipynb", target)
    return small


def test_warnings_stop_every_build_until_mended(copy_of_book, capsys):
    """A reference to nowhere is an error again on the next build, which would otherwise read only
    what changed.
    """
    page = copy_of_book.root / "book" / "notation.md"
    good = page.read_text()
    page.write_text(good + "\nSee {numref}`fig-nowhere`.\n")
    for _ in range(2):
        with pytest.raises(TrptsError, match="warnings count as errors: no book was built"):
            book.build_book(copy_of_book, "quick")
        assert "fig-nowhere" in capsys.readouterr().err
    page.write_text(good)
    assert book.build_book(copy_of_book, "quick").is_file()


def test_a_changed_style_sheet_reaches_the_pages(copy_of_book):
    page = book.build_book(copy_of_book, "quick")
    style = copy_of_book.root / "book" / "_static" / "trpts.css"
    style.write_text(style.read_text() + "/* changed */\n")
    book.build_book(copy_of_book, "quick")
    assert (page.parent / "_static" / "trpts.css").read_text().endswith("/* changed */\n")


def test_interrupted_build_is_done_again(copy_of_book, monkeypatch):
    """Stopped while pages were written: the next build writes them whole."""
    page = book.build_book(copy_of_book, "quick")
    whole = page.stat().st_size
    mathjax = page.parent / "_static" / "mathjax" / "tex-svg.js"

    def stopped(*args, **kwargs):
        page.write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(book.subprocess, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            book.build_book(copy_of_book, "quick")
    (copy_of_book.build / "book" / "assets" / "mathjax" / "tex-svg.js").write_text("half")
    book.build_book(copy_of_book, "quick")
    assert page.stat().st_size == whole
    assert mathjax.stat().st_size > 1e6
