"""Token selection: in some blocks, keep the patch tokens that CLS attends to and merge the others
into one.

With a_i the attention of CLS to patch token i, and I the tokens outside the top ⌊ρN⌋,

    x_m = Σ_{i∈I} a_i x_i / Σ_{i∈I} a_i        tokens after the block's attention: {CLS, selected,
                                               x_m}

(TR-PTS, section 3). The paper does not say where in the block this happens; we do it before the
MLP, as EViT does. Nor how heads are combined; we take their mean. Nor what an earlier x_m becomes;
to us it is a token like any other.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from trpts.transition import transition_variation

# 0.29 · 100 is 29
ROUNDING = {"floor": lambda n: math.floor(n + 1e-9), "ceil": lambda n: math.ceil(n - 1e-9)}
MERGE = ("normalised", "sum", "drop")
TokenScore = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class Trace:
    """What the model's last forward pass selected, by block number; holds no graph.

    kept      {block: int64 [B, kept]}: patch numbers as they entered block 0, ascending; -1: an
              earlier block's x_m
    scores    {block: float32 [B, N]}: of all tokens the block chose from; none where `shortcut`
              left a block untouched
    n_tokens  {block: int}: length of the sequence behind the block, prefix and x_m included
    """

    kept: dict[int, torch.Tensor] = field(default_factory=dict)
    scores: dict[int, torch.Tensor] = field(default_factory=dict)
    n_tokens: dict[int, int] = field(default_factory=dict)

    def _start(self, *_):
        self.kept, self.scores, self.n_tokens = {}, {}, {}

    def _record(self, number, x, n_tokens, kept=None, scores=None):
        """Block `number` chose `kept` (None: all) of patches x [B, N, D]; n_tokens leave it."""
        if number in self.kept:  # computed again in the backward pass, for gradient checkpointing
            return
        places = next(
            reversed(self.kept.values()),
            torch.arange(x.shape[1], device=x.device).expand(len(x), -1),
        )
        # [B, N]
        places = torch.nn.functional.pad(places, (0, x.shape[1] - places.shape[1]), value=-1)
        self.kept[number] = places if kept is None else places.gather(1, kept)
        self.n_tokens[number] = n_tokens
        if scores is not None:
            self.scores[number] = scores.detach()


@contextmanager
def token_selection(
    model: nn.Module,
    blocks: Iterable[int],
    keep: float | list[float] | tuple[float, ...] | dict[int, float],
    *,
    rounding: str = "floor",
    merge: str = "normalised",
    score: str | TokenScore = "cls",
    score_gradient: bool = True,
    shortcut: bool = True,
) -> Iterator[Trace]:
    """While this is open, the given blocks of a timm ViT select tokens, in training too; gives a
    `Trace`.

    blocks          block numbers; a backward pass with gradient checkpointing must run inside as
                    well
    keep            ρ in (0, 1]: one for all blocks, one for each in their order, or {block: ρ}
    rounding        of ρN: "floor" (the paper), "ceil" (EViT)
    merge           "normalised" (the paper), "sum": Σ a_i x_i (EViT), "drop": no merged token
    score           "cls": a; "ttv": how far the attention moves a token, TransPrune's transition
                    variation, which no CLS decides; "both": the sum of their shares; or a function
                    like those of SCORES, (what attention reads, what it makes of it, a) -> [B, N]
                    >= 0, of patch tokens [B, N, D], [B, N, D], [B, N], the residual path left out.
                    Checkpointing calls it twice: draw from torch's global generator
    score_gradient  whether the gradient flows through a_i in the merge (EViT's does; the paper does
                    not say)
    shortcut        a block that keeps all runs untouched, to the bit; False: it scores and gathers
                    all the same
    raises          ValueError: no timm ViT whose head reads a class token, no plain timm block,
                    unfit switch or block or ρ, nested use; on the way: no token kept, an attention
                    mask, scores not finite or below 0
    """
    shares = _check(model, list(blocks), keep, rounding, merge, score)
    trace, n_prefix = Trace(), model.num_prefix_tokens
    forward = partial(
        _forward, trace, n_prefix, ROUNDING[rounding], merge, score, score_gradient, shortcut
    )
    # every pass begins there, no recomputation does
    handle = model.patch_embed.register_forward_pre_hook(trace._start)
    try:
        for n, share in shares.items():
            model.blocks[n].forward = partial(forward, model.blocks[n], n, share)
        yield trace
    finally:
        handle.remove()
        for n in shares:
            vars(model.blocks[n]).pop("forward", None)


def _forward(
    trace, P, rounding, merge, score, score_gradient, shortcut, block, number, keep, x, **mask
):
    """A selecting block's forward pass, [B, P + N, D] -> [B, P + kept (+ 1), D]."""
    N = x.shape[1] - P
    n_kept = rounding(keep * N)
    if n_kept < 1:
        raise ValueError(
            f"keep={keep} of {N} tokens in block {number} keeps none: expected one or more"
        )
    if n_kept == N and shortcut:
        trace._record(number, x[:, P:], P + N)
        return Block.forward(block, x, **mask)
    if any(value is not None and value is not False for value in mask.values()):
        raise ValueError(
            f"block {number} selects tokens: an attention mask is bound to positions that move"
        )
    projected = []
    with block.attn.qkv.register_forward_hook(lambda module, inputs, qkv: projected.append(qkv)):
        read = block.norm1(x)
        made = block.attn(read)
        after = x + block.drop_path1(block.ls1(made))
    a = cls_attention(projected.pop(), block.attn)[:, P:]  # [B, N]
    with torch.autocast(x.device.type, enabled=False):
        of_tokens = SCORES[score] if isinstance(score, str) else score
        a = of_tokens(read[:, P:], made[:, P:], a).float()
        if a.shape != (len(x), N) or not (a.isfinite() & (a >= 0)).all():
            raise ValueError(
                f"the token scores of block {number} are {list(a.shape)} from {a.min()} to "
                f"{a.max()}: expected {[len(x), N]}, finite, none below 0"
            )
        x, kept = keep_and_merge(after, a if score_gradient else a.detach(), n_kept, merge)
    trace._record(number, after[:, P:], x.shape[1], kept, a)
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def cls_attention(qkv: torch.Tensor, attention: nn.Module) -> torch.Tensor:
    """CLS's attention to all tokens, mean over heads, float32 [B, T], from qkv [B, T, 3·H·d]."""
    # [B, T, H, d]
    q, k = qkv.unflatten(2, (3, attention.num_heads, attention.head_dim))[:, :, :2].unbind(2)
    q, k = attention.q_norm(q[:, 0]), attention.k_norm(k)  # q of CLS: [B, H, d]
    # in half precision, close scores would tie
    with torch.autocast(qkv.device.type, enabled=False):
        return (
            torch.einsum("bhd,bthd->bht", q.float() * attention.scale, k.float())
            .softmax(dim=2)
            .mean(1)
        )


