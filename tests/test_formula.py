"""Formula-driven images and the pre-training on them."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trpts import backbones
from trpts.backbones import create_backbone
from trpts.errors import TrptsError
from trpts.files import read_tensors, write_tensors
from trpts.hashes import file_hash
from trpts_lab.project import Project
from trpts_lab.weights import formula
from trpts_lab.weights.pretrain import Pretraining, Recipe, render_images, shifted

SHORT = Recipe(images_per_class=1, epochs=2, batch_size=50)


@pytest.fixture
def place(tmp_path):
    return Project(tmp_path)


def test_same_stream_same_images():
    labels = np.arange(0, formula.N_CLASSES, 10)
    first, again, other = (
        formula.render(labels, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (len(labels), 32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("start", [0, 200, 350])
def test_an_image_is_more_like_its_class_than_like_another(start):
    """Brightness patterns of one formula correlate more, over position, colour and contrast, than
    those of two.
    """
    labels = np.repeat(np.arange(start, start + 20), 24)
    grey = formula.render(labels, np.random.default_rng(0)).mean(3)
    spectrum = np.log1p(np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True)))).reshape(
        len(labels), -1
    )
    spectrum = (spectrum - spectrum.mean(0)) / (spectrum.std(0) + 1e-6)
    means = spectrum.reshape(20, 24, -1)[:, :12].mean(1)
    rest = spectrum.reshape(20, 24, -1)[:, 12:].reshape(240, -1)
    nearest = ((rest[:, None] - means[None]) ** 2).sum(2).argmin(1)
    assert (nearest == np.repeat(np.arange(20), 12)).mean() > 3 / 20


def test_families_fill_the_classes():
    assert sum(formula.FAMILIES.values()) == formula.N_CLASSES == 500


def test_shift_moves_whole_images():
    images = torch.arange(36.0).reshape(1, 1, 6, 6)
    for seed in range(5):
        moved = shifted(images, 2, torch.Generator().manual_seed(seed))
        assert moved.shape == images.shape
        assert any(
            torch.equal(moved[..., 2:4, 2:4], torch.roll(images, (dy, dx), (2, 3))[..., 2:4, 2:4])
            for dy in range(-2, 3) for dx in range(-2, 3)
        )  # fmt: skip
    assert torch.equal(shifted(images, 0, torch.Generator()), images)


@pytest.mark.slow
def test_first_steps_are_the_same_every_time():
    images, labels = render_images(1, seed=0)
    losses = []
    for _ in range(2):
        run = Pretraining(SHORT, "cpu")
        losses.append([run.advance(images, labels) for _ in range(3)])
    assert losses[0] == losses[1]
    assert losses[0][0] == pytest.approx(np.log(500), rel=0.02), "an untrained model knows nothing"


@pytest.mark.slow
def test_short_run_learns():
    """Ten classes of all families, from scratch in a few seconds: far above chance on images it has
    not seen.
    """
    labels = np.repeat(np.arange(0, 500, 50), 40)
    x = torch.from_numpy(formula.render(labels, np.random.default_rng(0))).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels)
    unseen = torch.from_numpy(formula.render(labels, np.random.default_rng(1))).permute(0, 3, 1, 2)
    run = Pretraining(
        Recipe(images_per_class=1, epochs=10, batch_size=50, warmup_fraction=0.02), "cpu"
    )
    for _ in range(100):
        run.advance(x, y)
    assert run.accuracy(unseen, y) > 2 / 10


@pytest.mark.slow
def test_resumed_run_is_the_uninterrupted_one(place, tmp_path):
    """Stopped after 7 of 20 steps and taken up again: the same weights, bit for bit; then the
    card.
    """
    other = Project(tmp_path / "other")
    assert Pretraining(SHORT).train(place, stop_after=7) is None
    card, whole = (Pretraining(SHORT).train(project) for project in (place, other))
    name = "data/weights/vit_lab.safetensors"
    assert (place.root / name).read_bytes() == (other.root / name).read_bytes()
    assert [point["epoch"] for point in card["curve"]] == [1, 2]
    assert {k: v for k, v in card.items() if k != "time_s"} == {
        k: v for k, v in whole.items() if k != "time_s"
    }
    stored = json.loads((place.root / "data/weights/vit_lab.json").read_text())
    assert stored["recipe"]["seed"] == 0
    model = create_backbone("vit_lab", 7, place.root / name)
    half = load_file(place.root / name)
    assert all(t.dtype == torch.float16 for t in half.values())
    assert not [key for key in half if key.startswith("head.")]
    assert torch.equal(model.blocks[0].mlp.fc1.weight, half["blocks.0.mlp.fc1.weight"].float())


def test_checkpoints_that_do_not_belong_are_refused(place):
    Pretraining(SHORT).train(place, stop_after=1)
    with pytest.raises(TrptsError, match="belongs to another recipe"):
        Pretraining(Recipe(images_per_class=1, epochs=3, batch_size=50)).train(place)
    path = place.build / "pretrain" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrptsError, match="is not a checkpoint"):
        Pretraining(SHORT).train(place)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(TrptsError, match="is not a checkpoint"):
        Pretraining(SHORT).train(place)


@pytest.fixture
def quick(monkeypatch):
    """A backbone and images that take no time; a checkpoint after every step."""
    small = dict(img_size=32, patch_size=16, in_chans=3, embed_dim=16, depth=1, num_heads=2)
    monkeypatch.setitem(backbones.SMALL, "vit_lab", small)

    def images(n, seed):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(500).repeat(n)
        return torch.randint(
            0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator
        ), labels

    monkeypatch.setattr("trpts_lab.weights.pretrain.render_images", images)
    monkeypatch.setattr("trpts_lab.resumable.SAVE_EVERY_S", -1.0)
    return Recipe(images_per_class=1, epochs=2, batch_size=125)


@pytest.mark.parametrize(
    "moment", ["within a step", "while an epoch is evaluated", "while the card is made"]
)
def test_a_run_interrupted_anywhere_goes_on_as_the_same_run(tmp_path, monkeypatch, quick, moment):
    project, other = Project(tmp_path / "a"), Project(tmp_path / "b")
    whole = Pretraining(quick).train(other)
    owner, name, nth = {
        "within a step": (torch.optim.AdamW, "step", 3),
        "while an epoch is evaluated": (Pretraining, "accuracy", 1),
        "while the card is made": (Pretraining, "accuracy", 3),
    }[moment]
    real, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        outcome = real(*args, **kwargs)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return outcome

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            Pretraining(quick).train(project)
    # as a killed run leaves it
    left = project.build / "pretrain" / ".checkpoint.safetensors.x.partial"
    left.mkdir()
    card = Pretraining(quick).train(project)
    assert {k: v for k, v in card.items() if k != "time_s"} == {
        k: v for k, v in whole.items() if k != "time_s"
    }
    assert [path.name for path in left.parent.iterdir()] == ["checkpoint.safetensors"]


def test_a_run_that_diverges_leaves_the_checkpoint_before_it(place, monkeypatch, quick):
    Pretraining(quick).train(place, stop_after=2)
    path = place.build / "pretrain" / "checkpoint.safetensors"
    before = path.read_bytes()
    monkeypatch.setattr(Pretraining, "advance", lambda *_: float("nan"))
    with pytest.raises(TrptsError, match=r"the loss of step 2 is nan: .* is left as it was"):
        Pretraining(quick).train(place)
    assert path.read_bytes() == before


LIES = {"step": (3.0, "in step"), "time_s": (-1, "in time_s"), "curve": ([1], "in curve/0")}


@pytest.mark.parametrize("field", LIES)
def test_checkpoints_that_lie_are_refused_and_nothing_is_taken_up(place, quick, field):
    Pretraining(quick).train(place, stop_after=1)
    path = place.build / "pretrain" / "checkpoint.safetensors"
    value, sentence = LIES[field]
    tensors, notes = read_tensors(path, "a checkpoint")
    write_tensors(path, tensors, notes | {field: value})
    run = Pretraining(quick, "cpu")
    before = run.model.head.weight.clone()
    with pytest.raises(TrptsError, match=sentence):
        run.restore(path)
    write_tensors(path, tensors | {"model.norm.bias": torch.full((16,), torch.nan)}, notes)
    with pytest.raises(TrptsError, match=r"model\.norm\.bias holds values that are not finite"):
        run.restore(path)
    assert torch.equal(run.model.head.weight, before)
    assert run.step == 0


@pytest.mark.parametrize(
    ("name", "recipe"), [("vit_lab", Recipe()), ("vit_lab_short", Recipe(images_per_class=60))]
)
def test_shipped_weights_are_those_of_their_card(project, name, recipe):
    """The card's hash is the file's, its recipe today's, and the weights load into the backbone it
    names.
    """
    path = project.root / "data" / "weights" / f"{name}.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["file"] == path.name
    assert card["sha256_16"] == file_hash(path)
    assert card["recipe"] == asdict(recipe)
    assert card["classes"] == formula.FAMILIES
    assert abs(card["held_out_accuracy"] - card["held_out_accuracy_half_precision"]) < 0.005, (
        "half precision is harmless"
    )
    assert card["held_out_accuracy"] > 100 * card["chance"]
    assert [point["epoch"] for point in card["curve"]] == list(range(1, recipe.epochs + 1))
    model = create_backbone(card["recipe"]["backbone"], 3, path)
    assert torch.isfinite(model(torch.zeros(1, 3, 32, 32))).all()
