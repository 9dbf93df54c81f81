"""Sliders: self-contained, and what they show follows the slider, by script and by keyboard."""

import re

import numpy as np
import pytest

from trpts_lab.book.interactive import bar_slider, token_slider

IMAGES = [np.full((4, 4, 3), value, np.uint8) for value in (40, 200)]
KEPT = [[np.array([1, 0, 0, 0], bool)] * 2, [np.array([1, 0, 1, 1], bool), np.ones(4, bool)]]


def tokens(**changed):
    return token_slider(
        **dict(
            images=IMAGES,
            kept=KEPT,
            labels=["one", "most & <all>"],
            title="A title",
            axis="ρ",
            alt="Image",
        )
        | changed
    ).data


def bars():
    words = {"title": "Bars", "axis": "budget", "alt": "Two bars.", "groups": [(0, "both")]}
    return bar_slider(["a", "b"], [[1, 2], [4, 3]], ["first", "second"], **words).data


@pytest.mark.parametrize("piece", [tokens(), bars()], ids=["tokens", "bars"])
def test_nothing_from_outside_and_words_for_everything(piece):
    assert not re.search(r'(?:src|href)="(?!data:)', piece)
    assert "http" not in piece
    (name,) = re.findall(r'<figure id="([\w-]+)"', piece)
    assert f'<label for="{name}-at">' in piece
    assert len(re.findall('role="img" aria-label="[^"]+"', piece)) == piece.count("<svg")


def test_two_sliders_on_a_page_do_not_share_a_name():
    names = {
        re.search(r'id="([\w-]+)"', piece)[1]
        for piece in (tokens(), tokens(title="Another"), bars())
    }
    assert len(names) == 3
    assert tokens() == tokens()


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 labels for 2 positions"):
        tokens(labels=["one"])
    with pytest.raises(ValueError, match="the first shown is 2: expected as many"):
        tokens(start=2)


def test_a_label_cannot_end_the_script():
    piece = tokens(labels=["</script><b>", "two"])
    assert piece.count("</script>") == 1


@pytest.mark.parametrize(
    "words", ["<!--<script>", "<!-- <SCRIPT ", "]]><script>", "</SCRIPT >", "<!--</script>"]
)
def test_the_script_holds_no_tags(words):
    """A browser that meets "<!--<script>" in a script takes all that follows, other scripts
    included, for its text.
    """
    named = {"title": words, "axis": words, "alt": words}
    bar = bar_slider([words], [[1], [2]], [words, "two"], groups=[(0, words)], **named).data
    for piece in (tokens(labels=[words, "two"], **named), bar):
        script = piece[piece.index("<script>") + len("<script>") : piece.rindex("</script>")]
        assert "<" not in script
        assert piece.count("<script>") == piece.lower().count("<script") == 1


def test_a_page_goes_on_behind_a_slider(browser):
    page = browser.new_page()
    page.set_content(
        f"<html lang='en'><body>{tokens(labels=['<!--<script>', 'two'])}<p "
        "id='next'>On</p></body></html>"
    )
    assert page.locator("#next").text_content() == "On"
    assert page.locator("output").text_content() == "<!--<script>"
    page.close()


def test_pictures_follow_the_slider(browser):
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_content(f"<html lang='en'><body>{tokens()}{bars()}</body></html>")

    def covered():
        shown = "all => all.filter(s => s.style.display !== 'none').length"
        return [
            page.locator("figure").first.locator("svg").nth(n).locator(".scrim").evaluate_all(shown)
            for n in range(2)
        ]

    assert covered() == [3, 3]
    slider = page.locator("input").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert covered() == [1, 0]
    assert page.locator("output").first.text_content() == "most & <all>"
    assert slider.get_attribute("aria-valuetext") == "most & <all>"
    second = page.locator("input").nth(1)
    assert [b.get_attribute("height") for b in page.locator(".bar").all()] == ["37.5", "75"]
    second.fill("1")
    assert [b.get_attribute("height") for b in page.locator(".bar").all()] == ["150", "112.5"]
    assert not problems
    page.close()
