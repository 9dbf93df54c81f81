"""`trpts tune` that is stopped, or meets damage or a full disk: what was trained is kept, and what
is said is true.
"""

import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from trpts import backbones, files, own_images, plots, saved_models, training_run, tuning
from trpts.backbones import create_backbone
from trpts.cli import main
from trpts.places import claimed

MINI = dict(img_size=8, patch_size=4, in_chans=3, embed_dim=16, depth=2, num_heads=2)
OUTCOME = ["o.confusion.png", "o.md", "o.report.json", "o.safetensors"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """photos/<class>/*.png of two classes, weights of a very small backbone, an empty folder
    `out`.
    """
    monkeypatch.setitem(backbones.SMALL, "vit_mini", MINI)
    rng = np.random.default_rng(0)
    for name, grey in (("dark", 60), ("light", 190)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.clip(rng.normal(grey, 40, (9, 9, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    state = create_backbone("vit_mini", 2, seed=1).state_dict()
    save_file(
        {k: v for k, v in state.items() if not k.startswith("head.")}, tmp_path / "mini.safetensors"
    )
    (tmp_path / "out").mkdir()
    return tmp_path


def tune(place, *more, out="o.safetensors"):
    arguments = [
        "--backbone",
        "vit_mini",
        "--weights",
        place / "mini.safetensors",
        "--epochs",
        "2",
        "--device",
        "cpu",
        "--out",
        place / "out" / out,
        "--token-blocks",
        "1",
    ]
    return main(["tune", *map(str, [place / "photos", *arguments, *more])])


def names(place):
    return sorted(path.name for path in (place / "out").iterdir())


def said(capsys):
    lines = capsys.readouterr().err.splitlines()
    (line,) = [
        line
        for line in lines
        if line.startswith("trpts: ") and not line.startswith("trpts: trains ")
    ]
    return line


def failing(error, nth=1):
    """A function that raises at its nth call."""
    calls = []

    def fail(*_, **__):
        calls.append(1)
        if len(calls) >= nth:
            raise error

    return fail


def before(monkeypatch, module, name, fail):
    """`fail` is called before module.name."""
    real = getattr(module, name)
    monkeypatch.setattr(
        module, name, lambda *args, **kwargs: (fail(*args), real(*args, **kwargs))[1]
    )


FULL = OSError(28, "No space left on device")
MOMENTS = {
    "Ctrl-C in the test pass": (tuning, "accuracy", KeyboardInterrupt(), 1),
    "a picture that breaks after it was read": (
        tuning,
        "accuracy",
        ValueError("9.png is a damaged image"),
        1,
    ),
    "Ctrl-C at the best epoch's test pass": (training_run.Run, "take_best", KeyboardInterrupt(), 1),
    "Ctrl-C in the report": (own_images, "held_out", KeyboardInterrupt(), 1),
    "a full disk at the delta": (own_images, "save_delta", FULL, 1),
    "Ctrl-C while the delta is written": (own_images, "save_delta", KeyboardInterrupt(), 1),
    "a full disk at the report": (plots.json, "dumps", FULL, 1),
    "a full disk at the picture": (plots, "draw_confusion", FULL, 1),
    "Ctrl-C at the picture": (plots, "draw_confusion", KeyboardInterrupt(), 1),
    "no memory at the picture": (plots, "draw_confusion", ValueError("no font"), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_trained_is_kept_until_its_successors_are_on_disk(
    place, monkeypatch, capsys, moment
):
    assert tune(place, out="whole.safetensors") == 0
    module, name, error, nth = MOMENTS[moment]
    with monkeypatch.context() as patched:
        fail = failing(type(error)(*error.args), nth)  # its own: what is said of it is noted on it
        if module is plots.json:  # the report alone: notes of tensors are JSON too
            real = plots.json.dumps
            patched.setattr(
                plots.json, "dumps", lambda x, **o: fail() if "indent" in o else real(x, **o)
            )
        else:
            before(patched, module, name, fail)
        assert tune(place) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    text = said(capsys)
    kept = place / "out" / "o.safetensors.checkpoint"
    said_of_work = f"{kept} keeps the work up to its last save: the same command goes on from there"
    assert text == f"trpts: {str(error) or 'interrupted'}; {said_of_work}"
    assert "o.safetensors.checkpoint" in names(place)
    monkeypatch.setattr(tuning.Training, "run_epoch", lambda _: pytest.fail("trained again"))
    assert tune(place) == 0
    assert [name for name in names(place) if name.startswith("o")] == OUTCOME
    one, other = ((place / "out" / f"{name}.safetensors").read_bytes() for name in ("o", "whole"))
    assert one == other
    assert not [name for name in names(place) if name.startswith(".")]


def test_an_interruption_before_anything_is_kept_promises_nothing(place, monkeypatch, capsys):
    before(monkeypatch, training_run, "accuracy", failing(KeyboardInterrupt()))
    assert tune(place) == 130
    assert said(capsys) == "trpts: interrupted"
    assert names(place) == []


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_damaged_picture_is_refused_before_training(place, monkeypatch, capsys, in_memory):
    """Whichever split it falls into, and where the folder is too large to be kept decoded as
    well.
    """
    if not in_memory:
        monkeypatch.setattr(own_images, "IN_MEMORY_BYTES", 0)
        assert tune(place, out="whole.safetensors") == 0
    monkeypatch.setattr(own_images, "tune", lambda *_, **__: pytest.fail("trained"))
    for path in sorted((place / "photos" / "dark").iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-40])
        assert tune(place) == 2
        assert f"{path} is a damaged image" in said(capsys)
        path.write_bytes(whole)
    assert "o.safetensors" not in names(place)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_a_picture_that_is_a_pipe_is_not_waited_for(place, capsys):
    os.mkfifo(place / "photos" / "dark" / "9.png")
    assert tune(place) == 2
    assert "9.png is no regular file: expected an image file" in said(capsys)


@pytest.mark.parametrize("name", [*OUTCOME, "o.safetensors.checkpoint"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_every_place_is_checked_before_training(place, monkeypatch, capsys, name, kind):
    monkeypatch.setattr(own_images, "load_task", lambda *_, **__: pytest.fail("read"))
    path = place / "out" / name
    {"pipe": os.mkfifo, "device": lambda p: p.symlink_to("/dev/null"), "folder": os.mkdir}[kind](
        path
    )
    assert tune(place, "--overwrite") == 2
    assert f"{name} cannot be written: it is a" in said(capsys)
    assert not path.is_file()
    assert names(place) == [name]


def test_a_name_too_long_for_the_checkpoint_is_refused_before_training(place, monkeypatch, capsys):
    monkeypatch.setattr(own_images, "load_task", lambda *_, **__: pytest.fail("read"))
    assert tune(place, out="o" * 222 + ".safetensors") == 2
    assert ".checkpoint cannot be written: File name too long" in said(capsys)


@pytest.mark.parametrize("name", OUTCOME)
def test_what_is_there_is_overwritten_only_when_asked(place, monkeypatch, capsys, name):
    (place / "out" / name).write_text("of hours ago")
    with monkeypatch.context() as patched:
        patched.setattr(own_images, "load_task", lambda *_, **__: pytest.fail("read"))
        assert tune(place) == 2
    assert f"{name} exists already: expected another name, or --overwrite" in said(capsys)
    assert (place / "out" / name).read_text() == "of hours ago"
    assert tune(place, "--overwrite") == 0
    assert (place / "out" / name).read_bytes() != b"of hours ago"


def test_weights_are_not_taken_for_a_checkpoint(place, capsys):
    weights = place / "out" / "o.safetensors.checkpoint"
    weights.write_bytes((place / "mini.safetensors").read_bytes())
    assert tune(place, "--weights", weights) == 2
    assert "o.safetensors.checkpoint is what is read" in said(capsys)
    assert weights.read_bytes() == (place / "mini.safetensors").read_bytes()


def test_of_two_runs_with_one_name_the_second_is_refused(place, monkeypatch, capsys):
    monkeypatch.setattr(own_images, "load_task", lambda *_, **__: pytest.fail("read"))
    with claimed(place / "out" / "o.safetensors"):
        assert tune(place) == 2
        assert "o.safetensors is being written by another process" in said(capsys)
        assert tune(place, out="o") == 2  # its report is the same file


def test_leftovers_of_a_killed_run_go_with_the_next(place):
    for name in (
        ".o.safetensors.abc.partial",
        ".o.safetensors.checkpoint.xyz.partial",
        ".o.report.json.k.partial",
    ):
        (place / "out" / name).mkdir()
        (place / "out" / name / ".tmp123").write_bytes(b"half")
    (place / "out" / ".o.lock").touch()
    assert tune(place) == 0
    assert names(place) == OUTCOME


def test_a_delta_that_could_not_be_read_again_is_not_trained(place, capsys):
    """Backbones of other kinds, which prediction cannot take, are refused before hours are
    spent.
    """
    assert tune(place, "--backbone", "resnet18", "--method", "trpts") == 2
    assert "backbone 'resnet18' cuts no patches from images of one size" in said(capsys)


def test_export_holds_its_place_too(place, monkeypatch, capsys):
    assert tune(place) == 0
    delta, out, weights = (
        place / "out" / "o.safetensors",
        place / "e.safetensors",
        place / "mini.safetensors",
    )
    export = ["export", *map(str, [delta, "--weights", weights, "--out", out])]
    with claimed(out):
        assert main(export) == 2
    assert "another process" in said(capsys)
    monkeypatch.setattr(files, "save_file", failing(FULL))
    assert main(export) == 2
    assert "e.safetensors cannot be written: " in said(capsys)
    assert not out.exists()
    assert not list(place.glob(".e*"))


def test_nan_logits_are_an_error_in_reports_and_predictions(place, monkeypatch, capsys):
    assert tune(place) == 0
    delta, image = place / "out" / "o.safetensors", next((place / "photos" / "dark").iterdir())
    model, notes = saved_models.load_model(delta, place / "mini.safetensors")
    with torch.no_grad():
        model.norm.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"png has logits that are not finite numbers"):
        list(saved_models.predict(model, notes, [image]))
    before(
        monkeypatch, own_images, "held_out", lambda model, *_: model.norm.bias.data.fill_(torch.nan)
    )
    assert tune(place, "--overwrite") == 2
    assert "images have logits that are NaN" in said(capsys)
