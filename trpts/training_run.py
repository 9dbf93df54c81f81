"""A run of the training loop that keeps its best epoch and a checkpoint."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trpts.checkpoint import read_checkpoint, save_checkpoint
from trpts.data.task import AnySplit
from trpts.probe import accuracy
from trpts.training import Training

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
