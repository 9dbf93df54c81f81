"""What is left of each method's cost when it predicts: ViT-B/16 as tuning by it leaves the model.

Weights, images and selections are drawn: time does not care. Methods whose parameters are merged or
folded into the weights leave a plain model, and their ratio shows what the clock cannot tell apart.
"""

from contextlib import nullcontext

import torch

import trpts.peers  # noqa: F401  registers its methods
from trpts.backbones import create_backbone
from trpts.data import Split, Task
from trpts.methods import METHODS as PREPARE
from trpts_lab.bench.clock import Bench, interleaved, timed
from trpts_lab.bench.train import BACKBONE, N_CLASSES
from trpts_lab.compared import (
    ADAPTER,
    FULL,
    LORA_8,
    METHODS,
    OURS,
    SSF,
    VPT_DEEP,
    VPT_SHALLOW,
    WITH_EVIT,
    WITH_TOKENS,
    WITH_TOME,
)
from trpts_lab.flops import counted_flops

# By the comparison's names; the others leave a plain model as LoRA and SSF do.
PREDICTING = (
    FULL,
    LORA_8,
    SSF,
    OURS,
    WITH_TOKENS,
    WITH_EVIT,
    WITH_TOME,
    ADAPTER,
    VPT_SHALLOW,
    VPT_DEEP,
)


@torch.no_grad()
def bench_predict(batch_size=16, rounds=5, device="cpu"):
    """{method: {"s": [per round], "flops"}} of a forward pass; "untouched" is the model itself."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device)
    split = Split(images[:2], torch.zeros(2, dtype=torch.int64, device=device))
    task = Task("drawn", N_CLASSES, split, split, split)
    works, flops = {}, {}
    for name in ("untouched", *PREDICTING):
        model = create_backbone(BACKBONE, N_CLASSES).to(device)
        around = tuned_by(name, model, task) if name in METHODS else nullcontext
        works[name] = timed(_predicting(model.eval(), images, around), device)
        with around():
            flops[name] = counted_flops(model, images[:1])
    rows = interleaved(works, rounds)
    for name, row in rows.items():
        row["flops"] = flops[name]
    return rows


def tuned_by(name, model, task):
    """Leave the model as a compared method's tuning does, untrained; the context to predict in."""
    prepared = prepared_by(name, model, task)
    prepared.finish()
    return prepared.around


def prepared_by(name, model, task):
    """Make the model ready for tuning by a method of the comparison."""
    method, options = METHODS[name]
    if PREPARE[method].score == "fisher":  # what is selected changes nothing in the time
        options = options | {"score": "random", "n_scored": 1}
    with torch.enable_grad():
        return PREPARE[method].prepare(model, task, 0, **options)


def _predicting(model, images, around):
    def predict():
        with around():
            model(images)

    return predict


def _operations(rows, bars):
    untouched = rows["untouched"]["flops"]
    shares = ", ".join(f"{m} {rows[m]['flops'] / untouched:.3f}" for m in PREDICTING)
    yield f"operations / untouched: {shares}"


BENCH = Bench(
    bench_predict, [(method, "untouched", None) for method in PREDICTING], words=_operations
)
