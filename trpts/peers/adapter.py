"""Bottleneck adapters: two small layers behind a module of each block, beside its residual path."""

from collections.abc import Collection

import torch
from torch import nn

from trpts.data.task import Task
from trpts.layers import classifier
from trpts.methods import Prepared, method

PLACES = ("attn", "mlp")


class Bottleneck(nn.Module):
    """h + W_up GELU(W_down h), equal to h at first, as W_up is zero; [..., D] -> [..., D]."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.up(nn.functional.gelu(self.down(h)))


def check_adapter(model: nn.Module, *, size: int = 8, places: Collection[str] = ("mlp",)) -> None:
    """Raise ValueError for what does not fit."""
    if not (isinstance(size, int) and size >= 1):
        raise ValueError(f"size={size!r}: expected a width of the bottleneck of at least 1")
    if not places or not set(places) <= set(PLACES):
        raise ValueError(f"places={places}: expected some of {', '.join(PLACES)}")
    if not hasattr(model, "blocks"):
        raise ValueError(f"{type(model).__name__} has no blocks: expected a timm ViT")


@method("adapter", check_adapter)
def prepare_adapter(
    model: nn.Module, task: Task, seed: int, *, size: int = 8, places: Collection[str] = ("mlp",)
) -> Prepared:
    """A bottleneck behind the MLP of each block (Pfeiffer et al., 2021), or behind both modules
    (Houlsby et al., 2019).

    2 D h + h + D parameters each: 0.16 M in ViT-B/16 at h = 8, what VTAB's tables have. They stay
    at inference.
    """
    model.requires_grad_(False)
    classifier(model).requires_grad_(True)
    like = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in model.blocks:
            for place in places:
                added = Bottleneck(model.embed_dim, size).to(like.device, like.dtype)
                block.add_module(f"adapter_{place}", added)
                getattr(block, place).register_forward_hook(
                    lambda module, inputs, h, added=added: added(h)
                )
    return Prepared()
