"""Pre-training of the laboratory's backbone on formula-driven images: resumable, with a card that
says how.

    trpts pretrain            # goes on from build/pretrain/checkpoint.safetensors if there is one

The recipe is all there is to choose; its hash names the run, and a checkpoint of another recipe is
refused.
"""

import json
import math
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional

from trpts.backbones import create_backbone
from trpts.checkpoint import read_checkpoint, save_checkpoint
from trpts.device import pick_device
from trpts.errors import TrptsError
from trpts.files import write_tensors
from trpts.hashes import file_hash, short_hash
from trpts.places import remove_leftovers
from trpts.probe import largest_logit
from trpts.training import warmup_cosine
from trpts_lab.project import make_folder, write_whole
from trpts_lab.provenance import machine, versions
from trpts_lab.weights import formula

SAVE_EVERY_S = 20.0
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

    @property
    def hash(self):
        return short_hash(json.dumps(asdict(self), sort_keys=True))


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
    """Each image moved by up to max_shift pixels both ways, borders repeated: [B, 3, H, W]
    floats.
    """
    B, _, H, W = images.shape
    padded = functional.pad(images, [max_shift] * 4, mode="replicate")
    top, left = torch.randint(0, 2 * max_shift + 1, (2, B, 1), generator=generator).to(
        images.device
    )
    rows, columns = (
        top + torch.arange(H, device=images.device),
        left + torch.arange(W, device=images.device),
    )
    n = torch.arange(B, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[n, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def checkpoint_notes(n_steps: int) -> dict:
    """JSON Schema of what the checkpoint of a run of n_steps says beside its recipe."""
    return {
        "required": ["step", "time_s", "curve"],
        "properties": {
            "step": {"type": "integer", "minimum": 0, "maximum": n_steps},
            "time_s": {"type": "number", "minimum": 0},
            "curve": {"type": "array", "items": {"type": "object"}, "maxItems": n_steps},
        },
    }


class Pretraining:
    """A run in progress: model, optimiser, step and learning curve; saved whole, restored whole."""

    def __init__(self, recipe, device=None):
        self.recipe, self.device = recipe, device or pick_device()
        self.model = create_backbone(recipe.backbone, formula.N_CLASSES, seed=recipe.seed).to(
            self.device
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self.step, self.time_s, self.curve = 0, 0.0, []
        self.n_steps = recipe.epochs * recipe.steps_per_epoch

    def advance(self, images, labels):
        """One optimiser step. Order and shifts depend on seed and step alone, so that a resumed run
        is the same run.
        """
        recipe, spe = self.recipe, self.recipe.steps_per_epoch
        epoch, nth = divmod(self.step, spe)
        order = torch.randperm(
            len(labels), generator=torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
        )
        rows = order[nth * recipe.batch_size : (nth + 1) * recipe.batch_size]
        generator = torch.Generator().manual_seed(recipe.seed * 10**6 + self.step)
        x = shifted(to_pixels(images[rows]).to(self.device), recipe.max_shift, generator)
        n_warmup = max(1, round(recipe.warmup_fraction * self.n_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * warmup_cosine(self.step, n_warmup, self.n_steps)
        self.model.train()
        logits = self.model(x)
        loss = functional.cross_entropy(
            logits, labels[rows].to(self.device), label_smoothing=recipe.label_smoothing
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def accuracy(self, images, labels):
        """Share of images whose class is named right."""
        self.model.eval()
        parts = zip(images.split(256), labels.split(256), strict=True)
        logits = ((self.model(to_pixels(x).to(self.device)), y) for x, y in parts)
        right = sum((largest_logit(z).cpu() == y).sum().item() for z, y in logits)
        return right / len(labels)

    def save(self, path):
        """Write the checkpoint, whole or not at all."""
        notes = {
            "recipe": self.recipe.hash,
            "step": self.step,
            "time_s": self.time_s,
            "curve": self.curve,
        }
        save_checkpoint(path, self.model.state_dict(), self.optimizer, notes)

    def restore(self, path):
        """Take up a checkpoint; refuses one of another recipe and leaves everything as it was."""
        owner, schema = ("recipe", self.recipe.hash), checkpoint_notes(self.n_steps)
        try:
            tensors, state, notes = read_checkpoint(
                path, self.model.state_dict(), self.optimizer, owner, schema
            )
        except ValueError as error:
            raise TrptsError(str(error)) from error
        self.model.load_state_dict(tensors)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.step, self.time_s, self.curve = notes["step"], notes["time_s"], notes["curve"]


def pretrain(project, recipe=None, stop_after=None):
    """Pre-train, or go on pre-training; write weights and card into data/weights/ at the end; the
    card.

    stop_after  number of steps after which to save and return None (for tests)
    """
    run = Pretraining(recipe or Recipe())
    recipe = run.recipe
    checkpoint = make_folder(project.build / "pretrain") / "checkpoint.safetensors"
    remove_leftovers(checkpoint)
    if checkpoint.is_file():
        run.restore(checkpoint)
        say(f"pretrain: going on at step {run.step} of {run.n_steps}")
    if run.step < run.n_steps:
        say(f"pretrain: rendering {formula.N_CLASSES * recipe.images_per_class} images")
        images, labels = render_images(recipe.images_per_class, recipe.seed)
    held_out = render_images(HELD_OUT_PER_CLASS, recipe.seed + 1)
    start, before, saved, first_step = time.monotonic(), run.time_s, time.monotonic(), run.step
    # The checkpoint is written between steps alone. An interruption within a step leaves the one
    # before: a half-made step would go on as another run.
    end = run.n_steps if stop_after is None else min(run.n_steps, first_step + stop_after)
    while run.step < end:
        loss = run.advance(images, labels)
        if not math.isfinite(loss):
            raise TrptsError(
                f"the loss of step {run.step} is {loss}: {checkpoint} is left as it was"
            )
        run.time_s = before + time.monotonic() - start
        if run.step % recipe.steps_per_epoch == 0:
            epoch = run.step // recipe.steps_per_epoch
            right = run.accuracy(*held_out)
            run.curve.append({"epoch": epoch, "loss": loss, "held_out_accuracy": right})
            say(f"pretrain: epoch {epoch}/{recipe.epochs}, held-out accuracy {right:.3f}")
        elif run.step % 50 == 0:
            speed = (run.step - first_step) * recipe.batch_size / (time.monotonic() - start)
            left = (run.n_steps - run.step) * recipe.batch_size / speed / 60
            say(
                f"pretrain: step {run.step}/{run.n_steps}, loss {loss:.3f}, {speed:.0f} images/s, "
                f"{left:.0f} min"
            )
        if time.monotonic() - saved > SAVE_EVERY_S:
            run.save(checkpoint)
            saved = time.monotonic()
    run.save(checkpoint)
    return ship(project, run, held_out) if run.step == run.n_steps else None


def ship(project, run, held_out):
    """Write the weights (half precision, head dropped) and their card; the card."""
    exact = run.accuracy(*held_out)
    half = {name: t.detach().cpu().half() for name, t in run.model.state_dict().items()}
    run.model.load_state_dict({name: t.float() for name, t in half.items()})
    rounded = run.accuracy(*held_out)
    path = make_folder(project.root / "data" / "weights") / f"{run.recipe.backbone}.safetensors"
    write_tensors(path, {name: t for name, t in half.items() if not name.startswith("head.")})
    card = {
        "file": path.name,
        "sha256_16": file_hash(path),
        "recipe": asdict(run.recipe),
        "classes": formula.FAMILIES,
        "held_out_accuracy": exact,
        "held_out_accuracy_half_precision": rounded,
        "chance": 1 / formula.N_CLASSES,
        "curve": run.curve,
        "time_s": round(run.time_s, 1),
        "machine": machine(),
        "versions": versions(),
    }
    write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return card


def say(text):
    print(text, file=sys.stderr, flush=True)
