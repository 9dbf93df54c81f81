"""Inference of ViT-B/16 with and without token selection, and how much of a block scoring takes."""

import torch

from trpts.backbones import create_backbone
from trpts.tokens import cls_attention, token_selection
from trpts_lab.bench.clock import Bench, interleaved, ratio, timed
from trpts_lab.bench.train import BACKBONE, BLOCKS, KEEP, N_CLASSES
from trpts_lab.flops import vit_flops


@torch.no_grad()
def bench_tokens(batch_size=16, rounds=5, device="cpu"):
    """Inference with and without token selection, and the part of a block that scoring takes."""
    model = create_backbone(BACKBONE, N_CLASSES).to(device).eval()
    images = torch.randn(batch_size, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(
        device
    )
    tokens = model._pos_embed(model.patch_embed(images))
    attention = model.blocks[0].attn
    qkv = attention.qkv(tokens)

    def selecting():
        with token_selection(model, BLOCKS, KEEP):
            model(images)

    rows = interleaved(
        {
            "all tokens": timed(lambda: model(images), device),
            "token selection": timed(selecting, device),
            "one block": timed(lambda: model.blocks[0](tokens), device),
            "its scoring": timed(lambda: cls_attention(qkv, attention), device),
        },
        rounds,
    )
    rows["all tokens"]["flops"] = vit_flops(model)
    rows["token selection"]["flops"] = vit_flops(model, BLOCKS, KEEP)
    return rows


def _speed_up(rows, bars):
    saved = rows["all tokens"]["flops"] / rows["token selection"]["flops"]
    speed = 1 / ratio(rows, "token selection", "all tokens")[0]
    met = f"; bar 0.9 of that: {'met' if speed >= 0.9 * saved else 'missed'}" if bars else ""
    yield f"speed-up {speed:.3f}, operations {saved:.3f} times fewer{met}"


BENCH = Bench(
    bench_tokens,
    [("token selection", "all tokens", None), ("its scoring", "one block", 0.02)],
    words=_speed_up,
)
