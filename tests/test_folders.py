"""Readers of VTAB-1k, FGVC and plain image folders: small folders in these layouts, well-formed and
broken.
"""

import json
import re
import runpy
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from trpts.backbones import create_backbone
from trpts.data import Split, fgvc, folder, images, vtab
from trpts.data.images import FileSplit, find_file, safe_path
from trpts.data.load import load_task
from trpts.data.reading import NORMALIZATIONS, read_image
from trpts.data.vtab import TASKS
from trpts_lab.named_tasks import find_real

SMALL = {"image_size": 8}


def paint(path, value=0, size=(12, 10), mode="RGB"):
    """Write an image of one grey value; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)
    return path


def folder_of(path):
    """Make a folder; its path."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def truncate(path):
    """Cut off the second half of a noisy JPEG, headers kept."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def everything(split):
    """(images, labels) of all samples, in order."""
    images, labels = zip(*split.batches(3), strict=True)
    return torch.cat(images), torch.cat(labels)


def grey(images):
    """The grey value 0..255 of each image that was read with normalization="none"."""
    return (images.mean((1, 2, 3)) * 255).round().int().tolist()


# one image


def test_pixels_and_normalization(tmp_path):
    path = paint(tmp_path / "grey.png", 51)
    assert NORMALIZATIONS["half"] == ((0.5,) * 3, (0.5,) * 3)
    for name, expected in (
        ("none", [0.2] * 3),
        ("half", [-0.6] * 3),
        ("imagenet", [-1.2445, -1.1429, -0.9156]),
    ):
        image = read_image(path, 8, name)
        assert image.shape == (3, 8, 8)
        assert image.dtype == torch.float32
        torch.testing.assert_close(
            image, torch.tensor(expected).view(3, 1, 1).expand(3, 8, 8), rtol=0, atol=1e-4
        )


def test_squash_is_pillows_bicubic(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC)) / 255
    image = read_image(tmp_path / "noise.png", 8, "none").permute(1, 2, 0).numpy()
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_crop_keeps_the_centre(tmp_path):
    pixels = np.zeros((10, 40, 3), np.uint8)
    pixels[:, 15:25] = 255  # a white square in the middle of a black band
    Image.fromarray(pixels).save(tmp_path / "band.png")
    assert read_image(tmp_path / "band.png", 10, "none", "crop").min() == 1
    assert read_image(tmp_path / "band.png", 10, "none", "squash").min() == 0


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(path)
    torch.testing.assert_close(read_image(path, 8, "none"), torch.ones(3, 8, 8))


def test_refuses_images(tmp_path):
    with pytest.raises(
        ValueError, match=r"^list.txt:3: .*gone.jpg does not exist: expected an image file$"
    ):
        read_image(tmp_path / "gone.jpg", place="list.txt:3")
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ValueError, match=r"text.jpg is not an image: expected one of JPEG"):
        read_image(tmp_path / "text.jpg")
    truncate(tmp_path / "half.jpg")
    with pytest.raises(ValueError, match=r"^val.txt:7: .*half.jpg is a damaged image: .*truncated"):
        read_image(tmp_path / "half.jpg", place="val.txt:7")
    Image.new("I;16", (4, 4), 40_000).save(tmp_path / "deep.png")
    with pytest.raises(
        ValueError, match=r"deep.png has pixels .*'I;16': expected 8 bits per channel"
    ):
        read_image(tmp_path / "deep.png")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # it refuses twice as many
        Image.new("L", (9, 9)).save(tmp_path / "huge.png")
        with pytest.raises(
            ValueError, match=r"huge.png has more than [\d,]+ pixels, which Pillow refuses"
        ):
            read_image(tmp_path / "huge.png")
    (tmp_path / "program.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    with pytest.raises(ValueError, match="is not an image"):  # Pillow would start Ghostscript on it
        read_image(tmp_path / "program.jpg")


def test_a_program_may_switch_pillows_limit_off(monkeypatch):
    """Before it imports the module that names the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    loaded = runpy.run_path(images.__file__)
    assert loaded["read_image"].__name__ == "read_image"


