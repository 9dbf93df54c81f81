"""What hooks in a language model do to prune its image tokens; `plugin` puts them there.

Each stage gets a mask and position embeddings of its own, for the prompt and for every token
generated after it, so that batches, padding, caches and beams give what each row alone would give.
"""

from functools import partial, wraps
from inspect import signature
from typing import Any

import torch
from torch import nn
from transformers.masking_utils import create_causal_mask

from trpts.transition import transition_variation
from trpts.transprune.calls import begins
from trpts.transprune.criteria import CRITERIA, Candidates, choose
from trpts.transprune.families import Anatomy, queries_and_keys
from trpts.transprune.prompt import Prompt, Rope, Stage, start_prompt
from trpts.transprune.schedule import Schedule
from trpts.transprune.scores import guided_attention
from trpts.transprune.stages import prune
from trpts.transprune.trace import Trace
from trpts.transprune.vision_tower import Zip

Args = tuple[Any, ...]  # of a module's forward
Kwargs = dict[str, Any]
# what a criterion may look at as the prompt has it
SHARED = ("image", "index", "instruction", "raters", "group", "ttv", "norm", "ids", "relevant")


class Pruner:
    """The hooks' functions, and what they tell each other during one pass."""

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
        self.given_positions: torch.Tensor | None = None
        self.video_frames: list[int] | None = None  # of the videos read last
        self.mask: torch.Tensor | None = None
        self.zip = Zip(model, schedule) if "visionzip" in schedule.scores else None
        # set by hooks before anything reads them
        self.positions: Any = None
        self.normed: Any = None
        self.compact = schedule.positions == "compact"
        self.asks_raters = any(
            callable(score) or CRITERIA[score].asks == "raters" for score in schedule.scores
        )

    def note_ids(self, core: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self.ids = kwargs.get("input_ids", args[0] if args else None)
        self.given_positions = kwargs.get("position_ids")
        if self.zip and not kwargs.get("mm_encoder_outputs") and kwargs.get("pixel_values") is None:
            self.zip.scores = None  # of another prompt

    def note_video(self, method: Any) -> Any:
        """`generate` calls this before the first pass, which is not told how many frames a video
        has: the counts are noted here.
        """

        @wraps(method)  # generation looks at its arguments' names
        def get_video_features(*args: Any, **kwargs: Any) -> Any:
            given = signature(method).bind(*args, **kwargs).arguments
            self.video_frames = self.parts.family.frames(given)  # type: ignore[misc]
            return method(*args, **kwargs)

        return get_video_features

    def begin(self, text: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """A prompt begins where the cache is empty, or there is none."""
        self.mask = kwargs.get("attention_mask")
        self.decoding = not begins(kwargs, self.prompt, self.given_positions)
        if not self.decoding:
            self.prompt = None  # type: ignore[assignment]  # stays so where the prompt is refused
            embeds, self.normed = kwargs["inputs_embeds"], None
            self.prompt = self.start(self.ids, self.mask, video_frames=self.video_frames)
            if self.asks_raters:
                self.prompt.find_raters(embeds)
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
            own = self.newest(stage, number, hidden, kwargs["position_embeddings"])
        else:
            own = {"attention_mask": stage.mask, "position_embeddings": stage.rope}
        return (hidden, *args[1:]), kwargs | own | {"position_ids": None}

    def newest(self, stage: Stage, number: int, hidden: torch.Tensor, rope: Rope) -> Kwargs:
        """Mask and rope of the newest token, hidden [B, 1, D], for layer `number` behind a stage;
        made once for all layers of the stage.
        """
        if not stage.decoding:
            cache, mask, config = self.prompt.cache, self.mask, self.parts.text.config
            assert cache is not None  # tokens come one by one behind a cache alone
            n_new = cache.get_seq_length(number - 1) + 1 - stage.valid.shape[1]
            new = stage.valid.new_ones(len(hidden), n_new)
            new = new if mask is None else mask[:, -n_new:].bool()
            seen = torch.cat([stage.valid, new], dim=1).long()
            masked = create_causal_mask(config, hidden, seen, cache, layer_idx=number - 1)
            if self.compact:
                moved = self.positions - stage.shift[:, None]
                rope = self.parts.text.rotary_emb.forward(hidden, position_ids=moved)
            stage.decoding |= {"attention_mask": masked, "position_embeddings": rope}
        return stage.decoding

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

        kind = hidden.device.type
        usual = torch.autocast(
            kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
        )

        def attention(queries):
            if self.schedule.iga_layer == "same" and self.normed is None:
                raise ValueError("iga_layer='same' behind layer 0: expected 'next', there is none")
            first = int(queries.any(0).long().argmax())
            with usual:  # the model's own products are of its own kind
                if self.schedule.iga_layer == "same":
                    module, normed = self.normed
                else:
                    module, normed = layer.self_attn, layer.input_layernorm(hidden)
                q, k = queries_and_keys(module, normed, rope, first)
            queries, scaling = queries[:, first:], module.scaling
            return guided_attention(
                q, k, queries, prompt.valid, prompt.image, scaling, self.schedule.iga
            )

        return Candidates(
            schedule=self.schedule,
            hidden=hidden,
            n_keep=n_keep.gather(1, prompt.group),
            attention=attention,
            tower=self.zip.scores if self.zip else None,
            **{name: getattr(prompt, name) for name in SHARED},
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
        index, merged = prompt.index, hidden.clone() if candidates.merged else hidden
        for row, place, places in candidates.merged:
            merged[row, place] = hidden[row, places].mean(0)
        hidden = prune(prompt, self.parts, after, chosen | ~prompt.image, merged, self.compact)
        self.trace._record(after, prompt, scores, index, candidates.parts)
        return hidden
