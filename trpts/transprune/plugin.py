"""Pruning a vision-language model's image tokens on their way through its language model, by hooks
alone.

Behind layer p of the schedule the image tokens with the lowest scores leave the sequence: the
layers after it compute on, and cache, what is left. Each stage gets a mask and position embeddings
of its own, for the prompt and for every token generated after it, so that batches, padding, caches
and beams give what each row alone would give.

The paper (TransPrune, CVPR 2026) does not say what becomes of positions; see `Schedule.positions`.
Nor which tokens are the instruction; we take all behind the last image token, as the released code
does.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from trpts.transition import transition_variation
from trpts.transprune import prompt as prompts
from trpts.transprune.criteria import CRITERIA, Candidates, choose
from trpts.transprune.families import anatomy, queries_and_keys
from trpts.transprune.schedule import Schedule
from trpts.transprune.scores import guided_attention

_OPEN: WeakSet[nn.Module] = WeakSet()  # language models being pruned


@dataclass
class Trace:
    """What the last prompt lost, by stage (its layer, counted from 1) and row of the batch; holds
    no graph.

    n_image   [B]: image tokens of each row
    n_prompt  [B]: all tokens of each row, without padding
    kept      {stage: B × int64 [kept]}: numbers among the row's image tokens, ascending
    scores    {stage: B × float32 [n_image]}: NaN for tokens that were dropped before; none where
              all stay anyway
    n_tokens  {stage: int}: length of the sequence behind the stage, text and filling included
    """

    n_image: list[int] = field(default_factory=list)
    n_prompt: list[int] = field(default_factory=list)
    kept: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    scores: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    n_tokens: dict[int, int] = field(default_factory=dict)

    def _start(self, prompt):
        self.n_image, self.n_prompt = prompt.n_image.tolist(), prompt.valid.sum(1).tolist()
        self.kept, self.scores, self.n_tokens = {}, {}, {}

    def _record(self, stage, prompt, scores=None, index=None):
        """Behind `stage`, `prompt` is left of what had `scores` [B, N] and `index` [B, N]."""
        self.kept[stage] = [row[row >= 0].clone() for row in prompt.index]
        self.n_tokens[stage] = prompt.index.shape[1]
        if scores is not None:
            full = [scores.new_full((n,), torch.nan) for n in self.n_image]
            self.scores[stage] = [
                f.scatter(0, i[i >= 0], s[i >= 0])
                for f, i, s in zip(full, index, scores, strict=True)
            ]


@contextmanager
def pruning(
    model: nn.Module,
    schedule: Schedule,
    relevant: torch.Tensor | None = None,
    instruction: torch.Tensor | None = None,
    shortcut: bool = True,
) -> Iterator[Trace]:
    """While this is open, `model` prunes image tokens by `schedule`, in forward passes and
    generation; gives a `Trace`.

    model        LLaVA-1.5, LLaVA-NeXT or Qwen2.5-VL of transformers, with sdpa or eager attention
    relevant     bool [B, image tokens]: ground truth for score="oracle"; rows with fewer are padded
                 on the right
    instruction  bool [B, up to L]: places of the instruction in the prompt, padding counted; None:
                 all behind the last image token. Needed where answers stand in the prompt (they
                 would count as instruction), and where generation without a cache should choose as
                 it would with one
    shortcut     a stage that keeps all leaves the pass untouched, to the bit; False: it scores and
                 gathers all the same
    raises       ValueError: another model, language model or attention, a schedule that does not
                 fit, nested use; on the way: a prompt without image tokens or ids, padding on the
                 right, a static cache, prompts in pieces, a cache from elsewhere, labels, no token
                 kept, unfit scores. The model is left as it was
    """
    parts = anatomy(model)
    if not isinstance(schedule, Schedule):
        raise ValueError(
            f"the schedule is a {type(schedule).__name__}: expected a Schedule, such as "
            "trpts.transprune.HIGH"
        )
    if isinstance(schedule.score, str) and CRITERIA[schedule.score].relevant and relevant is None:
        raise ValueError(
            f"score={schedule.score!r} without relevant: expected bool [B, image tokens], "
            "the ground truth"
        )
    schedule.check(len(parts.layers))
    if parts.text in _OPEN:
        raise ValueError("the model is being pruned already: pruning cannot be nested")
    pruner = _Pruner(model, parts, schedule, relevant, instruction, shortcut)
    with ExitStack() as stack:
        _OPEN.add(parts.text)
        stack.callback(_OPEN.discard, parts.text)
        for handle in pruner.hooks():
            stack.callback(handle.remove)
        model.prepare_inputs_for_generation = _whole_prompts(model.prepare_inputs_for_generation)
        stack.callback(vars(model).pop, "prepare_inputs_for_generation")
        yield pruner.trace


class _Pruner:
    """The hooks, and what they tell each other during one pass."""

    def __init__(self, model, parts, schedule, relevant, instruction, shortcut):
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

    def hooks(self):
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

    def refuse(self, model, args, kwargs):
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

    def note_ids(self, core, args, kwargs):
        self.ids = kwargs.get("input_ids", args[0] if args else None)

    def begin(self, text, args, kwargs):
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

    def note_positions(self, rotary, args, kwargs):
        self.positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]

    def note_cache(self, layer, args, kwargs):
        if self.decoding:
            return
        self.prompt.cache = kwargs.get("past_key_values")
        self.prompt.positions, self.prompt.rope = self.positions, kwargs["position_embeddings"]
        self.trace._start(self.prompt)

    def watch_attention(self, attention, args, kwargs, output):
        self.watch(attention, (kwargs["hidden_states"],), output[0])

    @torch.no_grad()
    def watch(self, module, args, output):
        """Eq. 3, 4: add a module's transitions."""
        if self.decoding:
            return
        prompt, schedule = self.prompt, self.schedule
        domain = prompt.image if schedule.softmax_over == "image" else prompt.valid
        ttv = transition_variation(args[0], output, schedule.direction, domain)
        prompt.ttv = prompt.ttv + ttv.masked_fill(~prompt.image, 0.0)
        prompt.norm = prompt.norm + output.float().norm(dim=2).masked_fill(~prompt.image, 0.0)

    def note_normed(self, attention, args, kwargs):
        self.normed = attention, kwargs["hidden_states"]

    def enter(self, number, layer, args, kwargs):
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
    def score(self, after, layer, hidden, n_keep):
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

    def at_stage(self, after, layer, hidden):
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
        scores, chosen = self.score(after, layer, hidden, n_keep)
        index = prompt.index
        hidden = prompts.prune(
            prompt, self.parts, after, chosen | ~prompt.image, hidden, self.compact
        )
        self.trace._record(after, prompt, scores, index)
        return hidden


def _whole_prompts(prepare):
    """`generate` can cut long prompts; a last piece of one token would pass for a decoded one."""

    @wraps(prepare)  # generation looks at its arguments' names
    def prepare_whole(*args, **kwargs):
        cache = kwargs.get("past_key_values")
        if kwargs.get("is_first_iteration") and cache is not None and cache.get_seq_length() > 0:
            raise ValueError(
                "the prompt comes in pieces, or behind a filled cache: expected it whole, "
                "without prefill_chunk_size"
            )
        return prepare(*args, **kwargs)

    return prepare_whole


def _plain(cache):
    return type(cache) is DynamicCache and all(
        type(layer) is DynamicLayer for layer in cache.layers
    )
