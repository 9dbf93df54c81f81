"""Inference of ViT-B/16 with and without token selection, and the part of a block that scoring
takes.
"""

import torch

from trpts.backbones import create_backbone
from trpts.tokens import cls_attention, token_selection
from trpts_lab.bench.clock import interleaved, timed
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
    rows["all tokens"]["flops"], rows["token selection"]["flops"] = (
        vit_flops(model),
        vit_flops(model, BLOCKS, KEEP),
    )
    return rows
