"""Build the book: stage, generate what is generated, and let jupyter-book's Sphinx turn it into
pages.

The engine never executes a notebook, treats every warning as an error, and reads nothing from the
network.
"""

import importlib.util
import pprint
import shutil
import subprocess
import sys
from pathlib import Path

from jupyter_book.config import get_final_config

from trpts.errors import TrptsError
from trpts.hashes import file_hash
from trpts_lab.book.benchmarks import benchmarks_page
from trpts_lab.book.chapters import find_chapters
from trpts_lab.book.claims_page import claims_page
from trpts_lab.book.launch import repository, theme_options
from trpts_lab.book.runner import run_chapters, say
from trpts_lab.book.staging import stage
from trpts_lab.book.status import status_page
from trpts_lab.files import make_folder, write_whole
from trpts_lab.profiles import load_profile
from trpts_lab.store import packed_at_the_end

LEFT_OUT = ("sphinx_thebe", "sphinx_comments")  # both load scripts from outside
MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# one script with its own glyphs, and what it loads on demand
MATHJAX_FILES = ("tex-svg.js", "input/tex/extensions")


def run_and_build(project, profile_name, folder=None, edit=lambda nb: nb):
    """Run the chapters that are not up to date, then `build_book`; the path of the front page."""
    with project.lock(), packed_at_the_end(project.store(profile_name)):
        if failures := run_chapters(project, profile_name):
            raise TrptsError(f"no book was built: {', '.join(failures)} failed")
        say("book: building the pages")
        return build_book(project, profile_name, folder, edit)


def build_book(project, profile_name, folder=None, edit=lambda nb: nb):
    """Stage the executed chapters of a profile and build the pages; the path of the front page.

    folder  of the book's parts; default: build/book
    edit    makes another edition of each chapter: notebook -> notebook
    raises  TrptsError: a chapter that was not run, or any warning of the book engine
    """
    folder = make_folder(folder or project.build / "book")
    source, pages = folder / "src", folder / "html"
    chapters = find_chapters(project)
    stage(project, chapters, project.runs(profile_name), source, edit)
    write_if_new(
        source / "status.md", status_page(project, load_profile(project, profile_name), chapters)
    )
    write_if_new(source / "claims.md", claims_page(project))
    write_if_new(source / "benchmarks.md", benchmarks_page(project))
    put_mathjax(folder / "assets" / "mathjax")
    write_conf(source, folder / "assets", theme_options(repository(project)))
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-d",
        folder / "doctrees",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        "-j",
        "1",
        source,
        pages,
    ]
    # The engine re-reads only what changed: after a failure or an interruption it would pass over
    # the very pages that were wrong or half-written. The mark stays until a build went well, and a
    # build that finds it starts from nothing.
    unfinished = folder / "unfinished"
    if unfinished.exists():
        for leftover in (folder / "doctrees", pages):
            shutil.rmtree(leftover, ignore_errors=True)
    unfinished.touch()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise TrptsError(
            "the book engine reported the warnings above, and warnings count as errors: "
            "no book was built"
        )
    unfinished.unlink()
    remove_orphans(source, pages)
    return pages / "index.html"


def write_conf(source, assets, options):
    """Write Sphinx's conf.py from _config.yml, as jupyter-book would, less the extensions in
    LEFT_OUT.

    options  of the theme, on top of those in _config.yml
    """
    conf, _ = get_final_config(
        user_yaml=source / "_config.yml",
        cli_config={"latex_individualpages": False},
        raise_on_invalid=True,
    )
    conf["extensions"] = [name for name in conf["extensions"] if name not in LEFT_OUT]
    # Sphinx writes nothing where no page changed, style sheets included: their hash makes pages
    # change with them.
    styles = [file_hash(path) for path in sorted((source / "_static").glob("*.*s"))]
    conf["html_context"] = conf.get("html_context", {}) | {"styles": " ".join(styles)}
    conf["html_theme_options"] = conf.get("html_theme_options", {}) | options
    conf["html_static_path"] = [str(assets), *conf.get("html_static_path", [])]
    conf = {
        name: value for name, value in conf.items() if not name.startswith(("thebe", "comments"))
    }
    text = '"""Generated from book/_config.yml at each build."""\n\nglobals().update(\n'
    write_if_new(source / "conf.py", text + pprint.pformat(conf, width=110) + "\n)\n")


def put_mathjax(target):
    """Copy MathJax from its package: formulas need no network."""
    package = Path(importlib.util.find_spec(MATHJAX_PACKAGE).submodule_search_locations[0])
    sources = [package / "static" / "mathjax" / name for name in MATHJAX_FILES]
    for source in [
        file for s in sources for file in ([s] if s.is_file() else sorted(s.rglob("*.js")))
    ]:
        copy = target / source.relative_to(package / "static" / "mathjax")
        if not copy.is_file() or copy.stat().st_size != source.stat().st_size:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def write_if_new(path, text):
    """Write unless the file says so already: an unchanged time keeps the engine from rebuilding."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)


def remove_orphans(source, pages):
    """Remove built pages whose source is gone."""
    extra = {"genindex", "search", "404"}
    for page in pages.rglob("*.html"):
        name = page.relative_to(pages).with_suffix("")
        known = any((source / name).with_suffix(suffix).is_file() for suffix in (".md", ".ipynb"))
        if not known and "_static" not in name.parts and str(name) not in extra:
            page.unlink()
