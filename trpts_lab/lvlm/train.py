"""Training of the tiny vision-language model on procedural scenes: resumable, with a card that says
how.

    trpts lvlm-train            # goes on from build/lvlm/checkpoint.safetensors if there is one

Stage 0 teaches the vision tower colours, shapes and places, patch by patch, in place of CLIP's
pre-training. Stage 1 trains everything on the answers to questions packed behind each image
(`trpts_lab.lvlm.packing`). The matrices of the language model's layers are trained by Muon, which
in trials took fewer steps to find objects than AdamW alone. Stage 2 is a second, shorter round with
more of the questions that are learned last.
"""

import json
import math
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from trpts.checkpoint import read_checkpoint, save_checkpoint
from trpts.errors import TrptsError
from trpts.hashes import file_hash, short_hash
from trpts.places import remove_leftovers
from trpts.training import warmup_cosine
from trpts_lab.lvlm.answers import accuracy
from trpts_lab.lvlm.model import NAME, create_lvlm, pixels, save_lvlm
from trpts_lab.lvlm.packing import IGNORED, pack, pack_mask, slot_lengths
from trpts_lab.lvlm.questions import CHANCE, KINDS, ask, questions_of
from trpts_lab.lvlm.scenes import COLOURS, GRID, N_TOKENS, SHAPES, SIDE, cell_tokens, draw_scene
from trpts_lab.optimizers import Optimizers
from trpts_lab.project import make_folder, write_whole
from trpts_lab.provenance import machine, versions
from trpts_lab.weights.pretrain import checkpoint_notes

SAVE_EVERY_S, SPEAK_EVERY_S = 20.0, 20.0
# Kinds of the questions behind each image: in `easy_steps`, from there on, and in `hard_steps`.
EASY = (*3 * ("exist",), *2 * ("colour",), *3 * ("shape",), *4 * ("where",))
ALL = (
    *2 * ("exist",),
    "colour",
    *2 * ("shape",),
    *2 * ("where",),
    *2 * ("count",),
    *3 * ("relation",),
)
HARD = ("exist", "colour", "shape", "where", *2 * ("count",), *6 * ("relation",))


@dataclass(frozen=True)
class Recipe:
    """What decides the weights: everything but the machine."""

    n_scenes: int = 40000
    vision_steps: int = 250
    vision_batch_size: int = 64
    vision_lr: float = 2e-3
    easy_steps: int = 2000
    steps: int = 7500  # of stage 1, the easy ones included
    hard_steps: int = 4000  # of stage 2
    hard_factor: float = 0.5  # on the learning rates in stage 2
    batch_size: int = 8
    lr: float = 1e-3  # in stage 1: AdamW's
    vision_lr_later: float = 3e-4  # in stage 1
    matrix_lr: float = 3e-3  # Muon's, for the matrices of the language model's layers
    weight_decay: float = 0.05
    warmup_steps: int = 100
    clip: float = 1.0
    n_held_out: int = 100  # questions of each kind
    evaluate_every: int = 500  # steps
    seed: int = 0

    @property
    def hash(self):
        return short_hash(json.dumps(asdict(self), sort_keys=True))


