"""ToMe and EViT with TR-PTS's connections: other ways to lose tokens, so that only these differ.

ToMe merges the r most similar pairs of patch tokens of every block, between attention and MLP; a
token that stands for s tokens counts as s in attention (ToMe, Bolya et al., 2023). EViT drops by
the same CLS attention as TR-PTS, at a quarter, half and three quarters of the depth, with ⌈ρN⌉
tokens kept and Σ a_i x_i for the others (EViT, Liang et al., 2022).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import nn

from trpts.data.task import Task
from trpts.methods import Prepared, method, prepare_trpts
from trpts.peers.partial import check_connections
from trpts.signals import ScoreFunction
from trpts.tokens import token_selection


def check_tome(model: nn.Module, *, r: int = 4, **options: Any) -> None:
    """Raise ValueError for what `prepare_tome` would refuse."""
    check_connections(model, **options)
    with token_merging(model, r):
        pass


@method("tome", check_tome, score="fisher")
def prepare_tome(
    model: nn.Module,
    task: Task,
    seed: int,
    *,
    r: int = 4,
    score: str | ScoreFunction = "fisher",
    n_scored: int = 500,
    biases: bool = True,
    **allocation: Any,
) -> Prepared:
    """TR-PTS's connections; r pairs of tokens merged in each block."""
    options = {"score": score, "n_scored": n_scored, "biases": biases, **allocation}
    prepared = prepare_trpts(model, task, seed, keep=1, **options)
    return Prepared(prepared.plan, around=partial(token_merging, model, r))


def evit_blocks(depth: int) -> list[int]:
    """EViT's 3, 6 and 9 of 12 blocks, in a model of `depth`."""
    return sorted({depth * quarter // 4 for quarter in (1, 2, 3)})


def check_evit(model: nn.Module, *, keep: float = 0.7, **options: Any) -> None:
    """Raise ValueError for what `prepare_evit` would refuse."""
    check_connections(model, **options)
    with token_selection(model, evit_blocks(len(model.blocks)), keep):
        pass


@method("evit", check_evit, score="fisher")
def prepare_evit(
    model: nn.Module,
    task: Task,
    seed: int,
    *,
    keep: float = 0.7,
    score: str | ScoreFunction = "fisher",
    n_scored: int = 500,
    biases: bool = True,
    **allocation: Any,
) -> Prepared:
    """TR-PTS's connections; EViT's blocks, rounding and merge."""
    options = {"score": score, "n_scored": n_scored, "biases": biases, **allocation}
    prepared = prepare_trpts(model, task, seed, keep=1, **options)
    tokens: dict[str, Any] = {
        "blocks": evit_blocks(len(model.blocks)),
        "keep": keep,
        "rounding": "ceil",
        "merge": "sum",
    }
    return Prepared(prepared.plan, tokens, partial(token_selection, model, **tokens))


@contextmanager
def token_merging(model: nn.Module, r: int) -> Iterator[None]:
    """While this is open, every block of a timm ViT merges r pairs of patch tokens; r = 0 changes
    nothing, to the bit.

    raises  ValueError: no plain timm blocks, r below 0, nested use
    """
    if not (isinstance(r, int) and r >= 0):
        raise ValueError(f"r={r!r}: expected a number of pairs to merge, 0 or more")
    for n, block in enumerate(getattr(model, "blocks", ())):
        if (
            type(block) is not Block
            or type(block.attn) is not Attention
            or "forward" in vars(block)
        ):
            raise ValueError(
                f"block {n} is not timm's Block with its Attention and its own forward: nothing "
                "is merged"
            )
    # [B, P + N] that enter a block, by its number: read again where a checkpoint computes it anew
    sizes: dict[int, torch.Tensor] = {}
    try:
        for n, block in enumerate(model.blocks if r else ()):
            block.forward = partial(_forward, sizes, model.num_prefix_tokens, r, n, block)
        yield
    finally:
        for block in model.blocks:
            vars(block).pop("forward", None)


def _forward(sizes, P, r, number, block, x):
    """A merging block's forward pass, [B, P + N, D] -> [B, P + N − r, D]; never below half of N."""
    size = sizes[number] if number else x.new_ones(x.shape[:2])  # [B, P + N]
    projected = []
    with block.attn.qkv.register_forward_hook(lambda module, inputs, qkv: projected.append(qkv)):
        x = x + block.drop_path1(
            block.ls1(block.attn(block.norm1(x), attn_mask=size.log()[:, None, None]))
        )
    # [B, T, H, d]
    keys = projected.pop().unflatten(2, (3, block.attn.num_heads, block.attn.head_dim))[:, :, 1]
    keys = block.attn.k_norm(keys).mean(2)[:, P:]  # [B, N, d]
    patches, counted = merge_pairs(x[:, P:], size[:, P:], keys, r)
    x, sizes[number + 1] = torch.cat([x[:, :P], patches], 1), torch.cat([size[:, :P], counted], 1)
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def merge_pairs(
    x: torch.Tensor, size: torch.Tensor, keys: torch.Tensor, r: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bipartite soft matching: x [B, N, D] of size [B, N] by keys [B, N, d] -> [B, N − r, D], sizes
    [B, N − r].

    Every other token looks for the most similar one among the rest; the r most similar pairs become
    one token each, the mean of all it stands for. Unmerged tokens come first, then those that were
    looked for.
    """
    r = min(r, x.shape[1] // 2)
    if r == 0:  # a single token has no partner
        return x, size
    with torch.no_grad():
        k = torch.nn.functional.normalize(keys.float(), dim=2)
        best, partner = (k[:, ::2] @ k[:, 1::2].mT).max(2)  # [B, ⌈N/2⌉], which of the ⌊N/2⌋
        order = best.argsort(dim=1, descending=True)
        gone, stay = order[:, :r], order[:, r:].sort(1).values
        partner = partner.gather(1, gone)  # [B, r]
    weighted = x * size[..., None]
    a, b, size_a, size_b = weighted[:, ::2], weighted[:, 1::2], size[:, ::2], size[:, 1::2]
    b = b.scatter_add(1, _wide(partner, x), a.gather(1, _wide(gone, x)))
    size_b = size_b.scatter_add(1, partner, size_a.gather(1, gone))
    merged = torch.cat([a.gather(1, _wide(stay, x)), b], 1)
    size = torch.cat([size_a.gather(1, stay), size_b], 1)
    return merged / size[..., None], size


def _wide(index, x):
    return index[..., None].expand(-1, -1, x.shape[2])
