"""Compositions and their questions: the same everywhere, answers true, tokens where things lie."""

import re
from collections import Counter

import numpy as np
import pytest

from trpts_lab.assembled import compositions as made
from trpts_lab.assembled.compositions import (
    COLOURS,
    DIGIT,
    N_TOKENS,
    PARTS,
    PATCH,
    PHOTOGRAPHS,
    SHAPES,
    SIDE,
    SIZE,
    Composition,
    Thing,
    compose,
)
from trpts_lab.assembled.questions import (
    ANSWERS,
    CHANCE,
    COLUMNS,
    KINDS,
    PHRASES,
    ROWS,
    ask,
    describe,
    places,
    questions_of,
)

SOME = [compose("train", number) for number in range(60)]


def test_a_composition_is_decided_by_its_three_arguments():
    one, again = compose("test", 3, seed=1), compose("test", 3, seed=1)
    assert np.array_equal(one.image, again.image)
    assert (one.things, one.counted) == (again.things, again.counted)
    for other in (compose("test", 4, seed=1), compose("test", 3), compose("val", 3, seed=1)):
        assert not np.array_equal(one.image, other.image)
    assert one.image.shape == (SIZE, SIZE, 3)
    assert one.image.dtype == np.uint8
    with pytest.raises(ValueError, match="split='tests' is unknown: expected one of train, val"):
        compose("tests", 0)


def test_things_differ_and_lie_in_parts_of_their_own():
    for shown in SOME:
        names = [thing.name for thing in shown.things]
        places = [(thing.row, thing.column) for thing in shown.things]
        assert 3 <= len(names) == len(set(names)) == len(set(places)) <= 7
        counted = [t for t in shown.things if shown.counted in (t.colour, t.kind)]
        assert len(counted) <= 4
        for thing in shown.things:
            assert (thing.colour in COLOURS) == (thing.kind in SHAPES)
            assert (thing.digit is not None) == (thing.kind == DIGIT)


def test_tokens_lie_in_the_part_of_their_thing():
    for shown in SOME:
        for thing, tokens in zip(shown.things, shown.tokens, strict=True):
            rows, columns = np.divmod(np.flatnonzero(tokens), SIDE)
            assert len(rows) >= 2
            # the middle of a thing's tokens, in parts
            assert int((rows.mean() + 0.5) * PARTS / SIDE) == thing.row
            assert int((columns.mean() + 0.5) * PARTS / SIDE) == thing.column
        assert (shown.tokens.sum(0) <= 2).all()


def test_a_token_belongs_to_what_covers_a_quarter_of_its_patch(monkeypatch):
    """One white square of 32 pixels whose corner lies 2 pixels inside the picture."""
    monkeypatch.setattr(made, "_draw_kinds", lambda rng: ([("square", "red", None)], "red"))
    monkeypatch.setattr(made, "THING", (32, 33))
    monkeypatch.setattr(made, "PARTS", 1)  # a single part, in which things may lie anywhere
    monkeypatch.setattr(made, "PART", 36.0)  # of 36 pixels: no room to move
    look = np.full((32, 32, 3), 255.0), np.ones((32, 32))
    monkeypatch.setattr(made, "_look", lambda *args: look)
    shown = compose("train", 0)
    covered = np.zeros((SIZE, SIZE))
    covered[2:34, 2:34] = 1
    assert (shown.image[covered == 1] == 255).all()
    # rows and columns 0 and 1 are covered by 12 and 14 pixels of 14, the next by 6: 36 / 196 < 1/4
    shares = np.outer([12, 14, 6], [12, 14, 6]) / PATCH**2
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[:3, :3] = shares >= 0.25
    assert wanted.sum() == 8
    assert np.array_equal(shown.tokens, wanted.reshape(1, N_TOKENS))


def test_digits_of_a_split_are_in_no_other():
    seen = {
        split: {image.tobytes() for some in made._digits(split).values() for image in some}
        for split in made.SPLITS
    }
    assert {split: len(some) for split, some in seen.items()} == {
        "train": 4000,
        "val": 500,
        "test": 500,
    }
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & (seen["train"] | seen["test"])


# questions

THINGS = (
    Thing("star", "red", None, 0, 0),
    Thing("heart", "red", None, 0, 2),
    Thing("cat", None, None, 2, 1),
    Thing(DIGIT, None, 7, 1, 1),
)
SHOWN = Composition(
    np.zeros((SIZE, SIZE, 3), np.uint8), THINGS, np.eye(4, N_TOKENS, dtype=bool), "red"
)


