"""A training that may be stopped at any time and goes on as the same run, bit for bit.

It has a checkpoint in build/, and leaves weights in data/weights/ with a card that says how they
were made. The recipe is all there is to choose: its hash names the run, and a checkpoint of another
recipe is refused.
"""

import json
import math
import sys
import time
from dataclasses import asdict
from functools import cached_property

import numpy as np
from torch import nn

from trpts.checkpoint import read_checkpoint, save_checkpoint
from trpts.errors import TrptsError
from trpts.hashes import file_hash, short_hash
from trpts.places import remove_leftovers
from trpts_lab.files import make_folder, write_whole
from trpts_lab.provenance import machine, versions

SAVE_EVERY_S, SPEAK_EVERY_S = 20.0, 20.0


class Resumable:
    """A run in progress: module, optimisers, step and learning curve; saved whole, restored whole.

    A subclass says what is trained: its `command`, its `folder` in build/, the `name` of its
    weights, and

    data()        what steps draw from, a tuple; made where there are steps to do
    loss(*data)   of the next step, after setting its learning rates. What it draws depends on seed
                  and step alone, so that a resumed run is the same run
    right()       accuracy on images that are held out: a share, or {kind: share}
    point(losses) what the learning curve says beside that, every `evaluate_every` steps
    finish(path)  write the weights, in half precision, when all is measured; what the card says of
                  them
    """

    clip = None  # of the gradient's norm

    def __init__(self, recipe, module, optimizers, n_steps, evaluate_every):
        self.recipe, self.module, self.optimizer = recipe, module, Optimizers(*optimizers)
        self.n_steps, self.evaluate_every = n_steps, evaluate_every
        self.step, self.time_s, self.curve = 0, 0.0, []

    @cached_property
    def hash(self):
        return short_hash(json.dumps(asdict(self.recipe), sort_keys=True))

    def checkpoint(self, project):
        return make_folder(project.build / self.folder) / "checkpoint.safetensors"

    def advance(self, *data):
        """One optimiser step; its loss."""
        self.module.train()
        loss = self.loss(*data)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def save(self, path):
        """Write the checkpoint, whole or not at all."""
        notes = {name: getattr(self, name) for name in ("step", "time_s", "curve")}
        save_checkpoint(
            path, self.module.state_dict(), self.optimizer, {"recipe": self.hash} | notes
        )

    def restore(self, path):
        """Take up a checkpoint; refuses one of another recipe and leaves everything as it was."""
        schema = {
            "required": ["step", "time_s", "curve"],
            "properties": {
                "step": {"type": "integer", "minimum": 0, "maximum": self.n_steps},
                "time_s": {"type": "number", "minimum": 0},
                "curve": {"type": "array", "items": {"type": "object"}, "maxItems": self.n_steps},
            },
        }
        try:
            tensors, state, notes = read_checkpoint(
                path, self.module.state_dict(), self.optimizer, ("recipe", self.hash), schema
            )
        except ValueError as error:
            raise TrptsError(str(error)) from error
        self.module.load_state_dict(tensors)
        self.optimizer.load_state(state)
        self.step, self.time_s, self.curve = notes["step"], notes["time_s"], notes["curve"]

    def train(self, project, minutes=None, stop_after=None):
        """Train, or go on training; at the end write weights and card into data/weights/; the card.

        minutes     time after which to save and return None; the same call goes on from there
        stop_after  number of steps after which to save and return None (for tests)
        """
        checkpoint = self.checkpoint(project)
        remove_leftovers(checkpoint)
        if checkpoint.is_file():
            self.restore(checkpoint)
            self.say(f"going on at step {self.step} of {self.n_steps}")
        data = self.data() if self.step < self.n_steps else ()
        start, before, first, losses = time.monotonic(), self.time_s, self.step, []
        saved = spoken = start
        # The checkpoint is written between steps alone. An interruption within a step leaves the
        # one before: a half-made step would go on as another run.
        while self.step < self.n_steps:
            losses.append(self.advance(*data))
            if not math.isfinite(losses[-1]):
                raise TrptsError(
                    f"the loss of step {self.step} is {losses[-1]}: {checkpoint} is left as it was"
                )
            now = time.monotonic()
            self.time_s = before + now - start
            if self.step % self.evaluate_every == 0:
                right = self.right()
                self.curve.append(self.point(losses) | {"held_out_accuracy": right})
                self.say(f"step {self.step}, held out: {shares(right)}")
            if now - spoken > SPEAK_EVERY_S:
                left = (self.n_steps - self.step) * (now - start) / (self.step - first) / 60
                loss = f"loss {np.mean(losses):.3f}"
                self.say(f"step {self.step}/{self.n_steps}, {loss}, {left:.0f} min")
                spoken, losses = now, []
            if now - saved > SAVE_EVERY_S:
                self.save(checkpoint)
                saved = now
            timed_out = minutes is not None and now - start > 60 * minutes
            if timed_out or (stop_after is not None and self.step - first >= stop_after):
                break
        self.save(checkpoint)
        return self._ship(project) if self.step == self.n_steps else None

    def ship(self, project):
        """Write weights and card from the checkpoint, even mid-run; returns the card."""
        checkpoint = self.checkpoint(project)
        if not checkpoint.is_file():
            raise TrptsError(
                f"there is no checkpoint {checkpoint}: run `trpts {self.command}` first"
            )
        self.restore(checkpoint)
        return self._ship(project)

    def _ship(self, project):
        path = make_folder(project.root / "data" / "weights") / f"{self.name}.safetensors"
        found = self.finish(path)
        card = {
            "file": path.name,
            "sha256_16": file_hash(path),
            "recipe": asdict(self.recipe),
            **found,
            "curve": self.curve,
            "time_s": round(self.time_s, 1),
            "machine": machine(),
            "versions": versions(),
        }
        write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
        right = shares(card["held_out_accuracy_half_precision"])
        self.say(f"{path.name} written; held out: {right}")
        return card

    def say(self, text):
        print(f"{self.command}: {text}", file=sys.stderr, flush=True)


def shares(accuracy):
    """An accuracy, or one of each kind, as text."""
    if isinstance(accuracy, dict):
        return ", ".join(f"{kind} {share:.2f}" for kind, share in accuracy.items())
    return f"{accuracy:.3f}"


class Optimizers:
    """Several optimisers that step as one; their parameters are numbered one after another."""

    def __init__(self, *parts):
        self.parts = parts
        sizes = [sum(len(group["params"]) for group in part.param_groups) for part in parts]
        self.starts = np.cumsum([0, *sizes]).tolist()

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self):
        for part in self.parts:
            part.step()

    def set_lr(self, *rates):
        """One learning rate for each group of parameters, in their order."""
        for group, lr in zip(
            [g for part in self.parts for g in part.param_groups], rates, strict=True
        ):
            group["lr"] = lr

    def state_dict(self):
        states = [part.state_dict()["state"] for part in self.parts]
        return {
            "state": {
                start + n: state
                for start, found in zip(self.starts, states, strict=False)
                for n, state in found.items()
            }
        }

    def load_state(self, state):
        """Take up the "state" of `state_dict`."""
        for part, start, end in zip(self.parts, self.starts, self.starts[1:], strict=False):
            own = {n - start: state[n] for n in state if start <= n < end}
            part.load_state_dict(part.state_dict() | {"state": own})
