"""The projector in training, and the words that it first learns to say of each patch."""

import numpy as np
import torch
from torch import nn

from trpts_lab.assembled.compositions import PARTS, SIDE
from trpts_lab.assembled.parts import tokenizer
from trpts_lab.assembled.questions import COLUMNS, ROWS

BACKGROUND = "background"


class Projector(nn.Module):
    """LLaVA's projector behind features that are standardised channel by channel."""

    def __init__(self, projector, mean, spread):
        super().__init__()
        self.linear_1, self.act, self.linear_2 = (
            projector.linear_1,
            projector.act,
            projector.linear_2,
        )
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, features):
        """[B, N, 3 · 384] -> [B, N, 576]."""
        return self.linear_2(self.act(self.linear_1((features - self.mean) / self.spread)))

    def folded(self):
        """LLaVA's own tensors that do the same to features as they are."""
        weight = self.linear_1.weight / self.spread
        return {
            "linear_1.weight": weight,
            "linear_1.bias": self.linear_1.bias - weight @ self.mean,
            "linear_2.weight": self.linear_2.weight,
            "linear_2.bias": self.linear_2.bias,
        }


class Named:
    """Patches by the sum of the embeddings of the words for what they show and where they lie.

    words  [vocabulary, D], the language model's embeddings
    """

    def __init__(self, words):
        self.words, self.known = words, {}

    def of(self, composition):
        """float [N_TOKENS, D]."""
        parts = (2 * np.arange(SIDE) + 1) * PARTS // (2 * SIDE)  # of a row or column of patches
        places = [[ROWS[row], COLUMNS[column]] for row in parts for column in parts]
        things = [[] for _ in places]
        for thing, tokens in zip(composition.things, composition.tokens, strict=True):
            for n in np.flatnonzero(tokens):
                things[n] += thing.name.split()
                things[n] += [] if thing.digit is None else [str(thing.digit)]
        return torch.stack(
            [
                sum(self.word(word) for word in [*place, *(thing or [BACKGROUND])])
                for place, thing in zip(places, things, strict=True)
            ]
        )

    def word(self, word):
        """Mean embedding of a word's tokens, as it stands inside a sentence: float [D]."""
        if word not in self.known:
            text = word if word.isdigit() else f" {word}"
            ids = tokenizer()(text, add_special_tokens=False).input_ids
            self.known[word] = self.words[ids].mean(0)
        return self.known[word]