def truth(question):
    """The answer to a question's words about SHOWN, read off without the code that asks."""
    words = question.words
    names = {"red star": 0, "red heart": 1, "star": 0, "heart": 1, "cat": 2, "digit": 3}
    if question.kind == "exist":
        name = re.search(r"\ban? ((?:\w+ )?\w+)(?: in the picture| visible here)?\?", words)[1]
        return "yes" if name in names else "no"
    if question.kind == "what":
        place = re.search(f"({'|'.join(ROWS)}) ({'|'.join(COLUMNS)})", words)[0]
        return {"top left": "star", "top right": "heart", "bottom center": "cat"}.get(
            place, "digit"
        )
    if question.kind == "relation":
        first, side, other = re.search(
            r"the ([\w ]+?) (?:is )?(?:placed )?(left of|right of|above|below) the ([\w ]+)", words
        ).groups()
        a, b = (THINGS[names[name]] for name in (first, other))
        return (
            "yes"
            if {
                "left of": a.column < b.column,
                "right of": a.column > b.column,
                "above": a.row < b.row,
                "below": a.row > b.row,
            }[side]
            else "no"
        )
    name = re.search(r"(red star|red heart|star|heart|cat|digit)", words)
    if question.kind == "where":
        return ("top left", "top right", "bottom center", "middle center")[names[name[0]]]
    return {"colour": "red", "count": "2", "digit": "7"}[question.kind]


@pytest.mark.parametrize("phrase", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_true(kind, phrase):
    seen = set()
    for seed in range(40):
        question = ask(SHOWN, kind, np.random.default_rng(seed), phrase)
        assert question.answer == truth(question), question.words
        assert question.answer in ANSWERS[kind]
        seen.add(question.answer)
        about = set(np.flatnonzero(question.tokens))
        if kind == "digit":
            assert about == {3}
        if kind == "count":
            assert about == {0, 1}
        assert bool(about) == (question.answer != "no" or kind == "relation")
    assert len(seen) == {"what": 4, "where": 4, "exist": 2, "relation": 2}.get(kind, 1)


def test_the_last_phrase_of_each_kind_is_never_trained():
    for kind in KINDS:
        last = re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(PHRASES[kind][-1])))
        for seed in range(60):
            assert not last.fullmatch(ask(SHOWN, kind, np.random.default_rng(seed)).words)
        assert last.fullmatch(ask(SHOWN, kind, np.random.default_rng(0), phrase=-1).words)


def test_descriptions_name_all_that_is_shown():
    assert describe(SHOWN).answer == (
        "red star, nothing, red heart, nothing, digit, nothing, nothing, cat, nothing"
    )
    assert places(SHOWN).answer == (
        "cat bottom center, digit middle center, red heart top right, red star top left"
    )
    assert np.flatnonzero(describe(SHOWN).tokens).tolist() == [0, 1, 2, 3]


def test_a_question_that_a_composition_does_not_allow_is_none():
    twice = Composition(
        SHOWN.image,
        (Thing("star", "red", None, 0, 0), Thing("star", "blue", None, 0, 1)),
        SHOWN.tokens[:2],
        "red",
    )
    rng = np.random.default_rng(0)
    assert ask(twice, "colour", rng) is None  # two stars
    assert ask(twice, "digit", rng) is None
    with pytest.raises(ValueError, match="kind='why' is unknown: expected one of exist, what"):
        ask(twice, "why", rng)


@pytest.mark.parametrize("kind", ["exist", "relation", "count", "where"])
def test_answers_are_about_equally_likely(kind):
    pairs = questions_of("val", kind, 300)
    counts = Counter(question.answer for _, question in pairs)
    wanted = 300 * CHANCE[kind]
    # five standard deviations of a count
    bound = 5 * (wanted * (1 - CHANCE[kind])) ** 0.5
    assert set(counts) == set(ANSWERS[kind])
    assert all(abs(n - wanted) < bound for n in counts.values()), counts


def test_what_things_are_called():
    pairs = questions_of("train", "what", 200)
    found = {question.answer for _, question in pairs}
    assert found == {*SHAPES, *PHOTOGRAPHS, DIGIT}
    assert pairs[0][1].words == questions_of("train", "what", 1)[0][1].words
