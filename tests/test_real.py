"""Real tasks: manifests, a folder made from a checkout, tasks inside packages, pictures for
pages.
"""

import hashlib
import io
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from trpts.cli import main
from trpts.data import vtab
from trpts.data.load import load_task
from trpts.packages import package_file
from trpts_lab.named_tasks import find_real
from trpts_lab.real import manifest, packaged, pictures, rebuild
from trpts_lab.real import tasks as real
from trpts_lab.real.manifest import (
    Manifest,
    Row,
    quarters,
    quarters_differ,
    read_manifest,
    write_manifest,
)

MB = 1_000_000


def digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def encoded(image, form="PNG", **how):
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def noise(width, height, seed=0):
    """A smooth picture with different quarters, so that JPEG and scaling keep its colours."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


# manifests


def test_committed_manifests(project):
    """All 13, small, with the counts of their README, labels and classes that fit, and paths that
    stay inside.
    """
    files = {path.name for path in manifest.FOLDER.iterdir()}
    assert files == {f"{name}.tsv.gz" for name in real.CHECKOUTS}
    assert len(real.CHECKOUTS) == 13
    assert sum(path.stat().st_size for path in manifest.FOLDER.iterdir()) < 1.5 * MB
    n_test = {"nlvr_count": 831, "nlvr_xpos": 697, "coil20_azimuth": 432}
    for name, source in real.CHECKOUTS.items():
        found = read_manifest(name)
        folders = Counter(row.file.split("/")[1] for row in found.rows)
        assert folders == {"train800": 800, "val200": 200, "test": n_test.get(name, 1000)}, name
        assert len(found.class_names) == source.n_classes, name
        assert {row.label for row in found.rows} <= set(range(source.n_classes)), name
        assert len(source.commit) == 40
        for row in found.rows:
            assert ".." not in row.source
            assert not row.source.startswith("/")
            assert [len(text) for text in (row.source_hash, row.stored_hash, row.quarters)] == [
                16,
                16,
                24,
            ]
            assert row.operation in ("", "red and blue swapped") or row.operation.startswith("box ")


def test_manifests_survive_writing(tmp_path):
    found = read_manifest("nlvr_xpos")
    write_manifest("again", found, tmp_path)
    assert read_manifest("again", tmp_path) == found
    assert (tmp_path / "again.tsv.gz").read_bytes() == (
        manifest.FOLDER / "nlvr_xpos.tsv.gz"
    ).read_bytes()


def test_quarters_by_hand():
    """A 3 x 3 picture: the middle column and row belong to no quarter."""
    pixels = np.full((3, 3, 3), 99, np.uint8)
    pixels[0, 0], pixels[0, 2], pixels[2, 0], pixels[2, 2] = (
        (1, 2, 3),
        (4, 5, 6),
        (7, 8, 9),
        (255, 0, 128),
    )
    assert quarters(Image.fromarray(pixels)) == "010203040506070809ff0080"
    assert quarters_differ("010203040506070809ff0080", "010203040506070809fd0083") == 3


# a task made from a checkout: small, with everything that the real ones have

SOURCES = {  # (path in the checkout, operation, stored size, suffix)
    "a/big.jpg": ("", (104, 52), ".jpg"),
    "a/turned.jpg": ("", (30, 60), ".jpg"),
    "b/grey.png": ("", (40, 40), ".jpg"),
    "b/palette.png": ("", (40, 20), ".jpg"),
    "b/small.ppm": ("", (32, 32), ".png"),
    "c/boxes.png": ("box 150,0,250,100", (100, 100), ".png"),
    "c/blue.jpg": ("red and blue swapped", (50, 50), ".jpg"),
}


def painted(folder):
    """Write the sources; what shall be stored of each, by plain Pillow."""
    image = {name: noise(208, 104, seed) for seed, name in enumerate(SOURCES)}
    image["a/turned.jpg"] = noise(120, 60, 10)
    image["b/grey.png"] = noise(80, 80, 11).convert("L")
    image["b/palette.png"] = noise(80, 40, 12).quantize(16)
    image["b/small.ppm"] = noise(32, 32, 13)
    image["c/boxes.png"] = noise(400, 100, 14)
    image["c/blue.jpg"] = noise(100, 100, 15)
    forms = {".jpg": "JPEG", ".png": "PNG", ".ppm": "PPM"}
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    for name, picture in image.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, forms[path.suffix], **({"exif": exif} if "turned" in name else {}))
    read = {name: Image.open(folder / name) for name in image}
    lanczos = Image.Resampling.LANCZOS
    ready = {
        "a/big.jpg": read["a/big.jpg"].resize((104, 52), lanczos),
        "a/turned.jpg": read["a/turned.jpg"]
        .transpose(Image.Transpose.ROTATE_270)
        .resize((30, 60), lanczos),
        "b/grey.png": read["b/grey.png"].resize((40, 40), lanczos),
        "b/palette.png": read["b/palette.png"].convert("RGB").resize((40, 20), lanczos),
        "b/small.ppm": read["b/small.ppm"],
        "c/boxes.png": read["c/boxes.png"].crop((150, 0, 250, 100)),
        "c/blue.jpg": Image.fromarray(np.asarray(read["c/blue.jpg"])[:, :, ::-1]).resize(
            (50, 50), lanczos
        ),
    }
    how = {
        ".jpg": {"form": "JPEG", "quality": 92, "optimize": True},
        ".png": {"form": "PNG", "optimize": True},
    }
    return {name: encoded(picture, **how[SOURCES[name][2]]) for name, picture in ready.items()}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """(checkout, root, stored folder, manifest) of a task "toy" of seven images."""
    checkout, stored, rows = tmp_path / "checkout", tmp_path / "stored", []
    for i, (name, content) in enumerate(painted(checkout).items()):
        operation, size, suffix = SOURCES[name]
        split = ("train800", "val200", "test")[i % 3]
        file = f"images/{split}/{i:06}{suffix}"
        (stored / file).parent.mkdir(parents=True, exist_ok=True)
        (stored / file).write_bytes(content)
        source_hash = digest((checkout / name).read_bytes())
        rows.append(
            Row(
                file,
                i % 2,
                name,
                source_hash,
                operation,
                size,
                digest(content),
                quarters(Image.open(stored / file)),
            )
        )
    rows.sort(key=lambda row: ("train800", "val200", "test").index(row.file.split("/")[1]))
    found = Manifest(
        tuple(rows), ("even", "odd"), sum(p.stat().st_size for p in stored.rglob("*.*g"))
    )
    source = real.Source("natural", 2, "someone/toys", "c" * 40, "CC0")
    monkeypatch.setitem(real.CHECKOUTS, "toy", source)
    monkeypatch.setitem(real.TASKS, "toy", source)
    use(monkeypatch, found)
    monkeypatch.setattr(vtab, "COUNTS", {})
    return checkout, tmp_path / "root", stored, found


def use(monkeypatch, found):
    """Have `found` for every task's manifest."""
    for module in (real, rebuild):
        monkeypatch.setattr(module, "read_manifest", lambda name: found)


