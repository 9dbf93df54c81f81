"""How many questions the model answers rightly, by kind, inside or outside a pruning context.

Every answer is one word, chosen greedily from the prompt alone, so that no word of the true answer
can steer what is pruned, and a question costs one prefill and nothing else.
"""

import numpy as np
import torch

from trpts_lab.lvlm.model import prompt
from trpts_lab.lvlm.questions import tokenizer


@torch.no_grad()
def answer(model, images, questions, batch_size=64):
    """The model's answers, B words, to B questions in words about as many images."""
    answers = []
    for start in range(0, len(questions), batch_size):
        part = slice(start, start + batch_size)
        inputs = {
            name: t.to(model.device) for name, t in prompt(images[part], questions[part]).items()
        }
        tokens = model.generate(**inputs, min_new_tokens=1, max_new_tokens=1, do_sample=False)
        answers += tokenizer().batch_decode(tokens[:, -1:])  # [B, 1]
    return answers


def right_answers(model, pairs, blank=False, batch_size=64):
    """Whether each of the pairs (scene, question) is answered with the right word: bool [n].

    blank   show every question a grey image instead: what the words alone give away
    """
    images = [np.full_like(scene.image, 127) if blank else scene.image for scene, _ in pairs]
    given = answer(model, images, [question.words for _, question in pairs], batch_size)
    return np.array(
        [word == question.answer for word, (_, question) in zip(given, pairs, strict=True)]
    )


def accuracy(model, pairs_by_kind, blank=False, batch_size=64):
    """{kind: share of its pairs answered rightly} of {kind: pairs}; options: `right_answers`."""
    return {
        kind: float(right_answers(model, pairs, blank, batch_size).mean())
        for kind, pairs in pairs_by_kind.items()
    }
