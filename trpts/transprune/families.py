"""What pruning must know of a model: where its language model is, which tokens are an image's."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import (
    LlamaModel,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    MistralModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextModel,
    Qwen2Model,
)
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

FAMILIES = (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
)
# Language models whose layers are called alike: one mask and one table of position embeddings, made
# before the first layer, and q, k without a norm of their own
LANGUAGE_MODELS = (LlamaModel, MistralModel, Qwen2Model, Qwen2_5_VLTextModel)
ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that hooks sit on."""

    core: nn.Module  # is given the ids
    text: nn.Module  # is given mask, positions and cache
    layers: nn.ModuleList
    image_token_id: int
    video_token_id: int | None


def whole_model(model: nn.Module) -> nn.Module:
    """The vision-language model inside a `PeftModel`, whose layers are its own; else the model."""
    inner = getattr(getattr(model, "base_model", None), "model", None)
    return inner if not isinstance(model, FAMILIES) and isinstance(inner, FAMILIES) else model


def anatomy(model: nn.Module) -> Anatomy:
    """The Anatomy of a model, or a ValueError that says why it cannot be pruned."""
    if not isinstance(model, FAMILIES):
        raise ValueError(f"a {type(model).__name__}: expected one of {_names(FAMILIES)}")
    text, config = model.model.language_model, model.config
    if not isinstance(text, LANGUAGE_MODELS):
        raise ValueError(
            f"the language model is a {type(text).__name__}: expected one of "
            f"{_names(LANGUAGE_MODELS)}"
        )
    if text.config._attn_implementation not in ATTENTION:
        raise ValueError(
            f"attention is {text.config._attn_implementation}: expected {' or '.join(ATTENTION)}, "
            "whose masks are made anew for what is left"
        )
    if getattr(text.config, "sliding_window", None) is not None:
        raise ValueError(
            f"attention slides in a window of {text.config.sliding_window}: expected full "
            "attention: windows are counted in positions that move"
        )
    return Anatomy(
        model.model,
        text,
        text.layers,
        config.image_token_id,
        getattr(config, "video_token_id", None),
    )


def queries_and_keys(
    attention: nn.Module, normed: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor], first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's q [B, H, N − first, d] from `first` on and k [B, G, N, d], of normed [B, N, D]."""
    q, k = (
        project(x)
        .unflatten(2, (-1, attention.head_dim))
        .transpose(1, 2)  # [B, heads, positions, d]
        for project, x in ((attention.q_proj, normed[:, first:]), (attention.k_proj, normed))
    )
    cos, sin = rope  # [B or 1, N, d]
    q = apply_rotary_pos_emb(q, q, cos[:, first:], sin[:, first:])[0]
    k = apply_rotary_pos_emb(k, k, cos, sin)[1]
    return q, k


def _names(classes):
    return ", ".join(c.__name__ for c in classes)