def test_a_task_made_from_a_checkout_is_the_stored_one(toy):
    checkout, root, stored, found = toy
    made = rebuild.make("toy", checkout, root, against=stored)
    assert made == rebuild.Made(root / "real" / "toy", 7, 7, 0)
    for row in found.rows:
        assert (made.folder / row.file).read_bytes() == (stored / row.file).read_bytes(), row.source
    task = real.load(root, "toy", image_size=8)
    assert (task.name, task.class_names) == ("real/toy", ("even", "odd"))
    assert [len(split) for split in (task.train, task.val, task.test)] == [3, 2, 2]
    for split, name in (("train", "train800"), ("val", "val200"), ("test", "test")):
        labels = {row.file: row.label for row in found.rows}
        for sample in getattr(task, split).samples:
            file = sample.path.relative_to(made.folder).as_posix()
            assert file.startswith(f"images/{name}/")
            assert labels[file] == sample.label
    both = (made.folder / "train800val200.txt").read_text()
    assert (
        both
        == (made.folder / "train800.txt").read_text() + (made.folder / "val200.txt").read_text()
    )
    assert sorted(p.name for p in root.iterdir()) == ["real"]
    assert [p.name for p in (root / "real").iterdir()] == ["toy"]


def test_another_encoder_passes_and_another_picture_does_not(toy, monkeypatch):
    """What a JPEG library may do is let through and counted; a wrong crop, colours or size are
    not.
    """
    checkout, root, stored, found = toy
    monkeypatch.setitem(rebuild.QUALITY, ".jpg", {"format": "JPEG", "quality": 92})
    made = rebuild.make("toy", checkout, root, against=stored)
    assert (made.n_images, made.n_identical, made.difference) == (7, 2, 0)
    shutil.rmtree(root)
    monkeypatch.setitem(rebuild.QUALITY, ".jpg", {"format": "JPEG", "quality": 20})
    with pytest.raises(ValueError, match=r"a pixel differs by \d+ of 255: expected at most 2"):
        rebuild.make("toy", checkout, root, against=stored)
    for operation, source in (
        ("", "c/blue.jpg"),
        ("box 140,0,240,100", "c/boxes.png"),
        ("", "c/boxes.png"),
    ):
        wrong = [
            row._replace(operation=operation) if row.source == source else row for row in found.rows
        ]
        use(monkeypatch, found._replace(rows=tuple(wrong)))
        with pytest.raises(
            ValueError,
            match=r"the mean colour of a quarter is \d+ of 255 from ours, expected at most",
        ):
            rebuild.make("toy", checkout, root)
    assert not list(root.rglob("*.*"))


