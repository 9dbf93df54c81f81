"""Training of the tiny vision-language model on procedural scenes: resumable, with a card that says
how.

    trpts lvlm-train            # goes on from build/lvlm/checkpoint.safetensors if there is one

Stage 0 teaches the vision tower colours, shapes and places, patch by patch, in place of CLIP's
pre-training. Stage 1 trains everything on the answers to questions packed behind each image
(`trpts_lab.lvlm.packing`). The matrices of the language model's layers are trained by Muon, which
in trials took fewer steps to find objects than AdamW alone. Stage 2 is a second, shorter round with
more of the questions that are learned last.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trpts.training import warmup_cosine
from trpts_lab.lvlm.answers import accuracy
from trpts_lab.lvlm.model import NAME, create_lvlm, pixels, save_lvlm
from trpts_lab.lvlm.packing import IGNORED, pack, pack_mask, slot_lengths
from trpts_lab.lvlm.questions import CHANCE, KINDS, ask, questions_of
from trpts_lab.lvlm.scenes import COLOURS, GRID, N_TOKENS, SHAPES, SIDE, cell_tokens, draw_scene
from trpts_lab.resumable import Resumable

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


class LvlmTraining(Resumable):
    """A run in progress: the model and, for stage 0, a linear layer for each of `patch_labels`."""

    command, folder, name = "lvlm-train", "lvlm", NAME

    def __init__(self, recipe=None):
        r = recipe or Recipe()
        self.model, self.clip = create_lvlm(r.seed), r.clip
        self.vision = self.model.model.vision_tower
        D = self.vision.config.hidden_size
        n_labels = (len(COLOURS) + 1, len(SHAPES) + 1, GRID, GRID)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(r.seed)
            self.heads = nn.ModuleList([nn.Linear(D, n) for n in n_labels])
        matrices = [p for p in self.model.model.language_model.layers.parameters() if p.ndim == 2]
        seeing = [*self.vision.parameters(), *self.heads.parameters()]
        taken = {id(p) for p in matrices + seeing}
        rest = [p for p in self.model.parameters() if id(p) not in taken]
        groups, decay = [{"params": seeing}, {"params": rest}], {"weight_decay": r.weight_decay}
        optimizers = (
            torch.optim.AdamW(groups, fused=True, **decay),
            torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **decay),
        )
        module = nn.ModuleDict({"model": self.model, "heads": self.heads})
        n_steps = r.vision_steps + r.steps + r.hard_steps
        super().__init__(r, module, optimizers, n_steps, r.evaluate_every)

    def data(self):
        self.say(f"drawing {self.recipe.n_scenes} scenes")
        return ([draw_scene("train", n, self.recipe.seed) for n in range(self.recipe.n_scenes)],)

    @cached_property
    def held_out(self):
        """Questions that no step asks, by kind."""
        r = self.recipe
        return {kind: questions_of("val", kind, r.n_held_out, r.seed) for kind in KINDS}

    def right(self):
        return accuracy(self.model.eval(), self.held_out)

    def point(self, losses):
        return {"step": self.step, "loss": float(np.mean(losses))}

    def loss(self, scenes):
        """Of a step of stage 0, 1 or 2."""
        rng = np.random.default_rng([self.recipe.seed, self.step])
        seeing = self.step < self.recipe.vision_steps
        return self._see(scenes, rng) if seeing else self._answer(scenes, rng)

    def _see(self, scenes, rng):
        """Stage 0: colour, shape, row, column of a patch, linearly from the LLM's input."""
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
            kinds = EASY if step < r.easy_steps else ALL
            factor = warmup_cosine(step, r.warmup_steps, r.steps)
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

    def finish(self, path):
        rounded = create_lvlm()
        state = self.model.state_dict()
        rounded.load_state_dict({name: t.half().float() for name, t in state.items()})
        found = {
            "parameters": sum(p.numel() for p in rounded.parameters()),
            "steps_done": self.step,
            "held_out_questions_per_kind": self.recipe.n_held_out,
            "held_out_accuracy": self.right(),
            "held_out_accuracy_half_precision": accuracy(rounded, self.held_out),
            "held_out_accuracy_blank_image": accuracy(rounded, self.held_out, blank=True),
            "chance": CHANCE,
        }
        save_lvlm(self.model, path)
        return found
