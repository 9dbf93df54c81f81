"""K questions with their answers packed behind one image, for training at a fraction of the cost of
one by one.

Each question sees the image and itself alone, and its positions start anew behind the image: its
logits are those of the question asked alone.
"""

import numpy as np
import torch

from trpts_lab.lvlm.model import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID
from trpts_lab.lvlm.questions import encode
from trpts_lab.lvlm.scenes import N_TOKENS

IGNORED = -100  # label of what is not an answer


def slot_lengths(kinds):
    """Tokens per kind for a question with its answer: the longest possible, or as of "where"."""
    return [{"count": 8, "relation": 9}.get(kind, 7) for kind in kinds]


def pack(questions, lengths):
    """(input ids, labels), int64 [B, 1 + N + Σ lengths]: B images, each with K questions."""
    T = 1 + N_TOKENS + sum(lengths)
    ids, labels = np.full((len(questions), T), PAD_ID), np.full((len(questions), T), IGNORED)
    ids[:, : 1 + N_TOKENS] = [BOS_ID] + [IMAGE_ID] * N_TOKENS
    starts = 1 + N_TOKENS + np.cumsum([0, *lengths[:-1]])
    for b, row in enumerate(questions):
        for start, question in zip(starts, row, strict=True):
            words, answer = encode(question.words), encode(question.answer)
            n, end = start + len(words), start + len(words) + len(answer)
            ids[b, start:end] = words + answer
            # a token's label is the word that follows it
            labels[b, n - 1 : end] = [*answer, EOS_ID]
    return torch.from_numpy(ids), torch.from_numpy(labels)


def pack_mask(lengths):
    """(mask bool [1, 1, T, T], True: is seen; position ids [1, T]); K questions, T as in `pack`."""
    P, lengths = 1 + N_TOKENS, torch.tensor(lengths)
    sizes = torch.cat([torch.tensor([P]), lengths])
    owner = torch.arange(len(lengths) + 1).repeat_interleave(sizes)  # [T]
    positions = torch.cat([torch.arange(P), *(torch.arange(P, P + n) for n in lengths)])[None]
    seen = (owner[None] == owner[:, None]) | (owner[None] == 0)  # [T, T]: itself or the image
    return seen.tril()[None, None], positions