def patch_labels(scene):
    """(colour, shape, row, column) of each patch's cell, colour and shape one beyond the last where
    no object is: int64 [4, N_TOKENS].
    """
    rows, columns = np.divmod(np.arange(N_TOKENS), SIDE)
    nothing = np.ones(N_TOKENS, np.int64)
    labels = np.stack([len(COLOURS) * nothing, len(SHAPES) * nothing, rows // 2, columns // 2])
    for thing in scene.things:
        number = [[list(COLOURS).index(thing.colour)], [SHAPES.index(thing.shape)]]
        labels[:2, cell_tokens(thing.row, thing.column)] = number
    return labels


class LvlmTraining:
    """A run in progress: model, patch heads, optimiser, step and learning curve; saved whole,
    restored whole.
    """

    def __init__(self, recipe):
        self.recipe, self.model = recipe, create_lvlm(recipe.seed)
        self.vision = self.model.model.vision_tower
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            D, n_labels = (
                self.vision.config.hidden_size,
                (len(COLOURS) + 1, len(SHAPES) + 1, GRID, GRID),
            )
            self.heads = nn.ModuleList([nn.Linear(D, n) for n in n_labels])
        self.all = nn.ModuleDict({"model": self.model, "heads": self.heads})
        matrices = [p for p in self.model.model.language_model.layers.parameters() if p.ndim == 2]
        seeing = [*self.vision.parameters(), *self.heads.parameters()]
        taken = {id(p) for p in matrices + seeing}
        rest = [p for p in self.model.parameters() if id(p) not in taken]
        self.optimizer = Optimizers(
            torch.optim.AdamW(
                [{"params": seeing}, {"params": rest}], weight_decay=recipe.weight_decay, fused=True
            ),
            torch.optim.Muon(
                matrices, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
        )
        self.step, self.time_s, self.curve = 0, 0.0, []
        self.n_steps = recipe.vision_steps + recipe.steps + recipe.hard_steps

    def advance(self, scenes):
        """One optimiser step on scenes that seed and step choose, so that a resumed run is the same
        run; its loss.
        """
        rng = np.random.default_rng([self.recipe.seed, self.step])
        self.all.train()
        loss = (
            self._see(scenes, rng)
            if self.step < self.recipe.vision_steps
            else self._answer(scenes, rng)
        )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.all.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _see(self, scenes, rng):
        """Stage 0: colour, shape, row and column of every patch, linearly from what the language
        model will read.
        """
        r = self.recipe
        self.optimizer.set_lr(
            r.vision_lr * warmup_cosine(self.step, r.warmup_steps, r.vision_steps), 0.0, 0.0
        )
        chosen = [scenes[n] for n in rng.integers(len(scenes), size=r.vision_batch_size)]
        # [B, N, D], without CLS
        features = self.vision(pixels([s.image for s in chosen])).last_hidden_state[:, 1:]
        # 4 · [B, N]
        labels = torch.from_numpy(np.stack([patch_labels(s) for s in chosen])).unbind(1)
        return sum(
            functional.cross_entropy(head(features).flatten(0, 1), y.flatten())
            for head, y in zip(self.heads, labels, strict=True)
        )

    def _answer(self, scenes, rng):
        """Stages 1 and 2: cross-entropy of the answers' words."""
        r, step = self.recipe, self.step - self.recipe.vision_steps
        if step < r.steps:
            kinds, factor = (
                EASY if step < r.easy_steps else ALL,
                warmup_cosine(step, r.warmup_steps, r.steps),
            )
        else:
            kinds = HARD
            factor = r.hard_factor * warmup_cosine(step - r.steps, r.warmup_steps, r.hard_steps)
        self.optimizer.set_lr(factor * r.vision_lr_later, factor * r.lr, factor * r.matrix_lr)
        chosen = [scenes[n] for n in rng.integers(len(scenes), size=r.batch_size)]
        asked = [[ask(s, kind, rng) or ask(s, "where", rng) for kind in kinds] for s in chosen]
        ids, labels = pack(asked, slot_lengths(kinds))
        mask, positions = pack_mask(slot_lengths(kinds))
        logits = self.model(
            input_ids=ids,
            pixel_values=pixels([s.image for s in chosen]),
            use_cache=False,
            attention_mask=mask.expand(len(ids), -1, -1, -1),
            position_ids=positions.expand(len(ids), -1),
        ).logits
        return functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )

    def save(self, path):
        """Write the checkpoint, whole or not at all."""
        notes = {
            "recipe": self.recipe.hash,
            "step": self.step,
            "time_s": self.time_s,
            "curve": self.curve,
        }
        save_checkpoint(path, self.all.state_dict(), self.optimizer, notes)

    def restore(self, path):
        """Take up a checkpoint; refuses one of another recipe and leaves everything as it was."""
        owner, schema = ("recipe", self.recipe.hash), checkpoint_notes(self.n_steps)
        try:
            tensors, state, notes = read_checkpoint(
                path, self.all.state_dict(), self.optimizer, owner, schema
            )
        except ValueError as error:
            raise TrptsError(str(error)) from error
        self.all.load_state_dict(tensors)
        self.optimizer.load_state(state)
        self.step, self.time_s, self.curve = notes["step"], notes["time_s"], notes["curve"]


def train(project, recipe=None, minutes=None, stop_after=None):
    """Train, or go on training; write weights and card into data/weights/ at the end; the card.

    minutes     time after which to save and return None; the same call goes on from there
    stop_after  number of steps after which to save and return None (for tests)
    """
    run = LvlmTraining(recipe or Recipe())
    r, checkpoint = run.recipe, checkpoint_of(project)
    remove_leftovers(checkpoint)
    if checkpoint.is_file():
        run.restore(checkpoint)
        say(f"lvlm-train: going on at step {run.step} of {run.n_steps}")
    if run.step < run.n_steps:
        say(f"lvlm-train: drawing {r.n_scenes} scenes")
        scenes = [draw_scene("train", n, r.seed) for n in range(r.n_scenes)]
    held_out = {kind: questions_of("val", kind, r.n_held_out, r.seed) for kind in KINDS}
    start, before, first_step, losses = time.monotonic(), run.time_s, run.step, []
    saved = spoken = start
    # Written between steps alone, as in `trpts_lab.weights.pretrain`.
    while run.step < run.n_steps:
        losses.append(run.advance(scenes))
        if not math.isfinite(losses[-1]):
            raise TrptsError(
                f"the loss of step {run.step} is {losses[-1]}: {checkpoint} is left as it was"
            )
        now = time.monotonic()
        run.time_s = before + now - start
        if run.step % r.evaluate_every == 0:
            right = accuracy(run.model.eval(), held_out)
            run.curve.append(
                {"step": run.step, "loss": float(np.mean(losses)), "held_out_accuracy": right}
            )
            say(f"lvlm-train: step {run.step}, held out: {shares(right)}")
        if now - spoken > SPEAK_EVERY_S:
            left = (run.n_steps - run.step) * (now - start) / (run.step - first_step) / 60
            say(
                f"lvlm-train: step {run.step}/{run.n_steps}, loss {np.mean(losses):.3f}, "
                f"{left:.0f} min"
            )
            spoken, losses = now, []
        if now - saved > SAVE_EVERY_S:
            run.save(checkpoint)
            saved = now
        timed_out = minutes is not None and now - start > 60 * minutes
        if timed_out or (stop_after is not None and run.step - first_step >= stop_after):
            break
    run.save(checkpoint)
    return ship(project, run, held_out) if run.step == run.n_steps else None


def ship_checkpoint(project, recipe=None):
    """Write weights and card from the checkpoint as it stands, though the run may not be at its
    end; the card.
    """
    run = LvlmTraining(recipe or Recipe())
    checkpoint = checkpoint_of(project)
    if not checkpoint.is_file():
        raise TrptsError(f"there is no checkpoint {checkpoint}: run `trpts lvlm-train` first")
    run.restore(checkpoint)
    r = run.recipe
    return ship(
        project, run, {kind: questions_of("val", kind, r.n_held_out, r.seed) for kind in KINDS}
    )


def ship(project, run, held_out):
    """Write the weights (half precision) and their card; the card."""
    path = make_folder(project.root / "data" / "weights") / f"{NAME}.safetensors"
    rounded = create_lvlm()
    rounded.load_state_dict({name: t.half().float() for name, t in run.model.state_dict().items()})
    card = {
        "file": path.name,
        "parameters": sum(p.numel() for p in rounded.parameters()),
        "recipe": asdict(run.recipe),
        "steps_done": run.step,
        "held_out_questions_per_kind": run.recipe.n_held_out,
        "held_out_accuracy": accuracy(run.model.eval(), held_out),
        "held_out_accuracy_half_precision": accuracy(rounded, held_out),
        "held_out_accuracy_blank_image": accuracy(rounded, held_out, blank=True),
        "chance": CHANCE,
        "curve": run.curve,
        "time_s": round(run.time_s, 1),
        "machine": machine(),
        "versions": versions() | {"transformers": transformers.__version__},
    }
    # when all is measured: an interruption leaves the weights before it with their card
    save_lvlm(run.model, path)
    card["sha256_16"] = file_hash(path)
    write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    say(
        f"lvlm-train: {path.name} written; held out: "
        f"{shares(card['held_out_accuracy_half_precision'])}"
    )
    return card


def checkpoint_of(project):
    return make_folder(project.build / "lvlm") / "checkpoint.safetensors"


def shares(accuracies):
    return ", ".join(f"{kind} {share:.2f}" for kind, share in accuracies.items())


def say(text):
    print(text, file=sys.stderr, flush=True)
