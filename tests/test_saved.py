"""What a step keeps for its backward pass: the formula is what PyTorch does; nothing is kept below
what is trained.
"""

import pytest
import timm
import torch

from trpts.sparse import attach, sparse_layers
from trpts_lab.bench.train import drawn_index
from trpts_lab.saved import block_numbers, saved_numbers

B, T, D, H, M = 2, 17, 32, 2, 128
LABELS = torch.zeros(B, dtype=torch.int64)


@pytest.fixture
def images():
    return torch.randn(B, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.models.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=D, depth=3, num_heads=H, num_classes=5
        )


def in_blocks(model, images):
    found = saved_numbers(model, images, LABELS)
    return [found[f"blocks.{n}"] for n in range(3)]


def limit(model):
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    model.patch_embed.proj.bias.requires_grad_(True)
    return model


def test_by_hand(model):
    """Per token: norm1 and norm2 (D + 2 each), q, k, v (3 D), attention's output (D + H), GELU's
    input (M).
    """
    assert block_numbers(model.blocks[0], T) == T * (2 * (D + 2) + 3 * D + D + H + M)
    assert block_numbers(model.blocks[0], T, "weights") == block_numbers(model.blocks[0], T) + T * (
        D + D + M
    )
    with pytest.raises(
        ValueError, match="train='all': expected nothing, weights, selected or lora"
    ):
        block_numbers(model.blocks[0], T, "all")


def test_nothing_but_the_input_gradient(model, images):
    limit(model)
    assert in_blocks(model, images) == [B * block_numbers(block, T) for block in model.blocks]


def test_all_weights(model, images):
    assert in_blocks(model, images) == [
        B * block_numbers(block, T, "weights") for block in model.blocks
    ]


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_selected_columns(model, images, share):
    attach(model, drawn_index(model, share))
    found = in_blocks(model, images)
    columns = sum(len(layer.columns) for layer in sparse_layers(model.blocks[2]).values())
    assert 4 * 2 < columns < share * (3 * D + M) + 4
    assert found[2] == B * T * columns + B * block_numbers(limit(model).blocks[2], T)
    assert found[1:] == [B * block_numbers(block, T, "selected") for block in model.blocks[1:]]
    first = B * (block_numbers(model.blocks[0], T, "selected") - T * (D + 2))
    assert found[0] == first, "norm1 of the first block sends no gradient on"


def test_lora(model, images):
    peft = pytest.importorskip("peft")
    names = ["qkv", "attn.proj", "fc1", "fc2"]
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=names, modules_to_save=["head"])
    )
    wanted = [
        B * block_numbers(block, T, "lora", r=4)
        for block in timm.models.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=D, depth=3, num_heads=H, num_classes=5
        ).blocks
    ]
    found = in_blocks(wrapped.base_model.model, images)
    assert found[1:] == wanted[1:]


def test_below_the_first_trained_block_nothing_is_kept(model, images):
    """Who tunes late blocks alone pays for late blocks alone."""
    index = {name: x for name, x in drawn_index(model, 0.1).items() if name.startswith("blocks.2.")}
    attach(model, index)
    found = saved_numbers(model, images, LABELS)
    assert found["blocks.0"] == found["blocks.1"] == 0
    assert found["blocks.2"] == B * (block_numbers(model.blocks[2], T, "selected") - T * (D + 2)), (
        "nor does its norm1"
    )
