"""Files that lie are refused in one sentence that names file and field, before anything big is
built.
"""

import json
import os
import sys
import time
import tracemalloc

import pytest
import torch
from lying_files import KINDS, Lab, look
from PIL import Image
from safetensors.torch import load_file, save_file

from trpts import backbones
from trpts.cli import main
from trpts.delta import read_delta
from trpts.files import capped, read_tensors
from trpts.saved_models import load_model

HEAD = {"index.head": torch.zeros(3, 1).to(torch.uint16), "values.head": torch.full((3, 1), 9.0)}
FC1 = "blocks.0.mlp.fc1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    small = dict(backbones.SMALL)
    yield Lab(tmp_path_factory.mktemp("lies"))
    backbones.SMALL.clear(), backbones.SMALL.update(small)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_end_in_a_sentence_or_do_what_valid_ones_do(lab, kind, capsys):
    """The long run is a command: `python tests/lying_files.py`."""
    found = {seed: fault for seed in range(100) if (fault := look(lab, kind, seed))}
    assert not found


def altered(lab, kind, tensors=lambda t: t, notes=lambda n: n):
    """A valid file, written again with a fault; its path."""
    path = lab.folder / "bad.safetensors"
    _, old = read_tensors(lab.path(kind), "a file")
    save_file(tensors(load_file(lab.path(kind))), path, {"notes": json.dumps(notes(old))})
    return path


def put(**changes):
    return lambda old: old | changes


def renamed(old, new):
    return lambda tensors: {new if name == old else name: t for name, t in tensors.items()}


def float_head(dtype):
    return lambda tensors: tensors | {"head.weight": tensors["head.weight"].to(dtype)}


def norm_bias(tensor):
    return dict(tensors=put(**{"norm.bias": tensor}))


LIES = {
    "an entry for the head": (
        "delta",
        dict(tensors=put(**HEAD)),
        "head is the head, which is saved whole",
    ),
    "values that overflow": (
        "delta",
        dict(tensors=lambda t: t | {f"values.{FC1}": t[f"values.{FC1}"].double() + 1e300}),
        f"values of {FC1} are no finite numbers of torch.float32",
    ),
    "a float index": (
        "delta",
        dict(tensors=lambda t: t | {f"index.{FC1}": t[f"index.{FC1}"].float()}),
        f"index.{FC1} is of torch.float32, expected whole numbers",
    ),
    "a renamed index": (
        "delta",
        dict(tensors=renamed(f"index.{FC1}", f"Index.{FC1}")),
        f"should not hold Index.{FC1}",
    ),
    "a stray tensor": ("delta", dict(tensors=put(x=torch.zeros(1))), "it should not hold x"),
    "a stray tensor of an export": (
        "export",
        dict(tensors=put(x=torch.zeros(1))),
        "it should not hold x",
    ),
    "a bias without an index": (
        "delta",
        dict(tensors=put(**{"bias.head": torch.zeros(3)})),
        "not hold bias.head",
    ),
    "no class": (
        "delta",
        dict(
            tensors=put(**{"head.weight": torch.zeros(0, 8), "head.bias": torch.zeros(0)}),
            notes=put(class_names=[]),
        ),
        "in class_names: ",
    ),
    "two classes of one name": (
        "export",
        dict(notes=put(class_names=["ant", "bee", "ant"])),
        "in class_names/2: 'ant' stands at 0 already",
    ),
    "a class that is a number": (
        "export",
        dict(notes=put(class_names=["ant", 5, "ant"])),
        "in class_names/1: 5 is no",
    ),
    "whole numbers for weights": (
        "export",
        dict(tensors=float_head(torch.int8)),
        "head.weight is torch.int8",
    ),
    "complex numbers": (
        "export",
        dict(tensors=float_head(torch.complex64)),
        "head.weight is of type C64",
    ),
    "eight bits": (
        "delta",
        dict(tensors=float_head(torch.float8_e4m3fn)),
        "head.weight is of type F8_E4M3",
    ),
    "NaN in an export": (
        "export",
        norm_bias(torch.full((8,), torch.nan)),
        "norm.bias holds values that are not",
    ),
    "an export that overflows": (
        "export",
        norm_bias(torch.full((8,), 1e300, dtype=torch.float64)),
        "norm.bias holds values that are not finite numbers of torch.float32",
    ),
    "deep notes": (
        "delta",
        dict(notes=lambda n: json.loads('{"a":' * 900 + "1" + "}" * 900)),
        "a required property",
    ),
    "deep tokens": (
        "delta",
        dict(notes=put(tokens=json.loads("[" * 900 + "]" * 900))),
        "in tokens: ",
    ),
    "a head without dimensions": (
        "delta",
        dict(tensors=put(**{"head.weight": torch.tensor(1.0)})),
        "names 3 classes, its head has 0",
    ),
    "a bias without dimensions": (
        "delta",
        dict(tensors=put(**{"head.bias": torch.tensor(1.0)})),
        r"with biases \[\]",
    ),
    "blocks that are floats": (
        "delta",
        dict(notes=put(tokens={"blocks": [1.0], "keep": 0.5})),
        "tokens/blocks/0: 1.0",
    ),
    "a size that is a float": (
        "delta",
        dict(notes=lambda n: n | {"reading": n["reading"] | {"image_size": 8.0}}),
        "in reading/image_size: 8.0",
    ),
    "a share that is NaN": (
        "export",
        dict(notes=put(tokens={"blocks": [1], "keep": torch.nan})),
        "the number NaN is not finite",
    ),
    "a share that leaves no token": (
        "delta",
        dict(notes=put(tokens={"blocks": [1], "keep": 1e-9})),
        "keeps none",
    ),
    "an unknown tag": (
        "delta",
        dict(notes=put(backbone="vit_tiny_patch16_224.x")),
        "in backbone: .* is unknown",
    ),
    "a backbone that cuts no patches": (
        "delta",
        dict(notes=put(backbone="resnet18")),
        "in backbone: .*no patches",
    ),
    "a format to come": (
        "delta",
        dict(notes=put(format="trpts delta 9")),
        "in format: 'trpts delta 9'",
    ),
    "a hash that is a list": (
        "delta",
        dict(notes=put(backbone_hash=[1])),
        "no backbone_hash, expected a text",
    ),
    "weights of whole numbers": (
        "weights",
        norm_bias(torch.zeros(8).int()),
        "norm.bias of torch.int32",
    ),
    "weights with infinity": ("weights", norm_bias(torch.full((8,), torch.inf)), "norm.bias of"),
}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_named(lab, lie):
    kind, changes, sentence = LIES[lie]
    if kind == "weights":
        path = lab.folder / "bad.safetensors"
        save_file(changes["tensors"](load_file(lab.path(kind))), path)
    else:
        path = altered(lab, kind, **changes)
    with pytest.raises(ValueError, match=rf"bad\.safetensors.*{sentence}") as caught:
        lab.use(kind, path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("n", [2_000_000, 3_000_000])
def test_millions_of_class_names_cost_little(lab, n):
    """One header is within the limit, so that its names are counted against the head; the other is
    not.
    """
    path = altered(lab, "delta", notes=put(class_names=["a"] * n))
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"names 2000000 classes, its head has 3|header has .* expected at most"
    ):
        load_model(path, lab.path("weights"))
    assert time.monotonic() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 150e6
    tracemalloc.stop()


