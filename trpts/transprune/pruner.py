"""The hooks by which a language model prunes its image tokens.

Each stage gets a mask and position embeddings of its own, for the prompt and for every token
generated after it, so that batches, padding, caches and beams give what each row alone would give.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import DynamicCache, DynamicLayer

from trpts.transition import transition_variation
from trpts.transprune import prompt as prompts
from trpts.transprune.criteria import CRITERIA, Candidates, choose
from trpts.transprune.families import Anatomy, queries_and_keys
from trpts.transprune.schedule import Schedule
from trpts.transprune.scores import guided_attention
from trpts.transprune.trace import Trace

Args = tuple[Any, ...]  # of a module's forward
Kwargs = dict[str, Any]


class Pruner:
    """The hooks, and what they tell each other during one pass."""

    def __init__(
        self,
        model: nn.Module,
        parts: Anatomy,
        schedule: Schedule,
        relevant: torch.Tensor | None,
        instruction: torch.Tensor | None,
        shortcut: bool,
    ) -> None:
        self.model, self.parts, self.schedule, self.shortcut = model, parts, schedule, shortcut
        self.start = partial(
            prompts.start_prompt, parts, instruction=instruction, relevant=relevant
        )
        self.trace, self.decoding = Trace(), False
        self.prompt: prompts.Prompt = None  # type: ignore[assignment]  # before one begins
        self.ids: torch.Tensor | None = None
        self.mask: torch.Tensor | None = None
        # set by hooks before anything reads them
        self.positions: Any = None
        self.normed: Any = None
        self.compact = schedule.positions == "compact"

    def hooks(self) -> Iterator[RemovableHandle]:
        """Register all, one by one."""
        parts, layers = self.parts, self.parts.layers
        yield self.model.register_forward_pre_hook(self.refuse, with_kwargs=True)
        yield parts.core.register_forward_pre_hook(self.note_ids, with_kwargs=True)
        yield parts.text.register_forward_pre_hook(self.begin, with_kwargs=True)
        yield parts.text.rotary_emb.register_forward_pre_hook(self.note_positions, with_kwargs=True)
        yield layers[0].register_forward_pre_hook(self.note_cache, with_kwargs=True)
        score = self.schedule.score  # a function may read transitions
        wants_transitions = callable(score) or CRITERIA[score].products > 0
        for number in self.schedule.accumulate if wants_transitions else ():
            layer = layers[number - 1]
            yield layer.self_attn.register_forward_hook(self.watch_attention, with_kwargs=True)
            yield layer.mlp.register_forward_hook(self.watch)
        if self.schedule.iga_layer == "same":
            for number in self.schedule.prune_after:
                yield layers[number - 1].self_attn.register_forward_pre_hook(
                    self.note_normed, with_kwargs=True
                )
        for number in range(self.schedule.prune_after[0] + 1, len(layers) + 1):
            yield layers[number - 1].register_forward_pre_hook(
                partial(self.enter, number), with_kwargs=True
            )

    def refuse(self, model: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if kwargs.get("labels") is not None:
            raise ValueError(
                "labels: dropped tokens have no logits to compare; expected the loss "
                "of the last ones"
            )
        if isinstance(kwargs.get("logits_to_keep"), torch.Tensor):
            raise ValueError(
                "logits_to_keep names positions, and they move: expected a number of last ones"
            )
        if model.training and self.parts.layers[0].gradient_checkpointing:
            raise ValueError(
                "gradient checkpointing computes a layer twice: expected it off, or model.eval()"
            )

    def note_ids(self, core: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self.ids = kwargs.get("input_ids", args[0] if args else None)

    def begin(self, text: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """A prompt begins where the cache is empty, or there is none."""
        cache, hidden = kwargs.get("past_key_values"), kwargs["inputs_embeds"]
        self.mask = kwargs.get("attention_mask")
        if cache is not None and not _plain(cache):
            raise ValueError(
                f"the cache is a {type(cache).__name__}: expected a DynamicCache, whose layers "
                "may differ in length"
            )
        self.decoding = cache is not None and cache.get_seq_length() > 0
        if not self.decoding:
            self.prompt = None  # type: ignore[assignment]  # stays so where the prompt is refused
            self.prompt = self.start(self.ids, self.mask)
            return
        if self.prompt is None or cache is not self.prompt.cache:
            raise ValueError(
                "the cache is not of the last prompt pruned here: expected "
                "generation to begin inside"
            )
        if hidden.shape[1] > 1:
            raise ValueError(
                f"{hidden.shape[1]} tokens at once behind a filled cache: expected the prompt in "
                "one piece, then single tokens"
            )
        for stage in self.prompt.stages:
            stage.decoding.clear()

    def note_positions(self, rotary: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self.positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]

    def note_cache(self, layer: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if self.decoding:
            return
        self.prompt.cache = kwargs.get("past_key_values")
        self.prompt.positions, self.prompt.rope = self.positions, kwargs["position_embeddings"]
        self.trace._start(self.prompt)

    def watch_attention(
        self, attention: nn.Module, args: Args, kwargs: Kwargs, output: Args
    ) -> None:
        self.watch(attention, (kwargs["hidden_states"],), output[0])

    @torch.no_grad()
    def watch(self, module: nn.Module, args: Args, output: torch.Tensor) -> None:
        """Eq. 3, 4: add a module's transitions."""
        if self.decoding:
            return
        prompt, schedule = self.prompt, self.schedule
        domain = prompt.image if schedule.softmax_over == "image" else prompt.valid
        ttv = transition_variation(args[0], output, schedule.direction, domain)
        prompt.ttv = prompt.ttv + ttv.masked_fill(~prompt.image, 0.0)
        prompt.norm = prompt.norm + output.float().norm(dim=2).masked_fill(~prompt.image, 0.0)

    def note_normed(self, attention: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self.normed = attention, kwargs["hidden_states"]

    def enter(
        self, number: int, layer: nn.Module, args: Args, kwargs: Kwargs
    ) -> tuple[Args, Kwargs] | None:
        """Before layer `number`: prune at a stage; pass on what the layer's stage attends by."""
        hidden = args[0]
        if number - 1 in self.schedule.prune_after and not self.decoding:
            hidden = self.at_stage(number - 1, layer, hidden)
        stage = self.prompt.stage(number)
        if stage is None:
            return None
        if self.decoding:
            own = prompts.decode(
                self.prompt,
                self.parts,
                stage,
                number,
                hidden,
                self.mask,
                self.positions,
                kwargs["position_embeddings"],
                self.compact,
            )
        else:
            own = {"attention_mask": stage.mask, "position_embeddings": stage.rope}
        return (hidden, *args[1:]), kwargs | own | {"position_ids": None}

    @torch.no_grad()
    def score(
        self, layer: Any, hidden: torch.Tensor, n_keep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(scores, what stays), both [B, N], by the schedule's criterion."""
        prompt, stages = self.prompt, self.prompt.stages
        rope = stages[-1].rope if stages else prompt.rope

        def attention(queries):
            if self.schedule.iga_layer == "same":
                module, normed = self.normed
            else:
                module, normed = layer.self_attn, layer.input_layernorm(hidden)
            first = int(queries.any(0).long().argmax())
            q, k = queries_and_keys(module, normed, rope, first)
            return guided_attention(
                q,
                k,
                queries[:, first:],
                prompt.valid,
                prompt.image,
                module.scaling,
                self.schedule.iga,
            )

        return choose(
            Candidates(
                schedule=self.schedule,
                hidden=hidden,
                image=prompt.image,
                index=prompt.index,
                instruction=prompt.instruction,
                n_keep=n_keep,
                ttv=prompt.ttv,
                norm=prompt.norm,
                attention=attention,
                ids=prompt.ids,
                relevant=prompt.relevant,
            )
        )

    def at_stage(self, after: int, layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Behind layer `after`: [B, N, D] -> [B, N', D]."""
        prompt = self.prompt
        at = self.schedule.prune_after.index(after)
        # [B]
        n_keep = prompt.n_image.new_tensor(
            [self.schedule.n_kept(n)[at] for n in prompt.n_image.tolist()]
        )
        if not n_keep.all():
            n = int(prompt.n_image[n_keep.argmin()])
            raise ValueError(
                f"keep={self.schedule.keep[at]} of {n} image tokens keeps none: expected "
                "one or more"
            )
        if self.shortcut and (n_keep == prompt.image.sum(1)).all():
            self.trace._record(after, prompt)
            return hidden
        scores, chosen = self.score(layer, hidden, n_keep)
        index = prompt.index
        hidden = prompts.prune(
            prompt, self.parts, after, chosen | ~prompt.image, hidden, self.compact
        )
        self.trace._record(after, prompt, scores, index)
        return hidden


def _plain(cache):
    return type(cache) is DynamicCache and all(
        type(layer) is DynamicLayer for layer in cache.layers
    )
