"""Folders, pictures and class names as people have them: links, accents, EXIF, other alphabets."""

import io
import json
import unicodedata

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import font_manager
from PIL import Image
from safetensors.torch import save_file

from trpts import plots
from trpts.backbones import create_backbone
from trpts.cli import main
from trpts.data import folder
from trpts.data.images import safe_path
from trpts.data.reading import read_image
from trpts.files import read_tensors, write_tensors
from trpts.plots import draw_confusion, fonts_for

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def photo(path, seed=0, note=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    if note is not None:
        exif[0x0112] = note
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def photos(root, names=("a", "b"), n=6, **options):
    for k, name in enumerate(names):
        for i in range(n):
            photo(root / name / f"{i}.png", 10 * k + i, **options)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "lab.safetensors"
    state = create_backbone("vit_lab", 2, seed=1).state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith("head.")}, path)
    return path


def tuned(root, weights, out):
    given = ["--backbone", "vit_lab", "--weights", weights, "--epochs", 1, "--method", "linear"]
    assert main(["tune", *map(str, [root, *given, "--out", out, "--device", "cpu"])]) == 0
    return out


# links


def snapshot(home):
    """A data set in the Hugging Face cache: a snapshot whose files are links to blobs."""
    root = home / "datasets--me--photos" / "snapshots" / "0a1b"
    for i, path in enumerate(sorted(photos(home / "plain").rglob("*.png"))):
        blob = root.parents[1] / "blobs" / f"{i:040x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(path.read_bytes())
        link = root / path.relative_to(home / "plain")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../../blobs/{blob.name}")
    return root


def test_links_of_the_hubs_cache_are_followed(tmp_path):
    linked, plain = folder.load(snapshot(tmp_path)), folder.load(tmp_path / "plain")
    for a, b in zip(linked.train.batches(9), plain.train.batches(9), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../../../../secret.png", r"leads out of .*or a copy of the file in place of the link"),
        ("../../../blobs/../../secret.png", r"leads out of"),
        ("../../../secret.png", r"leads out of"),  # of the same data set, and no blob
        ("../../../blobs/gone", r"is a link to .*blobs/gone, which does not exist"),
        ("9.png", r"is not a usable path|which does not exist"),  # a link to itself
    ],
)
def test_other_links_of_a_cache_are_not(tmp_path, target, words):
    root = snapshot(tmp_path)
    photo(tmp_path / "secret.png")
    photo(tmp_path / "datasets--me--photos" / "secret.png")
    (root / "a" / "9.png").symlink_to(target)
    with pytest.raises(ValueError, match=words):
        folder.load(root)


def test_a_link_out_of_a_folder_says_what_to_do(tmp_path):
    root = photos(tmp_path / "root")
    (root / "a" / "link.png").symlink_to(photo(tmp_path / "elsewhere.png"))
    with pytest.raises(ValueError, match=r"copy of the file in place of the link \(cp -L\)"):
        folder.load(root)
    (tmp_path / "elsewhere.png").unlink()
    with pytest.raises(ValueError, match=r"'a/link.png' is a link to .*, which does not exist"):
        folder.load(root)
    with pytest.raises(ValueError, match=r"expected a path that stays inside$"):
        safe_path(root, "../elsewhere.png", "list")


# accents


def test_accents_are_one_name_however_they_are_encoded(tmp_path):
    photos(tmp_path / "train", (NFC, "tea"))
    photos(tmp_path / "val", (NFD, "tea"), 2)
    photos(tmp_path / "test", (NFD, "tea"), 3)
    task = folder.load(tmp_path)
    assert task.class_names == (NFC, "tea")
    assert task.val.labels.bincount().tolist() == [2, 2]
    assert task.test.labels.bincount().tolist() == [3, 3]


def test_one_name_in_two_encodings_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"two folders called 'café', whose accents"):
        folder.load(photos(tmp_path, (NFC, NFD)))


# EXIF


@pytest.mark.parametrize("note", [*range(1, 9), None])
def test_own_pictures_are_upright_and_lists_are_as_stored(tmp_path, note):
    path = photo(tmp_path / "p.png", note=note)
    plain = photo(tmp_path / "plain.png")
    as_stored, upright = read_image(path, 10), read_image(path, 10, upright=True)
    assert torch.equal(as_stored, read_image(plain, 10))
    turn = {
        2: lambda x: x.flip(2),
        3: lambda x: x.flip(1, 2),
        4: lambda x: x.flip(1),
        5: lambda x: x.transpose(1, 2),
        6: lambda x: x.rot90(-1, (1, 2)),
        7: lambda x: x.transpose(1, 2).flip(1, 2),
        8: lambda x: x.rot90(1, (1, 2)),
    }.get(note, lambda x: x)
    torch.testing.assert_close(upright, turn(as_stored), atol=0.02, rtol=0)


