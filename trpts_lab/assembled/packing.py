"""Several questions with their answers packed behind one image, so that the image is read once.

Each question sees what stands before it of the prompt, the image, and itself alone, and its
positions begin anew behind the image: its logits are those of the question asked alone.
"""

from functools import cache

import numpy as np
import torch

from trpts_lab.assembled.model import told
from trpts_lab.assembled.parts import tokenizer

IGNORED = -100  # label of what is not an answer
_MARK = "?"  # stands for a question where a prompt is cut


@cache
def around():
    """Token numbers of a prompt before the question, and between the question and its answer."""
    before, _, after = told(_MARK).rpartition(_MARK)
    return tuple(_numbers(before)), tuple(_numbers(after))


def pack(rows):
    """Of B lists of questions: (input ids [B, T], labels [B, T], mask bool [B, 1, T, T], True: is
    seen, position ids [B, T]), all int64 but the mask. A label is the token that follows, in an
    answer and its end; T is the longest row's, shorter ones are filled up.
    """
    before, after = around()
    end, P = tokenizer().eos_token_id, len(before)
    packed = []
    for row in rows:
        # token, label, number of the question, position
        columns = [(token, IGNORED, 0, place) for place, token in enumerate(before)]
        for number, question in enumerate(row, 1):
            asked = [*_numbers(question.words), *after]
            answer = [*_numbers(question.answer), end]
            labels = [IGNORED] * (len(asked) - 1) + answer + [IGNORED]
            places = range(P, P + len(asked) + len(answer))
            columns += zip(asked + answer, labels, [number] * len(labels), places, strict=True)
        packed.append(np.array(columns).T)
    T = max(columns.shape[1] for columns in packed)
    filled = np.empty((4, len(rows), T), np.int64)
    filled[:] = np.array([end, IGNORED, -1, 0])[:, None, None]
    for b, columns in enumerate(packed):
        filled[:, b, : columns.shape[1]] = columns
    ids, labels, numbers, places = torch.from_numpy(filled)
    seen = (numbers[:, :, None] == numbers[:, None]) | (numbers[:, None] == 0)  # [B, T, T]
    return ids, labels, seen.tril()[:, None], places


def _numbers(text):
    return tokenizer()(text, add_special_tokens=False).input_ids
