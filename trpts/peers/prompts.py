"""Visual prompt tuning: trained tokens join the image's before block 1, or anew before each."""

import math

import torch
from torch import nn

from trpts.data.task import Task
from trpts.layers import classifier
from trpts.methods import Prepared, method


def check_vpt(model: nn.Module, *, n_prompts: int = 50) -> None:
    """Raise ValueError for what does not fit."""
    if not (isinstance(n_prompts, int) and n_prompts >= 0):
        raise ValueError(f"n_prompts={n_prompts!r}: expected a number of tokens, 0 or more")
    if not (hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens")):
        raise ValueError(
            f"{type(model).__name__} has no blocks with class and patch tokens: expected a timm ViT"
        )


@method("vpt-shallow", check_vpt)
def prepare_shallow(model: nn.Module, task: Task, seed: int, *, n_prompts: int = 50) -> Prepared:
    """n prompts before the first block alone (VPT-shallow, Jia et al., 2022): n D parameters."""
    return _with_prompts(model, n_prompts, model.blocks[:1], seed)


@method("vpt-deep", check_vpt)
def prepare_deep(model: nn.Module, task: Task, seed: int, *, n_prompts: int = 50) -> Prepared:
    """n prompts before each block, which replace the last ones (VPT-deep): L n D parameters."""
    return _with_prompts(model, n_prompts, model.blocks, seed)


def _with_prompts(model, n, blocks, seed):
    model.requires_grad_(False)
    classifier(model).requires_grad_(True)
    D, P, like = model.embed_dim, model.num_prefix_tokens, next(model.parameters())
    patch = math.prod(model.patch_embed.patch_size)
    bound = math.sqrt(6 / (3 * patch + D))  # VPT's: Xavier's for a layer from a patch's pixels to D
    generator = torch.Generator().manual_seed(seed)
    for nth, block in enumerate(blocks):
        drawn = bound * (2 * torch.rand(n, D, generator=generator) - 1)
        block.prompts = nn.Parameter(drawn.to(like.device, like.dtype))
        block.register_forward_pre_hook(
            lambda b, inputs, old=n if nth else 0: (_insert(inputs[0], b.prompts, P, old),)
        )
    model.blocks[-1].register_forward_hook(
        lambda b, inputs, x: torch.cat([x[:, :P], x[:, P + n :]], dim=1)
    )
    return Prepared()


def _insert(x, prompts, P, old):
    """[B, P + old + N, D] -> [B, P + n + N, D]: prompts [n, D] replace `old` ones after P."""
    return torch.cat([x[:, :P], prompts.expand(len(x), -1, -1), x[:, P + old :]], dim=1)
