"""Pruning a vision-language model's image tokens on their way through its language model, by hooks
alone.

Behind layer p of the schedule the image tokens with the lowest scores leave the sequence: the
layers after it compute on, and cache, what is left.

The paper (TransPrune, CVPR 2026) does not say what becomes of positions; see `Schedule.positions`.
Nor which tokens are the instruction; we take all behind the last image token, as the released code
does.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trpts.transprune.calls import refuse, whole_prompts
from trpts.transprune.criteria import CRITERIA
from trpts.transprune.families import anatomy, whole_model
from trpts.transprune.pruner import Pruner
from trpts.transprune.schedule import Schedule
from trpts.transprune.trace import Trace

DEEPSTACK = "_deepstack_process"  # Qwen3-VL's text model: (hidden, image tokens, their features)
_OPEN: WeakSet[nn.Module] = WeakSet()  # language models being pruned


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

    model        of one of the FAMILIES in `families`, with sdpa or eager attention, or a
                 `PeftModel` of one
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
    model = whole_model(model)
    parts = anatomy(model)
    if not isinstance(schedule, Schedule):
        raise ValueError(
            f"the schedule is a {type(schedule).__name__}: expected a Schedule, such as "
            "trpts.transprune.HIGH"
        )
    for score in schedule.scores:
        if isinstance(score, str) and CRITERIA[score].relevant and relevant is None:
            raise ValueError(
                f"score={score!r} without relevant: expected bool [B, image tokens], "
                "the ground truth"
            )
    if schedule.frames == "each" and parts.family.frames is None:
        raise ValueError(
            f"frames='each' on a {type(model).__name__}, which has no video tokens: expected 'all'"
        )
    schedule.check(len(parts.layers))
    if parts.text in _OPEN:
        raise ValueError("the model is being pruned already: pruning cannot be nested")
    pruner = Pruner(model, parts, schedule, relevant, instruction, shortcut)
    with ExitStack() as stack:
        _OPEN.add(parts.text)
        stack.callback(_OPEN.discard, parts.text)
        for handle in _hooks(pruner):
            stack.callback(handle.remove)
        for module, name, wrapped in _methods(pruner):
            if name in vars(module):
                stack.callback(setattr, module, name, getattr(module, name))  # the user's own
            else:
                stack.callback(vars(module).pop, name)
            vars(module)[name] = wrapped
        yield pruner.trace


def _hooks(pruner: Pruner) -> Iterator[RemovableHandle]:
    """Register all, one by one."""
    parts, layers = pruner.parts, pruner.parts.layers
    yield pruner.model.register_forward_pre_hook(partial(refuse, layer=layers[0]), with_kwargs=True)
    yield from pruner.zip.hooks() if pruner.zip else ()
    yield parts.core.register_forward_pre_hook(pruner.note_ids, with_kwargs=True)
    yield parts.text.register_forward_pre_hook(pruner.begin, with_kwargs=True)
    yield parts.text.rotary_emb.register_forward_pre_hook(pruner.note_positions, with_kwargs=True)
    yield layers[0].register_forward_pre_hook(pruner.note_cache, with_kwargs=True)
    for number in pruner.schedule.accumulate if pruner.schedule.reads else ():
        layer = layers[number - 1]
        yield layer.self_attn.register_forward_hook(pruner.watch_attention, with_kwargs=True)
        yield layer.mlp.register_forward_hook(pruner.watch)
    if pruner.schedule.iga_layer == "same":
        for number in filter(None, pruner.schedule.prune_after):
            yield layers[number - 1].self_attn.register_forward_pre_hook(
                pruner.note_normed, with_kwargs=True
            )
    for number in range(pruner.schedule.prune_after[0] + 1, len(layers) + 1):
        yield layers[number - 1].register_forward_pre_hook(
            partial(pruner.enter, number), with_kwargs=True
        )


def _methods(pruner: Pruner) -> Iterator[tuple[nn.Module, str, Any]]:
    """(module, method's name, what stands in its place) of what hooks cannot reach."""
    name, model, parts = "prepare_inputs_for_generation", pruner.model, pruner.parts
    yield model, name, whole_prompts(getattr(model, name))
    if hasattr(parts.text, DEEPSTACK):
        yield parts.text, DEEPSTACK, partial(pruner.deepstack, getattr(parts.text, DEEPSTACK))
    if parts.video_token_id is not None and pruner.schedule.frames == "each":
        name = "get_video_features"
        yield parts.core, name, pruner.note_video(getattr(parts.core, name))
