"""tune(): one protocol for every method."""

import dataclasses

import pytest
import torch

from trpts import training_run, tuning
from trpts.backbones import create_backbone
from trpts.data import Split, Task, digits
from trpts.files import read_tensors, write_tensors
from trpts.places import claimed
from trpts.probe import Diverged, accuracy, probe_head
from trpts.sparse import attach, attached, detach, sparse_layers
from trpts.tuning import tune

QUICK = dict(epochs=3, lr=2e-3)


@pytest.fixture(scope="module")
def task():
    """A hundred training images of five digits, fewer to choose by and to test on."""
    whole = digits.load(range(5, 10))
    return Task("five digits", 5, whole.train.first(100), whole.val.first(50), whole.test.first(60))


def backbone(seed=0):
    return create_backbone("vit_small_digits", 5, seed=seed)


def outcome(result):
    return (
        result.val_curve,
        result.losses,
        result.test_accuracy,
        result.last_test_accuracy,
        result.best_epoch,
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "linear", "trpts"])
def test_every_method_learns_and_repeats(task, method, capsys):
    options = {"keep": 0.7, "n_token_blocks": 2} if method == "trpts" else {}
    results = [tune(backbone(), task, method, **QUICK, **options) for _ in range(2)]
    assert outcome(results[0]) == outcome(results[1])
    assert results[0].losses[-1] < results[0].losses[0]
    assert len(results[0].val_curve) == 3
    assert results[0].val_accuracy == max(results[0].val_curve)
    assert results[0].time_s.keys() == {"probe", "select", "train"}
    assert f"{method}: trains {results[0].n_trainable:,} of" in capsys.readouterr().err


def test_every_method_starts_from_the_same_probe(task, monkeypatch):
    """With a learning rate of zero, what is left is the probe."""
    probed = backbone()
    probe_head(probed, task.train)
    wanted = accuracy(probed, task.test)
    for method in ("linear", "full", "trpts"):
        options = {"keep": 1} if method == "trpts" else {}
        assert (
            tune(backbone(), task, method, epochs=1, lr=0.0, **options).test_accuracy == wanted
        ), method
    kept = backbone()
    head = kept.head.weight.detach().clone()
    tune(kept, task, "linear", epochs=1, lr=0.0, head="keep")
    assert torch.equal(kept.head.weight, head)


def test_counts(task):
    model = backbone()
    n_head = sum(p.numel() for p in model.head.parameters())
    n_all = sum(p.numel() for p in model.parameters())
    assert tune(model, task, "linear", epochs=1).n_trainable == n_head
    assert tune(backbone(), task, "full", epochs=1).n_trainable == n_all
    result = tune(backbone(), task, "trpts", epochs=1, per_neuron=3.0)
    assert result.n_trainable == result.plan.n_trainable == 4 * result.plan.n_neurons + n_head
    assert result.n_parameters == n_all


def test_the_best_validation_epoch_is_in_the_model(task, monkeypatch):
    """A planted curve: epoch 2 is best (epoch 3 equals it), and the model must hold its weights at
    the end.
    """
    held, curve = [], iter([0.1, 0.6, 0.6, 0.2])
    real = tuning.accuracy

    def planted(model, split):
        if split is task.val:
            held.append(model.head.weight.detach().clone())
            return next(curve)
        return real(model, split)

    for room in (training_run, tuning):
        monkeypatch.setattr(room, "accuracy", planted)
    model = backbone()
    result = tune(model, task, "linear", epochs=4, lr=0.1)
    assert result.best_epoch == 2
    assert result.val_accuracy == 0.6
    assert torch.equal(model.head.weight, held[1])
    assert not torch.equal(held[1], held[3])
    assert result.test_accuracy == real(model, task.test)


def test_the_test_images_are_looked_at_after_the_last_epoch_alone(task, monkeypatch):
    seen, real = [], tuning.accuracy

    def watched(model, split):
        seen.append("test" if split is task.test else "val")
        return real(model, split)

    for room in (training_run, tuning):
        monkeypatch.setattr(room, "accuracy", watched)
    tune(backbone(), task, "full", epochs=3)
    assert seen[:3] == ["val"] * 3
    assert set(seen[3:]) == {"test"}


