"""Questions about a composition in natural words, with answers and the tokens that decide them.

    question = ask(composition, "where", rng)    # "Where is the cat?" -> "top left"
    question.tokens                              # bool [N_TOKENS]: where what is asked about lies

Within each kind all answers are about equally likely. Each kind is phrased in several ways: the
last phrase of each is never trained, so that it can be measured whether the words matter.
"""

from dataclasses import dataclass

import numpy as np

from trpts_lab.assembled.compositions import (
    COLOURS,
    DIGIT,
    MOST_COUNTED,
    N_TOKENS,
    PHOTOGRAPHS,
    SHAPES,
    SPLITS,
    compose,
)

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
KIND_NAMES = (*SHAPES, *PHOTOGRAPHS, DIGIT)
ANSWERS = {
    "exist": ("yes", "no"),
    "what": KIND_NAMES,
    "colour": tuple(COLOURS),
    "where": tuple(f"{row} {column}" for row in ROWS for column in COLUMNS),
    "count": tuple(str(n) for n in range(MOST_COUNTED + 1)),
    "relation": ("yes", "no"),
    "digit": tuple(str(n) for n in range(10)),
}
KINDS = tuple(ANSWERS)
CHANCE = {kind: 1 / len(answers) for kind, answers in ANSWERS.items()}
PHRASES = {
    "exist": (
        "Is there {a} {name} in the picture?",
        "Can you see {a} {name}?",
        "Does the picture show {a} {name}?",
        "Is {a} {name} visible here?",
    ),
    "what": (
        "What is in the {place}?",
        "Which thing is in the {place} of the picture?",
        "Name the thing in the {place}.",
        "What do you see in the {place} part?",
    ),
    "colour": (
        "What color is the {name}?",
        "Which color does the {name} have?",
        "Name the color of the {name}.",
        "In what color is the {name} painted?",
    ),
    "where": (
        "Where is the {name}?",
        "In which part of the picture is the {name}?",
        "Name the place of the {name}.",
        "Where in the picture can I find the {name}?",
    ),
    "count": (
        "How many {name} are there?",
        "Count the {name}.",
        "How many {name} can you see?",
        "What is the number of {name} here?",
    ),
    "relation": (
        "Is the {name} {side} the {other}?",
        "Is the {name} placed {side} the {other}?",
        "Tell me whether the {name} is {side} the {other}.",
        "Would you say that the {name} is {side} the {other}?",
    ),
    "digit": (
        "Which digit is in the picture?",
        "Read the digit.",
        "What number can you read?",
        "Which number is written here?",
    ),
}
# words of a relation -> which coordinate decides, and whether the first thing's is the larger
_SIDES = {
    "left of": ("column", False),
    "right of": ("column", True),
    "above": ("row", False),
    "below": ("row", True),
}


@dataclass(frozen=True)
class Question:
    """One question: its kind, words and answer, and the tokens of the things that it is about.

    tokens  bool [N_TOKENS]; none of them where the true answer is "no such thing" or 0
    """

    kind: str
    words: str
    answer: str
    tokens: np.ndarray


