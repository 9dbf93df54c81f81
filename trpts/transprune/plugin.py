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
from functools import wraps
from weakref import WeakSet

import torch
from torch import nn

from trpts.transprune.criteria import CRITERIA
from trpts.transprune.families import anatomy, whole_model
from trpts.transprune.pruner import Pruner
from trpts.transprune.schedule import Schedule
from trpts.transprune.trace import Trace

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

    model        LLaVA-1.5, LLaVA-NeXT or Qwen2.5-VL of transformers, with sdpa or eager attention;
                 or a `PeftModel` of one
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
    if isinstance(schedule.score, str) and CRITERIA[schedule.score].relevant and relevant is None:
        raise ValueError(
            f"score={schedule.score!r} without relevant: expected bool [B, image tokens], "
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
        whole = _whole_prompts(model.prepare_inputs_for_generation)
        vars(model)["prepare_inputs_for_generation"] = whole
        stack.callback(vars(model).pop, "prepare_inputs_for_generation")
        yield pruner.trace


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