def test_trpts_stays_attached_and_selects_tokens(task):
    model = backbone()
    result = tune(model, task, "trpts", **QUICK, keep=0.5, n_token_blocks=2, placement="dense")
    assert attached(model)
    assert {
        n: layer.index.shape[1] for n, layer in sparse_layers(model).items()
    } == result.plan.connections
    assert result.tokens == {"blocks": result.plan.token_blocks, "keep": 0.5}
    detach(model)
    assert tune(backbone(), task, "trpts", epochs=1, keep=1).tokens is None


def test_tokens_are_selected_while_training_and_measuring(task):
    kept = [tune(backbone(), task, "trpts", epochs=2, keep=k, n_token_blocks=2) for k in (1, 0.3)]
    assert kept[0].losses != kept[1].losses


def test_tokens_alone(task):
    """No connection is trained: the head, and the tokens that the scores' placement loses."""
    model = backbone()
    result = tune(
        model, task, "trpts", epochs=1, lr=1e-3, connections=False, keep=0.5, n_token_blocks=2
    )
    assert result.n_trainable == sum(p.numel() for p in model.head.parameters())
    assert not sparse_layers(model)
    assert result.plan is None
    assert (
        result.tokens["blocks"]
        == tune(backbone(), task, "trpts", epochs=1, keep=0.5, n_token_blocks=2).tokens["blocks"]
    )
    untouched = create_backbone("vit_small_digits", 5, seed=0).state_dict()
    assert all(
        torch.equal(p, untouched[name])
        for name, p in model.state_dict().items()
        if not name.startswith("head")
    )


@pytest.mark.parametrize(
    "switch", [{"merge": "drop"}, {"token_score": "ttv"}, {"token_score": "both"}]
)
def test_switches_of_the_token_selection(task, switch):
    """They reach it, while training and in what is handed back to predict in."""
    options = {"epochs": 1, "keep": 0.3, "n_token_blocks": 2}
    usual = tune(backbone(), task, "trpts", **options)
    model = backbone()
    result = tune(model, task, "trpts", **options, **switch)
    assert result.tokens == usual.tokens | {
        "score" if n == "token_score" else n: x for n, x in switch.items()
    }
    assert result.losses != usual.losses
    with result.around() as trace:
        assert accuracy(model, task.test) == result.test_accuracy
    assert set(trace.kept) == set(result.tokens["blocks"])


def test_scores_of_ones_own(task):
    def ones(model, batches):
        assert sum(len(y) for _, y in batches) == 40
        return {n: torch.ones_like(m.weight) for n, m in model.named_modules() if n.endswith("fc1")}

    model = backbone()
    result = tune(
        model, task, "trpts", epochs=1, score=ones, n_scored=40, keep=1, w="mean", c_min=3
    )
    assert set(result.plan.connections.values()) == {3}
    assert set(sparse_layers(model)) == {f"blocks.{b}.mlp.fc1" for b in range(6)}


