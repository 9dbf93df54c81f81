"""The training loop. Epochs depend on seed and number alone: a resumed run is the same run."""

import math
import sys
import time
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trpts.data.task import AnySplit, check_labels
from trpts.layers import heads
from trpts.options import LARGEST_RATE, MOST, SEEDS, check_real, check_whole
from trpts.probe import Diverged

PROGRESS_EVERY_S = 5.0
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Training:
    """Training in progress of all parameters that ask for gradients, on a split.

    Adam or AdamW; linear warm-up, then cosine to zero; no augmentation. `seed` orders the batches
    of each epoch. head_lr: the rate of the classifier, None: lr, as for all else. autocast: forward
    passes in bfloat16 where PyTorch thinks it safe; parameters and optimiser stay as they are.
    raises  ValueError: a setting out of its bounds, labels that the head does not know, nothing to
            train, a parameter that asks for a gradient and gets none, because the model does not
            use it
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
        check_settings(
            epochs, lr, batch_size, optimizer, head_lr, seed, weight_decay, warmup_fraction
        )
        n_outputs = min(
            (getattr(head, "out_features", MOST) for head in heads(model)), default=MOST
        )
        check_labels(split.labels, n_outputs, "the labels to train on")
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
            with (
                torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast),
                self._blamed_on_the_rate(epoch, nth),
            ):
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
    def _blamed_on_the_rate(self, epoch, nth):
        """What the model cannot compute after a step, it could before: the step was too long."""
        try:
            yield
        except ValueError as error:
            if epoch + nth == 0:
                raise
            raise Diverged(
                f"step {nth + 1} of epoch {epoch + 1}: {error}; the learning rate {self.lr} is "
                "too high"
            ) from error


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
    epochs: int,
    lr: float,
    batch_size: int,
    optimizer: str,
    head_lr: float | None = None,
    seed: int = 0,
    weight_decay: float = 0.0,
    warmup_fraction: float = 0.1,
) -> None:
    """Raise ValueError, naming the option, unless a `Training` can be started with these."""
    check_whole("epochs", epochs)
    check_whole("batch_size", batch_size)
    check_whole("seed", seed, 0, SEEDS)
    check_real("lr", lr, 0, LARGEST_RATE)
    check_real("head_lr", 0 if head_lr is None else head_lr, 0, LARGEST_RATE)
    check_real("weight_decay", weight_decay, 0, LARGEST_RATE)
    check_real("warmup_fraction", warmup_fraction, 0, 1)
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