def test_tune_and_predict_see_the_same_upright_picture(tmp_path, weights, capsys):
    delta = tuned(photos(tmp_path / "photos"), weights, tmp_path / "o.safetensors")
    upright = photo(tmp_path / "up.png")
    with Image.open(upright) as image:
        lying, exif = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=exif)
    capsys.readouterr()
    found = []
    for name in ("up.png", "lying.png"):
        given = ["predict", delta, tmp_path / name, "--weights", weights, "--json"]
        assert main([*map(str, given)]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        found.append(json.loads(said.out)["classes"])
    assert found[0] == pytest.approx(found[1])
    # a delta of before: as stored, and it says so
    tensors, notes = read_tensors(delta, "a delta")
    del notes["reading"]["upright"]
    write_tensors(tmp_path / "old.safetensors", tensors, notes)
    given = [tmp_path / "old.safetensors", tmp_path / "lying.png", "--weights", weights, "--json"]
    assert main(["predict", *map(str, given)]) == 0
    said = capsys.readouterr()
    assert "took pictures as their pixels are stored" in said.err
    assert json.loads(said.out)["classes"] != pytest.approx(found[1])


def test_a_folder_gives_upright_pictures(tmp_path):
    task = folder.load(photos(tmp_path, note=6), image_size=10)
    ((images, _),) = task.train.batches(99)
    for image, sample in zip(images, task.train.samples, strict=True):
        assert torch.equal(image, read_image(sample.path, 10, upright=True))
        assert not torch.equal(image, read_image(sample.path, 10))


def test_a_hash_says_which_way_pictures_are_read(tmp_path):
    task = folder.load(photos(tmp_path))
    assert task.train.upright
    stored = type(task.train)(**{**vars(task.train), "upright": False})
    assert stored.data_hash() != task.train.data_hash()


# other alphabets


@pytest.mark.parametrize(
    "name", ["猫", "щука", "naïve", "🐱", "a\tb", "ظبي", "x" * 200, "$a$", "\\alpha", "ÅÄÖ"]
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_name_that_the_terminal_lacks_ends_nothing(
    tmp_path, weights, monkeypatch, name, encoding
):
    if encoding == "ascii":  # tune once for each name
        tuned(photos(tmp_path / "photos", (name, "tea"), 4), weights, tmp_path / "o.safetensors")
    else:
        made = tuned(photos(tmp_path / "photos", ("a", "tea"), 4), weights, tmp_path / "o.st")
        tensors, notes = read_tensors(made, "a delta")
        notes["class_names"][0] = name
        write_tensors(tmp_path / "o.safetensors", tensors, notes)
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", terminal)
    image = next((tmp_path / "photos").rglob("*.png"))
    given = [tmp_path / "o.safetensors", image, "--weights", weights]
    assert main(["predict", *map(str, given)]) == 0
    terminal.flush()
    assert "tea" in terminal.buffer.getvalue().decode(encoding)


def report(*names):
    n = len(names)
    table = np.diag([3] * n).tolist()
    return {"classes": list(names), "confusion": table, "accuracy": 1.0, "n_test": 3 * n}


def drawn_names(names):
    labels = draw_confusion(report(*names)).axes[0].get_yticklabels()
    plt.close("all")
    return [label.get_text() for label in labels]


@pytest.mark.filterwarnings("error:Glyph")
def test_names_are_drawn_where_a_font_has_them_and_numbered_where_none_has(monkeypatch):
    assert fonts_for("naïve щука") == []  # matplotlib's own font
    assert drawn_names(["naïve", "щука"]) == ["naïve", "щука"]
    nowhere = "\U000f0000"  # of the private planes
    assert fonts_for(nowhere) is None
    assert drawn_names(["tea", nowhere]) == ["0", "1"]
    # a font beside the usual one that has the character
    known = plots._characters
    entry = font_manager.fontManager.ttflist[0]
    more = {entry.fname: {0xF0000}}
    monkeypatch.setattr(plots, "_characters", lambda path: known(path) | more.get(path, set()))
    usual = font_manager.findfont(font_manager.FontProperties())
    assert fonts_for(nowhere) == ([] if usual == entry.fname else [entry.name])


def test_long_names_are_cut_in_the_picture():
    assert drawn_names(["x" * 200, "tea"]) == ["x" * 40 + "…", "tea"]
