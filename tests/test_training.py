"""The training loop: schedule, repetition, checkpoints."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import set_reentrant_ckpt

from trpts.backbones import create_backbone
from trpts.checkpoint import read_checkpoint, save_checkpoint
from trpts.data import Split, digits
from trpts.files import write_tensors
from trpts.training import Training, train, warmup_cosine


def test_schedule_rises_then_falls_to_zero():
    """Four warm-up steps of ten: .25, .5, .75, 1, then half a cosine."""
    factors = [warmup_cosine(step, 4, 10) for step in range(11)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[7] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.0)


@pytest.mark.slow
def test_training_learns_and_repeats():
    split = digits.load(range(3)).train.first(96)
    runs = []
    for _ in range(2):
        model = create_backbone("vit_small_digits", 3, seed=1)
        runs.append(train(model, split, epochs=15, seed=1))
    assert runs[0] == runs[1]
    assert runs[0][-1] < 0.85 * runs[0][0]
    other = train(create_backbone("vit_small_digits", 3, seed=1), split, epochs=15, seed=2)
    assert other != runs[0]


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int16])
def test_labels_of_any_whole_number_type(vit, batch, kind):
    losses = [
        train(copy.deepcopy(vit), Split(batch[0], batch[1].to(k)), epochs=2)
        for k in (torch.int64, kind)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("switch", [torch.inference_mode, torch.no_grad])
def test_trains_where_gradients_are_off(vit, batch, switch):
    split, wanted = Split(*batch), train(copy.deepcopy(vit), Split(*batch), epochs=2)
    with switch():
        assert train(vit, split, epochs=2) == wanted


def test_refuses_checkpoints_that_let_no_gradient_through(vit, batch):
    """Reentrant checkpoints of frozen inputs: PyTorch warns, and nothing but the head would
    move.
    """
    vit.set_grad_checkpointing()
    vit.patch_embed.requires_grad_(False)
    vit.cls_token.requires_grad_(False)
    vit.pos_embed.requires_grad_(False)
    assert train(copy.deepcopy(vit), Split(*batch), epochs=1)
    set_reentrant_ckpt(True)
    try:
        with pytest.raises(
            ValueError,
            match=r"blocks\.0\..* would be trained and never move.*reentrant checkpointing",
        ):
            train(vit, Split(*batch), epochs=1)
    finally:
        set_reentrant_ckpt(False)


def test_training_refuses(vit, batch):
    split = Split(*batch)
    with pytest.raises(ValueError, match="epochs=0"):
        train(vit, split, epochs=0)
    with pytest.raises(ValueError, match="the learning rate"):
        train(vit, split, epochs=3, lr=999)
    with pytest.raises(ValueError, match=r"lr=1000000000.0: expected a number from 0 to 1000"):
        train(vit, split, epochs=3, lr=1e9)
    with pytest.raises(ValueError, match="expected one of adam, adamw"):
        train(vit, split, epochs=1, optimizer="sgd")
    vit.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        train(vit, split, epochs=1)


def test_a_restored_run_is_the_same_run(tmp_path):
    split = digits.load(range(3)).train.first(96)

    def start():
        return Training(create_backbone("vit_small_digits", 3, seed=1), split, 4, seed=5)

    whole = start()
    while not whole.finished:
        whole.run_epoch()
    first = start()
    first.run_epoch(), first.run_epoch()
    save_checkpoint(
        tmp_path / "c.safetensors", first.trained, first.optimizer, {"losses": first.losses}
    )
    second = start()
    tensors, state, notes = read_checkpoint(tmp_path / "c.safetensors")
    second.model.load_state_dict(tensors)
    second.optimizer.load_state_dict(second.optimizer.state_dict() | {"state": state})
    second.losses = notes["losses"]
    while not second.finished:
        second.run_epoch()
    assert second.losses == whole.losses
    assert all(
        torch.equal(a, b)
        for a, b in zip(second.trained.values(), whole.trained.values(), strict=True)
    )
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("fault", ["text", "cut", "no notes", "missing"])
def test_broken_checkpoints(tmp_path, fault):
    path, model = tmp_path / "c.safetensors", torch.nn.Linear(2, 2)
    save_checkpoint(path, model.state_dict(), torch.optim.Adam(model.parameters()), {})
    whole = path.read_bytes()
    if fault == "no notes":
        save_file({"model.weight": torch.zeros(2)}, path)
    elif fault == "missing":
        path.unlink()
    else:
        path.write_bytes(b"something else" if fault == "text" else whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["weight", "optimizer.0", "optimizer.a.step", "model", "x.y.z"])
def test_names_that_do_not_split(tmp_path, name):
    write_tensors(tmp_path / "c.safetensors", {name: torch.zeros(1)}, {})
    with pytest.raises(ValueError, match=rf"is not a checkpoint .*should not hold {name}"):
        read_checkpoint(tmp_path / "c.safetensors")