def test_a_backbone_that_a_file_names_is_not_built_before_its_shapes_fit(lab, monkeypatch):
    real = backbones.timm.create_model

    def watched(*args, **kwargs):
        assert torch.get_default_device().type == "meta", "built before the file was refused"
        return real(*args, **kwargs)

    monkeypatch.setattr(backbones.timm, "create_model", watched)
    reading = {"image_size": 224, "normalization": "half", "resize": "squash"}
    for kind, sentence in (("delta", "Linear|expected int64"), ("export", "lacks blocks.10")):
        path = altered(
            lab, kind, notes=put(backbone="vit_gigantic_patch14_clip_224", reading=reading)
        )
        with pytest.raises(ValueError, match=rf"bad\.safetensors.*({sentence})"):
            load_model(path, lab.path("weights"))


def test_texts_in_messages_are_short_and_steer_no_terminal():
    assert capped("a\x1b[2J\n\ud800") == r"a\x1b[2J\n\ud800"
    assert capped("é" * 300) == "é" * 200 + "… (300 characters)"


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut there")
def test_a_file_that_is_cut_short_after_it_was_read_kills_nothing(lab):
    """Tensors are copied out of the mapping: to touch a mapped page that is gone is SIGBUS."""
    path = lab.folder / "cut.safetensors"
    path.write_bytes(lab.path("delta").read_bytes())
    delta = read_delta(path)
    child = os.fork()
    if child == 0:
        os.truncate(path, 0)
        os._exit(int(delta.head[0].sum().isnan()))
    assert os.waitpid(child, 0)[1] == 0


def test_names_that_steer_a_terminal_are_shown(lab, capsys):
    path = altered(lab, "export", notes=put(class_names=["ant\x1b[2J", "bee\ud800", "cow\n"]))
    image = lab.folder / "a.png"
    Image.new("RGB", (9, 9)).save(image)
    assert main(["predict", str(path), str(image)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert all(text in line for text in (r"ant\x1b[2J ", r"bee\ud800 ", r"cow\n "))


def test_valid_files_are_read_as_before(lab):
    model, notes = load_model(lab.path("export"))
    other, _ = load_model(lab.path("delta"), lab.path("weights"))
    assert notes["class_names"] == ["ant", "bee", "cow"]
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
