"""The training loop, and a run of it that keeps its best epoch and a checkpoint. Epochs depend on
seed and number alone, so that a resumed run is the same run.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trpts.checkpoint import read_checkpoint, save_checkpoint
from trpts.data.task import AnySplit
from trpts.probe import Diverged, accuracy
from trpts.signals import heads

PROGRESS_EVERY_S = 5.0
SAVE_EVERY_S = 20.0
ACCURACY = {"type": "number", "minimum": 0, "maximum": 1}
# What a checkpoint's notes must say; `Run` adds that the lengths agree.
CHECKPOINT_NOTES = {
    "required": ["run", "losses", "val_curve", "best_epoch", "train_s"],
    "properties": {
        "losses": {"type": "array", "items": {"type": "number"}, "minItems": 1},
        "val_curve": {"type": "array", "items": ACCURACY, "minItems": 1},
        "best_epoch": {"type": "integer", "minimum": 1},
        "train_s": {"type": "number", "minimum": 0},
    },
}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Training:
    """Training in progress of all parameters that ask for gradients, on a split.

    Adam or AdamW; linear warm-up, then cosine to zero; no augmentation. `seed` orders the batches
    of each epoch. head_lr: the rate of the classifier, None: lr, as for all else. autocast: forward
    passes in bfloat16 where PyTorch thinks it safe; parameters and optimiser stay as they are.
    raises  ValueError: epochs below 1, an unknown optimizer, nothing to train, a parameter that
            asks for a gradient and gets none, because the model does not use it
    """

    def __init__(
        self,
        model: nn.Module,
        split: AnySplit,
        epochs: int,
        lr: float = 2e-3,
        batch_size: int = 32,
        optimizer: str = "adamw",
        weight_decay: float = 0.05,
        warmup_fraction: float = 0.1,
        seed: int = 0,
        autocast: bool = False,
        head_lr: float | None = None,
    ) -> None:
        check_settings(epochs, lr, batch_size, optimizer, head_lr)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.trained:
            raise ValueError(
                "no parameter of the model asks for a gradient: there is nothing to train"
            )
        if unmoved := out_of_use(model, split):
            raise ValueError(
                f"{unmoved[0]} would be trained and never move: the logits do not depend on it. "
                "Its layer is out of use, its weight is read past its `forward`, or gradients do "
                "not get there (no_grad, detach, reentrant checkpointing)"
            )
        self.model, self.split, self.epochs, self.lr, self.seed = model, split, epochs, lr, seed
        self.batch_size, self.autocast = batch_size, autocast
        groups: list[dict[str, Any]] = [{"params": list(self.trained.values()), "lr": lr}]
        if head_lr is not None:
            of_head = {p for head in heads(model) for p in head.parameters()}
            parts = [
                [p for p in self.trained.values() if (p in of_head) == inside]
                for inside in (False, True)
            ]
            groups = [
                {"params": p, "lr": rate} for p, rate in zip(parts, (lr, head_lr), strict=True) if p
            ]
        self.rates = [group["lr"] for group in groups]
        self.optimizer = OPTIMIZERS[optimizer](groups, weight_decay=weight_decay, fused=True)
        self.steps_per_epoch = math.ceil(len(split) / batch_size)
        self.n_warmup = max(1, round(warmup_fraction * epochs * self.steps_per_epoch))
        self.losses: list[float] = []  # mean training loss of each finished epoch
        self._spoken = time.monotonic()

    @property
    def finished(self) -> bool:
        return len(self.losses) >= self.epochs

    @torch.inference_mode(False)
    @torch.enable_grad()
    def run_epoch(self) -> float:
        """One epoch; its mean training loss. Progress lines go to stderr every few seconds."""
        epoch, total, n_steps = len(self.losses), 0.0, self.epochs * self.steps_per_epoch
        self.model.train()
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
        for nth, (images, labels) in enumerate(self.split.batches(self.batch_size, generator)):
            factor = warmup_cosine(epoch * self.steps_per_epoch + nth, self.n_warmup, n_steps)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
                loss = functional.cross_entropy(self.model(images), labels.long())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
            if time.monotonic() - self._spoken > PROGRESS_EVERY_S:
                self._spoken = time.monotonic()
                print(
                    f"epoch {epoch + 1}/{self.epochs}, step {nth + 1}/{self.steps_per_epoch}: "
                    f"loss {loss.item():.4f}",
                    file=sys.stderr,
                    flush=True,
                )
        mean = total / len(self.split)
        if not math.isfinite(mean):
            raise Diverged(
                f"the loss of epoch {epoch + 1} is {mean}: the learning rate {self.lr} is too high"
            )
        self.losses.append(mean)
        return mean


@contextmanager
def resumable(checkpoint: str | Path | None) -> Iterator[None]:
    """An error that ends this block says that the work so far is kept, if it is."""
    try:
        yield
    except BaseException as error:
        if checkpoint is not None and Path(checkpoint).is_file():
            error.add_note(
                f"{checkpoint} keeps the work up to its last save: the same command "
                "goes on from there"
            )
        raise


class Run:
    """The epochs of one run, the best of them, and the checkpoint."""

    path: Any  # None: no checkpoint
    best: Any  # {name: tensor} of the best epoch; None before the first
    val_curve: list[float]

    def __init__(
        self,
        training: Training,
        val: AnySplit,
        settings: dict[str, Any],
        checkpoint: str | Path | None,
    ) -> None:
        self.training, self.val = training, val
        self.path = None if checkpoint is None else Path(checkpoint)
        self.name = json.dumps(
            settings, sort_keys=True, default=lambda x: getattr(x, "__qualname__", repr(x))
        )
        self.val_curve, self.best, self.best_epoch, self.train_s = [], None, 0, 0.0
        if self.path is not None and self.path.is_file():
            self._restore()

    def to_the_end(self) -> None:
        training, saved = self.training, time.monotonic()
        while not training.finished:
            start = time.perf_counter()
            training.run_epoch()
            self.train_s += time.perf_counter() - start
            self.val_curve.append(accuracy(training.model, self.val))
            if self.val_curve[-1] > max(self.val_curve[:-1], default=-1.0):
                self.best_epoch = len(self.val_curve)
                self.best = {name: p.detach().clone() for name, p in training.trained.items()}
            if self.path is not None and (
                training.finished or time.monotonic() - saved > SAVE_EVERY_S
            ):
                self._save()
                saved = time.monotonic()

    @torch.no_grad()
    def take_best(self) -> None:
        for name, p in self.training.trained.items():
            p.copy_(self.best[name])

    def _save(self):
        tensors = {f"now.{n}": p for n, p in self.training.trained.items()}
        tensors |= {f"best.{n}": p for n, p in self.best.items()}
        notes = {
            "run": self.name,
            "losses": self.training.losses,
            "val_curve": self.val_curve,
            "best_epoch": self.best_epoch,
            "train_s": self.train_s,
        }
        save_checkpoint(self.path, tensors, self.training.optimizer, notes)

    @torch.no_grad()
    def _restore(self):
        optimizer, trained = self.training.optimizer, self.training.trained
        wanted: dict[str, torch.Tensor]
        wanted = {f"{kind}.{name}": p for kind in ("now", "best") for name, p in trained.items()}
        tensors, state, notes = read_checkpoint(
            self.path, wanted, optimizer, ("run", self.name), CHECKPOINT_NOTES
        )
        curve, n_losses, epochs = notes["val_curve"], len(notes["losses"]), self.training.epochs
        best = 1 + curve.index(max(curve))
        if not len(curve) == n_losses <= epochs or best != notes["best_epoch"]:
            raise ValueError(
                f"{self.path} is not a checkpoint (move it away): val_curve has {len(curve)} "
                f"epochs, losses {n_losses}, best_epoch is {notes['best_epoch']}; expected as "
                f"many, at most {epochs}, and epoch {best}"
            )
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        for name, p in self.training.trained.items():
            p.copy_(tensors[f"now.{name}"])
        self.best = {
            name: tensors[f"best.{name}"].to(p.device) for name, p in self.training.trained.items()
        }
        self.training.losses, self.val_curve = notes["losses"], notes["val_curve"]
        self.best_epoch, self.train_s = notes["best_epoch"], notes["train_s"]
        print(
            f"going on after epoch {len(self.val_curve)} of {self.training.epochs}",
            file=sys.stderr,
            flush=True,
        )


@torch.inference_mode(False)
@torch.enable_grad()
def out_of_use(model: nn.Module, split: AnySplit) -> list[str]:
    """Names of trainable parameters on which an image's logits do not depend, in eval mode."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    modes = {m: m.training for m in model.modules()}
    images, _ = next(iter(split.batches(1)))
    try:
        logits = model.eval()(images)
    finally:
        for module, training in modes.items():
            module.training = training
    found: Any = (
        torch.autograd.grad(logits.sum(), list(wanted.values()), allow_unused=True)
        if logits.requires_grad
        else ()
    )
    found = dict(zip(wanted, found, strict=False))
    return [name for name in wanted if found.get(name) is None]


def check_settings(
    epochs: int, lr: float, batch_size: int, optimizer: str, head_lr: float | None = None
) -> None:
    """Raise ValueError unless a `Training` can be started with these."""
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: expected at least 1")
    for name, rate in (("lr", lr), ("head_lr", 0.0 if head_lr is None else head_lr)):
        if not 0 <= rate < math.inf:
            raise ValueError(f"{name}={rate}: expected a learning rate of at least 0")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer={optimizer!r} is unknown: expected one of {', '.join(OPTIMIZERS)}"
        )


def train(model: nn.Module, split: AnySplit, epochs: int, **options: Any) -> list[float]:
    """Train to the end; the mean loss of each epoch. Options as of `Training`."""
    training = Training(model, split, epochs, **options)
    while not training.finished:
        training.run_epoch()
    return training.losses


def warmup_cosine(step: int, n_warmup: int, n_steps: int) -> float:
    """The factor on the learning rate: rises linearly, then falls as half a cosine to zero."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))
