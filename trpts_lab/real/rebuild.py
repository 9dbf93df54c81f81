"""Make a real task's folder by its manifest, from a checkout of the repository with its images."""

import io
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from trpts.data.reading import FORMATS
from trpts_lab.real.manifest import (
    TOLERANCE,
    Row,
    quarters,
    quarters_differ,
    read_manifest,
    short_hash_of,
)
from trpts_lab.real.tasks import CHECKOUTS, TASKS, find, how_to_make

LISTS = ("train800", "val200", "test")
ROOM = 3  # free space asked for, in sizes of what is written: disks count in blocks of 4 KiB
# Colours at half the size (4:2:0) is Pillow's own choice at this quality; said aloud it would be
# applied to grey too.
QUALITY = {
    ".jpg": {"format": "JPEG", "quality": 92, "optimize": True},
    ".png": {"format": "PNG", "optimize": True},
}


class Made(NamedTuple):
    """What was made: the folder, images, how many are ours byte by byte, and the largest difference
    of a pixel from a folder that they were held against (None without one).
    """

    folder: Path
    n_images: int
    n_identical: int
    difference: int | None


def make(
    name: str, checkout: str | Path, root: str | Path, against: str | Path | None = None
) -> Made:
    """Write <root>/real/<name>/ from the images in `checkout`; a Made.

    Every source must have the hash that the manifest states. A JPEG library of another version may
    round otherwise: an image whose bytes are not ours must have our size and, in every quarter, our
    mean colours, within 2 of 255.

    against  a folder of the same layout: every decoded pixel must lie within 2 of 255 of the one
             there
    raises   ValueError: unknown task, a checkout that lacks an image or holds another version of
             one, a folder that is there already, an image that comes out otherwise; OSError: the
             disk is full, or the folder cannot be written. Nothing is left behind then
    """
    if name not in CHECKOUTS:
        known = "a task that comes inside a package" if name in TASKS else "unknown"
        raise ValueError(f"real task {name!r} is {known}: expected one of {', '.join(CHECKOUTS)}")
    checkout, folder, manifest = Path(checkout), Path(root) / "real" / name, read_manifest(name)
    if not checkout.is_dir():
        raise ValueError(f"{checkout} is not a folder: {how_to_make(name)}")
    if folder.exists():
        raise ValueError(f"{folder} is there already: remove it to make it anew")
    missing = [source for source in manifest.sources if not (checkout / source).is_file()]
    if missing:
        raise ValueError(
            f"{checkout} lacks {len(missing):,} of the {len(manifest.sources):,} images of "
            f"real/{name}, the first is {missing[0]}: {_advice(checkout, CHECKOUTS[name])}"
        )
    temporary = folder.with_name(f".{name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        free, need = shutil.disk_usage(temporary).free, ROOM * manifest.n_bytes
        if free < need:
            raise OSError(
                f"{folder} needs {need / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free: "
                "free some space"
            )
        n_identical, differences = 0, []
        for row in manifest.rows:
            content, identical = _made(checkout / row.source, row, CHECKOUTS[name])
            n_identical += identical
            if against is not None:
                differences.append(_difference(content, Path(against) / row.file))
            path = temporary / row.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        _write_lists(temporary, manifest)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Made(folder, len(manifest.rows), n_identical, max(differences, default=None))


def check(name: str, root: str | Path) -> Made:
    """Hold a task's folder against its manifest: the same lists, and every image ours, byte by byte
    or by size and colours. A Made.

    raises  ValueError: unknown task, no folder, another list, an image that is missing, damaged or
            another
    """
    if name not in CHECKOUTS:
        raise ValueError(
            f"real task {name!r} has no manifest: expected one of {', '.join(CHECKOUTS)}"
        )
    folder, manifest, n_identical = find(root, name), read_manifest(name), 0

    def read(file):
        try:
            return (folder / file).read_bytes()
        except OSError as error:
            raise ValueError(f"{folder / file} cannot be read: {error.strerror}: {anew}") from error

    anew = f"remove {folder} and make it anew"
    for file, lines in _lists(manifest).items():
        if read(file).decode(errors="replace").splitlines() != lines:
            raise ValueError(f"{folder / file} is not the list of the manifest: {anew}")
    for row in manifest.rows:
        n_identical += _ours(read(row.file), row, folder / row.file)
    return Made(folder, len(manifest.rows), n_identical, None)


def _ours(content, row, path):
    """True if an image has the manifest's bytes, False if its size and colours; else ValueError."""
    if short_hash_of(content) == row.stored_hash:
        return True
    image = _opened(content, path)
    size, means = image.size, quarters(image)
    if size != row.size:
        raise ValueError(f"{path} has the size {size}, expected {row.size}")
    if (difference := quarters_differ(means, row.quarters)) > TOLERANCE:
        raise ValueError(
            f"{path}: the mean colour of a quarter is {difference} of 255 from ours, expected at "
            f"most {TOLERANCE}: another image, or Pillow {PIL.__version__} made it otherwise; "
            "install the versions of constraints.txt"
        )
    return False


def _made(path, row, source):
    """(bytes of one image of the task, whether they equal ours), checked on both sides."""
    content = path.read_bytes()
    if (found := short_hash_of(content)) != row.source_hash:
        raise ValueError(
            f"{path} has sha256 {found}…, expected {row.source_hash}…: "
            f"{_advice(path.parent, source)}"
        )
    content = transformed(content, row, path)
    return content, _ours(content, row, path)


def transformed(content: bytes, row: Row, path: str | Path) -> bytes:
    """A source image's bytes -> the stored image's bytes: turned as its EXIF says, cropped,
    recoloured, scaled.

    Grey stays grey, all else becomes RGB. Lanczos; JPEG of quality 92 with colours at half the
    size, or PNG.
    """
    image = ImageOps.exif_transpose(_opened(content, path))
    image = image if image.mode == "L" else image.convert("RGB")
    if row.operation.startswith("box "):
        image = image.crop(tuple(map(int, row.operation[4:].split(","))))
    elif row.operation == "red and blue swapped":
        image = Image.merge("RGB", image.convert("RGB").split()[::-1])
    elif row.operation:
        raise ValueError(f"{row.file}: operation {row.operation!r} is unknown")
    if image.size != row.size:
        image = image.resize(row.size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, **QUALITY[Path(row.file).suffix])
    return buffer.getvalue()


def _opened(content, path):
    """The whole image of some bytes that were read at `path`, decoded."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        image.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image: expected one of {', '.join(FORMATS)}") from None
    except (
        Exception
    ) as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error and others
        raise ValueError(f"{path} is a damaged image: {error}") from error
    return image


def _difference(content, path):
    """Largest pixel difference of encoded image and the file at `path`; raises over TOLERANCE."""
    try:
        with Image.open(io.BytesIO(content)) as one, Image.open(path) as other:
            pixels, theirs = (
                np.asarray(image.convert("RGB"), dtype=np.int16) for image in (one, other)
            )
    except OSError as error:
        raise ValueError(f"{path} cannot be compared with: {error}") from error
    if pixels.shape != theirs.shape:
        raise ValueError(
            f"{path} has the size {theirs.shape[1::-1]}, the image made {pixels.shape[1::-1]}"
        )
    difference = int(np.abs(pixels - theirs).max())
    if difference > TOLERANCE:
        raise ValueError(
            f"{path}: a pixel differs by {difference} of 255: expected at most {TOLERANCE}"
        )
    return difference


def _lists(manifest):
    """{file name: lines} of the task's lists and of its classes."""
    lines = {f"{name}.txt": [] for name in LISTS}
    for row in manifest.rows:
        lines[f"{row.file.split('/')[1]}.txt"].append(f"{row.file} {row.label}")
    lines["train800val200.txt"] = lines["train800.txt"] + lines["val200.txt"]
    return lines | {"classes.txt": list(manifest.class_names)}


def _write_lists(folder, manifest):
    for name, lines in _lists(manifest).items():
        (folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")


def _advice(checkout, source):
    """What to do about a checkout that does not hold what it should."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        commit = done.stdout.strip() if done.returncode == 0 else ""
    except OSError:  # no git
        commit = ""
    if commit and commit != source.commit:
        return (
            f"it is at commit {commit[:12]}, expected {source.commit[:12]} of "
            f"github.com/{source.origin}: run `git checkout {source.commit}` there"
        )
    return f"expected github.com/{source.origin} at commit {source.commit}"
