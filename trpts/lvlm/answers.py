"""How many questions the model answers rightly, by kind, inside or outside a pruning context.

Answers are decoded greedily from the prompt alone, so that no word of the true answer can steer what is pruned; kinds
with answers of one word cost one prefill and nothing else. Logits are read at the end of each sequence: pruning
shortens what stands before.
"""

import numpy as np
import torch

from trpts.lvlm.model import prompt
from trpts.lvlm.questions import ANSWERS, tokenizer


@torch.no_grad()
def answer(model, images, questions, n_words=2, batch_size=64):
    """The model's answers, B strings of n_words words, to B questions in words about as many images."""
    answers = []
    for start in range(0, len(questions), batch_size):
        part = slice(start, start + batch_size)
        inputs = {name: t.to(model.device) for name, t in prompt(images[part], questions[part]).items()}
        tokens = model.generate(**inputs, min_new_tokens=n_words, max_new_tokens=n_words, do_sample=False)
        answers += tokenizer().batch_decode(tokens[:, -n_words:])  # [B, n_words]
    return answers


def right_answers(model, pairs, blank=False, batch_size=64):
    """Whether each of the pairs (scene, question), all of one kind, is answered word for word: bool [n].

    blank   show every question a grey image instead: what the words alone give away
    raises  ValueError: pairs of several kinds
    """
    kinds = {question.kind for _, question in pairs}
    if len(kinds) != 1:
        raise ValueError(f"found questions of the kinds {sorted(kinds)}: expected one kind")
    n_words = len(ANSWERS[kinds.pop()][0].split())
    images = [np.full_like(scene.image, 127) if blank else scene.image for scene, _ in pairs]
    given = answer(model, images, [question.words for _, question in pairs], n_words, batch_size)
    return np.array([words == question.answer for words, (_, question) in zip(given, pairs, strict=True)])


def accuracy(model, pairs_by_kind, blank=False, batch_size=64):
    """{kind: share of its pairs answered rightly}, of {kind: pairs}; options as of `right_answers`."""
    return {kind: float(right_answers(model, pairs, blank, batch_size).mean()) for kind, pairs in pairs_by_kind.items()}