def test_refuses_settings(tmp_path):
    path = paint(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match="normalization='zero' is unknown: expected one of half, imagenet, clip, "
    ):
        read_image(path, normalization="zero")
    with pytest.raises(ValueError, match="resize='pad' is unknown: expected one of squash, crop"):
        read_image(path, resize="pad")
    with pytest.raises(ValueError, match="image_size=0: expected at least 1"):
        read_image(path, image_size=0)


# paths


def test_safe_path(tmp_path):
    root = tmp_path / "root"
    inside, outside = paint(root / "images" / "a.png"), paint(tmp_path / "secret.png")
    (root / "link.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "good.png").symlink_to(inside)
    (tmp_path / "other_name").symlink_to(root)
    assert safe_path(root, "images/../images/a.png", "l:1") == root / "images/../images/a.png"
    assert safe_path(root, "good.png", "l:1").is_file()
    assert safe_path(tmp_path / "other_name", "images/a.png", "l:1").is_file()
    for bad in (
        "../secret.png",
        "images/../../secret.png",
        str(outside),
        "link.png",
        "folder/secret.png",
        "..",
    ):
        with pytest.raises(
            ValueError, match=rf"^l:1: '{re.escape(bad)}' leads out of .*root: expected a path that"
        ):
            safe_path(root, bad, "l:1")
    for bad in ("a\0b.png", "loop/a.png"):
        with pytest.raises(ValueError, match=r"^l:1: .* is not a usable path"):
            safe_path(root, bad, "l:1")


def test_find_file_tries_other_suffixes_and_stays_inside(tmp_path):
    paint(tmp_path / "root" / "a.png")
    assert find_file(tmp_path / "root", "a.jpg", "l:1").name == "a.png"
    (tmp_path / "root" / "b.png").symlink_to(paint(tmp_path / "secret.png"))
    with pytest.raises(ValueError, match="leads out of"):
        find_file(tmp_path / "root", "b.jpg", "l:1")
    for missing in ("c.jpg", "", ".", f"{'x' * 300}.jpg"):
        with pytest.raises(ValueError, match=r"^l:1: .* does not exist"):
            find_file(tmp_path / "root", missing, "l:1")


# VTAB-1k


@pytest.fixture
def tiny_vtab(tmp_path, monkeypatch):
    """A function that writes a task of 4 + 2 + 3 images, eurosat unless told; grey value = 20 *
    label + place.
    """
    monkeypatch.setattr(vtab, "COUNTS", {"train800": 4, "val200": 2, "train800val200": 6})

    def make(name="eurosat", suffix="jpg", separate_copies=True):
        root = tmp_path / name
        lists = {"train800": [0, 9, 1, 0], "val200": [2, 1], "test": [3, 0, 1]}
        lists["train800val200"] = lists["train800"] + lists["val200"]
        for stem, labels in lists.items():
            lines = []
            for i, label in enumerate(labels):
                if stem == "train800val200" and not separate_copies:
                    path = f"images/train800/{i:06d}" if i < 4 else f"images/val200/{i - 4:06d}"
                else:
                    path = f"images/{stem}/{i:06d}"
                    paint(root / f"{path}.{suffix}", 20 * label + i)
                lines.append(f"{path}.{suffix} {label}\n")
            (root / f"{stem}.txt").write_text("".join(lines))
        return root

    return make


def edit(path, old, new, newline=None):
    """Replace text in a list; it must be there."""
    text = path.read_text()
    assert old in text
    with path.open("w", newline=newline) as file:
        file.write(text.replace(old, new))


def test_the_nineteen():
    groups = [task.group for task in TASKS.values()]
    assert [groups.count(group) for group in vtab.GROUPS] == [7, 4, 8]
    names = [name for key, task in TASKS.items() for name in (key, *task.aliases)]
    assert len(names) == len(set(names))
    assert sum(task.n_classes for task in TASKS.values()) == 940


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_vtab(tmp_path, tiny_vtab, suffix):
    tiny_vtab(suffix=suffix)
    task = vtab.load(tmp_path, "eurosat", normalization="none", **SMALL)
    assert (task.name, task.n_classes, task.class_names) == ("eurosat", 10, ())
    assert [len(split) for split in (task.train, task.val, task.test)] == [4, 2, 3]
    for split in (task.train, task.val, task.test):
        images, labels = everything(split)
        assert images.shape[1:] == (3, 8, 8)
        assert labels.tolist() == [value // 20 for value in grey(images)]
    assert sorted(grey(everything(task.train)[0])) == [0, 3, 22, 181]


def test_a_file_split_is_used_like_a_split(tmp_path, tiny_vtab):
    tiny_vtab()
    split = vtab.load(tmp_path, "eurosat", **SMALL).train
    images, labels = everything(split)
    inner = Split(images, labels)
    assert torch.equal(split.labels, labels)
    for mine, theirs in zip(
        split.batches(3, torch.Generator().manual_seed(1)),
        inner.batches(3, torch.Generator().manual_seed(1)),
        strict=True,
    ):
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[1], theirs[1])
    assert isinstance(split.first(2), FileSplit)
    assert torch.equal(everything(split.first(2))[0], images[:2])
    assert (split.normalization, split.resize, split.image_size) == ("half", "squash", 8)
    assert [
        y.device.type for _, y in vtab.load(tmp_path, "eurosat", **SMALL).to("cpu").test.batches(9)
    ] == ["cpu"]
    with pytest.raises(ValueError, match="expected 1 to 4"):
        split.first(5)
    with pytest.raises(AttributeError):  # no batch has been read, and none is kept
        split.images  # noqa: B018


def test_data_hash_of_files(tmp_path, tiny_vtab, monkeypatch):
    """The same wherever the folder lies and whatever it is called; another for every change that
    can be seen.
    """
    root = tiny_vtab("dtd", "png")
    first = vtab.load(tmp_path, "dtd", **SMALL).data_hash()
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(root, tmp_path / "elsewhere" / "dtd")
    assert vtab.load(tmp_path / "elsewhere", "dtd", **SMALL).data_hash() == first
    monkeypatch.chdir(tmp_path)
    assert vtab.load(".", "dtd", **SMALL).data_hash() == first

    task = vtab.load(tmp_path, "dtd", **SMALL)
    found = [first, task.train.data_hash(), task.train.first(3).data_hash(), task.val.data_hash()]
    turned = replace(task.train, rows=Split(task.train.rows.images.flip(0), task.train.labels))
    found.append(turned.data_hash())
    for settings in ({"image_size": 9}, {"normalization": "none"}, {"resize": "crop"}):
        found.append(vtab.load(tmp_path, "dtd", **SMALL | settings).data_hash())
    edit(root / "test.txt", ".png 3", ".png 4")
    found.append(vtab.load(tmp_path, "dtd", **SMALL).data_hash())
    paint(root / "images/test/000001.png", 7, size=(50, 40))  # another size in bytes
    found.append(vtab.load(tmp_path, "dtd", **SMALL).data_hash())
    (root / "images/test/000002.png").rename(root / "images/test/000009.png")
    edit(root / "test.txt", "000002", "000009")
    found.append(vtab.load(tmp_path, "dtd", **SMALL).data_hash())
    assert len(set(found)) == len(found)

    task = vtab.load(tmp_path, "dtd", **SMALL)
    (root / "images/test/000009.png").unlink()
    with pytest.raises(ValueError, match=r"test.txt:3: .*000009.png cannot be read: No such file"):
        task.data_hash()


def test_data_hash_does_not_open_images(tmp_path, tiny_vtab):
    """What it is documented not to see: other content in as many bytes."""
    root = tiny_vtab("dtd", "png")
    first = vtab.load(tmp_path, "dtd", **SMALL).data_hash()
    path = root / "images/test/000001.png"
    path.write_bytes(bytes(path.stat().st_size))
    assert vtab.load(tmp_path, "dtd", **SMALL).data_hash() == first


def test_splits_are_shuffled_once(tmp_path, monkeypatch, tiny_vtab):
    """A list sorted by class must not leave its first images with one class; the order is the same
    every time.
    """
    root = tiny_vtab()
    monkeypatch.setitem(vtab.COUNTS, "train800", 40)
    (root / "train800val200.txt").unlink()
    lines = [f"images/train800/{i:06d}.png {i // 10}\n" for i in range(40)]
    for i in range(40):
        paint(root / f"images/train800/{i:06d}.png", i)
    (root / "train800.txt").write_text("".join(lines))
    first, again = (vtab.load(tmp_path, "eurosat", **SMALL).train for _ in range(2))
    assert len(first.first(10).labels.unique()) > 2
    assert torch.equal(first.labels, again.labels)


def test_vtab_names_and_folders(tmp_path, tiny_vtab):
    tiny_vtab("flowers102", "png")
    for name in ("flowers102", "oxford_flowers102"):
        assert vtab.load(tmp_path, name, **SMALL).name == "oxford_flowers102"
    with pytest.raises(
        ValueError, match="data set 'flower' is unknown: expected one of cifar100, caltech101"
    ):
        vtab.load(tmp_path, "flower")
    with pytest.raises(
        ValueError, match="holds no folder oxford_iiit_pet or pets or oxford_pet: expected"
    ):
        vtab.load(tmp_path, "oxford_iiit_pet")


def test_vtab_line_ends_blanks_and_bom(tmp_path, tiny_vtab):
    root = tiny_vtab()
    before = vtab.load(tmp_path, "eurosat", **SMALL)
    edit(root / "train800.txt", "\n", "\r\n", newline="")
    edit(root / "val200.txt", ".jpg ", ".jpg  \t ", newline="")
    edit(root / "test.txt", "\n", "  \n\n", newline="")
    (root / "test.txt").write_bytes(b"\xef\xbb\xbf" + (root / "test.txt").read_bytes())
    after = vtab.load(tmp_path, "eurosat", **SMALL)
    for split in ("train", "val", "test"):
        assert torch.equal(
            everything(getattr(before, split))[0], everything(getattr(after, split))[0]
        )


def test_vtab_lists_say_jpg_files_are_png(tmp_path, tiny_vtab):
    root = tiny_vtab(suffix="png")
    for stem in ("train800", "val200", "test"):
        edit(root / f"{stem}.txt", ".png", ".jpg")
    assert len(everything(vtab.load(tmp_path, "eurosat", **SMALL).train)[0]) == 4


def test_jpeg_damage_is_announced(tmp_path, tiny_vtab):
    root = tiny_vtab("cifar")
    with pytest.warns(UserWarning, match="CIFAR-100 images are JPEG.* about 12 points lower"):
        task = vtab.load(tmp_path, "cifar100", **SMALL)
    assert task.name == "cifar100"
    for path in root.glob("images/*/*.jpg"):  # a JPEG that calls itself PNG
        path.rename(path.with_suffix(".png"))
    with pytest.warns(UserWarning, match="JPEG"):
        vtab.load(tmp_path, "cifar", **SMALL)
    tiny_vtab("cifar", "png")
    tiny_vtab("eurosat", "jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vtab.load(tmp_path, "cifar", **SMALL)
        vtab.load(tmp_path, "eurosat", **SMALL)


@pytest.mark.parametrize(
    ("stem", "old", "new", "message"),
    [
        (
            "train800",
            ".jpg 9",
            ".jpg 10",
            r"train800.txt:2: label 10: expected a whole number from 0 to 9$",
        ),
        (
            "train800",
            ".jpg 9",
            ".jpg -1",
            r"train800.txt:2: label -1: expected a whole number from 0 to 9$",
        ),
        ("test", ".jpg 3", ".jpg 3.0", r"test.txt:1: label 3.0: expected a whole number"),
        (
            "val200",
            ".jpg 1",
            ".jpg",
            r"val200.txt:2: 'images/val200/000001.jpg': expected a path and a label",
        ),
        (
            "test",
            "images/test/000001",
            "images/test/000007",
            r"test.txt:2: .*/000007.jpg does not exist",
        ),
        (
            "test",
            "images/test/000001",
            "../../outside",
            r"test.txt:2: '../../outside.jpg' leads out of .*eurosat: ",
        ),
        ("test", "images/test/000001", "/etc/hosts", r"test.txt:2: '/etc/hosts.jpg' leads out of"),
        (
            "test",
            "images/test/000001",
            "images/train800/000001",
            r"test.txt:2: .* listed already at .*train800.txt:2",
        ),
        (
            "val200",
            "images/val200/000001",
            "images/val200/000000",
            r"val200.txt:2: .* listed already at .*200.txt:1",
        ),
        ("val200", "images/val200/000001.jpg 1\n", "", r"val200.txt lists 1 images, expected 2$"),
        (
            "train800val200",
            ".jpg 9",
            ".jpg 8",
            r"train800val200.txt:2: label 8 stands more often here than in train8",
        ),
        ("train800val200", ".jpg 9", ".jpg 99", r"train800val200.txt:2: label 99: expected"),
        (
            "train800val200",
            "images/train800val200/000005.jpg 1\n",
            "",
            r"train800val200.txt lists 5 images, expected 6",
        ),
    ],
)
def test_vtab_refuses_lists(tmp_path, tiny_vtab, stem, old, new, message):
    root = tiny_vtab()
    edit(root / f"{stem}.txt", old, new)
    with pytest.raises(ValueError, match=message):
        vtab.load(tmp_path, "eurosat", **SMALL)


def test_vtab_union_by_path(tmp_path, tiny_vtab):
    root = tiny_vtab(separate_copies=False)
    assert len(vtab.load(tmp_path, "eurosat", **SMALL).train) == 4
    edit(root / "train800val200.txt", "images/val200/000000.jpg 2", "images/test/000000.jpg 2")
    with pytest.raises(
        ValueError,
        match=r"train800val200.txt:5: images/test/000000.jpg with label 2 stands more often",
    ):
        vtab.load(tmp_path, "eurosat")
    (root / "train800val200.txt").unlink()
    assert len(vtab.load(tmp_path, "eurosat", **SMALL).train) == 4


def test_vtab_refuses_files(tmp_path, tiny_vtab):
    root = tiny_vtab()
    (root / "val200.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"val200.txt cannot be read as a list of images: .*UTF-8"):
        vtab.load(tmp_path, "eurosat")
    (root / "val200.txt").unlink()
    with pytest.raises(
        ValueError, match=r"val200.txt cannot be read as a list of images: .*No such file"
    ):
        vtab.load(tmp_path, "eurosat")
    root = tiny_vtab()
    (root / "test.txt").write_text("\n")
    with pytest.raises(ValueError, match="eurosat: the test split holds no image"):
        vtab.load(tmp_path, "eurosat")
    root = tiny_vtab()
    (root / "images/test/000001.jpg").unlink()
    (root / "images/test/000001.jpg").symlink_to(paint(tmp_path / "secret.jpg"))
    with pytest.raises(ValueError, match=r"test.txt:2: 'images/test/000001.jpg' leads out of"):
        vtab.load(tmp_path, "eurosat")
    tiny_vtab("dtd")
    with pytest.raises(ValueError, match="normalization='None' is unknown"):
        vtab.load(tmp_path, "dtd", normalization="None")


def test_broken_images_are_reported_when_met(tmp_path, tiny_vtab):
    root = tiny_vtab()
    truncate(root / "images/train800/000002.jpg")
    (root / "images/val200/000001.jpg").write_text("text")
    task = vtab.load(tmp_path, "eurosat", **SMALL)
    with pytest.raises(
        ValueError, match=r"train800.txt:3: .*train800/000002.jpg is a damaged image"
    ):
        everything(task.train)
    with pytest.raises(ValueError, match=r"val200.txt:2: .*val200/000001.jpg is not an image"):
        everything(task.val)
    assert len(everything(task.test)[0]) == 3


# FGVC


@pytest.fixture
def tiny_fgvc(tmp_path, monkeypatch):
    """A function that writes a data set of four classes with ids 3, 10, 200 and 7; 200 is missing
    from train.
    """

    def make(key="cub", name="CUB_200_2011", images="images"):
        monkeypatch.setitem(fgvc.TASKS, key, fgvc.TASKS[key]._replace(n_classes=4))
        root = tmp_path / name
        values = {3: 0, 7: 1, 10: 2, 200: 3}
        for split, ids in {"train": [10, 3, 7, 3], "val": [10, 200], "test": [3, 200, 7]}.items():
            paths = {
                f"{class_id:03d}.bird/{split} {i}.jpg": class_id for i, class_id in enumerate(ids)
            }
            for path, class_id in paths.items():
                paint(root / images / path, 20 * values[class_id] + 4)
            (root / f"{split}.json").write_text(json.dumps(paths))
        return root

    return make


@pytest.mark.parametrize(
    ("key", "name", "images"),
    [
        ("cub", "CUB_200_2011", "images"),
        ("cub", "cub", "."),
        ("nabirds", "nabirds", "images"),
        ("flowers", "OxfordFlower", "."),
        ("dogs", "stanforddogs", "Images"),
        ("cars", "StanfordCars", "."),
    ],
)
def test_fgvc(tmp_path, tiny_fgvc, key, name, images):
    tiny_fgvc(key, name, images)
    task = fgvc.load(tmp_path, key, normalization="none", **SMALL)
    assert (task.name, task.n_classes) == (key, 4)
    assert [len(split) for split in (task.train, task.val, task.test)] == [4, 2, 3]
    # the same class has the same label in all three
    for split in (task.train, task.val, task.test):
        pictures, labels = everything(split)
        assert labels.tolist() == [value // 20 for value in grey(pictures)]
    assert sorted(task.test.labels.tolist()) == [0, 1, 3]
    assert sorted(task.val.labels.tolist()) == [2, 3]


def test_fgvc_ids_as_text(tmp_path, tiny_fgvc):
    root = tiny_fgvc()
    edit(root / "test.json", ": 200", ': "200"')
    assert sorted(fgvc.load(tmp_path, "cub", **SMALL).test.labels.tolist()) == [0, 1, 3]


def test_the_five():
    assert {key: task.n_classes for key, task in fgvc.TASKS.items()} == {
        "cub": 200,
        "nabirds": 555,
        "flowers": 102,
        "dogs": 120,
        "cars": 196,
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (": 200", ": 11", r"CUB_200_2011: its split files name 5 classes, expected 4$"),
        (
            ": 200",
            ": 2.5",
            r"val.json, entry 2: class id 2.5 of '200.bird/val 1.jpg': expected a whole number",
        ),
        (": 200", ": true", r"val.json, entry 2: class id True of"),
        (": 200", ': {"a": 1}', r"val.json, entry 2: class id .* expected a whole number"),
        (": 200}", ": 200", r"val.json:1: not JSON"),
        (
            "val 1.jpg",
            "val 9.jpg",
            r"val.json, entry 2: .*images/200.bird/val 9.jpg does not exist",
        ),
        (
            "200.bird/val 1.jpg",
            "../../x.jpg",
            r"val.json, entry 2: 'images/../../x.jpg' leads out of .*CUB_200_2011",
        ),
        ("200.bird/val 1.jpg", "/etc/hosts", r"val.json, entry 2: '/etc/hosts' leads out of"),
        (
            "200.bird/val 1.jpg",
            "003.bird/train 1.jpg",
            r"val.json, entry 2: .* listed already at .*train.json, entry 2",
        ),
        (
            "200.bird/val 1.jpg",
            "010.bird/val 0.jpg",
            r"val.json, entry 2: .* listed already at .*val.json, entry 1",
        ),
    ],
)
def test_fgvc_refuses(tmp_path, tiny_fgvc, old, new, message):
    edit(tiny_fgvc() / "val.json", old, new)
    with pytest.raises(ValueError, match=message):
        fgvc.load(tmp_path, "cub", **SMALL)


@pytest.mark.parametrize("text", ["[]", '[["a.jpg", 1]]', "3", '"text"'])
def test_fgvc_refuses_other_json(tmp_path, tiny_fgvc, text):
    (tiny_fgvc() / "val.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"val.json: expected one JSON object|its split files name|the val split"
    ):
        fgvc.load(tmp_path, "cub")


def test_fgvc_refuses_files(tmp_path, tiny_fgvc):
    root = tiny_fgvc()
    (root / "images/200.bird/val 1.jpg").unlink()
    (root / "images/200.bird/val 1.jpg").symlink_to(paint(tmp_path / "secret.jpg"))
    with pytest.raises(ValueError, match=r"val.json, entry 2: .* leads out of"):
        fgvc.load(tmp_path, "cub")
    (root / "val.json").unlink()
    with pytest.raises(
        ValueError, match=r"val.json cannot be read as a split file: .*No such file"
    ):
        fgvc.load(tmp_path, "cub")
    with pytest.raises(
        ValueError, match="data set 'birds' is unknown: expected one of cub, nabirds, flowers"
    ):
        fgvc.load(tmp_path, "birds")


# every task by its name


def test_load_task_of_real_data(tmp_path, tiny_vtab, tiny_fgvc, monkeypatch):
    root = tmp_path / "data/paper"
    root.mkdir(parents=True)
    tiny_vtab("cifar", "png").rename(folder_of(root / "vtab-1k") / "cifar")
    tiny_fgvc().rename(folder_of(root / "fgvc") / "CUB_200_2011")
    for name in ("vtab/cifar100", "vtab/cifar"):
        task = load_task(name, root, normalization="none", **SMALL)
        assert (task.name, task.train.normalization, task.train.resize) == (
            "cifar100",
            "none",
            "squash",
        )
        assert (
            task.data_hash()
            == vtab.load(root / "vtab-1k", "cifar", normalization="none", **SMALL).data_hash()
        )
        assert find_real(name, root) == root / "vtab-1k/cifar"
    assert load_task("fgvc/cub", root).data_hash() == fgvc.load(root / "fgvc", "cub").data_hash()
    assert load_task("fgvc/cub", root).train.image_size == 224
    monkeypatch.chdir(tmp_path)
    assert load_task("fgvc/CUB_200_2011").name == "cub"
    for door in (load_task, find_real):
        with pytest.raises(
            ValueError, match=r"vtab-1k holds no folder dtd: expected the unpacked data set"
        ):
            door("vtab/dtd", root)


def test_load_task_of_a_folder(tmp_path, monkeypatch):
    plain(tmp_path / "digits", {"a": 10, "b": 10})
    monkeypatch.chdir(tmp_path)
    task, other = (load_task("./digits", seed=seed, resize="crop", **SMALL) for seed in (0, 1))
    assert (task.name, task.class_names, task.test.resize, len(task.train)) == (
        "digits",
        ("a", "b"),
        "crop",
        12,
    )
    assert paths(task.test) == paths(folder.load("digits").test) != paths(other.test)
    assert load_task("digits", **SMALL).n_classes == 10


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dtd_twn", "did you mean dtd_twin or "),
        ("cifar100", "did you mean .*vtab/cifar100"),
        ("vtab/clevr_cuont", "did you mean vtab/clevr_count"),
        (
            "zzz/qqqqq",
            "expected a twin, digits, vtab/<name>, fgvc/<name>, real/<name> or the path of a "
            "folder$",
        ),
    ],
)
def test_load_task_refuses_names(tmp_path, name, hint):
    for door in (load_task, find_real):
        with pytest.raises(ValueError, match=f"task '{name}' is unknown: {hint}"):
            door(name, tmp_path)


# any folder


def plain(root, counts, suffix="png"):
    """Class folders below root, {class: number of images}; no two images are alike."""
    for i, (name, n) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for j in range(n):
            paint(root / name / f"{j}.{suffix}", 50 * i + j)
    return root


def paths(split):
    """The files of a split."""
    return {str(sample.path) for sample in split.samples}


def test_folder_is_split_by_class(tmp_path):
    plain(tmp_path / "pets", {"dog": 10, "ape": 5, "cat": 3})
    (tmp_path / "pets" / ".cache").mkdir()
    (tmp_path / "pets" / "readme.txt").write_text("about")
    task = folder.load(tmp_path / "pets", normalization="none", **SMALL)
    assert (task.name, task.n_classes, task.class_names) == ("pets", 3, ("ape", "cat", "dog"))
    counts = [
        split.labels.bincount(minlength=3).tolist() for split in (task.train, task.val, task.test)
    ]
    assert counts == [[3, 1, 6], [1, 1, 2], [1, 1, 2]]
    images, labels = everything(task.train)
    assert [
        [2, 0, 1][label] for label in (value // 50 for value in grey(images))
    ] == labels.tolist()
    assert len(paths(task.train) | paths(task.val) | paths(task.test)) == 18
    again, other = (folder.load(tmp_path / "pets", seed=seed, **SMALL) for seed in (0, 1))
    assert paths(again.test) == paths(task.test) != paths(other.test)
    assert task.to("cpu").class_names == task.class_names


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "Val", "TEST")])
def test_folder_with_splits_as_given(tmp_path, names):
    for split, n in zip(names, (10, 2, 4), strict=True):
        plain(tmp_path / "all" / split, {"a": n, "b": n})
    task = folder.load(tmp_path / "all", **SMALL)
    assert [len(split) for split in (task.train, task.val, task.test)] == [20, 4, 8]
    assert all(f"/{names[2]}/" in path for path in paths(task.test))


