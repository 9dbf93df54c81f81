"""Tensors with notes in one file: whole or not at all, and nothing else is taken for one."""

import json

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from trpts import files
from trpts.files import read_notes, read_tensors, write_tensors


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(
        path, {"x": torch.arange(6.0).view(2, 3).T, "n": torch.tensor(3)}, {"words": ["é", 1, None]}
    )
    tensors, notes = read_tensors(path, "a file")
    assert torch.equal(tensors["x"], torch.arange(6.0).view(2, 3).T)
    assert tensors["n"] == 3
    assert notes == {"words": ["é", 1, None]} == read_notes(path, "a file")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    "error", [SafetensorError("No space left on device"), OSError(28, "No space left on device")]
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.ones(1)}, {})

    def half_written(tensors, place, metadata):
        place.write_bytes(b"half")
        raise error

    monkeypatch.setattr(files, "save_file", half_written)
    with pytest.raises(OSError, match=r"a\.safetensors cannot be written: .*No space left"):
        write_tensors(path, {"x": torch.zeros(1)}, {})
    assert read_tensors(path, "a file")[0]["x"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


FAULTS = {
    "absent": lambda path: None,
    "text": lambda path: path.write_text("no tensors"),
    "a folder": lambda path: path.mkdir(),
    "no notes": lambda path: save_file({"x": torch.zeros(1)}, path),
    "notes that are no JSON": lambda path: save_file({"x": torch.zeros(1)}, path, {"notes": "{"}),
    "notes that are no table": lambda path: save_file(
        {"x": torch.zeros(1)}, path, {"notes": json.dumps([1])}
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_such_file(tmp_path, fault):
    FAULTS[fault](tmp_path / "a")
    with pytest.raises(ValueError, match="a is not a thing of ours: "):
        read_tensors(tmp_path / "a", "a thing of ours")
