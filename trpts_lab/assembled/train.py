"""Train what joins the parts: a projector alone, or LoRA matrices in the language model as well.

    trpts assemble --condition projector --seed 0     # goes on from its checkpoint if there is one

In the condition "projector" the language model stays as it was pre-trained. First the projector
learns to name each patch: its output moves towards the sum of the language model's own embeddings
of the words for what the patch shows and where it lies. Then it learns from the answers to
questions that are packed behind each image (`trpts_lab.assembled.packing`), and from a description
of all that it shows, which has more words to learn from than all the questions. Every image is new.
The features of the frozen tower are not kept: they are a small part of a step.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch.nn import functional

from trpts.img_focus import TITLE
from trpts.training import warmup_cosine
from trpts_lab.assembled.answers import accuracy
from trpts_lab.assembled.compositions import compose
from trpts_lab.assembled.model import READ, create_assembled, load_assembled, pixels, save_trained
from trpts_lab.assembled.packing import IGNORED, pack
from trpts_lab.assembled.parts import LANGUAGE
from trpts_lab.assembled.projector import Named, Projector
from trpts_lab.assembled.questions import CHANCE, KINDS, ask, describe, places, questions_of
from trpts_lab.resumable import Resumable

CONDITIONS = ("projector", "lora")
# Kinds of the questions behind each image, beside a description: in `early_steps`, whose images are
# listed by place as well, and from there on
EARLY = ("exist", "what", "where", "count", "relation")
LATE = (*2 * ("exist",), "what", "colour", *2 * ("where", "count", "relation"), "digit")
SCALE = 2  # of a product of LoRA matrices: α / r
LOOKED_AT = 10  # questions at a time
N_STANDARDISED = 64  # images whose features say mean and spread of each channel


@dataclass(frozen=True)
class Recipe:
    """What decides the weights: everything but the machine."""

    condition: str = "projector"
    naming_steps: int = 500
    naming_batch_size: int = 8  # images
    naming_lr: float = 2e-3
    early_steps: int = 1000
    steps: int = 2500  # of answering, the early ones included
    batch_size: int = 4  # images
    lr: float = 1e-3  # of the projector
    rank: int = 8  # of the LoRA matrices, at the attention's four layers
    lora_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    clip: float = 1.0
    n_held_out: int = 50  # questions of each kind
    evaluate_every: int = 500  # steps
    seed: int = 0


class Assembling(Resumable):
    """A run in progress."""

    command = "assemble"

    def __init__(self, recipe=None):
        r = recipe or Recipe()
        if r.condition not in CONDITIONS:
            raise ValueError(
                f"condition={r.condition!r} is unknown: expected {' or '.join(CONDITIONS)}"
            )
        self.name = f"assembled_{r.condition}_{r.seed}"
        self.folder, self.clip = f"assembled/{r.condition}_{r.seed}", r.clip
        self.model = create_assembled(r.seed)
        some = self.features([compose("train", n, r.seed).image for n in range(N_STANDARDISED)])
        mean, spread = some.mean((0, 1)), some.std((0, 1)) + 1e-6
        self.projector = Projector(self.model.model.multi_modal_projector, mean, spread)
        self.projector.requires_grad_(True)
        self.words = self.model.get_input_embeddings().weight.clone()  # [vocabulary, D], float32
        self.named = Named(self.words)
        self.language = self.model.model.language_model.bfloat16()  # faster, and it stays as it is
        self.language.set_attn_implementation("eager")  # on a CPU faster than SDPA
        self.model.lm_head.bfloat16()
        if r.condition == "lora":
            self._inject(r)
        self.matrices = [p for name, p in self.language.named_parameters() if "lora_" in name]
        module = nn.ModuleDict(
            {"projector": self.projector, "lora": nn.ParameterList(self.matrices)}
        )
        trained = [list(self.projector.parameters()), self.matrices]
        optimizer = torch.optim.AdamW(
            [{"params": some} for some in trained if some],
            betas=(0.9, 0.99),
            weight_decay=r.weight_decay,
            fused=True,
        )
        super().__init__(r, module, (optimizer,), r.naming_steps + r.steps, r.evaluate_every)

    def _inject(self, recipe):
        """LoRA matrices, in float32, beside the attention's layers of the language model."""
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=SCALE * recipe.rank,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            inject_adapter_in_model(config, self.language)
        for name, parameter in self.language.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()

    def features(self, images):
        """What the frozen tower says of images, float32 [B, N, 3 · 384], without CLS."""
        with torch.no_grad():
            states = self.model.model.vision_tower(
                pixels(images), output_hidden_states=True
            ).hidden_states
        return torch.cat([states[layer][:, 1:] for layer in READ], -1)

    def data(self):
        return ()

    @cached_property
    def held_out(self):
        """Questions that no step asks, by kind."""
        r = self.recipe
        return {kind: questions_of("val", kind, r.n_held_out, r.seed) for kind in KINDS}

    def right(self):
        """In half precision, as it is trained: a look at how far it is."""
        right = {}
        for kind, pairs in self.held_out.items():
            found = []
            for start in range(0, len(pairs), LOOKED_AT):
                shown, asked = zip(*pairs[start : start + LOOKED_AT], strict=True)
                with torch.no_grad():
                    logits, labels = self._answered(shown, [[question] for question in asked])
                rows, _ = torch.nonzero(labels != IGNORED, as_tuple=True)
                wrong = rows[logits.argmax(-1) != labels[labels != IGNORED]]
                found += [row not in wrong for row in range(len(asked))]
            right[kind] = float(np.mean(found))
        return right

    def point(self, losses):
        return {"step": self.step, "loss": float(np.mean(losses))}

    def loss(self):
        """Of a step: of naming patches, then of answering questions."""
        r, naming = self.recipe, self.step < self.recipe.naming_steps
        if naming:
            self._set_rates(r.naming_lr * warmup_cosine(self.step, 10, r.naming_steps), 0.0)
            return self._naming_loss(self._compositions(r.naming_batch_size))
        factor = warmup_cosine(self.step - r.naming_steps, r.warmup_steps, r.steps)
        self._set_rates(factor * r.lr, factor * r.lora_lr)
        rng = np.random.default_rng([r.seed, self.step])
        shown, early = self._compositions(r.batch_size), self.step - r.naming_steps < r.early_steps
        rows = [
            [describe(one), *([places(one)] if early else [])]
            + [ask(one, kind, rng) or ask(one, "where", rng) for kind in (EARLY if early else LATE)]
            for one in shown
        ]
        logits, labels = self._answered(shown, rows)
        return functional.cross_entropy(logits, labels[labels != IGNORED])

    def _set_rates(self, projector, lora):
        self.optimizer.set_lr(*([projector, lora] if self.matrices else [projector]))

    def _compositions(self, n):
        """The n compositions of this step: new ones each step, the same in a resumed run."""
        first = N_STANDARDISED + self.step * max(
            self.recipe.naming_batch_size, self.recipe.batch_size
        )
        return [compose("train", first + b, self.recipe.seed) for b in range(n)]

    def _naming_loss(self, shown):
        """Mean squared error to the sum of the words' embeddings, over that sum's variance."""
        target = torch.stack([self.named.of(one) for one in shown])  # [B, N, D]
        output = self.projector(self.features([one.image for one in shown]))
        return functional.mse_loss(output, target) / target.var()

    def _answered(self, shown, rows):
        """(logits of the tokens of all answers [n, vocabulary], labels [B, T]) of B compositions
        with a list of questions each.
        """
        ids, labels, seen, places = pack(rows)
        tokens = self.projector(self.features([one.image for one in shown]))  # [B, N, D]
        image = (ids == self.model.config.image_token_id)[..., None]
        embedded = self.words[ids].masked_scatter(image, tokens)  # [B, T, D]
        unseen = torch.zeros(seen.shape, dtype=torch.bfloat16).masked_fill(~seen, -torch.inf)
        with torch.autocast("cpu", torch.bfloat16), disable_input_dtype_casting(self.language):
            hidden = self.language(
                inputs_embeds=embedded.bfloat16(),
                attention_mask=unseen,
                position_ids=places,
                use_cache=False,
            ).last_hidden_state
            logits = self.model.lm_head(hidden[labels != IGNORED])
        return logits.float(), labels

    def tensors(self):
        """What `save_trained` writes."""
        found = {f"projector.{name}": t.detach() for name, t in self.projector.folded().items()}
        for name, matrix in self.language.named_parameters():
            if "lora_" in name:  # layers.0.self_attn.q_proj.lora_A.default.weight
                layer, _, rest = name.partition(".lora_")
                found[f"lora_{rest[0]}.{layer}"] = matrix.detach()
        return found

    def finish(self, path):
        tensors = self.tensors()
        save_trained(path, tensors, SCALE if self.matrices else None)
        written, asked = load_assembled(path), questions_held_out(self.recipe)
        return {
            "language_model": LANGUAGE,
            "vision_tower": TITLE,
            "parameters": sum(t.numel() for t in tensors.values()),
            "steps_done": self.step,
            "held_out_questions_per_kind": self.recipe.n_held_out,
            "held_out_accuracy": self.right(),
            "held_out_accuracy_half_precision": accuracy(written, self.held_out),
            "held_out_accuracy_new_phrases": accuracy(written, asked),
            "held_out_accuracy_blank_image": accuracy(written, self.held_out, blank=True),
            "chance": CHANCE,
        }


def questions_held_out(recipe):
    """As `Assembling.held_out`, in words that no step asks either."""
    n, seed = recipe.n_held_out, recipe.seed
    return {kind: questions_of("val", kind, n, seed, phrase=-1) for kind in KINDS}
