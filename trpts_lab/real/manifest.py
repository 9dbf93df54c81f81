"""Manifests of the real tasks: where each image comes from, what was done to it, and how to know it
again.

One compressed table for each task, `manifests/<task>.tsv.gz`: paths and hashes, no image. Made by
`scripts/manifests.py` from the tasks as they were first cut.

    #bytes <tab> 12800000                 of all images together
    #class <tab> name                     one line for each label, in order
    file  label  source  source_hash  operation  size  stored_hash  quarters
"""

import gzip
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "manifests"
TOLERANCE = 2  # of 255: what another JPEG library may do to a pixel


class Row(NamedTuple):
    """One image: `file` and `source` are paths below the task's folder and below the checkout.

    operation  "", "box LEFT,TOP,RIGHT,BOTTOM" or "red and blue swapped"
    size       (width, height) as stored
    quarters   mean red, green and blue of the stored image's four quarters, as 24 hex digits: see
               `quarters`
    Hashes are the first 16 hex digits of the SHA-256 of the whole file.
    """

    file: str
    label: int
    source: str
    source_hash: str
    operation: str
    size: tuple
    stored_hash: str
    quarters: str


class Manifest(NamedTuple):
    """Rows as in train800.txt, val200.txt, test.txt; class_names by label; n_bytes of images."""

    rows: tuple
    class_names: tuple
    n_bytes: int

    @property
    def sources(self) -> dict[str, str]:
        """{path in the checkout: hash}, each once."""
        return {row.source: row.source_hash for row in self.rows}


def read_manifest(name: str, folder: str | Path = FOLDER) -> Manifest:
    """The Manifest of a task, say "nlvr_count"."""
    rows, class_names, n_bytes = [], [], 0
    for line in (
        gzip.decompress((Path(folder) / f"{name}.tsv.gz").read_bytes()).decode().splitlines()
    ):
        first, *rest = line.split("\t")
        if first == "#bytes":
            n_bytes = int(rest[0])
        elif first == "#class":
            class_names.append(rest[0])
        else:
            label, source, source_hash, operation, size, stored_hash, means = rest
            width, height = map(int, size.split("x"))
            rows.append(
                Row(
                    first,
                    int(label),
                    source,
                    source_hash,
                    operation,
                    (width, height),
                    stored_hash,
                    means,
                )
            )
    return Manifest(tuple(rows), tuple(class_names), n_bytes)


def write_manifest(name: str, manifest: Manifest, folder: str | Path = FOLDER) -> None:
    """Write a Manifest; the same one gives the same bytes on every day."""
    lines = [f"#bytes\t{manifest.n_bytes}", *(f"#class\t{text}" for text in manifest.class_names)]
    for row in manifest.rows:
        width, height = row.size
        lines.append("\t".join(map(str, row._replace(size=f"{width}x{height}"))))
    buffer = io.BytesIO()
    # no name and no date inside
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())
    (Path(folder) / f"{name}.tsv.gz").write_bytes(buffer.getvalue())


def short_hash_of(content: bytes) -> str:
    """First 16 hex digits of the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def quarters(image: Image.Image) -> str:
    """Mean red, green and blue of a Pillow image's upper left, upper right, lower left and lower
    right quarter.

    24 hex digits, rounded to whole numbers of 255. Where every pixel of two images is within
    TOLERANCE, so are these (but for rounding): they tell a reader without our copy that the right
    part of the right image was taken.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)  # [height, width, 3]
    y, x = (max(1, n // 2) for n in pixels.shape[:2])
    parts = [half for rows in (pixels[:y], pixels[-y:]) for half in (rows[:, :x], rows[:, -x:])]
    return bytes(int(mean.round()) for part in parts for mean in part.mean((0, 1))).hex()


def quarters_differ(one: str, other: str) -> int:
    """The largest difference of two `quarters`."""
    return max(abs(a - b) for a, b in zip(bytes.fromhex(one), bytes.fromhex(other), strict=True))
