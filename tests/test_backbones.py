"""Backbones: the small one, timm's by tag, weights from a file."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from trpts.backbones import create_backbone

TAG = "vit_tiny_patch16_224.augreg_in21k"


def test_seed_decides_and_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = create_backbone("vit_small_digits", 5, seed=1)
    assert torch.rand(1) == expected
    again, other = (create_backbone("vit_small_digits", 5, seed=s) for s in (1, 2))
    weight = first.blocks[0].attn.qkv.weight
    assert torch.equal(weight, again.blocks[0].attn.qkv.weight)
    assert not torch.equal(weight, other.blocks[0].attn.qkv.weight)


def test_weights_from_a_file(tmp_path):
    """A timm ViT by its dotted tag; the file's head, of another size, is dropped."""
    source = timm.create_model(TAG, pretrained=False, num_classes=7)
    save_file(source.state_dict(), tmp_path / "tiny.safetensors")
    model = create_backbone(TAG, 5, tmp_path / "tiny.safetensors")
    assert model.head.out_features == 5
    assert torch.equal(model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert torch.equal(model.pos_embed, source.pos_embed)


def test_refuses(tmp_path):
    with pytest.raises(ValueError, match="'vit_of_dreams' is unknown"):
        create_backbone("vit_of_dreams", 5)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        create_backbone("vit_small_digits", 5, tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        create_backbone("vit_small_digits", 5, tmp_path / "text.safetensors")
    other = create_backbone("vit_small_digits", 5).state_dict() | {"pos_embed": torch.zeros(1, 4, 64)}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another architecture: pos_embed is"):
        create_backbone("vit_small_digits", 5, tmp_path / "other.safetensors")
