"""Pre-training of the laboratory's backbone on formula-driven images: resumable, with a card that
says how.

    trpts pretrain            # goes on from build/pretrain/checkpoint.safetensors if there is one
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional

from trpts.backbones import create_backbone
from trpts.device import pick_device
from trpts.files import write_tensors
from trpts.probe import largest_logit
from trpts.training import warmup_cosine
from trpts_lab.resumable import Resumable
from trpts_lab.weights import formula

HELD_OUT_PER_CLASS = 4


@dataclass(frozen=True)
class Recipe:
    """What decides the weights: everything but the machine."""

    backbone: str = "vit_lab"
    images_per_class: int = 150
    epochs: int = 8
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.05
    label_smoothing: float = 0.1
    max_shift: int = 4  # pixels: the one augmentation, at the borders repeated
    seed: int = 0

    @property
    def steps_per_epoch(self):
        return formula.N_CLASSES * self.images_per_class // self.batch_size


def render_images(per_class, seed):
    """(images uint8 [n, 3, 32, 32], labels [n]): `per_class` images of every formula."""
    rng = np.random.default_rng([seed, per_class])
    labels = np.repeat(np.arange(formula.N_CLASSES), per_class)
    parts = [
        formula.render(part, rng) for part in np.array_split(labels, max(1, len(labels) // 1000))
    ]
    return torch.from_numpy(np.concatenate(parts)).permute(
        0, 3, 1, 2
    ).contiguous(), torch.from_numpy(labels)


def to_pixels(images):
    """uint8 -> float from -1 to 1."""
    return images.float() / 127.5 - 1


def shifted(images, max_shift, generator):
    """Each image moved up to max_shift pixels both ways, borders repeated: float [B, 3, H, W]."""
    B, _, H, W = images.shape
    padded = functional.pad(images, [max_shift] * 4, mode="replicate")
    top, left = torch.randint(0, 2 * max_shift + 1, (2, B, 1), generator=generator).to(
        images.device
    )
    rows = top + torch.arange(H, device=images.device)
    columns = left + torch.arange(W, device=images.device)
    n = torch.arange(B, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Pretraining(Resumable):
    """A run in progress: a backbone with a head for the formulas."""

    command = folder = "pretrain"

    def __init__(self, recipe=None, device=None):
        r, self.device = recipe or Recipe(), device or pick_device()
        self.model = create_backbone(r.backbone, formula.N_CLASSES, seed=r.seed).to(self.device)
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=r.lr, weight_decay=r.weight_decay, fused=True
        )
        self.name, n_steps = r.backbone, r.epochs * r.steps_per_epoch
        super().__init__(r, self.model, [optimizer], n_steps, r.steps_per_epoch)

    def data(self):
        self.say(f"rendering {formula.N_CLASSES * self.recipe.images_per_class} images")
        return render_images(self.recipe.images_per_class, self.recipe.seed)

    @cached_property
    def held_out(self):
        return render_images(HELD_OUT_PER_CLASS, self.recipe.seed + 1)

    def right(self):
        return self.accuracy(*self.held_out)

    def point(self, losses):
        return {"epoch": self.step // self.evaluate_every, "loss": losses[-1]}

    def loss(self, images, labels):
        """Of a batch whose order and shifts are drawn."""
        r = self.recipe
        epoch, nth = divmod(self.step, r.steps_per_epoch)
        order = torch.randperm(
            len(labels), generator=torch.Generator().manual_seed(r.seed * 1000 + epoch)
        )
        rows = order[nth * r.batch_size : (nth + 1) * r.batch_size]
        generator = torch.Generator().manual_seed(r.seed * 10**6 + self.step)
        x = shifted(to_pixels(images[rows]).to(self.device), r.max_shift, generator)
        n_warmup = max(1, round(r.warmup_fraction * self.n_steps))
        self.optimizer.set_lr(r.lr * warmup_cosine(self.step, n_warmup, self.n_steps))
        y = labels[rows].to(self.device)
        return functional.cross_entropy(self.model(x), y, label_smoothing=r.label_smoothing)

    @torch.no_grad()
    def accuracy(self, images, labels):
        """Share of images whose class is named right."""
        self.model.eval()
        parts = zip(images.split(256), labels.split(256), strict=True)
        logits = ((self.model(to_pixels(x).to(self.device)), y) for x, y in parts)
        right = sum((largest_logit(z).cpu() == y).sum().item() for z, y in logits)
        return right / len(labels)

    def finish(self, path):
        """The head is dropped."""
        exact = self.right()
        half = {name: t.detach().cpu().half() for name, t in self.model.state_dict().items()}
        self.model.load_state_dict({name: t.float() for name, t in half.items()})
        rounded = self.right()
        write_tensors(path, {name: t for name, t in half.items() if not name.startswith("head.")})
        return {
            "classes": formula.FAMILIES,
            "held_out_accuracy": exact,
            "held_out_accuracy_half_precision": rounded,
            "chance": 1 / formula.N_CLASSES,
        }
