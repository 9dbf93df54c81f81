"""Differences of two checkpoints, model cards, and the commands that write them."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from test_adapter import images, plain, tuned

from trpts.card import model_card
from trpts.cli import main
from trpts.delta import delta_of, load_delta, read_delta, save_delta
from trpts.difference import difference
from trpts.files import read_tensors, write_tensors
from trpts.sparse import detach

README = Path(__file__).parent.parent / "README.md"
NAME = "vit_tiny_patch16_224"


def pair(biases=True):
    """(base, tuned and detached, its delta)."""
    base, model = plain(NAME), tuned(plain(NAME), biases)
    delta = delta_of(model)
    detach(model)
    return base, model, delta


# differences


@pytest.mark.parametrize("biases", [True, False])
def test_the_difference_of_a_tuned_model_is_its_delta(biases):
    base, model, wanted = pair(biases)
    found = difference(base, model)
    assert found.notes["backbone_hash"] == wanted.notes["backbone_hash"]
    assert found.layers.keys() == wanted.layers.keys()
    for name, (index, values, bias) in found.layers.items():
        assert torch.equal(index, wanted.layers[name][0])
        assert torch.equal(values, wanted.layers[name][1])
        assert (bias is None) == (not biases)
    load_delta(base, found)
    with torch.no_grad():
        assert torch.equal(base(images(base)), model(images(base)))


def test_a_neuron_that_changed_less_is_filled_up():
    base, model = plain(NAME), plain(NAME)
    weight = model.blocks[1].mlp.fc1.weight.data
    weight[0, [3, 7]] += 1
    weight[5, 2] += 1
    ((name, (index, values, bias)),) = difference(base, model).layers.items()
    assert (name, bias) == ("blocks.1.mlp.fc1", None)
    assert index[0].tolist() == [3, 7]
    assert index[5].tolist() == [0, 2]
    assert index[1].tolist() == [0, 1]
    assert torch.equal(values, weight.gather(1, index))


def test_a_changed_bias_alone_takes_a_layer_along():
    base, model = plain(NAME), plain(NAME)
    model.blocks[0].attn.qkv.bias.data += 1
    ((name, (index, _, bias)),) = difference(base, model).layers.items()
    assert name == "blocks.0.attn.qkv"
    assert index.shape == (576, 1)
    assert torch.equal(bias, model.blocks[0].attn.qkv.bias)


def test_what_no_delta_holds_is_a_sentence():
    base = plain(NAME)
    with pytest.raises(ValueError, match="differ in their heads at most"):
        difference(base, plain(NAME))
    for change, words in (
        (lambda m: m.norm.weight.data.add_(1), r"norm.weight differs, which no delta holds"),
        (lambda m: m.cls_token.data.add_(1), r"cls_token differs, which no delta holds: expected"),
        (
            lambda m: m.blocks[0].attn.qkv.weight.data.add_(1),
            r"blocks.0.attn.qkv differs in 192 of 192 inputs of a neuron: expected at most 96",
        ),
    ):
        model = plain(NAME)
        change(model)
        with pytest.raises(ValueError, match=words):
            difference(base, model)
    with pytest.raises(ValueError, match=r"is in one of the two models alone: expected one archi"):
        difference(base, plain("vit_small_patch14_dinov2"))


# cards

NOTES = {
    "backbone": "vit_tiny_patch16_224.augreg_in21k",
    "data": "my_photos: [cats]",
    "reading": {"image_size": 32, "normalization": "half", "resize": "squash"},
    "class_names": ["cat", "a <b>"],
    "tokens": None,
    "settings": {"epochs": 3},
    "test_accuracy": 0.8125,
    "n_test": 16,
}


def front(card):
    _, matter, _ = card.split("---\n", 2)
    return yaml.safe_load(matter)


def test_a_card_says_what_the_notes_say():
    card = model_card(NOTES, "photos.safetensors")
    matter = front(card)
    assert matter["base_model"] == "timm/vit_tiny_patch16_224.augreg_in21k"
    assert matter["library_name"] == "trpts"
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"]["name"] == "my_photos: [cats]"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.8125}]
    assert "**81.2% of 16 images that it did not learn from are right.**" in card
    assert "load_model('photos.safetensors')" in card
    assert r"cat, a \<b\>" in card
    assert r"# my\_photos: \[cats\]" in card
    fewer = {key: NOTES[key] for key in ("backbone", "reading", "class_names")}
    assert "model-index" not in front(model_card(fewer, "x.safetensors"))


def test_the_card_of_an_adapter_says_what_it_cannot_carry():
    card = model_card(NOTES, "adapter", "adapter")
    assert front(card)["library_name"] == "peft"
    assert "img_size=32" in card
    assert "PeftModel.from_pretrained(model, 'adapter')" in card
    assert "token selection" not in card
    selecting = NOTES | {"tokens": {"blocks": [1], "keep": 0.5}}
    assert "an adapter cannot carry" in model_card(selecting, "adapter", "adapter")


# commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Base and tuned checkpoints of the smallest backbone, and the delta between them."""
    from trpts.backbones import create_backbone

    place = tmp_path_factory.mktemp("exchange")
    base = create_backbone("vit_lab", 4, None, seed=1)
    without = {n: t for n, t in base.state_dict().items() if not n.startswith("head.")}
    save_file(without, place / "base.safetensors")
    base = create_backbone("vit_lab", 4, place / "base.safetensors")
    model = tuned(base)
    notes = NOTES | {"backbone": "vit_lab", "class_names": ["cat", "dog", "cow", "hen"]}
    save_delta(model, place / "delta.safetensors", **notes)
    detach(model)
    save_file(model.state_dict(), place / "tuned.safetensors")
    return place


