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

from trpts.transition import transition_variation
from trpts.transprune import stages
from trpts.transprune.calls import begins, refuse
from trpts.transprune.criteria import CRITERIA, Candidates, choose
from trpts.transprune.families import Anatomy, queries_and_keys
from trpts.transprune.prompt import Prompt, start_prompt
from trpts.transprune.schedule import Schedule
from trpts.transprune.scores import guided_attention
from trpts.transprune.trace import Trace
from trpts.transprune.vision_tower import Zip

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
            start_prompt, parts, instruction=instruction, relevant=relevant, frames=schedule.frames
        )
        self.trace, self.decoding = Trace(), False
        self.prompt: Prompt = None  # type: ignore[assignment]  # before one begins
        self.ids: torch.Tensor | None = None
        self.given: Kwargs = {}
        self.mask: torch.Tensor | None = None
        self.zip = Zip(model, schedule) if "visionzip" in schedule.scores else None
        # set by hooks before anything reads them
        self.positions: Any = None
        self.normed: Any = None
        self.compact = schedule.positions == "compact"

    def hooks(self) -> Iterator[RemovableHandle]:
        """Register all, one by one."""
        parts, layers = self.parts, self.parts.layers
        yield self.model.register_forward_pre_hook(
            partial(refuse, layer=layers[0]), with_kwargs=True
        )
        yield from self.zip.hooks() if self.zip else ()
        yield parts.core.register_forward_pre_hook(self.note_ids, with_kwargs=True)
        yield parts.text.register_forward_pre_hook(self.begin, with_kwargs=True)
        yield parts.text.rotary_emb.register_forward_pre_hook(self.note_positions, with_kwargs=True)
        yield layers[0].register_forward_pre_hook(self.note_cache, with_kwargs=True)
        for number in self.schedule.accumulate if self.schedule.reads else ():
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

    def note_ids(self, core: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self.ids, self.given = kwargs.get("input_ids", args[0] if args else None), kwargs

    def begin(self, text: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """A prompt begins where the cache is empty, or there is none."""
        self.mask = kwargs.get("attention_mask")
        self.decoding = not begins(kwargs, self.prompt)
        if not self.decoding:
            self.prompt = None  # type: ignore[assignment]  # stays so where the prompt is refused
            self.prompt = self.start(self.ids, self.mask, kwargs["inputs_embeds"], self.given)
            self.prompt.idle = self.shortcut and not any(map(self.drops, self.schedule.prune_after))
        for stage in self.prompt.stages:
            stage.decoding.clear()

    def deepstack(self, original: Any, *args: Any) -> torch.Tensor:
        """Qwen3-VL adds features of the vision tower behind its first layers: of kept tokens alone,
        where pruning comes first.
        """
        hidden, _, features = args
        image, n = self.prompt.image, self.prompt.n_image
        number = (n.cumsum(0) - n)[:, None] + self.prompt.index  # among all rows' image tokens
        return original(hidden, image, features[number[image].to(features.device)])

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
        prompt, schedule = self.prompt, self.schedule
        if self.decoding or prompt.idle:
            return
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
            own = stages.decode(
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

    def n_keep(self, after: int) -> torch.Tensor:
        """How many tokens of each group stay behind a stage, int64 [B, groups]."""
        at, groups = self.schedule.prune_after.index(after), self.prompt.n_group
        return groups.new_tensor(
            [[self.schedule.n_kept(n)[at] for n in row] for row in groups.tolist()]
        )

    def drops(self, after: int) -> bool:
        return bool((self.n_keep(after) < self.prompt.n_group).any())

    def candidates(self, layer: Any, hidden: torch.Tensor, n_keep: torch.Tensor) -> Candidates:
        """What the schedule's criterion may look at in front of `layer`."""
        prompt, done = self.prompt, self.prompt.stages
        rope = done[-1].rope if done else prompt.rope

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

        return Candidates(
            schedule=self.schedule,
            hidden=hidden,
            image=prompt.image,
            index=prompt.index,
            instruction=prompt.instruction,
            group=prompt.group,
            n_keep=n_keep.gather(1, prompt.group),
            ttv=prompt.ttv,
            norm=prompt.norm,
            attention=attention,
            ids=prompt.ids,
            relevant=prompt.relevant,
            before=prompt.before,
            tower=self.zip.scores if self.zip else None,
        )

    @torch.no_grad()
    def choose(
        self, after: int, layer: nn.Module, hidden: torch.Tensor, n_keep: torch.Tensor
    ) -> tuple[Candidates, torch.Tensor, torch.Tensor]:
        """(Candidates, scores [B, N], what stays of the image bool [B, N]) behind a stage."""
        score = self.schedule.scores[self.schedule.prune_after.index(after)]
        candidates = self.candidates(layer, hidden, n_keep)
        return candidates, *choose(candidates, score)

    def at_stage(self, after: int, layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Behind layer `after`: [B, N, D] -> [B, N', D]."""
        prompt, n_keep = self.prompt, self.n_keep(after)
        at = self.schedule.prune_after.index(after)
        if ((n_keep == 0) & (prompt.n_group > 0)).any():
            n = int(prompt.n_group[(n_keep == 0) & (prompt.n_group > 0)][0])
            raise ValueError(
                f"keep={self.schedule.keep[at]} of {n} image tokens keeps none: expected "
                "one or more"
            )
        if self.shortcut and (n_keep.sum(1) == prompt.image.sum(1)).all():
            self.trace._record(after, prompt)
            return hidden
        candidates, scores, chosen = self.choose(after, layer, hidden, n_keep)
        score, index = self.schedule.scores[at], prompt.index
        merge = CRITERIA[score].merge if isinstance(score, str) else None
        hidden = stages.prune(
            prompt,
            self.parts,
            after,
            chosen | ~prompt.image,
            merge(candidates, chosen) if merge else hidden,
            self.compact,
        )
        self.trace._record(after, prompt, scores, index, candidates.parts)
        return hidden
