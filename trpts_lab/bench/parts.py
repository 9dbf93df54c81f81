"""Where a training step's time goes, and how far it is from what the machine can do.

Each method's step is timed in three parts: forward, backward, optimiser. A model without any weight
gradient gives the part of backward that no method can avoid, the input gradients; the rest of a
backward pass is its weight gradients. The ceilings are one large matrix product and one large copy,
measured in the same rounds.
"""

import statistics
import time

import torch
from torch.nn.functional import cross_entropy

from trpts_lab.bench.clock import Bench, interleaved, synchronize, timed
from trpts_lab.bench.train import Trainee
from trpts_lab.flops import vit_flops

METHODS = ("full", "mask", "lora", "sparse", "limit")
PHASES = ("forward", "backward", "optimiser")
PRODUCT, COPY = "matrix product", "copy"
SIDE, N_COPIED = 3072, 2**26  # of the square matrices; floats, 256 MiB


def bench_parts(batch_size=16, rounds=5, device="cpu"):
    """{method: {"s", "forward", "backward", "optimiser": [per round]}, ceiling: {"s", "flops" or
    "bytes"}}
    """
    trainees = {name: Trainee(name, batch_size, device) for name in METHODS}
    phases = {name: {phase: [] for phase in PHASES} for name in METHODS}
    a, b = (torch.randn(SIDE, SIDE, device=device) for _ in range(2))
    source, target = torch.randn(N_COPIED, device=device), torch.empty(N_COPIED, device=device)
    works = {
        name: _step_in_parts(trainee, phases[name], device) for name, trainee in trainees.items()
    }
    works |= {
        PRODUCT: timed(lambda: a @ b, device),
        COPY: timed(lambda: target.copy_(source), device),
    }
    rows = interleaved(works, rounds)
    for name, parts in phases.items():
        rows[name] |= {phase: seconds[-rounds:] for phase, seconds in parts.items()}
    rows[PRODUCT]["flops"], rows[COPY]["bytes"] = 2 * SIDE**3, 2 * 4 * N_COPIED  # read and written
    # forward, and twice that backward
    rows["full"]["flops"] = 3 * batch_size * vit_flops(trainees["full"].model)
    return rows


def _step_in_parts(trainee, parts, device):
    """A function that does one step, keeps the seconds of its parts, and returns their sum."""

    def run():
        marks = []

        def mark():
            synchronize(device)
            marks.append(time.perf_counter())

        mark()
        loss = cross_entropy(trainee.model(trainee.images), trainee.labels)
        mark()
        loss.backward()
        for weight, places in trainee.masks.items():
            weight.grad.mul_(places)
        mark()
        trainee.optimizer.step()
        trainee.optimizer.zero_grad(set_to_none=True)
        mark()
        for phase, start, end in zip(PHASES, marks[:-1], marks[1:], strict=True):
            parts[phase].append(end - start)
        return marks[-1] - marks[0]

    return run


def shares(rows):
    """{method: {"forward", "input gradient", "weight gradient", "optimiser"}} as parts of full
    tuning's step: medians.

    The input gradient is the backward pass of the model that trains nothing inside; what a method
    takes beyond it is its weight gradient (LoRA: its own layers' passes too; it can come out below
    zero by noise alone).
    """

    def median(name, phase):
        return statistics.median(rows[name][phase])

    whole = statistics.median(rows["full"]["s"])
    below = median("limit", "backward")
    return {
        name: {
            "forward": median(name, "forward") / whole,
            "input gradient": below / whole,
            "weight gradient": (median(name, "backward") - below) / whole,
            "optimiser": median(name, "optimiser") / whole,
        }
        for name in METHODS
        if name != "limit"
    }


def of_ceiling(rows):
    """(operations per second of full tuning's step, of the matrix product; bytes/s of the copy)"""

    def rate(name, what):
        return rows[name][what] / statistics.median(rows[name]["s"])

    return rate("full", "flops"), rate(PRODUCT, "flops"), rate(COPY, "bytes")


def _in_words(rows, bars):
    for method, parts in shares(rows).items():
        words = ", ".join(f"{part} {share:.2f}" for part, share in parts.items())
        yield f"{method}, of full tuning's step: {words}"
    step, product, copy = of_ceiling(rows)
    yield (
        f"full tuning's step: {step / 1e9:.0f} GFLOP/s, {step / product:.2f} of one large matrix "
        f"product's {product / 1e9:.0f}; a copy moves {copy / 1e9:.1f} GB/s"
    )


BENCH = Bench(bench_parts, [("limit", "full", None)], words=_in_words)