def ask(composition, kind, rng, phrase=None):
    """A question of one of KINDS, drawn with the NumPy generator `rng`; None if the composition
    allows none.

    phrase  number of one of PHRASES[kind]; None: one of those that are trained, at random
    raises  ValueError: an unknown kind
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown: expected one of {', '.join(KINDS)}")
    asked = globals()[f"_{kind}"](composition, rng)
    if asked is None:
        return None
    fields, answer, things = asked
    trained = PHRASES[kind][:-1]
    words = _pick(rng, trained) if phrase is None else PHRASES[kind][phrase]
    tokens = np.zeros(N_TOKENS, bool)
    for thing in things:
        tokens |= composition.tokens[composition.things.index(thing)]
    return Question(kind, words.format(**fields), answer, tokens)


def describe(composition):
    """All nine parts, row by row, in one answer: many words to learn from behind one image."""
    there = {(thing.row, thing.column): thing.name for thing in composition.things}
    parts = [(row, column) for row in range(len(ROWS)) for column in range(len(COLUMNS))]
    answer = ", ".join(there.get(part, "nothing") for part in parts)
    return Question("describe", "Name what is in each part.", answer, composition.tokens.any(0))


def places(composition):
    """All things by name, from a to z, each with its place, in one answer."""
    things = sorted(composition.things, key=lambda thing: thing.name)
    answer = ", ".join(f"{thing.name} {_place(thing)}" for thing in things)
    return Question("places", "Name the place of each thing.", answer, composition.tokens.any(0))


def questions_of(split, kind, n, seed=0, phrase=None):
    """n pairs (composition, question) of a kind from a split, one question a composition."""
    pairs, number = [], 0
    while len(pairs) < n:
        composition = compose(split, number, seed)
        rng = np.random.default_rng([SPLITS[split], seed, number, KINDS.index(kind)])
        question = ask(composition, kind, rng, phrase)
        if question is not None:
            pairs.append((composition, question))
        number += 1
    return pairs


def _pick(rng, options):
    return options[rng.integers(len(options))]


def _named(name):
    return {"name": name, "a": "an" if name[0] in "aeiou" else "a"}


def _place(thing):
    return f"{ROWS[thing.row]} {COLUMNS[thing.column]}"


def _exist(composition, rng):
    """Of absent shapes, half have a colour and a shape that are there, but on other things."""
    there = {thing.name for thing in composition.things}
    if rng.random() < 0.5:
        thing = _pick(rng, composition.things)
        return _named(thing.name), "yes", [thing]
    if rng.random() < 0.4:  # as often as a thing that is there is no shape
        absent = [name for name in (*PHOTOGRAPHS, DIGIT) if name not in there]
        return _named(_pick(rng, absent)), "no", []
    shapes = [thing for thing in composition.things if thing.colour]
    colours, kinds = {thing.colour for thing in shapes}, {thing.kind for thing in shapes}
    absent = [(c, s) for c in COLOURS for s in SHAPES if f"{c} {s}" not in there]
    near = [(c, s) for c, s in absent if c in colours and s in kinds]
    colour, kind = _pick(rng, near if near and rng.random() < 0.5 else absent)
    return _named(f"{colour} {kind}"), "no", []


def _what(composition, rng):
    thing = _pick(rng, composition.things)
    return {"place": _place(thing)}, thing.kind, [thing]


def _colour(composition, rng):
    alone = [t for t in composition.things if t.colour and _alone(composition, t.kind)]
    if not alone:
        return None
    thing = _pick(rng, alone)
    return {"name": thing.kind}, thing.colour, [thing]


def _where(composition, rng):
    """A shape goes by its whole name, or as often by its kind, where that is enough."""
    thing = _pick(rng, composition.things)
    names = [thing.name] + ([thing.kind] if _alone(composition, thing.kind) else [])
    return {"name": _pick(rng, names)}, _place(thing), [thing]


def _count(composition, rng):
    word = composition.counted
    things = [t for t in composition.things if word in (t.colour, t.kind)]
    plural = f"{word} things" if word in COLOURS else f"{word}es" if word == "cross" else f"{word}s"
    return {"name": plural}, str(len(things)), things


def _relation(composition, rng):
    """Between two things that differ in that direction."""
    side = _pick(rng, tuple(_SIDES))
    along, larger = _SIDES[side]
    true = rng.random() < 0.5
    pairs = [
        (a, b)
        for a in composition.things
        for b in composition.things
        if _holds(a, b, along, larger == true)
    ]
    if not pairs:
        return None
    a, b = _pick(rng, pairs)
    fields = {"name": a.name, "side": side, "other": b.name}
    return fields, "yes" if true else "no", [a, b]


def _digit(composition, rng):
    found = [thing for thing in composition.things if thing.kind == DIGIT]
    return ({}, str(found[0].digit), found) if found else None


def _alone(composition, kind):
    return sum(thing.kind == kind for thing in composition.things) == 1


def _holds(a, b, along, larger):
    first, second = getattr(a, along), getattr(b, along)
    return first > second if larger else first < second
