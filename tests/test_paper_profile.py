"""The paper profile on a small folder in the real layout: what its reader meets, with ViT-B/16 of
random weights.
"""

import shutil

import numpy as np
import pytest
import torch
from made import PLACED
from PIL import Image
from safetensors.torch import save_file

from trpts.backbones import create_backbone
from trpts.cli import main
from trpts.data import vtab
from trpts.data.load import load_task
from trpts_lab import compared, grid
from trpts_lab.experiments import tuned
from trpts_lab.measured import measure
from trpts_lab.profiles import load_profile
from trpts_lab.project import Project
from trpts_lab.records import validate
from trpts_lab.store import Store
from trpts_lab.tasks import lab_task

SIZES = {"train800": 6, "val200": 4, "test": 4}


@pytest.fixture
def readers_disk(project, tmp_path, monkeypatch):
    """A project with the real paper profile, ViT-B/16 and Camelyon where it says; lists shorter
    than the real ones.
    """
    shutil.copytree(project.root / "profiles", tmp_path / "profiles")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vtab, "COUNTS", {})
    small = Project(tmp_path)
    bench = load_profile(small, "paper")["benchmark"]
    folder = tmp_path / bench["root"] / "vtab-1k" / "patch_camelyon"
    rng = np.random.default_rng(0)
    for stem, n in SIZES.items():
        (folder / "images" / stem).mkdir(parents=True)
        lines = [f"images/{stem}/{k:06}.jpg {k % 2}" for k in range(n)]
        for line in lines:
            Image.fromarray(rng.integers(0, 255, (96, 96, 3), np.uint8)).save(
                folder / line.split()[0]
            )
        (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    save_file(create_backbone(bench["backbone"], 1000).state_dict(), tmp_path / bench["weights"])
    return small


@pytest.mark.slow
def test_what_is_there_is_read_and_what_is_not_is_named(readers_disk, capsys):
    assert main(["check", "--profile", "paper"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vit_base_patch16_224.augreg_in21k: weights ")
    assert any(line.startswith("vtab/patch_camelyon: 6 + 4 + 4 images, data ") for line in lines)
    assert sum("FAILED" in line for line in lines) == 23
    assert lines[-1] == "23 of 25 failed"


@pytest.mark.slow
def test_real_files_are_read_as_the_profile_says_and_nothing_else_is(readers_disk):
    """A wide image is cropped and not squashed; tasks without files are those of their own
    doors.
    """
    bench = load_profile(readers_disk, "paper")["benchmark"]
    name, root = "vtab/patch_camelyon", readers_disk.root / bench["root"]
    wide = np.random.default_rng(1).integers(0, 255, (96, 192, 3), np.uint8)
    Image.fromarray(wide).save(
        root / "vtab-1k" / "patch_camelyon" / "images" / "train800" / "000000.jpg"
    )
    found, cropped, squashed = (
        next(iter(task.train.batches(6)))[0]
        for task in (
            lab_task(name, project=readers_disk),
            load_task(name, root, **bench["reading"]),
            load_task(name, root, resize="squash"),
        )
    )
    assert torch.equal(found, cropped)
    assert not torch.equal(found, squashed)
    assert torch.equal(lab_task("digits", **PLACED).train.images, load_task("digits").train.images)
    assert torch.equal(
        lab_task("dtd_twin", 1, **PLACED).val.first(8).images,
        load_task("dtd_twin", seed=1).val.first(8).images,
    )


@pytest.mark.slow
def test_a_run_of_the_comparison(readers_disk):
    """TR-PTS on ViT-B/16 at 224 pixels, for one epoch instead of the profile's; its record is a
    valid one.
    """
    profile = load_profile(readers_disk, "paper")
    common = grid.common(profile, "cpu") | {"epochs": 1}
    rate = profile["benchmark"]["sweep"]["rates"]["few"][0]
    cell = tuned.cell(
        "TR-PTS", *compared.METHODS["TR-PTS"], "vtab/patch_camelyon", 0, rate, **common
    )
    record = measure(tuned, cell, readers_disk)
    validate(record, "here")
    metrics = record["metrics"]
    assert 0 <= metrics["test_accuracy"] <= 1
    assert metrics["connections_per_neuron"] == pytest.approx(2.0, abs=1e-3)
    # two connections and a bias of each neuron
    assert metrics["n_trainable_without_head"] == 3 * 12 * 9 * 768
    assert 0.5 < metrics["flops_ratio"] < 1
    assert set(
        grid.tuning_cells(profile, Store(readers_disk.root / "none"), ["linear"], "cpu")[0][1]
    ) == set(cell)
