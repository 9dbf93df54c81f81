"""Questions about a scene, with their answers and the image tokens that decide them.

    question = ask(scene, "where", rng)     # "where is the red-circle ?" -> "2-3"; None if the
                                            scene allows none
    question.tokens                         # bool [N_TOKENS]: where what it asks about is to be
                                            seen

Within each kind all answers are equally likely, whatever the words of the question. The full name
of an object is one word, and so is a place (row-column, from 0): a model this small does not learn
to join two words before it looks for what they name.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trpts_lab.lvlm.scenes import COLOURS, GRID, MOST_COUNTED, N_TOKENS, SHAPES, SPLITS, draw_scene

_PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
ANSWERS = {
    "exist": ("yes", "no"),
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "where": tuple(f"{row}-{column}" for row in range(GRID) for column in range(GRID)),
    "count": tuple(str(n) for n in range(MOST_COUNTED + 1)),
    "relation": ("yes", "no"),
}
KINDS = tuple(ANSWERS)
CHANCE = {kind: 1 / len(answers) for kind, answers in ANSWERS.items()}

PAD, BOS, EOS, IMAGE, UNKNOWN = "<pad>", "<bos>", "<eos>", "<image>", "<unk>"
_WORDS = (
    "what",
    "how",
    "many",
    "where",
    "is",
    "are",
    "there",
    "a",
    "the",
    "at",
    "of",
    "?",
    "colour",
    "shape",
    "thing",
    "things",
    "left",
    "right",
    "above",
    "below",
    "yes",
    "no",
)
_NAMES = tuple(f"{colour}-{shape}" for colour in COLOURS for shape in SHAPES)
_PLURAL_WORDS, _COUNTS_AND_PLACES = _PLURALS.values(), ANSWERS["count"] + ANSWERS["where"]
VOCABULARY = (
    PAD,
    BOS,
    EOS,
    IMAGE,
    UNKNOWN,
    *_WORDS,
    *COLOURS,
    *SHAPES,
    *_PLURAL_WORDS,
    *_COUNTS_AND_PLACES,
    *_NAMES,
)
_NUMBERS = {word: n for n, word in enumerate(VOCABULARY)}

# word of a relation -> which coordinate decides, and whether the first object's is the larger
_AFTER = {
    "left": ("column", False),
    "right": ("column", True),
    "above": ("row", False),
    "below": ("row", True),
}


@dataclass(frozen=True)
class Question:
    """One question: its kind, its words, its answer's words, and the tokens of the objects it is
    about.

    tokens  bool [N_TOKENS]; none of them where the true answer is "no such thing" or 0
    """

    kind: str
    words: str
    answer: str
    tokens: np.ndarray


def ask(scene, kind, rng):
    """A question of one of KINDS, drawn with the NumPy generator `rng`; None if the scene allows
    none.

    raises  ValueError: an unknown kind
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown: expected one of {', '.join(KINDS)}")
    asked = globals()[f"_{kind}"](scene, rng)
    if asked is None:
        return None
    words, answer, things = asked
    tokens = (
        scene.thing_tokens[[scene.things.index(t) for t in things]].any(0)
        if things
        else np.zeros(N_TOKENS, bool)
    )
    return Question(kind, words, answer, tokens)


def questions_of(split, kind, n, seed=0):
    """n pairs (scene, question) of a kind from a split, one question for each scene."""
    pairs, number = [], 0
    while len(pairs) < n:
        scene = draw_scene(split, number, seed)
        question = ask(
            scene, kind, np.random.default_rng([SPLITS[split], seed, number, KINDS.index(kind)])
        )
        if question is not None:
            pairs.append((scene, question))
        number += 1
    return pairs


def _pick(rng, options):
    return options[rng.integers(len(options))]


def _exist(scene, rng):
    """Of absent things, half have a colour and a shape that are there, but on other objects."""
    there = {(t.colour, t.shape) for t in scene.things}
    colours, shapes = {c for c, _ in there}, {s for _, s in there}
    absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in there]
    near = [(c, s) for c, s in absent if c in colours and s in shapes]
    if not near:  # not even for a yes: the two answers stay equally likely
        return None
    if rng.random() < 0.5:
        thing = _pick(rng, scene.things)
        return f"is there a {thing.colour}-{thing.shape} ?", "yes", [thing]
    return (
        "is there a {}-{} ?".format(*_pick(rng, near if rng.random() < 0.5 else absent)),
        "no",
        [],
    )


def _colour(scene, rng):
    alone = [t for t in scene.things if _alone(scene, t.shape)]
    if not alone:
        return None
    thing = _pick(rng, alone)
    return f"what colour is the {thing.shape} ?", thing.colour, [thing]


def _shape(scene, rng):
    thing = _pick(rng, scene.things)
    return f"what shape is at {thing.row}-{thing.column} ?", thing.shape, [thing]


def _where(scene, rng):
    """The object goes by its full name, or as often by one half of it, where that is enough."""
    thing = _pick(rng, scene.things)
    names = [f"{thing.colour}-{thing.shape}"]
    names += [f"{thing.colour} thing"] if _alone(scene, thing.colour) else []
    names += [thing.shape] if _alone(scene, thing.shape) else []
    return f"where is the {_pick(rng, names)} ?", f"{thing.row}-{thing.column}", [thing]


def _count(scene, rng):
    word = scene.counted
    things = [t for t in scene.things if word in (t.colour, t.shape)]
    name = _PLURALS.get(word, f"{word} things")
    return f"how many {name} are there ?", str(len(things)), things


def _relation(scene, rng):
    """Left of, right of, above or below, between two objects that differ in that direction."""
    word = _pick(rng, tuple(_AFTER))
    along, larger = _AFTER[word]
    true = rng.random() < 0.5
    pairs = [
        (a, b) for a in scene.things for b in scene.things if _holds(a, b, along, larger == true)
    ]
    if not pairs:
        return None
    a, b = _pick(rng, pairs)
    side = f"{word} of" if along == "column" else word
    words = f"is the {a.colour}-{a.shape} {side} the {b.colour}-{b.shape} ?"
    return words, "yes" if true else "no", [a, b]


def _alone(scene, word):
    return sum(word in (t.colour, t.shape) for t in scene.things) == 1


def _holds(a, b, along, larger):
    first, second = getattr(a, along), getattr(b, along)
    return first > second if larger else first < second


@cache
def tokenizer():
    """One token for each word of VOCABULARY; pads on the left."""
    words = Tokenizer(models.WordLevel(_NUMBERS, unk_token=UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        padding_side="left",
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": IMAGE},
    )


def encode(text):
    """Token numbers of words that must all be known.

    raises  ValueError: a word that is not in VOCABULARY
    """
    unknown = [word for word in text.split() if word not in _NUMBERS]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is not a word of the model: expected {len(VOCABULARY)} words such as "
            f"{', '.join(COLOURS)}, {', '.join(SHAPES)}"
        )
    return [_NUMBERS[word] for word in text.split()]
