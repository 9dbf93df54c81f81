"""Your own images, from a folder to predictions: through the command line, outside the
repository.
"""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import matplotlib.pyplot as plt
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from trpts.backbones import create_backbone
from trpts.cli import main
from trpts.data.reading import NORMALIZATIONS, read_image
from trpts.delta import read_delta
from trpts.files import read_tensors, write_tensors
from trpts.own_images import reading_of, tune_images
from trpts.plots import draw_confusion
from trpts.saved_models import load_model, predict
from trpts.tokens import token_selection

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (200, 40, 40)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photos/<class>/*.png of noisy single colours, and weights of the lab's
    backbone.
    """
    root, rng = tmp_path_factory.mktemp("elsewhere"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / "photos" / name).mkdir(parents=True)
        for i in range(15):
            pixels = np.clip(rng.normal(colour, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{i}.png")
    state = create_backbone("vit_lab", 2, seed=1).state_dict()
    save_file(
        {k: v for k, v in state.items() if not k.startswith("head.")}, root / "lab.safetensors"
    )
    return root


def arguments(place, out, *more):
    """Of a short tuning."""
    given = ["--backbone", "vit_lab", "--weights", place / "lab.safetensors", "--epochs", 2]
    given += ["--device", "cpu", "--keep", 0.8, *more]
    return ["tune", *map(str, [place / "photos", *given, "--out", out])]


@pytest.fixture(scope="module")
def tuned(place):
    """The delta of a short tuning."""
    out = place / "colours.safetensors"
    assert main(arguments(place, out)) == 0
    return out


def test_mixed_precision_is_another_run(place, tuned, tmp_path):
    out = tmp_path / "mixed.safetensors"
    assert main(arguments(place, out, "--autocast")) == 0
    mixed, full = (read_delta(path).layers for path in (out, tuned))
    moved = [(mixed[name][1] - full[name][1]).abs().max().item() for name in mixed if name in full]
    assert 0 < max(moved) < 0.1  # rounding alone


def test_tune_writes_delta_report_and_picture(place, tuned):
    notes = read_delta(tuned).notes
    assert notes["class_names"] == ["blue", "green", "red"]
    assert notes["backbone"] == "vit_lab"
    assert notes["tokens"]["keep"] == 0.8
    report = json.loads((place / "colours.report.json").read_text())
    assert report["n_test"] == 9
    assert (
        report["accuracy"]
        == notes["test_accuracy"]
        == pytest.approx(np.trace(report["confusion"]) / 9)
    )
    assert report["accuracy"] > 0.8
    with Image.open(place / "colours.confusion.png") as picture:
        assert picture.width > 200
    assert not list(place.glob("*.partial"))
    assert not list(place.glob("*.checkpoint"))


@pytest.mark.parametrize(("n", "named"), [(40, True), (41, False)])
def test_the_picture_names_and_counts_at_most_forty_classes(n, named):
    confusion = np.diag([30] * n)
    confusion[0, :2] = 10, 20
    classes = [f"$a$ {k}" for k in range(n)]
    report = {"confusion": confusion.tolist(), "classes": classes, "accuracy": 0.5, "n_test": 9}
    axes, bar = draw_confusion(report).axes
    plt.close("all")
    written = sorted(text.get_text() for text in axes.texts if text.get_text())
    assert written == (["10", "20", *["30"] * (n - 1)] if named else [])
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        names = [label.get_text() for label in labels]
        assert names == ([rf"\$a\$ {k}" for k in range(n)] if named else [])
    (image,) = axes.images
    assert image.get_array()[0, :3].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert bar.get_ylabel() == "share of the true class"


def test_predict_from_delta_and_from_export(place, tuned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # no checkout around
    image, weights = str(place / "photos" / "red" / "3.png"), str(place / "lab.safetensors")
    assert main(["predict", str(tuned), image, "--weights", weights, "--json"]) == 0
    by_delta = json.loads(capsys.readouterr().out)["classes"]
    assert next(iter(by_delta)) == "red"
    assert sum(by_delta.values()) == pytest.approx(1, abs=1e-4)
    exported = str(tmp_path / "whole.safetensors")
    assert main(["export", str(tuned), "--weights", weights, "--out", exported]) == 0
    assert "vit_lab with 3 classes" in capsys.readouterr().out
    assert main(["predict", exported, image, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == pytest.approx(by_delta, abs=1e-6)
    plain = create_backbone("vit_lab", 3)
    assert load_file(exported).keys() == plain.state_dict().keys()  # an ordinary checkpoint
    assert main(["predict", exported, image, "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{image}: red ")
    assert main(["predict", exported, image, "--weights", weights]) == 2
    assert "--weights says nothing to " in capsys.readouterr().err


def test_tokens_are_selected_in_prediction_as_in_tuning(place, tuned):
    model, notes = load_model(tuned, place / "lab.safetensors")
    image = place / "photos" / "blue" / "1.png"
    with_tokens = dict(predict(model, notes, [image]))[image]
    without = dict(predict(model, notes | {"tokens": None}, [image]))[image]
    assert with_tokens != without


def test_a_broken_image_is_named_and_the_others_are_predicted(place, tuned, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    good = str(place / "photos" / "green" / "2.png")
    weights = ["--weights", str(place / "lab.safetensors")]
    assert main(["predict", str(tuned), str(broken), good, *weights]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{good}: green")
    assert "broken.png is not an image" in captured.err


def test_linear_leaves_a_delta_of_the_head_alone(place, tmp_path):
    out = tmp_path / "head.safetensors"
    common = ["--backbone", "vit_lab", "--weights", str(place / "lab.safetensors"), "--epochs", "1"]
    assert (
        main(["tune", str(place / "photos"), *common, "--method", "linear", "--out", str(out)]) == 0
    )
    assert read_delta(out).layers == {}


FAULTS = {
    "no folder": (lambda p: [p / "nothing"], "is unknown: expected a twin, digits, vtab/<name>"),
    "unknown backbone": (
        lambda p: [p / "photos", "--backbone", "vit_huge"],
        "backbone 'vit_huge' is unknown",
    ),
    "no weights": (lambda p: [p / "photos", "--weights", p / "none"], "does not exist"),
    "other weights": (
        lambda p: [p / "photos", "--backbone", "vit_small_digits"],
        "another architecture",
    ),
    "method": (
        lambda p: [p / "photos", "--method", "full"],
        "leaves no delta: expected one of linear, trpts",
    ),
    "keep": (lambda p: [p / "photos", "--keep", "1.5"], "--keep: expected a number above 0"),
    "drawn task of another size": (
        lambda p: ["dtd_twin", "--backbone", "vit_tiny_patch16_224.augreg_in21k"],
        "dtd_twin cannot be had with image_size=224",
    ),
    "an option that the method passes over": (
        lambda p: [p / "photos", "--method", "linear", "--keep", "0.5"],
        "--method linear has no --keep: expected it with --method trpts alone",
    ),
    "device": (
        lambda p: [p / "photos", "--device", "tpu"],
        "--device tpu is not there: expected cpu",
    ),
    "epochs": (lambda p: [p / "photos", "--epochs", "0"], "expected a whole number from 1"),
    "out over the weights": (
        lambda p: [p / "photos", "--out", p / "lab.safetensors"],
        "is what is read: expected",
    ),
    "place": (lambda p: [p / "photos", "--out", p / "no" / "where"], "cannot be written"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_tune_refuses_in_one_sentence(place, tmp_path, capsys, fault):
    if fault.startswith("drawn task") and not entry_points(group="trpts.tasks"):
        pytest.skip("drawn tasks come with the laboratory")
    arguments, sentence = FAULTS[fault]
    given = [
        "--backbone",
        "vit_lab",
        "--weights",
        place / "lab.safetensors",
        "--out",
        tmp_path / "o.safetensors",
    ]
    data, *rest = arguments(place)
    assert main(["tune", *map(str, [data, *given, *rest])]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trpts: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert not list(tmp_path.glob("o*"))


def test_predict_refuses_what_is_no_model(place, tuned, tmp_path, capsys):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "notes.safetensors", {"notes": "{}"})
    image = str(place / "photos" / "red" / "3.png")
    for name, sentence in (
        ("none", "does not exist"),
        ("other", "it has no notes"),
        ("notes", "required property"),
    ):
        assert main(["predict", str(tmp_path / f"{name}.safetensors"), image]) == 2
        assert sentence in capsys.readouterr().err
    other = tmp_path / "lab2.safetensors"
    save_file(create_backbone("vit_lab", 2, seed=2).state_dict(), other)
    assert main(["predict", str(tuned), image, "--weights", str(other)]) == 2
    assert "belongs to another backbone" in capsys.readouterr().err


HOSTILE = {
    "reading that opens something else": (
        {"reading": {"image_size": 32, "place": "/etc/passwd"}},
        "in reading",
    ),
    "an image size for a month": (
        {"reading": {"image_size": 10**6, "normalization": "half", "resize": "squash"}},
        "in reading/image_size",
    ),
    "no reading": ({"reading": None}, "in reading"),
    "an image size of another model": (
        {"reading": {"image_size": 64, "normalization": "half", "resize": "squash"}},
        "belongs to another backbone",
    ),
    "an image size that is no whole number of patches": (
        {"reading": {"image_size": 63, "normalization": "half", "resize": "squash"}},
        "in reading/image_size: image_size=63 for vit_lab: expected a multiple of its 4 pixels "
        "per patch",
    ),
    "a class too few": ({"class_names": ["only one"]}, "names 1 classes, its head has 3"),
    "names that are numbers": ({"class_names": ["a", 2, "c"]}, "in class_names/1"),
    "tokens of a block that is not there": (
        {"tokens": {"blocks": [99], "keep": 0.5}},
        "expected different numbers",
    ),
    "tokens that are words": ({"tokens": "all"}, "in tokens"),
    "a backbone that is a path": ({"backbone": "../../weights"}, "is unknown"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_predict_refuses_hostile_notes(place, tuned, tmp_path, capsys, fault):
    change, sentence = HOSTILE[fault]
    tensors, notes = read_tensors(tuned, "a delta")
    write_tensors(tmp_path / "bad.safetensors", tensors, notes | change)
    image = place / "photos" / "red" / "3.png"
    given = ["--weights", place / "lab.safetensors"]
    assert main(["predict", *map(str, [tmp_path / "bad.safetensors", image, *given])]) == 2
    assert sentence in capsys.readouterr().err


def test_predict_refuses_an_altered_export(place, tuned, tmp_path, capsys):
    whole = tmp_path / "whole.safetensors"
    assert (
        main(
            ["export", str(tuned), "--weights", str(place / "lab.safetensors"), "--out", str(whole)]
        )
        == 0
    )
    tensors, notes = read_tensors(whole, "a model")
    write_tensors(whole, {name: t for name, t in tensors.items() if name != "norm.bias"}, notes)
    assert main(["predict", str(whole), str(place / "photos" / "red" / "3.png")]) == 2
    assert "is not a vit_lab with 3 classes" in capsys.readouterr().err


def test_reading_comes_from_the_checkpoint():
    assert reading_of("vit_lab") == {"image_size": 32, "normalization": "half", "resize": "squash"}
    tags = {
        "vit_tiny_patch16_224.augreg_in21k": ("half", 224),
        "vit_small_patch14_dinov2.lvd142m": ("imagenet", 518),
        "vit_base_patch16_clip_224.openai": ("clip", 224),
    }
    for tag, (normalization, size) in tags.items():
        assert timm.is_model(tag)
        assert reading_of(tag) == {
            "image_size": size,
            "normalization": normalization,
            "resize": "squash",
        }
        cfg = timm.get_pretrained_cfg(tag)
        assert NORMALIZATIONS[normalization] == (cfg.mean, cfg.std)
    assert reading_of("vit_small_patch14_dinov2.lvd142m", 224)["image_size"] == 224


@pytest.mark.slow
def test_another_image_size(place, tmp_path, capsys):
    """The positions are resampled; delta and export come back at that size, and at no other."""
    out, whole, weights = (
        tmp_path / "o.safetensors",
        tmp_path / "whole.safetensors",
        place / "lab.safetensors",
    )
    given = ["--backbone", "vit_lab", "--weights", weights, "--epochs", "1", "--out", out]
    assert main(["tune", *map(str, [place / "photos", *given, "--image-size", 48])]) == 0
    model, notes = load_model(out, weights)
    assert notes["reading"]["image_size"] == 48
    assert model.patch_embed.grid_size == (12, 12)
    before = load_file(weights)["pos_embed"]
    wanted = torch.nn.functional.interpolate(
        before[:, 1:].reshape(1, 8, 8, 96).permute(0, 3, 1, 2),
        (12, 12),
        mode="bicubic",
        antialias=True,
    )
    torch.testing.assert_close(model.pos_embed[:, 1:], wanted.flatten(2).transpose(1, 2))
    image = str(place / "photos" / "red" / "3.png")
    capsys.readouterr()
    assert main(["predict", str(out), image, "--weights", str(weights), "--json"]) == 0
    by_delta = json.loads(capsys.readouterr().out)["classes"]
    assert main(["export", str(out), "--weights", str(weights), "--out", str(whole)]) == 0
    capsys.readouterr()
    assert main(["predict", str(whole), image, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == pytest.approx(by_delta, abs=1e-6)
    tensors, notes = read_tensors(whole, "a model")
    write_tensors(whole, tensors, notes | {"reading": notes["reading"] | {"image_size": 32}})
    assert main(["predict", str(whole), image]) == 2
    assert "pos_embed" in capsys.readouterr().err
    odd = [*given[:-1], tmp_path / "b.safetensors", "--image-size", 50]
    assert main(["tune", *map(str, [place / "photos", *odd])]) == 2
    assert "expected a multiple of its 4 pixels per patch, say 48" in capsys.readouterr().err


def test_a_folder_is_all_its_images(place, tuned, tmp_path, capsys):
    weights = ["--weights", str(place / "lab.safetensors"), "--json"]
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(tuned), str(place / "photos"), *weights]) == 0
    found = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert found == sorted(str(path) for path in (place / "photos").rglob("*.png"))
    assert len(found) == 45
    assert main(["predict", str(tuned), str(place / "photos"), *weights, "--top", "0"]) == 2
    assert "--top: expected a whole number from 1" in capsys.readouterr().err
    assert main(["predict", str(tuned), str(tmp_path / "empty"), *weights]) == 2
    assert "empty is a folder without images: expected files of .jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_weights_that_were_saved_inside_a_wrapper(place, tmp_path, prefix):
    plain = load_file(place / "lab.safetensors")
    save_file({prefix + name: t for name, t in plain.items()}, tmp_path / "wrapped.safetensors")
    model = create_backbone("vit_lab", 3, tmp_path / "wrapped.safetensors")
    assert all(
        torch.equal(t, plain[name]) for name, t in model.state_dict().items() if name in plain
    )
    assert plain.keys() < model.state_dict().keys()


def test_needs_no_checkout_and_nothing_of_the_book(place, tmp_path):
    """As from an installed wheel without extras: in another folder, the book's packages not to be
    had.
    """
    blocked = ("IPython", "papermill", "nbformat", "nbval", "jupyter_book", "peft", "pytest")
    out = tmp_path / "o.safetensors"
    given = ["--backbone", "vit_lab", "--weights", place / "lab.safetensors"]
    tune = ["tune", place / "photos", *given, "--epochs", 1, "--out", out]
    steps = [
        tune,
        ["predict", out, place / "photos" / "red" / "1.png", *given[2:]],
        ["export", out, *given[2:], "--out", tmp_path / "whole.safetensors"],
    ]
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\nfrom trpts.cli import main\n"
    )
    code += "".join(f"assert main({[*map(str, step)]!r}) == 0\n" for step in steps)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "o.confusion.png",
        "o.md",
        "o.report.json",
        "o.safetensors",
        "whole.safetensors",
    ]


def test_how_tokens_were_ranked_and_merged_comes_back(place, tmp_path):
    """A file that was tuned with other switches of the selection predicts with them."""
    out, weights = tmp_path / "other.safetensors", place / "lab.safetensors"
    tune_images(
        place / "photos",
        "vit_lab",
        weights,
        out,
        epochs=1,
        keep=0.5,
        merge="drop",
        token_score="ttv",
    )
    model, notes = load_model(out, weights)
    assert (notes["tokens"]["merge"], notes["tokens"]["score"]) == ("drop", "ttv")
    path = sorted((place / "photos" / "red").iterdir())[0]
    ((_, shares),) = predict(model, notes, [path])
    image = read_image(path, **notes["reading"])[None]
    usual = {name: notes["tokens"][name] for name in ("blocks", "keep")}
    outcomes = []
    for switches in (notes["tokens"], usual):
        with torch.no_grad(), token_selection(model, **switches):
            outcomes.append(model(image).softmax(1)[0])
    wanted, other = ({n: p[k].item() for k, n in enumerate(notes["class_names"])} for p in outcomes)
    assert shares == pytest.approx(wanted)
    assert shares != pytest.approx(other)
