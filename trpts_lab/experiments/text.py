"""A transformer that reads letters instead of patches: does selection carry over?

Texts are drawn: each language is a table of which letter follows which. The model is trained on
some languages, then tuned to tell other ones apart, from few texts, by each of the three methods
that need nothing but Linear layers.
"""

from copy import deepcopy
from functools import cache

import torch
from timm.models.vision_transformer import Block
from torch import nn

from trpts.data.task import Split, Task
from trpts.hashes import tensor_hash
from trpts.training import Diverged, train
from trpts.tuning import tune
from trpts_lab.tasks import settings_of

VERSION = 1
N_LETTERS, LENGTH, SHARPNESS = 24, 32, 2.0
WIDTH, DEPTH, HEADS = 64, 4, 4
N_KNOWN, N_NEW = 40, 12  # languages
N_TRAIN, N_VAL, N_TEST = 300, 120, 600
METHODS = {
    "linear": ("linear", {}),
    "full": ("full", {}),
    "C = 2": ("trpts", {"per_neuron": 2.0, "keep": 1}),
    "C = 2, random": ("trpts", {"per_neuron": 2.0, "keep": 1, "score": "random"}),
}


class TextTransformer(nn.Module):
    """Letters [B, T] int64 -> logits; blocks and names are timm's, so what reads them works."""

    num_prefix_tokens = 1

    def __init__(self, n_classes):
        super().__init__()
        self.embed_dim = WIDTH
        self.letters = nn.Embedding(N_LETTERS, WIDTH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(1, LENGTH + 1, WIDTH))
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS, qkv_bias=True) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, n_classes)

    def forward_features(self, letters):
        x = (
            torch.cat([self.cls_token.expand(len(letters), -1, -1), self.letters(letters)], dim=1)
            + self.positions
        )
        return self.norm(self.blocks(x))

    def forward_head(self, x, pre_logits=False):
        return x[:, 0] if pre_logits else self.head(x[:, 0])

    def forward(self, letters):
        return self.forward_head(self.forward_features(letters))

    def get_classifier(self):
        return self.head

    def reset_classifier(self, n_classes):
        self.head = nn.Linear(WIDTH, n_classes)


def languages(n, generator):
    """Transition tables [n, N_LETTERS, N_LETTERS]."""
    return torch.softmax(
        SHARPNESS * torch.randn(n, N_LETTERS, N_LETTERS, generator=generator), dim=2
    )


def texts(tables, n, generator):
    """n texts [n, LENGTH] with the numbers of their languages, in turn."""
    labels = torch.arange(n) % len(tables)
    letters = torch.empty(n, LENGTH, dtype=torch.int64)
    letters[:, 0] = torch.randint(N_LETTERS, (n,), generator=generator)
    for t in range(1, LENGTH):
        letters[:, t] = torch.multinomial(
            tables[labels, letters[:, t - 1]], 1, generator=generator
        )[:, 0]
    return Split(letters, labels)


def new_languages(seed):
    """The task to tune on."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    tables = languages(N_NEW, generator)
    return Task(
        "new languages", N_NEW, *(texts(tables, n, generator) for n in (N_TRAIN, N_VAL, N_TEST))
    )


@cache
def reader(seed, n_texts, epochs, device="cpu"):
    """A transformer that tells known languages apart, its last training loss; cached per seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TextTransformer(N_KNOWN)
    upstream = texts(languages(N_KNOWN, generator), n_texts, generator)
    losses = train(model.to(device), upstream.to(device), epochs, lr=2e-3, batch_size=64, seed=seed)
    return model, losses[-1]


def run(config):
    """Metrics of one method and seed; `config` has variant, seed, upstream_epochs, n_upstream,
    epochs, …
    """
    known, loss = reader(
        config["seed"], config["n_upstream"], config["upstream_epochs"], config["device"]
    )
    model = deepcopy(known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        model.reset_classifier(N_NEW)
    model, task = model.to(config["device"]), new_languages(config["seed"]).to(config["device"])
    method, options = METHODS[config["variant"]]
    try:
        result = tune(model, task, method, **settings_of(config), **options)
    except Diverged:  # of all that is tried, this learning rate is the last to choose
        return {"diverged": 1, "val_accuracy": 0.0, "test_accuracy": 0.0}
    return {
        "upstream_loss": loss,
        "val_accuracy": result.val_accuracy,
        "test_accuracy": result.test_accuracy,
        "n_trainable": result.n_trainable,
        "chance": 1 / N_NEW,
    }


def inputs(config):
    """Hash of the texts; no weights file."""
    task = new_languages(config["seed"])
    return {"data": tensor_hash(task.train.images, task.test.images), "weights": None}
