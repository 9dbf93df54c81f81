"""Questions: answers and tokens computed again from the scene and the words alone, balance,
vocabulary.
"""

import re
from collections import Counter

import numpy as np
import pytest

from trpts_lab.lvlm import questions
from trpts_lab.lvlm.questions import (
    ANSWERS,
    CHANCE,
    KINDS,
    VOCABULARY,
    ask,
    encode,
    questions_of,
    tokenizer,
)
from trpts_lab.lvlm.scenes import COLOURS, N_TOKENS, SHAPES, SIDE, draw_scene

PAIRS = {kind: questions_of("val", kind, 400) for kind in KINDS}
SINGULAR = {"circles": "circle", "squares": "square", "triangles": "triangle", "crosses": "cross"}


def solve(scene, words):
    """(answer, objects asked about), from the words by patterns of their own."""
    things = scene.things
    if m := re.fullmatch(r"is there a (\w+)-(\w+) \?", words):
        found = [t for t in things if t.colour == m[1] and t.shape == m[2]]
        return ("yes" if found else "no"), found
    if m := re.fullmatch(r"what colour is the (\w+) \?", words):
        (found,) = [t for t in things if t.shape == m[1]]
        return found.colour, [found]
    if m := re.fullmatch(r"what shape is at (\d)-(\d) \?", words):
        (found,) = [t for t in things if t.row == int(m[1]) and t.column == int(m[2])]
        return found.shape, [found]
    if m := re.fullmatch(r"where is the (\w+)(-\w+| thing)? \?", words):
        wanted = {m[1], (m[2] or " thing")[1:]} - {"thing"}
        (found,) = [t for t in things if wanted <= {t.colour, t.shape}]
        return f"{found.row}-{found.column}", [found]
    if m := re.fullmatch(r"how many (\w+?)( things)? are there \?", words):
        word = SINGULAR.get(m[1], m[1])
        found = [t for t in things if word in {t.colour, t.shape}]
        return str(len(found)), found
    m = re.fullmatch(r"is the (\w+)-(\w+) (left of|right of|above|below) the (\w+)-(\w+) \?", words)
    (a,), (b,) = (
        [t for t in things if (t.colour, t.shape) == kind] for kind in [(m[1], m[2]), (m[4], m[5])]
    )
    down, along = a.row - b.row, a.column - b.column
    true = {"left of": along < 0, "right of": along > 0, "above": down < 0, "below": down > 0}[m[3]]
    assert down if m[3] in ("above", "below") else along  # a tie would be a trick question
    return ("yes" if true else "no"), [a, b]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_tokens_hold_when_computed_again(kind):
    for scene, question in PAIRS[kind]:
        answer, things = solve(scene, question.words)
        assert (question.kind, question.answer) == (kind, answer)
        assert question.answer in ANSWERS[kind]
        wanted = {
            (2 * t.row + i) * SIDE + 2 * t.column + j
            for t in things
            for i in (0, 1)
            for j in (0, 1)
        }
        assert question.tokens.shape == (N_TOKENS,)
        assert set(np.flatnonzero(question.tokens).tolist()) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_answers_of_a_kind_are_equally_likely(kind):
    rng, counts = np.random.default_rng(0), Counter()
    for n in range(3000):
        question = ask(draw_scene("train", n), kind, rng)
        if question is not None:
            counts[question.answer] += 1
    total, k = sum(counts.values()), len(ANSWERS[kind])
    assert set(counts) == set(ANSWERS[kind])
    # 4.5 standard errors
    assert all(abs(n / total - 1 / k) < 4.5 * (1 / k / total) ** 0.5 for n in counts.values())
    assert CHANCE[kind] == 1 / k


def test_half_of_what_is_missing_is_missing_in_combination_only():
    near = []
    for scene, question in PAIRS["exist"]:
        colour, shape = question.words.split()[3].split("-")
        if question.answer == "no":
            near.append(
                colour in {t.colour for t in scene.things}
                and shape in {t.shape for t in scene.things}
            )
    # half of them, and those of the other half that happen to be
    assert 0.55 < np.mean(near) < 0.85


def test_an_object_goes_by_all_or_half_of_its_name():
    shares = Counter(
        len(set(re.split(r"[- ]", q.words)) & {*COLOURS, *SHAPES}) for _, q in PAIRS["where"]
    )
    assert set(shares) == {1, 2}
    assert min(shares.values()) > 0.2 * len(PAIRS["where"])


def test_a_relation_is_true_or_false_whatever_its_word():
    rng, counts = np.random.default_rng(0), Counter()
    for n in range(2000):
        question = ask(draw_scene("train", n), "relation", rng)
        if question is not None:
            counts[re.search(r"left|right|above|below", question.words)[0], question.answer] += 1
    assert len(counts) == 8
    assert max(counts.values()) < 1.4 * min(counts.values())


def test_questions_repeat_and_splits_do_not_meet():
    again = questions_of("val", "where", 20)
    assert [q.words for _, q in again] == [q.words for _, q in PAIRS["where"][:20]]
    images = {
        split: {s.image.tobytes() for s, _ in questions_of(split, "where", 100)}
        for split in ("train", "test")
    }
    assert not images["train"] & images["test"]


def test_each_question_has_a_generator_of_its_own(monkeypatch):
    """By split, seed, number of the scene and kind: what one run draws says nothing of
    another's.
    """
    first = []
    monkeypatch.setattr(
        questions, "ask", lambda scene, kind, rng: first.append(rng.integers(2**62)) or "question"
    )
    for split, seed, kind in (
        ("test", 0, "exist"),
        ("test", 1, "exist"),
        ("val", 0, "exist"),
        ("test", 0, "count"),
    ):
        questions_of(split, kind, 2, seed)
    assert len(set(first)) == 8


def test_every_word_is_one_token_there_and_back():
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    for kind in KINDS:
        for _, question in PAIRS[kind][:100]:
            numbers = encode(f"{question.words} {question.answer}")
            assert [VOCABULARY[n] for n in numbers] == f"{question.words} {question.answer}".split()
            assert tokenizer().encode(question.words, add_special_tokens=False) == encode(
                question.words
            )
            assert tokenizer().decode(encode(question.answer)) == question.answer
    assert tokenizer().padding_side == "left"
    assert {*COLOURS, *SHAPES} <= set(VOCABULARY)


def test_unknown_words_and_kinds_are_named():
    with pytest.raises(
        ValueError, match=r"'cat' is not a word of the model: expected \d+ words such as red"
    ):
        encode("where is the cat ?")
    with pytest.raises(ValueError, match=r"kind='why' is unknown: expected one of exist, colour"):
        ask(draw_scene("val", 0), "why", np.random.default_rng(0))