def test_from_a_delta_to_peft_on_the_command_line(place, tmp_path, capsys):
    from peft import PeftModel

    from trpts.backbones import create_backbone

    command = ["export", str(place / "delta.safetensors"), "--format", "peft"]
    command += ["--weights", str(place / "base.safetensors"), "--out", str(tmp_path / "adapter")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "adapter: a LoRA adapter of " in said
    assert "larger" not in said
    base = create_backbone("vit_lab", 4, place / "base.safetensors").eval()
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    wanted = create_backbone("vit_lab", 4, None)
    wanted.load_state_dict(load_file(place / "tuned.safetensors"))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(loaded(x), wanted.eval()(x), atol=1e-5)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "timm/vit_lab"
    assert "PeftModel" in (tmp_path / "adapter" / "README.md").read_text()
    assert main(command) == 2  # the folder is there
    assert "it is there already" in capsys.readouterr().err


def test_an_adapter_that_is_larger_than_its_layers_says_so(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trpts.exchange.save_adapter", lambda *a, **o: {"one": 0.5, "two": 1.5})
    command = ["export", str(place / "delta.safetensors"), "--format", "peft"]
    command += ["--weights", str(place / "base.safetensors"), "--out", str(tmp_path / "adapter")]
    assert main(command) == 0
    assert "in 1 of them the matrices are larger than the layer itself, up to 1.5 times (two)" in (
        capsys.readouterr().out
    )


def test_from_two_checkpoints_to_a_delta_on_the_command_line(place, tmp_path, capsys):
    out = tmp_path / "found.safetensors"
    command = ["diff", str(place / "base.safetensors"), str(place / "tuned.safetensors")]
    command += ["--backbone", "vit_lab", "--out", str(out)]
    assert main(command) == 0
    assert "layers, at most 2 connections of a neuron" in capsys.readouterr().out
    found, wanted = read_delta(out), read_delta(place / "delta.safetensors")
    assert found.notes["backbone_hash"] == wanted.notes["backbone_hash"]
    for name, (index, values, _) in wanted.layers.items():
        assert torch.equal(found.layers[name][0], index)
        assert torch.equal(found.layers[name][1], values)
    assert found.notes["class_names"] == ["0", "1", "2", "3"]
    Image.new("RGB", (20, 20)).save(tmp_path / "one.png")
    predict = ["predict", str(out), str(tmp_path / "one.png")]
    assert main([*predict, "--weights", str(place / "base.safetensors")]) == 0
    assert not capsys.readouterr().err  # no word of files of an older version


def test_an_exported_model_gives_its_names_to_the_difference(place, tmp_path, capsys):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    base = str(place / "base.safetensors")
    command = ["export", str(place / "delta.safetensors"), "--weights", base, "--out", str(whole)]
    assert main(command) == 0
    command = ["diff", base, str(whole), "--backbone", "vit_lab", "--out", str(out)]
    assert main(command) == 0
    assert read_delta(out).notes["class_names"] == ["cat", "dog", "cow", "hen"]
    tensors, notes = read_tensors(whole, "a model")
    write_tensors(whole, tensors, notes | {"class_names": ["cat", "cat", "cow", "hen"]})
    capsys.readouterr()
    assert main(command) == 2
    assert "'cat' stands at 0 already" in capsys.readouterr().err


def test_bad_checkpoints_are_a_sentence(place, tmp_path, capsys):
    base, out = str(place / "base.safetensors"), str(tmp_path / "out.safetensors")
    more = ["--backbone", "vit_lab", "--out", out]
    (tmp_path / "text.safetensors").write_text("no weights")
    whole = load_file(place / "tuned.safetensors")
    save_file(
        whole | {"head.weight": whole["head.weight"][:, :5].clone()}, tmp_path / "b.safetensors"
    )
    for file, words in (
        ("nowhere.safetensors", "does not exist: expected a tuned vit_lab, as safetensors"),
        ("text.safetensors", "is not a tuned vit_lab"),
        ("b.safetensors", "head.weight"),
    ):
        assert main(["diff", base, str(tmp_path / file), *more]) == 2
        assert words in capsys.readouterr().err
    assert main(["diff", base, base, *more]) == 2
    assert "holds no head.weight: expected a tuned vit_lab" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_four_lines_from_pictures_to_an_adapter(place, tmp_path, monkeypatch):
    """The README's own lines, with a small backbone and few epochs."""
    import numpy as np

    text = README.read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(task = trpts.load_task.*?)```", text, re.S)
    assert len(lines.strip().splitlines()) == 4
    rng = np.random.default_rng(0)
    for name, colour in (("cat", 90), ("dog", 160)):
        (tmp_path / "my_photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.clip(rng.normal(colour, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my_photos" / name / f"{i}.png")
    for is_there, small in (
        ("vit_base_patch16_224.augreg_in21k", "vit_lab"),
        ("image_size=224", "image_size=32"),
        ('"hub"', repr(str(place / "base.safetensors"))),
        ("trpts.tune(model, task)", "trpts.tune(model, task, epochs=1, batch_size=8)"),
    ):
        assert is_there in lines
        lines = lines.replace(is_there, small)
    monkeypatch.chdir(tmp_path)
    exec(f"import trpts\n{lines}", {})
    assert (tmp_path / "my_adapter" / "adapter_model.safetensors").is_file()
