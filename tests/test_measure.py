"""Floating-point operations: by hand, against PyTorch's own counter, and the paper's 35.13 G."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from trpts.tokens import token_selection
from trpts_lab.flops import vit_flops


def vit(**options):
    return timm.models.VisionTransformer(
        **dict(img_size=16, patch_size=4, embed_dim=8, depth=3, num_heads=2, num_classes=5)
        | options
    ).eval()


def counted(model, **tokens):
    """What PyTorch counts, the attention spelled out so that nothing is fused."""
    for block in model.blocks:
        block.attn.fused_attn = False
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if tokens:
            with token_selection(model, **tokens):
                model(torch.zeros(1, 3, 16, 16))
        else:
            model(torch.zeros(1, 3, 16, 16))
    return counter.get_total_flops()


def test_by_hand():
    """One block of width 8 on 1 + 1 tokens: patches 48·8, qkv 2·24·8, proj 2·8·8, scores and mix
    2·2·2·8, MLP …
    """
    model = vit(img_size=4, depth=1)
    macs = 48 * 8 + 2 * (24 * 8 + 8 * 8) + 2 * 2 * 2 * 8 + 2 * (2 * 32 * 8) + 5 * 8
    assert vit_flops(model) == 2 * macs


def test_dense_vit_b_is_the_papers():
    """35.13 GFLOP for ViT-B/16 at 224 px, to half a percent; PyTorch's model cards say 16.9 GMAC
    without attention.
    """
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=1000)
    assert vit_flops(model) / 1e9 == pytest.approx(35.13, rel=0.005)


def test_published_savings_of_vit_b():
    """The reference's table: ρ = .95 in blocks 3, 6, 9 gives 32.84 G, ρ = .7 22.97 G; the scoring
    row adds a little.
    """
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=1000)
    for keep, wanted in ((0.95, 32.84), (0.7, 22.97)):
        assert vit_flops(model, (3, 6, 9), keep) / 1e9 == pytest.approx(wanted, rel=0.005)


@pytest.mark.parametrize(
    "tokens", [{}, dict(blocks=(0, 2), keep=0.6), dict(blocks=(1,), keep=0.5, merge="drop")]
)
@pytest.mark.parametrize("options", [{}, dict(reg_tokens=2)])
def test_equals_pytorchs_counter(tokens, options):
    model = vit(**options)
    assert vit_flops(model, **tokens) == counted(model, **tokens)


def test_keeping_all_costs_nothing():
    model = vit()
    assert (
        vit_flops(model, (0, 2), 1.0) == counted(model, blocks=(0, 2), keep=1.0) == vit_flops(model)
    )