def test_folder_without_a_test_split(tmp_path):
    for split in ("train", "val"):
        plain(tmp_path / "no_test" / split, {"a": 10, "b": 10})
    task = folder.load(tmp_path / "no_test", **SMALL)
    assert [len(split) for split in (task.train, task.val, task.test)] == [16, 20, 4]
    assert all("/train/" in path for path in paths(task.test))
    plain(tmp_path / "railway", {"train": 5, "car": 5})
    assert folder.load(tmp_path / "railway", **SMALL).class_names == ("car", "train")


def test_folder_says_what_is_the_matter(tmp_path):
    """A level too deep, and a test split of unlabelled images."""
    plain(tmp_path / "download" / "pets", {"ape": 3, "cat": 3, "dog": 3})
    with pytest.raises(
        ValueError, match=r"download holds 1 class folders: expected at least two; .*pets holds 3$"
    ):
        folder.load(tmp_path / "download")
    plain(tmp_path / "contest" / "train", {"a": 3, "b": 3})
    paint(tmp_path / "contest" / "test" / "1.png")
    with pytest.raises(
        ValueError,
        match=r"contest/test holds 1 images and no class folders: .*`trpts predict MODEL",
    ):
        folder.load(tmp_path / "contest")


def test_folder_leaves_out_what_is_no_image(tmp_path):
    plain(tmp_path / "pets", {"ape": 3, "cat": 3})
    (tmp_path / "pets/ape/notes.txt").write_text("text")
    (tmp_path / "pets/cat/.DS_Store").write_text("junk")
    with pytest.warns(
        UserWarning, match=r"pets: 1 entries .* left out, the first is .*ape/notes.txt"
    ):
        task = folder.load(tmp_path / "pets", **SMALL)
    assert len(task.train) + len(task.val) + len(task.test) == 6


