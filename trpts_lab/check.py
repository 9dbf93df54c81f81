"""Check every file that a profile's benchmark needs, before hours are spent on running it."""

import sys
import time

from trpts.backbones import create_backbone
from trpts.data.load import load_task
from trpts_lab.tasks import weights_path

PROGRESS_EVERY_S = 5.0


def check_benchmark(project, profile):
    """Load the weights and each task and read all images; {backbone or task: sentence} of those
    that fail.

    Prints a line for each: the weights' hash, or the sizes of the splits and the hash of the data.
    """
    bench, failures = profile["benchmark"], {}

    def look(name, check):
        try:
            print(f"{name}: {check()}", flush=True)
        except (ValueError, OSError) as error:
            failures[name] = str(error)
            print(f"{name}: FAILED: {error}", flush=True)

    def weights():
        size = bench["reading"].get("image_size")
        model = create_backbone(
            bench["backbone"], 2, weights_path(bench | {"project": project}), image_size=size
        )
        return f"weights {model.weights_hash}"

    look(bench["backbone"], weights)
    for name in bench["tasks"]:
        look(
            name,
            lambda name=name: read_everything(name, project.root / bench["root"], bench["reading"]),
        )
    print(f"{len(failures)} of {1 + len(bench['tasks'])} failed", flush=True)
    return failures


def read_everything(name, root, reading):
    """Read all images of a task: split sizes and data hash, as text; raises as its reader does."""
    task = load_task(name, root, **reading)
    spoken = time.monotonic()
    for split in ("train", "val", "test"):
        n, images = 0, getattr(task, split)
        for _, labels in images.batches(64):
            n += len(labels)
            if time.monotonic() - spoken > PROGRESS_EVERY_S:
                spoken = time.monotonic()
                print(f"{name}: {split}, {n} of {len(images)} images", file=sys.stderr, flush=True)
    return f"{len(task.train)} + {len(task.val)} + {len(task.test)} images, data {task.data_hash()}"