def git(folder, *arguments):
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], check=True
    )


def test_checkouts_that_do_not_do(toy, tmp_path):
    """Each ends in one sentence that says what to clone or to check out, and leaves nothing
    behind.
    """
    checkout, root, stored, _ = toy
    clone = r"expected github.com/someone/toys at commit c{40}$"
    clone_it = r"clone https://github.com/someone/toys .*, check out its commit c{12}, and"
    words = f"{clone_it} run `trpts data make toy --from"
    with pytest.raises(
        ValueError,
        match=rf"none is not a folder: {words} CHECKOUT`, which reads 7 .* writes 7, 0.0 MB$",
    ):
        rebuild.make("toy", tmp_path / "none", root)
    with pytest.raises(
        ValueError, match=rf"lacks 7 of the 7 images of real/toy, the first is a/big.jpg: {clone}"
    ):
        rebuild.make("toy", stored, root)
    whole = (checkout / "c/blue.jpg").read_bytes()
    (checkout / "c/blue.jpg").write_bytes(whole[:-1])
    with pytest.raises(
        ValueError,
        match=rf"blue.jpg has sha256 {digest(whole[:-1])}…, expected {digest(whole)}…: {clone}",
    ):
        rebuild.make("toy", checkout, root)
    (checkout / "c/blue.jpg").unlink()
    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "another")
    with pytest.raises(
        ValueError,
        match=r"lacks 1 of the 7 images .*: it is at commit \w{12}, expected c{12} of "
        r"github.com/someone/toys: run `git checkout c{40}` there$",
    ):
        rebuild.make("toy", checkout, root)
    assert not list(root.rglob("*.*"))


