"""Token selection: in some blocks, keep the patch tokens that CLS attends to and merge the others into one.

With a_i the attention of CLS to patch token i, and I the tokens outside the top ⌊ρN⌋,

    x_m = Σ_{i∈I} a_i x_i / Σ_{i∈I} a_i        tokens after the block's attention: {CLS, selected, x_m}

(TR-PTS, section 3). The paper does not say where in the block this happens: after the attention's residual and before
the MLP, as in EViT; nor how heads are combined: we take their mean; nor what becomes of an earlier x_m: it is a token
like any other.
"""

import math
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer

ROUNDING = {"floor": lambda n: math.floor(n + 1e-9), "ceil": lambda n: math.ceil(n - 1e-9)}  # 0.29 · 100 is 29
MERGE = ("normalised", "sum", "drop")


@dataclass
class Trace:
    """What the last forward pass selected, by block number.

    kept    {block: int64 [B, n_kept]}: original patch numbers, ascending; -1 for a token merged by an earlier block
    scores  {block: float32 [B, N]}: a of all N tokens that the block could choose from
    """

    kept: dict = field(default_factory=dict)
    scores: dict = field(default_factory=dict)


@contextmanager
def token_selection(model, blocks, keep, rounding="floor", merge="normalised", score=None, score_gradient=True,
                    shortcut=True):  # fmt: skip
    """While this is open, the given blocks of a timm ViT select tokens, in training too; gives a `Trace`.

    blocks          block numbers, in any order; a backward pass with gradient checkpointing must run inside as well
    keep            ρ in (0, 1], one for all blocks or {block: ρ}
    rounding        of ρN: "floor" (the paper), "ceil" (EViT)
    merge           "normalised" (the paper), "sum": Σ a_i x_i (EViT), "drop": no merged token
    score           None: a; else a function (a [B, N], x before the attention, x after it, both [B, N, D]) -> [B, N],
                    > 0 (TR-PTS's rivals: random, or how much a token changed)
    score_gradient  whether the gradient flows through a_i in the merge (EViT's does; the paper does not say)
    shortcut        a block that keeps all runs untouched, to the bit; False: it scores and gathers all the same
    raises          ValueError: no timm ViT with a class token that feeds the head, unknown switch or block, ρ outside
                    (0, 1] or keeping no token, scores that are not finite; nested use
    """
    keep = _check(model, blocks, keep, rounding, merge)
    trace, handles, before = Trace(), [], None
    try:
        for number in sorted(keep):
            block = model.blocks[number]
            block._selection = _Selection(
                number, keep[number], before, model.num_prefix_tokens, ROUNDING[rounding], merge, score, score_gradient,
                shortcut, trace,
            )  # fmt: skip
            block.__class__ = _SelectingBlock
            handles.append(block.attn.qkv.register_forward_hook(block._selection.catch))
            before = number
        yield trace
    finally:
        for handle in handles:
            handle.remove()
        for number in keep:
            if type(model.blocks[number]) is _SelectingBlock:
                model.blocks[number].__class__ = Block
                del model.blocks[number]._selection


class _SelectingBlock(Block):
    def forward(self, x, attn_mask=None, is_causal=False):
        if attn_mask is not None or is_causal:
            raise ValueError("token selection with an attention mask: a mask is bound to positions that move")
        selection = self._selection
        if selection.shortcut and selection.n_kept(x) == x.shape[1] - selection.n_prefix:
            return super().forward(x)
        after = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        x = selection.select(x, after, self.attn)
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


