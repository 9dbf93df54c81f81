"""The experiments of chapters 00, 02 and 03: their own arithmetic by hand, and short runs."""

import numpy as np
import pytest
import torch
from made import PLACED
from PIL import Image
from torch import nn

from trpts.backbones import create_backbone
from trpts.data import Split
from trpts.data.folder import load
from trpts.errors import TrptsError
from trpts_lab import compared
from trpts_lab.book import shown
from trpts_lab.experiments import drift, selection, starting_points, tuned
from trpts_lab.measured import run_once
from trpts_lab.project import Project
from trpts_lab.store import Store
from trpts_lab.tasks import data_hash, lab_task

LAB = {
    "backbone": "vit_lab",
    "weights": "data/weights/vit_lab.safetensors",
    "device": "cpu",
    "profile": "quick",
}


def test_overlap_by_hand():
    """Rows {0, 1} and {1, 2}, {3} and {3}: two of four are shared."""
    a = {"x": torch.tensor([[0, 1]]), "y": torch.tensor([[3]])}
    b = {"x": torch.tensor([[1, 2]]), "y": torch.tensor([[3]])}
    assert selection.overlap(a, b) == 2 / 4
    assert selection.overlap(a, a) == 1
    # other neurons
    assert selection.overlap({"x": torch.tensor([[0], [1]])}, {"x": torch.tensor([[1], [0]])}) == 0


def test_mean_of_parts_weighs_by_images():
    parts = [(1, 1, {"x": torch.tensor([4.0])}), (4, 3, {"x": torch.tensor([0.0])})]
    assert selection.mean_of(parts)["x"].item() == 1.0


def test_rank_correlation_is_over_all_weights():
    a = {"x": torch.tensor([[1.0, 2.0]]), "y": torch.tensor([[3.0]])}
    b = {"x": torch.tensor([[10.0, 20.0]]), "y": torch.tensor([[5.0]])}
    assert selection.rank_correlation(a, a) == pytest.approx(1)
    assert selection.rank_correlation(a, b) == pytest.approx(-0.5)


class OneBlock(nn.Module):
    """What `redundancy` needs of a ViT: a block whose output is the input, one prefix token."""

    def __init__(self):
        super().__init__()
        self.blocks, self.num_prefix_tokens = nn.ModuleList([nn.Identity()]), 1

    def forward(self, x):
        return self.blocks[0](x)


def test_redundancy_by_hand():
    """Two patch tokens an image, opposite (-1) in the first, equal (1) in the others: a third; CLS
    is left out.
    """
    images = torch.tensor(
        [
            [[9.0, 9.0], [1.0, 0.0], [-1.0, 0.0]],
            [[5.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
            [[0.0, 0.0], [0.0, -1.0], [0.0, -1.0]],
        ]
    )
    value = selection.redundancy(OneBlock(), Split(images, torch.zeros(3, dtype=torch.int64)))
    assert value.tolist() == pytest.approx([(-1 + 1 + 1) / 3])


def test_parts_cover_all_images_once(monkeypatch):
    monkeypatch.setattr(
        selection, "fisher_scores", lambda model, batches: {"x": batches[0][0].sum()[None]}
    )
    images = torch.arange(230.0)[:, None]
    splits = (Split(part, torch.zeros(len(part)).long()) for part in (images[:200], images[200:]))
    task = type("T", (), dict(zip(("train", "val"), splits)))
    parts = selection.partial_scores(None, task, 170)
    assert [part[0] for part in parts] == [10, 30, 100, 170, 200, 230]
    assert sum(part[1] for part in parts) == 230
    assert sum(part[2]["x"] for part in parts) == images.sum()


def test_images_in_files_are_scored_as_those_in_memory(tmp_path):
    """The real data sets stay in their files until a batch asks for them."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for k in range(10):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(
                tmp_path / name / f"{k}.png"
            )
    files = load(tmp_path, image_size=32)
    memory = type(
        "T", (), {part: Split(*next(getattr(files, part).batches(99))) for part in ("train", "val")}
    )
    model = create_backbone("vit_lab", 2)
    for one, other in zip(
        *(selection.partial_scores(model, task, 10) for task in (files, memory)), strict=True
    ):
        assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])
    assert torch.equal(*(selection.redundancy(model, task.val) for task in (files, memory)))
    recoloured = drift.drifted(files, 0.5)
    assert len(recoloured.train) == len(files.train)
    assert torch.equal(recoloured.train.first(3).labels, files.train.labels[:3])


@pytest.mark.slow
def test_starting_points_of_the_real_digits(monkeypatch):
    """On 300 images to learn from and 200 to test on."""
    digits = lab_task("digits", **PLACED)
    few = type(digits)("digits", 10, digits.train.first(300), digits.val, digits.test.first(200))
    monkeypatch.setattr(starting_points, "task_of", lambda config: few)
    metrics = starting_points.run(PLACED | LAB | {"task": "digits", "seed": 0})
    assert metrics["chance"] == 0.1
    assert metrics["probe_test_accuracy"] > metrics["random_probe_test_accuracy"] > 0.5


@pytest.mark.slow
def test_a_tuned_cell_and_its_page(tmp_path, monkeypatch):
    """One short run of each kind through the record and back to the page's table."""
    project = Project.find()
    config = tuned.cell(
        "TR-PTS", *compared.METHODS["TR-PTS"], "digits", 0, 3e-3, **LAB, epochs=1, batch_size=64
    )
    record = run_once(tuned, config, Store(tmp_path, project=project))
    metrics = record["metrics"]
    assert metrics["connections_per_neuron"] == pytest.approx(2.0, abs=0.01)
    assert metrics["flops_ratio"] < 0.8
    assert sum(metrics["token_blocks"].values()) == 3
    assert record["inputs"]["data"] == data_hash("digits", **PLACED)
    monkeypatch.setattr(
        shown.Project, "find", lambda: type("P", (), {"store": lambda self, _: Store(tmp_path)})()
    )
    assert len(shown.full_runs("TR-PTS", tuned)) == 1
    with pytest.raises(TrptsError, match="no committed record of tuned, C = 9"):
        shown.full_runs("C = 9", tuned)
    other = config | {"lr": 1e-3, "seed": 1}
    monkeypatch.setattr(shown.Project, "find", lambda: project)
    run_once(tuned, other, Store(tmp_path, project=project))
    monkeypatch.setattr(
        shown.Project, "find", lambda: type("P", (), {"store": lambda self, _: Store(tmp_path)})()
    )
    with pytest.raises(TrptsError, match="2 different settings"):
        shown.full_runs("TR-PTS", tuned)
