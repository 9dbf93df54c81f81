"""A model's cost in floating-point operations: by formula, and as PyTorch counts them in a run."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from trpts.tokens import ROUNDING


def vit_flops(model, blocks=(), keep=1.0, rounding="floor", merge="normalised"):
    """Floating-point operations of one image's forward pass through a timm ViT, 2 for each
    multiply-accumulate.

    Matrix products alone, as is usual: patch embedding, each block's qkv, scores, mixing,
    projection and MLP, and the head; norms, softmax and activations are left out. In a block of
    `blocks` the MLP sees the selected tokens, and so do all blocks behind it
    (`trpts.tokens.token_selection`); its one extra row of scores is counted.
    """
    proj = model.patch_embed.proj
    n_prefix, T = model.num_prefix_tokens, model.patch_embed.num_patches
    macs = T * proj.weight.numel()
    T += n_prefix
    for number, block in enumerate(model.blocks):
        attention, mlp = block.attn, block.mlp
        width = attention.num_heads * attention.head_dim
        macs += (
            T * (attention.qkv.weight.numel() + attention.proj.weight.numel()) + 2 * T * T * width
        )
        if number in blocks:
            N = T - n_prefix
            kept = ROUNDING[rounding]((keep[number] if isinstance(keep, dict) else keep) * N)
            if kept < N:  # else the block runs untouched
                # CLS's row of scores, the merge
                macs += T * width + (N * width if merge != "drop" else 0)
            T = n_prefix + kept + (kept < N and merge != "drop")
        macs += T * (mlp.fc1.weight.numel() + mlp.fc2.weight.numel())
    return 2 * (macs + model.head.weight.numel())


@torch.no_grad()
def counted_flops(model, images):
    """Floating-point operations of the forward pass of `images` [B, 3, H, W], per image.

    2 for each multiply-accumulate of matrix products and convolutions, as `vit_flops`.
    """
    training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(images)
    model.train(training)
    return counter.get_total_flops() / len(images)
