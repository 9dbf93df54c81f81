"""Backbones: the small one, timm's by tag, weights from a file or the hub's cache, and where they
came from.
"""

import copy
import hashlib
import logging
import socket

import pytest
import timm
import torch
from safetensors.torch import save_file

from trpts.backbones import create_backbone
from trpts.hashes import file_hash

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
    other = create_backbone("vit_small_digits", 5).state_dict() | {
        "pos_embed": torch.zeros(1, 4, 64)
    }
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another architecture: pos_embed is"):
        create_backbone("vit_small_digits", 5, tmp_path / "other.safetensors")


# the weights' origin


def test_hash_is_logged_and_stays_with_the_model(tmp_path, caplog):
    path = tmp_path / "tiny.safetensors"
    source = create_backbone("vit_small_digits", 3, seed=1)
    assert source.weights_hash is None
    save_file(source.state_dict(), path)
    with caplog.at_level(logging.INFO, "trpts.backbones"):
        model = create_backbone("vit_small_digits", 5, path)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert model.weights_hash == expected
    assert [record.getMessage() for record in caplog.records] == [
        f"vit_small_digits: weights from tiny.safetensors, sha256 {expected}"
    ]
    assert copy.deepcopy(model).to(torch.float64).weights_hash == expected
    save_file(create_backbone("vit_small_digits", 3, seed=2).state_dict(), path)
    assert create_backbone("vit_small_digits", 5, path).weights_hash != expected


def test_half_precision_becomes_float32(tmp_path):
    source = create_backbone("vit_small_digits", 5, seed=1)
    save_file(
        {key: t.half() for key, t in source.state_dict().items()}, tmp_path / "half.safetensors"
    )
    model = create_backbone("vit_small_digits", 5, tmp_path / "half.safetensors")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    weight = "blocks.2.mlp.fc1.weight"
    assert torch.equal(model.get_parameter(weight), source.get_parameter(weight).half().float())


@pytest.mark.parametrize("n_classes", [0, 5])
@pytest.mark.parametrize("n_source", [0, 7])
def test_heads_are_dropped_or_not_there(tmp_path, n_classes, n_source):
    """orig_in21k comes without a head; some files still hold the layer before it, which timm leaves
    out as well.
    """
    source = timm.create_model(TAG, pretrained=False, num_classes=n_source)
    extra = {"pre_logits.fc.weight": torch.zeros(2, 2)}
    save_file(source.state_dict() | extra, tmp_path / "tiny.safetensors")
    model = create_backbone(TAG, n_classes, tmp_path / "tiny.safetensors")
    assert torch.equal(model.norm.weight, source.norm.weight)
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, n_classes or 192)


def test_another_grid_is_refused_and_nothing_is_logged(tmp_path, caplog):
    save_file(timm.create_model(TAG, img_size=160).state_dict(), tmp_path / "small.safetensors")
    with (
        caplog.at_level(logging.INFO, "trpts.backbones"),
        pytest.raises(
            ValueError,
            match=r"another architecture: pos_embed is \(1, 101, 192\) there, .*\(1, 197, 192\)",
        ),
    ):
        create_backbone(TAG, 5, tmp_path / "small.safetensors")
    assert not caplog.records


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache; (function that puts a state dict into it). Asking the network is
    an error.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    def put(repo, state):
        folder = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc")
        (folder / "snapshots" / "abc").mkdir(parents=True)
        save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
        return folder / "snapshots" / "abc" / "model.safetensors"

    return put


def test_weights_from_the_hub_cache(hub_cache, caplog):
    source = timm.create_model(TAG, pretrained=False)
    path = hub_cache(f"timm/{TAG}", source.state_dict())
    with caplog.at_level(logging.INFO, "trpts.backbones"):
        model = create_backbone(TAG, 5, "hub")
    assert torch.equal(model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert model.weights_hash == file_hash(path)
    assert caplog.messages == [f"{TAG}: weights from model.safetensors, sha256 {file_hash(path)}"]


def test_weights_that_are_not_in_the_hub_cache(hub_cache):
    """410 MB is what the hub shows for AugReg's ViT-B/16 with its 21,843 classes; orig_in21k has no
    head.
    """
    for tag, size in (("augreg_in21k", 410), ("augreg_in21k_ft_in1k", 346), ("orig_in21k", 343)):
        tag = f"vit_base_patch16_224.{tag}"
        command = f"`hf download timm/{tag} model.safetensors`"
        with (
            torch.device("meta"),
            pytest.raises(
                FileNotFoundError,
                match=rf"of {tag} are not in .*, about {size} MB, with {command}$",
            ),
        ):
            create_backbone(tag, 5, "hub")
    with pytest.raises(
        ValueError,
        match="'vit_lab' has no weights on the Hugging Face hub: expected a path of a file",
    ):
        create_backbone("vit_lab", 5, "hub")
