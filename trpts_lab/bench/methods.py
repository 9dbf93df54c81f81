"""A training step of ViT-B/16 by each method of the comparison: time, peak memory, what is trained
and what is stored.

Weights, images and selections are drawn: time does not care. GPS and FPS differ from random
selection in the score alone, and a step by them is the same. Peak memory is taken in a process of
its own for each method.
"""

import torch
from torch.nn.functional import cross_entropy

from trpts.backbones import create_backbone
from trpts.data import Split, Task
from trpts.meter import peak_memory_bytes
from trpts.sparse import sparse_layers
from trpts_lab.bench.clock import Bench, interleaved, peak_in_a_process, timed
from trpts_lab.bench.predict import prepared_by
from trpts_lab.bench.train import BACKBONE, N_CLASSES
from trpts_lab.compared import FPS, FULL, GPS, METHODS

STEPPING = tuple(name for name in METHODS if name not in (GPS, FPS))
INDEX_BYTES, VALUE_BYTES = 2, 4  # of a task's file: see `trpts.delta`


class Stepper:
    """One method's model, optimiser and step."""

    def __init__(self, name, batch_size, device):
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device)
        self.labels = torch.randint(0, N_CLASSES, (batch_size,), generator=generator).to(device)
        split = Split(self.images[:2], self.labels[:2])
        self.model = create_backbone(BACKBONE, N_CLASSES).to(device)
        self.around = prepared_by(
            name, self.model, Task("drawn", N_CLASSES, split, split, split)
        ).around
        self.trained = [p for p in self.model.train().parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=1e-4, fused=True)

    def step(self):
        """One training step."""
        with self.around():
            cross_entropy(self.model(self.images), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def sizes(self):
        """{"n_trainable", "stored_bytes"}: trained values, plus indices of connections."""
        n_trainable = sum(p.numel() for p in self.trained)
        n_selected = sum(layer.index.numel() for layer in sparse_layers(self.model).values())
        return {
            "n_trainable": n_trainable,
            "stored_bytes": VALUE_BYTES * n_trainable + INDEX_BYTES * n_selected,
        }


def bench_methods(batch_size=8, rounds=5, device="cpu"):
    """{method: {"s": [per round], "peak_bytes", "n_trainable", "stored_bytes"}} of a step."""
    steppers = {name: Stepper(name, batch_size, device) for name in STEPPING}
    rows = interleaved(
        {name: timed(stepper.step, device) for name, stepper in steppers.items()}, rounds
    )
    for name, stepper in steppers.items():
        rows[name] |= stepper.sizes()
    del steppers
    for name, row in rows.items():
        row["peak_bytes"] = peak_in_a_process(__name__, name, batch_size, device)
    return rows


def peak_of(name, batch_size, device):
    """Peak memory of three steps."""
    stepper = Stepper(name, batch_size, device)
    for _ in range(3):
        stepper.step()
    return peak_memory_bytes(device)


BENCH = Bench(
    bench_methods, [(method, FULL, None) for method in STEPPING if method != FULL], batch_size=8
)
