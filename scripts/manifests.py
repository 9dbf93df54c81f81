"""Make the compact manifests of the real tasks from the tasks as they were first cut.

    python scripts/manifests.py FOLDER

FOLDER holds a folder for each task, with manifest.tsv (file, label, source path, source sha256,
operation, size, stored sha256), classes.txt and images/. Written:
trpts_lab/real/manifests/<task>.tsv.gz, hashes cut to 16 digits and the mean colours of each image's
quarters added. Only for whoever cuts the tasks anew: readers use what is committed.
"""

import csv
import sys
from pathlib import Path

from PIL import Image

from trpts_lab.real.manifest import Manifest, Row, quarters, short_hash_of, write_manifest
from trpts_lab.real.tasks import CHECKOUTS


def compact(folder):
    """The Manifest of one task's folder; stops where an image is not what the table says."""
    rows, n_bytes = [], 0
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            path = folder / line["file"]
            content = path.read_bytes()
            n_bytes += len(content)
            if short_hash_of(content) != line["stored sha256"][:16]:
                sys.exit(f"{path} does not have the hash that {folder / 'manifest.tsv'} states")
            with Image.open(path) as image:
                size, means = image.size, quarters(image)
            rows.append(
                Row(
                    line["file"],
                    int(line["label"]),
                    line["source path"],
                    line["source sha256"][:16],
                    line["operation"],
                    size,
                    line["stored sha256"][:16],
                    means,
                )
            )
    class_names = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    return Manifest(tuple(rows), tuple(class_names), n_bytes)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    for task in CHECKOUTS:
        write_manifest(task, compact(Path(sys.argv[1]) / task))
        print(task, flush=True)
