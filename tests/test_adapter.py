"""A delta as a LoRA adapter: PEFT alone loads it, and the model is the tuned one."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest
import timm
import torch
from safetensors.torch import save_file

from trpts.adapter import save_adapter, untuned
from trpts.delta import delta_of, save_delta
from trpts.layers import scored_layers
from trpts.sparse import attach, detach, sparse_layers

# three architectures: LayerScale, no LayerScale, average pooling and no bias in patches
MODELS = {
    "vit_tiny_patch16_224": 32,
    "vit_small_patch14_dinov2": 28,
    "vit_tiny_patch16_224.augreg_gap": 32,
}


def plain(name):
    size, (tag, _, gap) = MODELS[name], name.partition(".augreg_")
    pooling = {"global_pool": "avg", "class_token": False} if gap else {}
    torch.manual_seed(0)
    return timm.create_model(tag, num_classes=4, img_size=size, depth=2, **pooling).eval()


def tuned(model, biases=True):
    """The model, attached at two connections a neuron and changed."""
    generator = torch.Generator().manual_seed(1)
    index = {}
    layers = {"patch_embed.proj": model.patch_embed.proj} | scored_layers(model)
    for name, layer in layers.items():
        out, fan_in = len(layer.weight), layer.weight[0].numel()
        some = torch.randperm(fan_in, generator=generator)[:5]  # columns that are used
        each = torch.rand(out, 5, generator=generator).argsort(1)[:, :2]
        index[name] = some[each].sort(1).values
    attach(model, index, biases=biases)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.1 * noise
    return model


def images(model):
    size = model.patch_embed.img_size[0]
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))


OUTSIDE = """
import json, sys, timm, torch
from peft import PeftModel
from safetensors.torch import load_file

tag, size, pooling = sys.argv[1:]
x, wanted = map(load_file("wanted.safetensors").get, ("x", "wanted"))
model = timm.create_model(tag, num_classes=4, img_size=int(size), depth=2, **json.loads(pooling))
model.load_state_dict(load_file("base.safetensors"))
loaded = PeftModel.from_pretrained(model.eval(), "adapter").eval()
with torch.no_grad():
    print(float((loaded(x) - wanted).abs().max()), end=" ")
    print(float((loaded.merge_and_unload()(x) - wanted).abs().max()), end=" ")
print("trpts" in sys.modules)
"""


@pytest.mark.parametrize("name", MODELS)
def test_peft_alone_gives_the_tuned_model(name, tmp_path):
    """In a process that never imports trpts."""
    model = plain(name)
    save_file(model.state_dict(), tmp_path / "base.safetensors")
    tuned(model)
    x = images(model)
    with torch.no_grad():
        wanted = model(x)
    save_file({"x": x, "wanted": wanted}, tmp_path / "wanted.safetensors")
    save_adapter(model, tmp_path / "adapter")
    tag, _, gap = name.partition(".augreg_")
    pooling = {"global_pool": "avg", "class_token": False} if gap else {}
    arguments = [tag, str(MODELS[name]), json.dumps(pooling)]
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    loaded, merged, imported = done.stdout.split()[-3:]
    assert float(loaded) < 1e-5
    assert float(merged) < 1e-5
    assert imported == "False"
    assert wanted.std() > 0.1


def test_ranks_are_the_columns_that_are_used(tmp_path):
    model = tuned(plain("vit_tiny_patch16_224"))
    sizes = save_adapter(model, tmp_path / "adapter", base="timm/some", card="# A card\n")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    ranks = {n: len(layer.index.unique()) for n, layer in sparse_layers(model).items()}
    assert config["rank_pattern"] == config["alpha_pattern"] == ranks
    assert set(ranks.values()) == {5}
    assert config["base_model_name_or_path"] == "timm/some"
    assert (tmp_path / "adapter" / "README.md").read_text() == "# A card\n"
    assert sizes["blocks.0.mlp.fc1"] == 5 * (192 + 768) / (192 * 768)
    assert sizes["patch_embed.proj"] == 5 * (768 + 192) / (768 * 192)


def test_of_a_file_it_is_the_same(tmp_path):
    model = tuned(plain("vit_tiny_patch16_224"))
    save_delta(model, tmp_path / "delta.safetensors")
    save_adapter(model, tmp_path / "a")
    other = plain("vit_tiny_patch16_224")
    save_adapter(other, tmp_path / "b", tmp_path / "delta.safetensors")
    save_adapter(other, tmp_path / "c", delta_of(model))
    content = {(tmp_path / folder / "adapter_model.safetensors").read_bytes() for folder in "abc"}
    assert len(content) == 1
    # the models are as they were
    assert not vars(other).get("_delta")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            other.state_dict().values(),
            plain("vit_tiny_patch16_224").state_dict().values(),
            strict=True,
        )
    )


def test_biases_that_were_not_trained_are_not_changed(tmp_path):
    from peft import PeftModel

    model = tuned(plain("vit_tiny_patch16_224"), biases=False)
    save_adapter(model, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(plain("vit_tiny_patch16_224"), tmp_path / "adapter").eval()
    x = images(model)
    with torch.no_grad():
        assert torch.allclose(loaded(x), model(x), atol=1e-5)


def test_untuned_is_what_was_before_attach():
    model = plain("vit_tiny_patch16_224")
    before = deepcopy(model)
    head = model.head
    tuned(model)
    with torch.no_grad():
        model.head.weight.copy_(head.weight)
    after = untuned(model)
    for (name, a), b in zip(after.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(a, b) or name.startswith("head."), name


def test_bad_input_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    model, folder = plain("vit_tiny_patch16_224"), tmp_path / "adapter"
    with pytest.raises(ValueError, match=r"of an attached model, or of a plain one .*neither was"):
        save_adapter(model, folder)
    attach(model, {})
    with pytest.raises(ValueError, match="the head alone was tuned: an adapter holds changed la"):
        save_adapter(model, folder)
    detach(model)
    tuned(model)
    with pytest.raises(ValueError, match="both was given"):
        save_adapter(model, folder, delta_of(model))
    other = plain("vit_tiny_patch16_224")
    other.blocks[0].norm1.weight.data += 1
    with pytest.raises(ValueError, match="belongs to another backbone"):
        save_adapter(other, folder, delta_of(model))
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    with pytest.raises(ValueError, match=r"adapter cannot be written: it is there already; expec"):
        save_adapter(model, folder)
    with pytest.raises(ValueError, match=r"nowhere.adapter cannot be written: No such file"):
        save_adapter(model, tmp_path / "nowhere" / "adapter")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"peft is not there .*install it with pip install trpts"):
        save_adapter(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == [folder]
