"""What a model may not be asked while its image tokens are pruned, and where a prompt begins."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from trpts.transprune.prompt import Prompt


def refuse(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: nn.Module
) -> None:
    """Raise ValueError for a forward pass whose outcome would not be what is asked for."""
    if kwargs.get("labels") is not None:
        raise ValueError(
            "labels: dropped tokens have no logits to compare; expected the loss of the last ones"
        )
    if isinstance(kwargs.get("logits_to_keep"), torch.Tensor):
        raise ValueError(
            "logits_to_keep names positions, and they move: expected a number of last ones"
        )
    if model.training and layer.gradient_checkpointing:
        raise ValueError(
            "gradient checkpointing computes a layer twice: expected it off, or model.eval()"
        )


def begins(kwargs: dict[str, Any], prompt: Prompt | None, positions: torch.Tensor | None) -> bool:
    """Whether a prompt begins: the cache is empty, or there is none. Else one token follows the
    last `prompt`; ValueError, if it cannot.

    kwargs     of the text model
    positions  position_ids that the whole model was given
    """
    cache, n_new = kwargs.get("past_key_values"), kwargs["inputs_embeds"].shape[1]
    if cache is not None and not _plain(cache):
        raise ValueError(
            f"the cache is a {type(cache).__name__}: expected a DynamicCache, whose layers "
            "may differ in length"
        )
    if cache is None or cache.get_seq_length() == 0:
        return True
    if prompt is None or cache is not prompt.cache:
        raise ValueError(
            "the cache is not of the last prompt pruned here: expected generation to begin inside"
        )
    if n_new > 1:
        raise ValueError(
            f"{n_new} tokens at once behind a filled cache: expected the prompt in "
            "one piece, then single tokens"
        )
    if prompt.stages and not prompt.stages[0].after and positions is None:
        # the model would count what the cache of its first layer holds
        raise ValueError(
            "a token without position_ids behind a prompt that was pruned before layer 1: expected "
            "them, as generate() gives them"
        )
    return False


def whole_prompts(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """`generate` can cut long prompts; a last piece of one token would pass for a decoded one."""

    @wraps(prepare)  # generation looks at its arguments' names
    def prepare_whole(*args: Any, **kwargs: Any) -> Any:
        cache = kwargs.get("past_key_values")
        if kwargs.get("is_first_iteration") and cache is not None and cache.get_seq_length() > 0:
            raise ValueError(
                "the prompt comes in pieces, or behind a filled cache: expected it whole, "
                "without prefill_chunk_size"
            )
        return prepare(*args, **kwargs)

    return prepare_whole


def _plain(cache: Cache) -> bool:
    return type(cache) is DynamicCache and all(
        type(layer) is DynamicLayer for layer in cache.layers
    )
