"""Pruning a vision-language model's image tokens on their way through its language model, by hooks
alone.

Behind layer p of the schedule the image tokens with the lowest scores leave the sequence: the
layers after it compute on, and cache, what is left.

The paper (TransPrune, CVPR 2026) does not say what becomes of positions; see `Schedule.positions`.
Nor which tokens are the instruction; we take all behind the last image token, as the released code
does.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from trpts.transprune.calls import whole_prompts
from trpts.transprune.criteria import CRITERIA
from trpts.transprune.families import anatomy, whole_model
from trpts.transprune.pruner import Pruner
from trpts.transprune.schedule import Schedule
from trpts.transprune.trace import Trace

_OPEN: WeakSet[nn.Module] = WeakSet()  # language models being pruned
DEEPSTACK = "_deepstack_process"  # Qwen3-VL's text model: (hidden, image tokens, their features)


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
    schedule.check(len(parts.layers))
    if parts.text in _OPEN:
        raise ValueError("the model is being pruned already: pruning cannot be nested")
    pruner = Pruner(model, parts, schedule, relevant, instruction, shortcut)
    with ExitStack() as stack:
        _OPEN.add(parts.text)
        stack.callback(_OPEN.discard, parts.text)
        for handle in pruner.hooks():
            stack.callback(handle.remove)
        wrapped: dict[tuple[nn.Module, str], Callable[..., Any]] = {
            (model, "prepare_inputs_for_generation"): whole_prompts
        }
        if hasattr(parts.text, DEEPSTACK):
            wrapped[parts.text, DEEPSTACK] = lambda original: partial(pruner.deepstack, original)
        for (module, name), wrap in wrapped.items():
            vars(module)[name] = wrap(getattr(module, name))
            stack.callback(vars(module).pop, name)
        yield pruner.trace
