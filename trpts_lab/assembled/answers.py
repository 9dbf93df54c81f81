"""How many questions the assembled model answers rightly, inside or outside a pruning context.

An answer is what the model goes on with from the prompt alone, word by word the likeliest, up to
the end that it sets itself; it is right if it is the true answer to the letter. No word of the true
answer can steer what is pruned.
"""

import numpy as np
import torch
from PIL import Image

from trpts_lab.assembled.compositions import PATCH
from trpts_lab.assembled.model import prompt
from trpts_lab.assembled.parts import tokenizer

LONGEST = 5  # tokens of an answer with its end
BATCH = 20  # questions


@torch.no_grad()
def answer(model, images, questions):
    """The model's answers, B texts, to B questions in words about as many images."""
    answers = []
    for start in range(0, len(questions), BATCH):
        part = slice(start, start + BATCH)
        inputs = prompt(images[part], questions[part])
        inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
        tokens = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        answers += [
            text.strip() for text in tokenizer().batch_decode(new, skip_special_tokens=True)
        ]
    return answers


def right_answers(model, pairs, blank=False, side=None):
    """Whether each of the pairs (composition, question) is answered rightly: bool [n].

    blank   show every question a grey image instead: what the words alone give away
    side    patches along the side of a smaller copy of each image, which is shown instead
    """
    images = [np.full_like(shown.image, 127) if blank else shown.image for shown, _ in pairs]
    if side is not None:
        images = [smaller(image, side) for image in images]
    given = answer(model, images, [question.words for _, question in pairs])
    return np.array(
        [text == question.answer for text, (_, question) in zip(given, pairs, strict=True)]
    )


def smaller(image, side):
    """An image scaled down to `side` patches a side, averaging what falls on a pixel."""
    pixels = side * PATCH
    return np.asarray(Image.fromarray(image).resize((pixels, pixels), Image.Resampling.BOX))


def accuracy(model, pairs_by_kind, blank=False):
    """{kind: share of its pairs answered rightly} of {kind: pairs}; options: `right_answers`."""
    return {
        kind: float(right_answers(model, pairs, blank).mean())
        for kind, pairs in pairs_by_kind.items()
    }