@pytest.mark.slow
def test_interrupted_and_resumed_is_the_same_run(task, tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "SAVE_EVERY_S", 0.0)
    options = dict(method="trpts", epochs=4, keep=0.7)
    whole = tune(backbone(), task, **options)
    path, real, n = tmp_path / "run.safetensors", tuning.accuracy, 0

    def interrupted(model, split):
        nonlocal n
        n += 1
        if n == 3:
            raise KeyboardInterrupt
        return real(model, split)

    for room in (training_run, tuning):
        monkeypatch.setattr(room, "accuracy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(backbone(), task, checkpoint=path, **options)
    assert path.is_file()
    for room in (training_run, tuning):
        monkeypatch.setattr(room, "accuracy", real)
    with pytest.raises(ValueError, match="belongs to another run"):
        tune(backbone(), task, checkpoint=path, **options | {"lr": 5e-3})
    with pytest.raises(ValueError, match="belongs to another run"):
        tune(backbone(seed=1), task, checkpoint=path, **options)
    relabelled = Split(task.val.images, task.val.labels.flip(0))
    with pytest.raises(ValueError, match="belongs to another run"):
        tune(backbone(), dataclasses.replace(task, val=relabelled), checkpoint=path, **options)
    assert outcome(tune(backbone(), task, checkpoint=path, **options)) == outcome(whole)
    monkeypatch.setattr(tuning.Training, "run_epoch", lambda _: pytest.fail("trained again"))
    assert outcome(tune(backbone(), task, checkpoint=path, **options)) == outcome(whole)
    assert list(tmp_path.iterdir()) == [path]  # what it is a checkpoint of is nowhere on disk yet


def test_an_interrupt_leaves_no_token_selection_behind(task, monkeypatch):
    model = backbone()
    for room in (training_run, tuning):
        monkeypatch.setattr(room, "accuracy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tune(model, task, "trpts", epochs=1, keep=0.5)
    assert not any("forward" in vars(block) for block in model.blocks)


FAULTS = {
    "method": (dict(method="lorra"), "expected one of"),
    "option": (dict(method="full", keep=0.5), "method 'full' has no option keep"),
    "misspelt option": (dict(per_neurons=2), "no option per_neurons: it knows .*per_neuron"),
    "head": (dict(head="zero"), "expected probe or keep"),
    "epochs": (dict(epochs=0), "epochs=0: expected a whole number from 1"),
    "learning rate": (dict(lr=-1.0), "lr=-1.0: expected a number from 0"),
    "batch size": (dict(batch_size=0), "batch_size=0: expected a whole number from 1"),
    "budget": (dict(budget=0.001), "below one connection"),
    "budget outside": (dict(budget=2), r"budget=2: expected a share"),
    "merge": (dict(keep=0.5, merge="melt"), "merge='melt'"),
    "token score": (dict(keep=0.5, token_score="luck"), "score='luck'"),
    "keep": (dict(keep=1.2), "keep=1.2: expected a number above 0 and at most 1"),
    "token blocks": (dict(n_token_blocks=7), "n_token_blocks=7: expected 0 to 6"),
    "connections": (dict(per_neuron=0.9), "at least one connection per neuron"),
    "score": (dict(score="fischer"), "score 'fischer' is unknown"),
    "placement": (dict(placement="odd"), "placement='odd' is unknown"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses(task, fault, monkeypatch):
    """Before any work is done: the head is not probed."""
    options, sentence = FAULTS[fault]
    model = backbone()
    if fault != "budget":  # takes the model's own sizes, after scoring
        monkeypatch.setattr(tuning, "probe_head", lambda *_: pytest.fail("probed"))
    with pytest.raises(ValueError, match=sentence):
        tune(model, task, **options)
    assert not attached(model)


def test_refuses_what_it_cannot_tune(task, monkeypatch):
    monkeypatch.setattr(tuning, "probe_head", lambda *_: pytest.fail("probed"))
    model = backbone()
    attach(model, {})
    with pytest.raises(ValueError, match="detach it first"):
        tune(model, task)
    averaging = backbone()
    averaging.global_pool = "avg"
    with pytest.raises(ValueError, match="whose head reads a class token"):
        tune(averaging, task)


def test_biases_that_are_not_trained_are_not_paid_for(task):
    paid = [
        tune(backbone(), task, "trpts", epochs=1, budget=0.1, keep=1, biases=b).plan
        for b in (True, False)
    ]
    assert paid[0].counted["biases"] > 0 == paid[1].counted["biases"]
    assert paid[1].counted["weights"] > paid[0].counted["weights"]


def test_refuses_another_number_of_classes(task):
    other = Task("ten digits", 10, task.train, task.val, task.test)
    with pytest.raises(ValueError, match="5 outputs, ten digits has 10 classes: expected"):
        tune(backbone(), other)


def test_a_fault_of_the_images_is_said(task):
    broken = Task(
        "nan",
        5,
        Split(torch.full_like(task.train.images, torch.nan), task.train.labels),
        task.val,
        task.test,
    )
    with pytest.raises(ValueError, match=r"NaN|finite"):
        tune(backbone(), broken, "trpts", head="keep", epochs=1)


def test_nan_logits_are_a_run_that_diverged(task, monkeypatch):
    """Not class 0. With weights that are finite until the last step, the losses do not show it."""
    real = tuning.Training.run_epoch

    def last_step(training):
        real(training)
        training.model.norm.bias.data[0] = torch.nan

    monkeypatch.setattr(tuning.Training, "run_epoch", last_step)
    with pytest.raises(Diverged, match="50 of 50 images have logits that are NaN"):
        tune(backbone(), task, "linear", epochs=1)


LYING_NOTES = {
    "no losses": (
        lambda notes: {n: x for n, x in notes.items() if n != "losses"},
        "in all: 'losses' is a required",
    ),
    "losses of words": (lambda notes: notes | {"losses": ["a"]}, "in losses/0"),
    "a loss too many": (lambda notes: notes | {"losses": [1.0, 1.0, 1.0]}, "losses 3"),
    "an accuracy of 7": (lambda notes: notes | {"val_curve": [7, 0.1]}, "in val_curve/0"),
    "another best epoch": (
        lambda notes: notes | {"best_epoch": 3 - notes["best_epoch"]},
        "expected .* epoch",
    ),
    "a best epoch in between": (lambda notes: notes | {"best_epoch": 1.0}, "in best_epoch: 1.0"),
    "epochs beyond the end": (
        lambda notes: notes | {n: [0.5] * 9 for n in ("losses", "val_curve")},
        "at most 2",
    ),
    "a time that is NaN": (lambda notes: notes | {"train_s": float("nan")}, "number NaN is not"),
    "nesting": (lambda notes: notes | {"losses": eval("[" * 90 + "]" * 90)}, "in losses/0"),
    "a tensor dropped": (lambda notes: notes | {"n_tensors": 4}, "in n_tensors"),
}


@pytest.mark.parametrize("lie", LYING_NOTES)
def test_checkpoints_whose_notes_lie(task, tmp_path, lie):
    path = tmp_path / "run"
    tune(backbone(), task, "linear", epochs=2, checkpoint=path)
    change, sentence = LYING_NOTES[lie]
    tensors, notes = read_tensors(path, "a checkpoint")
    write_tensors(path, tensors, change(notes))
    with pytest.raises(ValueError, match=f"run (has unfit notes|is not a checkpoint).*{sentence}"):
        tune(backbone(), task, "linear", epochs=2, checkpoint=path)


LYING_TENSORS = {
    "a weight of another shape": (
        "model.now.head.weight",
        lambda t: t[:, 1:],
        r"model.now.head.weight is .*\[5, 63\]",
    ),
    "whole numbers": (
        "model.best.head.bias",
        lambda t: t.int(),
        "model.best.head.bias is torch.int32",
    ),
    "infinity": (
        "optimizer.0.exp_avg",
        lambda t: t + torch.inf,
        "optimizer.0.exp_avg holds values that are",
    ),
    "a step for each weight": (
        "optimizer.0.step",
        lambda t: t.expand(2),
        r"optimizer.0.step is torch.float32 \[2\]",
    ),
}


@pytest.mark.parametrize("lie", LYING_TENSORS)
def test_checkpoints_whose_tensors_lie(task, tmp_path, lie):
    path = tmp_path / "run"
    tune(backbone(), task, "linear", epochs=1, checkpoint=path)
    name, change, sentence = LYING_TENSORS[lie]
    tensors, notes = read_tensors(path, "a checkpoint")
    write_tensors(path, tensors | {name: change(tensors[name])}, notes)
    model = backbone()
    with pytest.raises(ValueError, match=rf"run is not a checkpoint \(move it away\): {sentence}"):
        tune(model, task, "linear", epochs=1, checkpoint=path)


@pytest.mark.parametrize(
    "name", ["optimizer.99.step", "optimizer.x.step", "optimizer", "model", "head.weight", "a.b"]
)
def test_checkpoints_with_a_tensor_of_another_name(task, tmp_path, name):
    path = tmp_path / "run"
    tune(backbone(), task, "linear", epochs=1, checkpoint=path)
    tensors, notes = read_tensors(path, "a checkpoint")
    for extra in (
        tensors | {name: torch.zeros(1)},
        {name: tensors.pop("optimizer.1.step")} | tensors,
    ):
        write_tensors(path, extra, notes | {"n_tensors": len(extra)})
        with pytest.raises(ValueError, match=r"run is not a checkpoint .*(should not hold|lacks)"):
            tune(backbone(), task, "linear", epochs=1, checkpoint=path)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_work(task, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "probe_head", lambda *_: pytest.fail("probed"))
    for path in (tmp_path, tmp_path / "no" / "where"):
        with pytest.raises(ValueError, match="cannot be written"):
            tune(backbone(), task, checkpoint=path)
    with claimed(tmp_path / "run"), pytest.raises(ValueError, match="another process"):
        tune(backbone(), task, checkpoint=tmp_path / "run")