def by_both(read: torch.Tensor, made: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """CLS attention plus transition variation, each a share of its sum over patches; [B, N]."""
    v = transition_variation(read, made)
    return a / a.sum(1, keepdim=True) + v / v.sum(1, keepdim=True)


# (what attention reads, what it makes of it, both [B, N, D] of patch tokens; a [B, N]) -> [B, N]
SCORES: dict[str, TokenScore] = {
    "cls": lambda read, made, a: a,
    "ttv": lambda read, made, a: transition_variation(read, made),
    "both": by_both,
}


def keep_and_merge(
    x: torch.Tensor, a: torch.Tensor, n_kept: int, merge: str = "normalised"
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [B, P + N, D], scores a [B, N] -> ([B, P + n_kept (+ 1), D], numbers kept [B, n_kept])."""
    prefix, x = x.split([x.shape[1] - a.shape[1], a.shape[1]], dim=1)
    # in the order they came: keeping all changes nothing
    kept = a.topk(n_kept, dim=1).indices.sort(dim=1).values
    parts = [prefix, x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))]
    if n_kept < x.shape[1] and merge != "drop":
        rest = a.scatter(1, kept, 0.0)  # a of the others, 0 for the kept
        if merge == "normalised":  # where all are 0, x_m is 0
            rest = rest / rest.sum(1, keepdim=True).clamp_min(torch.finfo(rest.dtype).tiny)
        parts.append(rest.to(x.dtype)[:, None] @ x)  # [B, 1, D]
    return torch.cat(parts, dim=1), kept


def _check(model, blocks, keep, rounding, merge, score):
    """{block: ρ}, or a ValueError that says what is wrong."""
    if (
        not isinstance(model, VisionTransformer)
        or model.cls_token is None
        or model.global_pool != "token"
    ):
        raise ValueError(
            f"{type(model).__name__} with global_pool={getattr(model, 'global_pool', None)!r}: "
            "expected a timm ViT whose head reads a class token: scores are that token's "
            "attention, and an average would count a merged token once. Without token selection "
            "(--token-blocks 0, n_token_blocks=0) other vision transformers work"
        )
    if (
        rounding not in ROUNDING
        or merge not in MERGE
        or not (score in tuple(SCORES) or callable(score))
    ):
        raise ValueError(
            f"rounding={rounding!r}, merge={merge!r}, score={score!r}: expected one of "
            f"{', '.join(ROUNDING)}, one of {', '.join(MERGE)}, and one of {', '.join(SCORES)} or "
            "a function"
        )
    if len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(len(model.blocks))):
        raise ValueError(
            f"blocks={blocks}: expected different numbers from 0 to {len(model.blocks) - 1}"
        )
    each = keep if isinstance(keep, (dict, list, tuple)) else [keep] * len(blocks)
    shares = each if isinstance(each, dict) else dict(zip(blocks, each, strict=False))
    if (
        len(each) != len(blocks)
        or shares.keys() != set(blocks)
        or not all(0 < s <= 1 for s in shares.values())
    ):
        raise ValueError(
            f"keep={keep}: expected shares of the tokens in (0, 1], one for each of the blocks "
            f"{blocks}"
        )
    for number, block in enumerate(model.blocks):
        kind = type(block), type(getattr(block, "attn", None))
        if getattr(block.forward, "func", None) is _forward:
            raise ValueError(
                f"block {number} selects tokens already: token selection cannot be nested"
            )
        if number in shares and (kind != (Block, Attention) or "forward" in vars(block)):
            raise ValueError(
                f"block {number} is a {kind[0].__name__} with {kind[1].__name__}: expected timm's "
                "Block with its Attention, and its own forward"
            )
    return shares
