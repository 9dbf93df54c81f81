"""Experiments beyond one task: many tasks, one after another, drift, text. Short runs; what they
say is in records.
"""

import pytest
import torch
from made import PLACED

from trpts.data.task import Split
from trpts_lab.experiments import continual, drift, many_tasks, text
from trpts_lab.measured import measure
from trpts_lab.records import validate
from trpts_lab.tasks import lab_task, task_of

pytestmark = pytest.mark.slow  # whole experiments, if short ones
COMMON = dict(
    profile="quick",
    device="cpu",
    backbone="vit_lab",
    weights="data/weights/vit_lab.safetensors",
    seed=0,
)
COMMON |= dict(method="trpts", variant="x", per_neuron=2.0, epochs=1, lr=3e-3, batch_size=32)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A hundred images of each task."""

    def small(config, name=None):
        task = task_of(PLACED | config, name)
        parts = {part: getattr(task, part).first(100) for part in ("train", "val", "test")}
        return type(task)(task.name, task.n_classes, **parts)

    for module in (many_tasks, continual, drift):
        monkeypatch.setattr(module, "task_of", small)


def test_deltas_of_many_tasks_do_not_touch_each_other(project, monkeypatch):
    monkeypatch.chdir(project.root)
    names = ["eurosat_twin", "digits", "camelyon_twin"]
    record = measure(many_tasks, COMMON | {"task": "several", "tasks": names}, project)
    validate(record, "here")
    metrics = record["metrics"]
    assert metrics["swapped"] == metrics["alone"]
    assert metrics["n_changed"] == 0
    assert sum(metrics["delta_bytes"].values()) < metrics["model_bytes"]


@pytest.mark.parametrize("way", continual.WAYS)
def test_one_task_after_another(project, monkeypatch, way):
    monkeypatch.chdir(project.root)
    config = COMMON | {"task": "two", "tasks": ["eurosat_twin", "digits"], "way": way}
    metrics = continual.run(PLACED | config)
    if way == "head":
        assert metrics["first_after"] == metrics["first_before"]
    if way == "free":
        assert metrics["selected_twice"] > 0
    else:
        assert metrics["selected_twice"] == 0
    assert set(continual.inputs(PLACED | config)) == {"data", "weights"}


def test_protected_connections_are_not_selected_by_hand():
    scores = {"a": torch.tensor([[4.0, 3.0, 2.0]]), "b": torch.ones(1, 2)}
    found = continual.without(scores, {"a": torch.tensor([[0, 2]])})
    assert found["a"].tolist() == [[0.0, 3.0, 0.0]]
    assert found["b"] is scores["b"]


def test_drift_changes_images_and_no_labels(project, monkeypatch):
    monkeypatch.chdir(project.root)
    task = lab_task("eurosat_twin", **PLACED)
    same, gone = drift.drifted(task, 0.0), drift.drifted(task, 1.0)
    (images, _), (untouched, _), (recoloured, labels) = (
        next(split.first(50).batches(50)) for split in (task.test, same.test, gone.test)
    )
    assert torch.equal(untouched, images)
    assert torch.equal(recoloured[:, 1], 0.5 * images[:, 0])  # red is green now, and paler
    assert torch.equal(labels, task.test.labels[:50])
    metrics = drift.run(PLACED | COMMON | {"task": "eurosat_twin", "drift": 0.5})
    assert 0 < metrics["overlap"] <= 1
    assert set(metrics) == {"before", "unchanged", "old", "anew", "overlap", "phase_s"}


def test_text_is_told_apart_by_its_letters():
    """One language's texts follow its table; each method trains what it says."""
    tables = torch.eye(text.N_LETTERS).roll(1, 1)[None]  # each letter is followed by the next
    split = text.texts(tables, 2, torch.Generator().manual_seed(0))
    assert isinstance(split, Split)
    assert ((split.images[:, 1:] - split.images[:, :-1]) % text.N_LETTERS == 1).all()
    short = dict(
        device="cpu", seed=0, upstream_epochs=1, n_upstream=256, epochs=1, lr=3e-3, batch_size=32
    )
    found = {name: text.run(PLACED | {"variant": name, **short}) for name in text.METHODS}
    # neurons of a block: qkv and proj, fc1, fc2
    layers = 4 * text.WIDTH + 4 * text.WIDTH + text.WIDTH
    head = text.N_NEW * (text.WIDTH + 1)
    assert found["linear"]["n_trainable"] == head
    assert found["C = 2"]["n_trainable"] == 3 * text.DEPTH * layers + head
    assert {m["chance"] for m in found.values()} == {1 / text.N_NEW}
