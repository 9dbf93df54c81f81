"""The vision-language models that can be pruned, and what pruning must know of each: one entry of
FAMILIES a kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from trpts.transprune import views

ATTENTION = ("sdpa", "eager")
# Language models whose layers are called alike: one mask and one table of position embeddings, made
# before the first layer; q and k may have a norm for each head
LANGUAGE_MODELS = (
    "LlamaModel",
    "MistralModel",
    "Qwen2Model",
    "Qwen2VLTextModel",
    "Qwen2_5_VLTextModel",
    "Qwen3Model",
    "Qwen3VLTextModel",
)


@dataclass(frozen=True)
class Family:
    """All that is known of a kind of model.

    view    (model, processor, inputs, image) -> (picture, token numbers over it), see `views`
    text    where the core keeps its language model
    frames  (arguments of the core's get_video_features) -> frames of each run of video tokens;
            None: it has no video tokens (a video's frames are images to it, or it takes none)
    """

    view: Callable[..., views.View]
    text: str = "language_model"
    frames: Callable[[dict[str, Any]], list[int]] | None = None


def grid_frames(given: dict[str, Any]) -> list[int]:
    """A run is a video, of Qwen's grids [videos, 3]: time, height, width in patches."""
    return given["video_grid_thw"][:, 0].tolist()


def timed_frames(given: dict[str, Any]) -> list[int]:
    """A run is a frame, with its time in front."""
    return [1] * sum(grid_frames(given))


def pixel_frames(given: dict[str, Any]) -> list[int]:
    """A run is a video, of pixels [videos, frames, 3, height, width]."""
    videos, frames = given["pixel_values_videos"].shape[:2]
    return [frames] * videos


# By config.json's model_type
FAMILIES = {
    "llava": Family(views.processed),  # LLaVA-1.5, Pixtral
    "llava_next": Family(views.processed),
    "llava_onevision": Family(views.processed, frames=pixel_frames),
    "qwen2_vl": Family(views.grid, frames=grid_frames),
    "qwen2_5_vl": Family(views.grid, frames=grid_frames),
    "qwen3_vl": Family(views.grid, frames=timed_frames),
    "smolvlm": Family(views.tiles, "text_model"),
    "idefics3": Family(views.tiles, "text_model"),  # SmolVLM's first models too
    "internvl": Family(views.thumbnail),
    "mistral3": Family(views.processed),
}
# Kinds that cannot be pruned so, and why
REFUSED = {
    "gemma3": "an image's tokens see each other in both directions, and five layers of six slide "
    "in a window",
    "paligemma": "all tokens of the prompt see each other in both directions",
    "mllama": "image tokens are not in the sequence, but in layers of cross-attention",
}


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that hooks sit on."""

    family: Family
    core: nn.Module  # is given the ids
    text: nn.Module  # is given mask, positions and cache
    layers: nn.ModuleList
    image_token_id: int
    video_token_id: int | None


def known(kind: object) -> Family:
    """The Family of a model_type, or a ValueError that says what can be pruned, or why not."""
    if isinstance(kind, str) and kind in REFUSED:
        raise ValueError(f"of the type {kind!r}, which cannot be pruned: {REFUSED[kind]}")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"of the type {kind!r}: expected a vision-language model, one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def whole_model(model: nn.Module) -> nn.Module:
    """The vision-language model inside a `PeftModel`, whose layers are its own; else the model."""
    inner = getattr(getattr(model, "base_model", None), "model", None)
    return model if _answers(model) or not _answers(inner) else cast(nn.Module, inner)


def _answers(model):
    return type(model).__name__.endswith("ForConditionalGeneration")


def anatomy(model: nn.Module) -> Anatomy:
    """The Anatomy of a model, or a ValueError that says why it cannot be pruned."""
    config: Any = getattr(model, "config", None)
    try:
        family = known(getattr(config, "model_type", None))
    except ValueError as error:
        raise ValueError(f"a {type(model).__name__} {error}") from None
    if not _answers(model):
        raise ValueError(f"a {type(model).__name__}: expected its ForConditionalGeneration")
    text: Any = getattr(model.model, family.text)
    if type(text).__name__ not in LANGUAGE_MODELS:
        raise ValueError(
            f"the language model is a {type(text).__name__}: expected one of "
            f"{', '.join(LANGUAGE_MODELS)}"
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
    devices = {str(p.device) for p in text.parameters()}
    if len(devices) > 1:
        raise ValueError(f"the language model lies on {', '.join(sorted(devices))}: expected one")
    return Anatomy(
        family,
        model.model,
        text,
        text.layers,
        config.image_token_id,
        getattr(config, "video_token_id", None) if family.frames else None,
    )


def queries_and_keys(
    attention: nn.Module, normed: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor], first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's q [B, H, N − first, d] from `first` on and k [B, G, N, d], of normed [B, N, D]."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    def heads(name, x):
        split = getattr(attention, f"{name}_proj")(x).unflatten(2, (-1, attention.head_dim))
        norm = getattr(attention, f"{name}_norm", None)  # Qwen3's, of each head
        return (split if norm is None else norm(split)).transpose(1, 2)  # [B, heads, positions, d]

    cos, sin = rope  # [B or 1, N, d]
    q, k = heads("q", normed[:, first:]), heads("k", normed)
    q = apply_rotary_pos_emb(q, q, cos[:, first:], sin[:, first:])[0]
    k = apply_rotary_pos_emb(k, k, cos, sin)[1]
    return q, k