def test_other_bad_input(toy, monkeypatch):
    checkout, root, _, found = toy
    with pytest.raises(ValueError, match="real task 'toys' is unknown: expected one of caltech101"):
        rebuild.make("toys", checkout, root)
    with pytest.raises(
        ValueError, match="real task 'mnist' is a task that comes inside a package: expected one of"
    ):
        rebuild.make("mnist", checkout, root)
    usage = shutil.disk_usage("/")._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match=r"toy needs 0 MB, and 0 MB are free: free some space"):
            rebuild.make("toy", checkout, root)
    broken = b"not an image"
    (checkout / "b/grey.png").write_bytes(broken)
    changed = [
        r._replace(source_hash=digest(broken)) if r.source == "b/grey.png" else r
        for r in found.rows
    ]
    with monkeypatch.context() as patch:
        use(patch, found._replace(rows=tuple(changed)))
        with pytest.raises(ValueError, match=r"grey.png is not an image: expected one of JPEG"):
            rebuild.make("toy", checkout, root)
    assert not list(root.rglob("*.*"))
    (root / "real" / "toy").mkdir()
    with pytest.raises(ValueError, match=r"toy is there already: remove it to make it anew$"):
        rebuild.make("toy", checkout, root)


def test_a_folder_that_changed_is_noticed(toy):
    checkout, root, _, found = toy
    folder = rebuild.make("toy", checkout, root).folder
    assert rebuild.check("toy", root) == (folder, 7, 7, None)
    path = folder / next(row.file for row in found.rows if row.source == "a/big.jpg")
    whole = path.read_bytes()
    image = Image.open(io.BytesIO(whole))
    path.write_bytes(encoded(image, "JPEG", quality=95))  # another encoder
    assert rebuild.check("toy", root)[1:3] == (7, 6)
    for content, words in (
        (
            encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG"),
            r"quarter is \d+ of 255 from ours",
        ),
        (encoded(image.resize((10, 10)), "JPEG"), r"has the size \(10, 10\), expected \(104, 52\)"),
        (whole[:-90], "is a damaged image: image file is truncated"),
        (b"version of a pointer", "is not an image: expected one of JPEG, PNG"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            rebuild.check("toy", root)
    path.unlink()
    with pytest.raises(
        ValueError,
        match=r"jpg cannot be read: No such file or directory: remove .*toy and make it anew",
    ):
        rebuild.check("toy", root)
    lines = (folder / "test.txt").read_text()
    (folder / "test.txt").write_text(lines.replace(" 0\n", " 1\n", 1))
    with pytest.raises(
        ValueError,
        match=r"test.txt is not the list of the manifest: remove .*toy and make it anew$",
    ):
        rebuild.check("toy", root)
    with pytest.raises(
        ValueError, match="real task 'mnist' has no manifest: expected one of caltech101"
    ):
        rebuild.check("mnist", root)


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(toy, monkeypatch):
    checkout, root, *_ = toy
    monkeypatch.setattr(
        rebuild, "_write_lists", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left", "f"))
    )
    with pytest.raises(OSError, match="No space left"):
        rebuild.make("toy", checkout, root)
    assert not list(root.rglob("*.*"))


def test_command(toy, capsys):
    checkout, root, stored, _ = toy
    command = [
        "data",
        "make",
        "real/toy",
        "--from",
        str(checkout),
        "--root",
        str(root),
        "--against",
        str(stored),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{root / 'real' / 'toy'}: 7 images, 7 of them ours byte by byte"
    assert said[1].endswith("no pixel differs by more than 0 of 255")
    assert said[2] == f'trpts.load_task("real/toy", root="{root}")'
    assert main(command) == 2
    assert (
        capsys.readouterr().err
        == f"trpts: {root / 'real' / 'toy'} is there already: remove it to make it anew\n"
    )
    for words in (
        ["make"],
        ["make", "toy"],
        ["make", "--from", "."],
        ["check"],
        ["check", "toy", "--from", "."],
    ):
        assert main(["data", *words]) == 2
        assert (
            "expected `trpts data make NAME --from CHECKOUT` or `trpts data check NAME`"
            in capsys.readouterr().err
        )
    assert main(["data", "check", "toy", "--root", str(root)]) == 0
    assert capsys.readouterr().out.startswith(
        f"{root / 'real' / 'toy'}: 7 images, 7 of them ours byte by byte\n"
    )
    assert main(["data", "list", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert (
        "real/toy: natural, 2 classes; from github.com/someone/toys; licence: CC0\n    in " in said
    )
    assert "make gtsrb" in " ".join(said.split())
    assert "real/elpv" in said


# the tasks by name


def test_a_missing_task_says_what_to_clone_and_how_much(tmp_path):
    clone_it = r"clone https://github.com/lil-lab/nlvr .* commit 18924841aa96"
    words = f"{clone_it}, .*reads 829 of its images and writes 1,831, 1.3"
    for door in (load_task, find_real):
        with pytest.raises(
            ValueError, match=rf"^real/nlvr_count is neither in .*/real nor in .*: {words} MB$"
        ):
            door("real/nlvr_count", root=tmp_path)
    with pytest.raises(
        ValueError, match=r"'real/nlvr_counts' is unknown: did you mean real/nlvr_count"
    ):
        load_task("real/nlvr_counts", root=tmp_path)


def test_both_places_and_a_list_of_classes_that_does_not_fit(toy):
    checkout, root, *_ = toy
    folder = rebuild.make("toy", checkout, root).folder
    assert real.find(root, "toy") == real.find(root / "real", "toy") == folder
    (folder / "classes.txt").write_text("even\n")
    with pytest.raises(ValueError, match=r"classes.txt names 1 classes, expected 2"):
        real.load(root, "toy")
    (folder / "classes.txt").unlink()
    assert real.load(root, "toy").class_names == ()


@pytest.fixture
def shared(project):
    """The tasks as they were cut, where they lie beside the checkout."""
    folder = project.root.parent / "shared" / "data"
    if not (folder / "nlvr_count").is_dir():
        pytest.skip(
            "the real tasks are not beside this checkout: `trpts data list` says where to get them"
        )
    return folder


@pytest.mark.parametrize("name", ["gtsrb", "nlvr_count", "nlvr_xpos"])
def test_stored_tasks_come_out_of_a_made_up_checkout_again(shared, name, tmp_path, monkeypatch):
    """Their images are stored without loss, so that sources can be made which hold them: byte by
    byte the same.
    """
    found, checkout, rows = read_manifest(name), tmp_path / "checkout", []
    for row in found.rows[:40]:
        path = checkout / f"{len(rows)}_{row.source.replace('/', '_')}"
        checkout.mkdir(exist_ok=True)
        image = Image.open(shared / name / row.file)
        if row.operation:
            whole = Image.new("RGB", (400, 100), (200, 200, 200))
            whole.paste(image, (int(row.operation.split()[1].split(",")[0]), 0))
            image = whole
        image.save(path)
        rows.append(row._replace(source=path.name, source_hash=digest(path.read_bytes())))
    use(monkeypatch, found._replace(rows=tuple(rows)))
    made = rebuild.make(name, checkout, tmp_path, against=shared / name)
    assert made[1:] == (40, 40, 0)


def test_stored_tasks_are_those_of_the_manifests(shared):
    for name in ("brain_mri", "finger_count", "coil20_azimuth"):
        found, task = read_manifest(name), load_task(f"real/{name}", root=shared, image_size=16)
        assert (task.n_classes, task.class_names) == (real.TASKS[name].n_classes, found.class_names)
        labels = {row.file: row.label for row in found.rows}
        for sample in (*task.train.samples, *task.val.samples, *task.test.samples):
            assert labels.pop(sample.path.relative_to(shared / name).as_posix()) == sample.label
        assert not labels
        for row in found.rows[::100]:
            assert digest((shared / name / row.file).read_bytes()) == row.stored_hash


# tasks inside packages


def test_mnist():
    try:
        task = load_task("real/mnist", image_size=14, normalization="none")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    counts = [split.labels.bincount().tolist() for split in (task.train, task.val, task.test)]
    assert counts == [[80] * 10, [20] * 10, [100] * 10]
    images, labels = next(task.train.batches(5))
    assert images.shape == (5, 3, 14, 14)
    assert images.min() >= 0
    assert images.max() <= 1
    table = np.loadtxt(packaged.find("mnist"), delimiter=",", dtype=np.uint8)
    of = {row[:-1].tobytes(): int(row[-1]) for row in table}
    seen = [
        s.path.getchannel(0).tobytes()
        for split in (task.train, task.val, task.test)
        for s in split.samples
    ]
    assert len(set(seen)) == 2000  # no digit in two splits
    assert all(of[s.path.getchannel(0).tobytes()] == s.label for s in task.val.samples)
    assert torch.equal(labels, task.train.labels[:5])
    again = load_task("real/mnist", image_size=14, normalization="none")
    assert (
        task.data_hash() == again.data_hash() != load_task("real/mnist", image_size=14).data_hash()
    )
    with pytest.raises(ValueError, match="normalization='unknown'"):
        load_task("real/mnist", normalization="unknown")


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A package elpv-dataset of 40 small cells, ten of each level."""
    folder = tmp_path / "site" / "elpv_dataset" / "data"
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(40):
        level = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")[i % 4]
        Image.new("L", (6, 6), i).save(folder / "images" / f"cell{i:04}.png")
        lines.append(f"images/cell{i:04}.png  {level}   {'mono' if i % 3 else 'poly'}\n")
    (folder / "labels.csv").write_text("".join(lines))
    info = tmp_path / "site" / "elpv_dataset-1.0.0.post1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: elpv-dataset\nVersion: 1.0.0.post1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    whole = hashlib.sha256((folder / "labels.csv").read_bytes()).hexdigest()
    monkeypatch.setitem(packaged.FILES, "elpv", (*packaged.ELPV[:2], whole))
    monkeypatch.setattr(packaged, "SIZES", {"train": 16, "val": 8, "test": 12})
    return folder


def test_elpv(cells):
    task = load_task("real/elpv", image_size=8, normalization="none")
    assert task.class_names == (
        "functional",
        "possibly defective",
        "probably defective",
        "defective",
    )
    assert [s.labels.bincount().tolist() for s in (task.train, task.val, task.test)] == [
        [4] * 4,
        [2] * 4,
        [3] * 4,
    ]
    for images, labels in task.test.batches(1):
        assert round(images.mean().item() * 255) % 4 == labels.item()
    (cells / "images" / "cell0007.png").unlink()
    with pytest.raises(
        ValueError, match=r"labels.csv:8: .*cell0007.png does not exist: install the package anew"
    ):
        load_task("real/elpv")
    (cells / "labels.csv").write_text("")
    with pytest.raises(
        ValueError,
        match=r"labels.csv of elpv-dataset 1.0.0.post1 has sha256 e3b0c44298fc1c14…, expected",
    ):
        load_task("real/elpv")


# pictures for pages


def test_pictures_are_free_and_are_what_was_looked_up():
    assert {found.licence for found in pictures.PICTURES.values()} <= {"CC0", "public domain"}
    assert all(found.credit and found.shows for found in pictures.PICTURES.values())
    try:
        images = {name: pictures.picture(name) for name in pictures.PICTURES}
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert {image.mode for image in images.values()} == {"RGB"}
    assert images["cat"].size == (451, 300)
    with pytest.raises(
        ValueError, match="picture 'astronaut' is unknown: expected one of camera, cat"
    ):
        pictures.picture("astronaut")
    with pytest.raises(
        ValueError,
        match=r"cat|chelsea.png .* has sha256 596aa1e7cb875eb7…, expected 0000000000000000…",
    ):
        package_file("scikit-image", "skimage/data/chelsea.png", "0" * 64)