@dataclass
class _Selection:
    """One selecting block's settings, and the qkv that its attention has just projected."""

    number: int
    keep: float
    before: int | None  # the selecting block before this one
    n_prefix: int
    rounding: object
    merge: str
    score: object
    score_gradient: bool
    shortcut: bool
    trace: Trace
    qkv: torch.Tensor | None = None

    def catch(self, module, inputs, qkv):
        self.qkv = qkv

    def n_kept(self, x):
        N = x.shape[1] - self.n_prefix
        kept = self.rounding(self.keep * N)
        if kept < 1:
            raise ValueError(f"keep={self.keep} of {N} tokens in block {self.number} keeps none: expected one or more")
        return kept

    def select(self, before, after, attention):
        """Tokens [B, P + N, D] -> [B, P + kept (+ 1), D]."""
        prefix, x = after.split([self.n_prefix, after.shape[1] - self.n_prefix], dim=1)
        a = cls_attention(self.qkv, attention)[:, self.n_prefix :]  # [B, N]
        self.qkv, n_kept = None, self.n_kept(after)
        if self.score is not None:
            a = self.score(a, before[:, self.n_prefix :], x)
        if not torch.isfinite(a).all():
            raise ValueError(
                f"the token scores of block {self.number} are not finite: look for inf or NaN in the input"
            )
        kept = a.topk(n_kept, dim=1).indices.sort(dim=1).values  # [B, kept], in the order they came
        self._record(kept, a)
        parts = [prefix, x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))]
        if n_kept < x.shape[1] and self.merge != "drop":
            rest = (a if self.score_gradient else a.detach()).scatter(1, kept, 0.0)  # a of the others, 0 for the kept
            if self.merge == "normalised":
                rest = rest / rest.sum(1, keepdim=True).clamp_min(torch.finfo(rest.dtype).tiny)
            parts.append(rest.to(x.dtype)[:, None] @ x)  # [B, 1, D]
        return torch.cat(parts, dim=1)

    def _record(self, kept, a):
        original = torch.arange(a.shape[1], device=a.device).expand(len(a), -1)
        if self.before in self.trace.kept:
            original = self.trace.kept[self.before]
            merged = original.new_full((len(a), a.shape[1] - original.shape[1]), -1)
            original = torch.cat([original, merged], dim=1)
        self.trace.kept[self.number] = original.gather(1, kept)
        self.trace.scores[self.number] = a.detach()


def cls_attention(qkv, attention):
    """Attention of CLS to all tokens, mean over heads, float32 [B, tokens], from the block's own projection.

    qkv  [B, tokens, 3·H·d], what `attention.qkv` gave: one row q·Kᵀ is added, nothing is projected twice
    """
    B, T, _ = qkv.shape
    q, k = qkv.view(B, T, 3, attention.num_heads, attention.head_dim)[:, :, :2].unbind(2)  # [B, T, H, d]
    with torch.autocast(qkv.device.type, enabled=False):  # in half precision, close scores would tie
        q, k = attention.q_norm(q[:, 0]).float(), attention.k_norm(k).float()  # q of CLS: [B, H, d]
        logits = torch.einsum("bhd,bthd->bht", q * attention.scale, k)
        return logits.softmax(dim=2).mean(1)


def _check(model, blocks, keep, rounding, merge):
    """{block: ρ}, or a ValueError that says what is wrong."""
    if not isinstance(model, VisionTransformer) or model.cls_token is None or model.global_pool != "token":
        pool = getattr(model, "global_pool", None)
        raise ValueError(
            f"{type(model).__name__} with global_pool={pool!r}: expected a timm VisionTransformer whose head reads a "
            f"class token; scores are its attention, and an average would count a merged token once"
        )
    if rounding not in ROUNDING or merge not in MERGE:
        raise ValueError(f"rounding={rounding!r}, merge={merge!r}: expected one of {', '.join(ROUNDING)} and of "
                         f"{', '.join(MERGE)}")  # fmt: skip
    blocks = list(blocks)
    if len(set(blocks)) < len(blocks) or not set(blocks) <= set(range(len(model.blocks))):
        raise ValueError(f"blocks={blocks}: expected different numbers from 0 to {len(model.blocks) - 1}")
    keep = keep if isinstance(keep, dict) else dict.fromkeys(blocks, keep)
    if keep.keys() != set(blocks) or not all(0 < k <= 1 for k in keep.values()):
        raise ValueError(f"keep={keep}: expected a share of the tokens in (0, 1], for each of the blocks {blocks}")
    for number in blocks:
        block = model.blocks[number]
        if type(block) is _SelectingBlock:
            raise ValueError(f"block {number} selects tokens already: token selection cannot be nested")
        if type(block) is not Block or type(block.attn) is not Attention:
            raise ValueError(f"block {number} is a {type(block).__name__} with {type(block.attn).__name__}: expected "
                             "timm's Block with its Attention")  # fmt: skip
    return keep