def test_folder_refuses(tmp_path):
    with pytest.raises(
        ValueError, match="nowhere is not a folder: expected one with a sub-folder per class"
    ):
        folder.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="one holds 1 class folders: expected at least two"):
        folder.load(plain(tmp_path / "one", {"a": 3}))
    with pytest.raises(
        ValueError, match=r"empty/b holds no image: expected at least one of class 'b'"
    ):
        folder.load(plain(tmp_path / "empty", {"a": 3, "b": 0}))
    with pytest.raises(
        ValueError, match=r"few/b holds 2 images: expected at least 3, as val and test are cut"
    ):
        folder.load(plain(tmp_path / "few", {"a": 3, "b": 2}))
    plain(tmp_path / "valid" / "train", {"a": 3, "b": 3})
    plain(tmp_path / "valid" / "valid", {"a": 3, "b": 3})
    with pytest.raises(
        ValueError, match=r"valid/valid: a folder beside train: expected only train, val, test"
    ):
        folder.load(tmp_path / "valid")
    plain(tmp_path / "new" / "train", {"a": 3, "b": 3})
    plain(tmp_path / "new" / "test", {"a": 3, "c": 3})
    with pytest.raises(ValueError, match=r"new/test/c: class 'c' has no folder in train"):
        folder.load(tmp_path / "new")
    plain(tmp_path / "link", {"a": 3, "b": 3})
    (tmp_path / "link/a/9.png").symlink_to(paint(tmp_path / "secret.png"))
    with pytest.raises(
        ValueError,
        match=r"link/a: 'a/9.png' leads out of .*link: expected a path that stays inside",
    ):
        folder.load(tmp_path / "link")
    plain(tmp_path / "text", {"a": 3, "b": 3})
    (tmp_path / "text/a/0.png").write_text("text")
    task = folder.load(tmp_path / "text", **SMALL)
    with pytest.raises(ValueError, match=r"text/a/0.png is not an image"):
        [everything(split) for split in (task.train, task.val, task.test)]


# backbone names


@pytest.mark.filterwarnings(
    "ignore:Mapping deprecated model name"
)  # timm's own word, which says less
def test_a_bare_name_that_changed_its_meaning_is_announced():
    with pytest.warns(
        UserWarning,
        match=r"means vit_base_patch16_224\.augreg_in21k in timm .*\.orig_in21k up to timm",
    ):
        create_backbone("vit_base_patch16_224_in21k", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_backbone("vit_tiny_patch16_224.augreg_in21k", 2)
